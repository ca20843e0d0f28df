/** Which flows change their verdict between two sets of policies: every packet, not a sample. Pure. */
import type { Packet, Verdict } from '../image/types.js';
import { formatRule } from '../ir/names.js';
import { NODE_SENDER } from '../ir/sender.js';
import type { Snapshot } from '../identity/snapshot.js';
import { Judge, packetIn, rowKey } from './judge.js';
import {
  cidrEdges,
  governNodes,
  knownAddresses,
  portSpans,
  type Senders,
  type ServicePlace,
  sendersOf,
  type World,
} from './packets.js';
import {
  type AddressRange,
  addressNumber,
  addressText,
  groupBy,
  joinRanges,
  type PortSpan,
  pieces,
  rangeContains,
} from './ranges.js';

/** What a packet met. */
export interface Outcome {
  readonly verdict: Verdict['verdict'];
  /** `np/shop/web#0`; absent where no rule decided. */
  readonly rule?: string;
}

export type Destination =
  /** Addresses as themselves, not as a Service's. `own`: the sender's own are meant too; else they are `itself`. */
  | { readonly kind: 'addresses'; readonly ranges: readonly AddressRange[]; readonly own: boolean }
  /** The sender's own addresses: all of them, or these. */
  | { readonly kind: 'itself'; readonly ips?: readonly string[] }
  /** Addresses and port of a Service: stand for what is behind them. */
  | { readonly kind: 'service'; readonly service: string; readonly ips: readonly string[] };

/** Flows that changed in one way. */
export interface Change {
  /** `namespace/name`, ascending; `@node/NAME` of nodes. */
  readonly senders: readonly string[];
  readonly to: Destination;
  readonly ports: readonly PortSpan[];
  readonly was: Outcome;
  readonly is: Outcome;
}

export interface Difference {
  readonly changes: readonly Change[];
  /** Pods that were compared. */
  readonly pods: number;
}

/** The worlds have the same pods, see world.ts completed(). Each pod is judged on its own node, unless the snapshots say which one it is. */
export function diff(before: World, after: World): Difference {
  const changes = new Map<string, Change>();
  let pods = 0;
  for (const [worlds, keys] of nodesOf(before, after)) {
    const comparison = new Comparison(worlds, keys);
    for (const senders of sendersOf(worlds, new Set(keys))) {
      pods += senders.pods.length;
      for (const change of comparison.changes(senders)) join(changes, named(change, worlds[0]));
    }
  }
  const sorted = [...changes.values()].map((c) => ({ ...c, senders: [...c.senders].sort() }));
  return { changes: sorted.sort(byName), pods };
}

/** Each node is a sender of its own. */
function named(change: Change, { snapshot }: World): Change {
  if (change.senders[0] !== NODE_SENDER) return change;
  const { name } = snapshot.ownNode;
  return { ...change, senders: [name === '' ? NODE_SENDER : `${NODE_SENDER}/${name}`] };
}

function byName(a: Change, b: Change): number {
  const key = ({ senders, was, is, to }: Change) => [senders.join(), was.verdict, is.verdict, to.kind].join('|');
  const [x, y] = [key(a), key(b)];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** The same change of other pods is the same change. */
function join(changes: Map<string, Change>, change: Change): void {
  const { senders, ...rest } = change;
  const key = JSON.stringify(rest, (_, v) => (typeof v === 'bigint' ? String(v) : v));
  const known = changes.get(key);
  changes.set(key, known ? { ...change, senders: [...known.senders, ...senders] } : change);
}

/** Where nodes are known, the pods of each with the node as their own. */
function nodesOf(before: World, after: World): [readonly [World, World], readonly string[]][] {
  const keys = [...new Set([...before.snapshot.pods.keys(), ...after.snapshot.pods.keys()])];
  const told = [before, after].some(({ snapshot: { ownNode } }) => ownNode.name !== '' || ownNode.ips.length > 0);
  const nodeToo = governNodes([before, after]);
  if (told) return [[[before, after], nodeToo ? [...keys, NODE_SENDER] : keys]];
  const nodeOf = (key: string) => {
    const pod = after.snapshot.pods.get(key) ?? before.snapshot.pods.get(key);
    const known = [before, after].some(({ snapshot }) => snapshot.nodes.has(pod?.nodeName ?? ''));
    return known ? (pod?.nodeName ?? '') : '';
  };
  const byNode = groupBy(keys, nodeOf);
  if (nodeToo) {
    for (const { snapshot } of [before, after])
      for (const name of snapshot.nodes.keys())
        if (!byNode.get(name)?.includes(NODE_SENDER)) byNode.set(name, [...(byNode.get(name) ?? []), NODE_SENDER]);
  }
  const on = ({ ir, snapshot }: World, name: string) => ({ ir, snapshot: { ...snapshot, ownNode: { name, ips: [] } } });
  return [...byNode].map(([node, pods]) => [[on(before, node), on(after, node)], pods]);
}

/** Addresses that no rule of any sender tells apart, in either world. */
interface Region {
  readonly ip: string;
  readonly ranges: AddressRange[];
}

class Comparison {
  private readonly judges: readonly [Judge, Judge];
  private readonly regions: readonly Region[];
  private readonly places: ReadonlyMap<string, ServicePlace>;
  private readonly snapshots: readonly Snapshot[];

  constructor(
    private readonly worlds: readonly [World, World],
    pods: readonly string[],
  ) {
    const [before, after] = worlds;
    this.judges = [new Judge(before, pods), new Judge(after, pods)];
    this.snapshots = worlds.map((w) => w.snapshot);
    this.places = new Map([...this.judges[0].places, ...this.judges[1].places]);
    this.regions = this.findRegions();
  }

  private findRegions(): Region[] {
    const rules = this.worlds.flatMap(({ ir }) => ir.tiers.flatMap((t) => t.policies.flatMap((p) => p.rules)));
    const known = [...knownAddresses(this.worlds)].map(single);
    // A pod whose rules are too many to be compiled is judged address by address: what the maps call one class may not be.
    const apart = [...this.judges].some((judge) => judge.image.refused.size > 0);
    const regions = new Map<string, Region>();
    for (const range of pieces([...cidrEdges(rules), ...known])) {
      const ip = addressText(range.family, range.lo);
      const key = apart ? ip : this.judges.map((judge) => judge.classOf(ip)).join();
      const same = regions.get(key);
      if (same) same.ranges.push(range);
      else regions.set(key, { ip, ranges: [range] });
    }
    return [...regions.values()];
  }

  *changes(senders: Senders): Generator<Change> {
    const [from] = senders.pods as [string];
    const [a, b] = this.judges;
    if (senders.policies.every((list) => list.length === 0)) return;
    const spans = portSpans(senders.rules, this.snapshots);
    const ports = this.alike(from, spans, (judge, set, span) => judge.portRow(set, span));
    const places = this.alike(from, this.regions, (judge, set, region) => judge.peerRow(set, judge.classOf(region.ip)));
    const found = new Collector();
    const selfish = a.meansItself(from) || b.meansItself(from);
    // To these each of them goes as to itself, and none as to somebody else.
    const itself = selfish ? this.ownOfAll(senders.pods) : new Set<string>();
    const isItself = ({ family, lo, hi }: AddressRange) => lo === hi && itself.has(addressText(family, lo));
    for (const same of places) {
      const [{ ip }] = same as [Region];
      if (itself.size > 0 && same.every((region) => region.ranges.every(isItself))) continue;
      const ranges = () => same.flatMap((region) => region.ranges).filter((range) => !isItself(range));
      for (const some of ports) {
        const packet = packetIn(some[0] as PortSpan, from, ip);
        found.add(
          this.outcomes((judge) => judge.address(packet)),
          ip,
          ranges,
          some,
        );
      }
    }
    for (const { ranges, spans, was, is } of found.all())
      yield { senders: senders.pods, to: { kind: 'addresses', ranges, own: !selfish }, ports: spans, was, is };
    if (selfish) for (const key of senders.pods) yield* this.itself(key, ports);
    // What a node sends is met after the translation.
    if (from !== NODE_SENDER) yield* this.services(senders.pods);
  }

  /** Addresses that all of these pods have, in both worlds. */
  private ownOfAll(pods: readonly string[]): Set<string> {
    const [first = [], ...rest] = this.snapshots.flatMap((s) => pods.map((key) => s.pods.get(key)?.ips ?? []));
    return new Set(first.filter((ip) => rest.every((ips) => ips.includes(ip))));
  }

  /** Puts together what each world's set of the pod has one row for. */
  private alike<T>(
    pod: string,
    all: readonly T[],
    row: (judge: Judge, set: NonNullable<ReturnType<Judge['setOf']>>, it: T) => Parameters<typeof rowKey>[0],
  ): T[][] {
    if (this.judges.some((judge) => judge.isRefused(pod))) return all.map((it) => [it]);
    const keyOf = (it: T) =>
      this.judges
        .map((judge) => {
          const set = judge.setOf(pod);
          return set ? rowKey(row(judge, set, it)) : '';
        })
        .join('|');
    return [...groupBy(all, keyOf).values()];
  }

  private outcomes(ask: (judge: Judge) => Verdict): [Outcome, Outcome] | undefined {
    const [was, is] = this.judges.map(ask) as [Verdict, Verdict];
    if (was.verdict === is.verdict) return undefined;
    return [outcome(this.judges[0], was), outcome(this.judges[1], is)];
  }

  /** The pod's own addresses, where a rule may mean the pod itself. */
  private *itself(key: string, ports: readonly PortSpan[][]): Generator<Change> {
    const ips = new Set(this.snapshots.flatMap((s) => s.pods.get(key)?.ips ?? []));
    const found = new Collector();
    for (const ip of ips) {
      for (const some of ports) {
        const packet = packetIn(some[0] as PortSpan, key, ip);
        const outcomes = this.outcomes((judge) => judge.address(packet, ownsAddress(judge, key, ip)));
        found.add(outcomes, ip, () => [single(ip)], some);
      }
    }
    for (const { ranges, spans, was, is } of found.all()) {
      const some = [...ips].filter((ip) => ranges.some((range) => rangeContains(range, ip)));
      const to = some.length === ips.size ? ({ kind: 'itself' } as const) : ({ kind: 'itself', ips: some } as const);
      yield { senders: [key], to, ports: spans, was, is };
    }
  }

  /** Pods of one kind differ where one of them is behind the Service itself. */
  private *services(pods: readonly string[]): Generator<Change> {
    const byKind = new Map<string, { senders: Set<string>; ips: Set<string>; change: Omit<Change, 'senders'> }>();
    const [first] = pods as [string];
    const selfish = this.judges.some((judge) => judge.meansItself(first));
    for (const { service, ip, port, protocol, backends } of this.places.values()) {
      const behind = new Set(backends.map((b) => b.ip));
      const isBehind = (key: string) =>
        this.snapshots.some((s) => s.pods.get(key)?.ips.some((own) => own === ip || behind.has(own)));
      const alone = selfish ? pods.filter(isBehind) : [];
      const others = pods.filter((key) => !alone.includes(key));
      for (const group of [others, ...alone.map((key) => [key])]) {
        const from = group[0];
        if (from === undefined) continue;
        const packet: Packet = { from, to: ip, protocol, port };
        const outcomes = this.outcomes((judge) => judge.any(packet));
        if (!outcomes) continue;
        const [was, is] = outcomes;
        const key = JSON.stringify([service, port, protocol, was, is, group]);
        const known = byKind.get(key);
        for (const sender of group) known?.senders.add(sender);
        known?.ips.add(ip);
        if (known) continue;
        const ports = [{ protocols: [protocol], lo: port, hi: port }];
        const change = { to: { kind: 'service', service, ips: [] } as const, ports, was, is };
        byKind.set(key, { senders: new Set(group), ips: new Set([ip]), change });
      }
    }
    for (const { senders, ips, change } of byKind.values())
      yield {
        ...change,
        senders: [...senders],
        to: { kind: 'service', service: (change.to as { service: string }).service, ips: [...ips] },
      };
  }
}

function single(ip: string): AddressRange {
  const { family, n } = addressNumber(ip);
  return { family, lo: n, hi: n };
}

function ownsAddress(judge: Judge, key: string, ip: string): boolean {
  return judge.world.snapshot.pods.get(key)?.ips.includes(ip) ?? false;
}

function outcome(judge: Judge, { verdict, rule }: Verdict): Outcome {
  const ref = judge.ruleOf(rule);
  return ref ? { verdict, rule: formatRule(ref) } : { verdict };
}

/** Puts changes together that are the same but for addresses, and those that are the same but for ports. */
class Collector {
  private readonly found = new Map<string, Map<string, { ranges: () => AddressRange[]; spans: PortSpan[] }>>();

  add(
    outcomes: [Outcome, Outcome] | undefined,
    place: string,
    ranges: () => AddressRange[],
    spans: readonly PortSpan[],
  ) {
    if (!outcomes) return;
    const key = JSON.stringify(outcomes);
    let places = this.found.get(key);
    if (!places) this.found.set(key, (places = new Map()));
    const there = places.get(place);
    if (there) there.spans.push(...spans);
    else places.set(place, { ranges, spans: [...spans] });
  }

  *all(): Generator<{ ranges: AddressRange[]; spans: PortSpan[]; was: Outcome; is: Outcome }> {
    for (const [key, places] of this.found) {
      const [was, is] = JSON.parse(key) as [Outcome, Outcome];
      for (const same of groupBy(places.values(), ({ spans }) => JSON.stringify(spans)).values()) {
        const ranges = joinRanges(same.flatMap((one) => one.ranges()));
        yield { ranges, spans: same[0]?.spans ?? [], was, is };
      }
    }
  }
}
