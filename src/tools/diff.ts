/**
 * Finds the flows whose verdict differs between two sets of policies: for every packet, not a sample. Pure functions.
 */
import { Compiler } from '../compile/index.js';
import type { LearnedName, Packet, Said, Verdict } from '../ir/packet.js';
import { describeSaid } from '../explain/said.js';
import { hasPorts, TCP, UDP } from '../net/protocol.js';
import { formatRule } from '../ir/names.js';
import { NODE_SENDER, senderOf } from '../ir/sender.js';
import type { Snapshot } from '../identity/snapshot.js';
import { Judge, packetIn, rowKey } from './judge.js';
import { joinNames, type Situation } from './names/changes.js';
import { nameKinds, namesTogether } from './names/kinds.js';
import { saidKinds } from './names/said.js';
import { byNode } from './nodes.js';
import {
  cidrEdges,
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
  protocolOf,
} from './ranges.js';

/** The result for a packet. */
export interface Outcome {
  readonly verdict: Verdict['verdict'];
  /** The deciding rule, such as `np/shop/web#0`; absent if no rule decided. */
  readonly rule?: string;
}

export type Destination =
  /** Addresses, not as those of Services. They never include the sender's own, which it always reaches. */
  | { readonly kind: 'addresses'; readonly ranges: readonly AddressRange[] }
  /** A Service with its addresses and port, which stands for its backends. */
  | { readonly kind: 'service'; readonly service: string; readonly ips: readonly string[] };

/** Flows with the same change. Without a Situation: to addresses without a name, and no query. */
export interface Change extends Situation {
  /** `namespace/name`, ascending; `@node/NAME` for nodes. */
  readonly senders: readonly string[];
  readonly to: Destination;
  readonly ports: readonly PortSpan[];
  readonly was: Outcome;
  readonly is: Outcome;
}

export interface Difference {
  readonly changes: readonly Change[];
  /** Number of pods that were compared. */
  readonly pods: number;
}

/**
 * Compares two worlds, which must have the same pods, see completed() in world.ts. Each pod is judged on its own node.
 * @param only compares what these send, `namespace/name`; default: all
 */
export function diff(before: World, after: World, only?: ReadonlySet<string>): Difference {
  const changes = new Map<string, Change>();
  let pods = 0;
  const compilers = [new Compiler(), new Compiler()] as const;
  for (const { worlds, keys: all } of byNode([before, after] as const)) {
    const keys = only ? all.filter((key) => only.has(key)) : all;
    if (keys.length === 0) continue;
    const comparison = new Comparison(worlds, keys, compilers);
    for (const senders of sendersOf(worlds, new Set(keys))) {
      pods += senders.pods.length;
      for (const change of comparison.changes(senders)) join(changes, named(change, worlds[0]));
    }
  }
  const sorted = [...changes.values()].map((c) => ({ ...c, senders: [...c.senders].sort() }));
  return { changes: sorted.sort(byName), pods };
}

/** Gives a node as a sender its name. */
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

/** Adds a change. The same change for other pods is joined with it. */
function join(changes: Map<string, Change>, change: Change): void {
  const { senders, ...rest } = change;
  const key = JSON.stringify(rest, (_, v) => (typeof v === 'bigint' ? String(v) : v));
  const known = changes.get(key);
  changes.set(key, known ? { ...change, senders: [...known.senders, ...senders] } : change);
}

/** Addresses that no rule of any sender distinguishes, in either world. */
interface Region {
  readonly ip: string;
  readonly ranges: AddressRange[];
}

class Comparison {
  readonly #worlds: readonly [World, World];
  readonly #judges: readonly [Judge, Judge];
  readonly #regions: readonly Region[];
  readonly #places: ReadonlyMap<string, ServicePlace>;
  readonly #snapshots: readonly Snapshot[];

  constructor(worlds: readonly [World, World], pods: readonly string[], compilers: readonly [Compiler, Compiler]) {
    this.#worlds = worlds;
    const [before, after] = worlds;
    this.#judges = [new Judge(before, pods, compilers[0]), new Judge(after, pods, compilers[1])];
    this.#snapshots = worlds.map((w) => w.snapshot);
    this.#places = new Map([...this.#judges[0].places, ...this.#judges[1].places]);
    this.#regions = this.#findRegions();
  }

  #findRegions(): Region[] {
    const rules = this.#worlds.flatMap(({ ir }) => ir.tiers.flatMap((t) => t.policies.flatMap((p) => p.rules)));
    const known = [...knownAddresses(this.#worlds)].map(single);
    // Pods whose set is too large to be compiled are judged at each address, since a class of the compiled sets may not
    // be uniform for them.
    const apart = [...this.#judges].some((judge) => judge.image.refused.size > 0);
    const regions = new Map<string, Region>();
    for (const range of pieces([...cidrEdges(rules), ...known])) {
      const ip = addressText(range.family, range.lo);
      const key = apart ? ip : this.#judges.map((judge) => judge.classOf(ip)).join();
      const same = regions.get(key);
      if (same) same.ranges.push(range);
      else regions.set(key, { ip, ranges: [range] });
    }
    return [...regions.values()];
  }

  *changes(senders: Senders): Generator<Change> {
    const [from] = senders.pods as [string];
    if (senders.policies.every((list) => list.length === 0)) return;
    const spans = portSpans(senders.rules, this.#snapshots);
    const { names, queries } = this.#situations(senders);
    const said = saidKinds(senders.rules);
    const alike = this.#alike(from, spans, (judge, set, span) => judge.portRow(set, span));
    const ports =
      queries.length === 0 && said.length === 0
        ? alike
        : alike.flatMap((some) => [...groupBy(some, howItAsks).values()]);
    const places = this.#alike(from, this.#regions, (judge, set, region) =>
      judge.peerRow(set, judge.classOf(region.ip)),
    );
    const found = new Situations();
    // Packets to these addresses do not leave the senders (ir/outcome.ts), and cannot be judged for them.
    const itself = this.#ownOfAll(senders.pods);
    const isItself = ({ family, lo, hi }: AddressRange) => lo === hi && itself.has(addressText(family, lo));
    for (const same of places) {
      const [{ ip }] = same as [Region];
      if (itself.size > 0 && same.every((region) => region.ranges.every(isItself))) continue;
      const ranges = () => same.flatMap((region) => region.ranges).filter((range) => !isItself(range));
      for (const some of ports) {
        const packet = packetIn(some[0] as PortSpan, from, ip);
        const plain = this.#outcomes((judge) => judge.address(packet));
        found.of({}).add(plain, ip, ranges, some);
        for (const asked of asks(packet) ? [undefined, ...queries] : [undefined]) {
          const query = asked === undefined ? packet : { ...packet, query: asked[0] as string };
          const alone = asked && this.#outcomes((judge) => judge.address(query));
          const told = new Set([keyOf(plain), keyOf(asked ? alone : plain)]);
          if (asked && keyOf(alone) !== keyOf(plain)) found.of({ queries: asked }).add(alone, ip, ranges, some);
          // What two names bring about together is told only if neither of them does alone.
          const alike = new Set<string | undefined>();
          for (const same of names) {
            const [together] = same as [readonly LearnedName[]];
            const outcomes = this.#outcomes((judge) => judge.address(query, together));
            const key = keyOf(outcomes);
            if (told.has(key) || (together.length > 1 && alike.has(key))) continue;
            alike.add(key);
            const examples = same.filter((one) => one.length === together.length);
            found.of({ names: examples, ...(asked && { queries: asked }) }).add(outcomes, ip, ranges, some);
          }
        }
        // What it says is told where it makes a difference to what becomes of the packet by itself.
        for (const one of says(packet) ? said : []) {
          const saying = { ...packet, said: one };
          for (const same of [[[]], ...names]) {
            const [together] = same as [readonly LearnedName[]];
            const before = this.#outcomes((judge) => judge.address(packet, together));
            const outcomes = this.#outcomes((judge) => judge.address(saying, together));
            if (keyOf(outcomes) === keyOf(before)) continue;
            const when = together.length === 0 ? {} : { names: same.filter((n) => n.length === together.length) };
            found.of({ ...when, says: [describeSaid(one)] }).add(outcomes, ip, ranges, some);
          }
        }
      }
    }
    for (const { ranges, spans, was, is, ...when } of found.all())
      yield { senders: senders.pods, to: { kind: 'addresses', ranges }, ports: spans, was, is, ...when };
    // A node's packets are judged after the translation, so Services do not matter.
    if (from !== NODE_SENDER) yield* this.#services(senders.pods, queries, said);
  }

  /** Names that an address can have at once, and names that can be asked for, grouped if no rule tells them apart. */
  #situations({ pods, rules }: Senders) {
    const [from] = pods as [string];
    const kinds = nameKinds(rules);
    const [, ...names] = this.#alike(from, namesTogether(kinds), (judge, set, one) => judge.namesRow(set, one));
    return { names, queries: this.#alike(from, kinds.queries, (judge, set, one) => judge.queryRow(set, one)) };
  }

  /** The addresses that all of these pods have, in both worlds. */
  #ownOfAll(pods: readonly string[]): Set<string> {
    const [first = [], ...rest] = this.#snapshots.flatMap((s) => pods.map((key) => senderOf(s, key)?.ips ?? []));
    return new Set(first.filter((ip) => rest.every((ips) => ips.includes(ip))));
  }

  /** Groups items for which each world's set of the pod has the same row. */
  #alike<T>(
    pod: string,
    all: readonly T[],
    row: (judge: Judge, set: NonNullable<ReturnType<Judge['setOf']>>, it: T) => Parameters<typeof rowKey>[0],
  ): T[][] {
    if (this.#judges.some((judge) => judge.isRefused(pod))) return all.map((it) => [it]);
    const keyOf = (it: T) =>
      this.#judges
        .map((judge) => {
          const set = judge.setOf(pod);
          return set ? rowKey(row(judge, set, it)) : '';
        })
        .join('|');
    return [...groupBy(all, keyOf).values()];
  }

  #outcomes(ask: (judge: Judge) => Verdict): [Outcome, Outcome] | undefined {
    const [was, is] = this.#judges.map(ask) as [Verdict, Verdict];
    if (was.verdict === is.verdict) return undefined;
    return [outcome(this.#judges[0], was), outcome(this.#judges[1], is)];
  }

  /** Pods of the same kind differ if one of them is itself a backend of the Service. */
  *#services(
    pods: readonly string[],
    queries: readonly (readonly string[])[],
    said: readonly Said[],
  ): Generator<Change> {
    const situations: { part: Partial<Packet>; when: Situation }[] = [
      { part: {}, when: {} },
      ...queries.map((asked) => ({ part: { query: asked[0] as string }, when: { queries: asked } })),
      ...said.map((one) => ({ part: { said: one }, when: { says: [describeSaid(one)] } })),
    ];
    const byKind = new Map<string, { senders: Set<string>; ips: Set<string>; change: Omit<Change, 'senders'> }>();
    const [first] = pods as [string];
    const selfish = this.#judges.some((judge) => judge.meansItself(first));
    for (const { service, ip, port, protocol, backends } of this.#places.values()) {
      const backendIps = new Set(backends.map((b) => b.ip));
      const isBehind = (key: string) =>
        this.#snapshots.some((s) => s.pods.get(key)?.ips.some((own) => own === ip || backendIps.has(own)));
      const alone = selfish ? pods.filter(isBehind) : [];
      const others = pods.filter((key) => !alone.includes(key));
      for (const group of [others, ...alone.map((key) => [key])]) {
        const from = group[0];
        if (from === undefined) continue;
        const packet: Packet = { from, to: ip, protocol, port };
        const plain = this.#outcomes((judge) => judge.any(packet));
        for (const { part, when } of situations) {
          const outcomes = this.#outcomes((judge) => judge.any({ ...packet, ...part }));
          if (!outcomes || (Object.keys(when).length > 0 && keyOf(outcomes) === keyOf(plain))) continue;
          const [was, is] = outcomes;
          const key = JSON.stringify([service, port, protocol, was, is, group, when]);
          const known = byKind.get(key);
          for (const sender of group) known?.senders.add(sender);
          known?.ips.add(ip);
          if (known) continue;
          const ports = [{ protocols: [protocol], lo: port, hi: port }];
          const change = { to: { kind: 'service', service, ips: [] } as const, ports, was, is, ...when };
          byKind.set(key, { senders: new Set(group), ips: new Set([ip]), change });
        }
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

function outcome(judge: Judge, { verdict, rule }: Verdict): Outcome {
  const ref = judge.ruleOf(rule);
  return ref ? { verdict, rule: formatRule(ref) } : { verdict };
}

function keyOf(outcomes: readonly [Outcome, Outcome] | undefined): string {
  return JSON.stringify(outcomes ?? null);
}

/** Whether the packet can be a DNS query. */
function asks({ protocol, fragment }: Packet): boolean {
  return hasPorts(protocol) && !fragment;
}

/** Whether the packet can be one of a connection that says something of itself. */
function says({ protocol, fragment }: Packet): boolean {
  return (protocol === TCP || protocol === UDP) && !fragment;
}

/** What decides how a packet that is no query, and says nothing, is judged where rules ask for either. */
function howItAsks(span: PortSpan): string {
  const protocol = protocolOf(span);
  if (span.fragment) return 'fragment';
  if (protocol === TCP) return 'handshake';
  return protocol === UDP ? 'datagram' : hasPorts(protocol) ? 'ports' : 'other';
}

/** A collector for each situation. */
class Situations {
  readonly #found = new Map<string, { when: Situation; collector: Collector }>();

  of(when: Situation): Collector {
    const key = JSON.stringify(when);
    let found = this.#found.get(key);
    if (!found) this.#found.set(key, (found = { when, collector: new Collector() }));
    return found.collector;
  }

  all() {
    return joinNames(
      [...this.#found.values()].flatMap(({ when, collector }) =>
        [...collector.all()].map((one) => ({ ...one, ...when })),
      ),
    );
  }
}

/** Joins changes that differ only in their addresses, and then those that differ only in their ports. */
class Collector {
  readonly #found = new Map<string, Map<string, { ranges: () => AddressRange[]; spans: PortSpan[] }>>();

  add(
    outcomes: [Outcome, Outcome] | undefined,
    place: string,
    ranges: () => AddressRange[],
    spans: readonly PortSpan[],
  ) {
    if (!outcomes) return;
    const key = JSON.stringify(outcomes);
    let places = this.#found.get(key);
    if (!places) this.#found.set(key, (places = new Map()));
    const entry = places.get(place);
    if (entry) entry.spans.push(...spans);
    else places.set(place, { ranges, spans: [...spans] });
  }

  *all(): Generator<{ ranges: AddressRange[]; spans: PortSpan[]; was: Outcome; is: Outcome }> {
    for (const [key, places] of this.#found) {
      const [was, is] = JSON.parse(key) as [Outcome, Outcome];
      for (const same of groupBy(places.values(), ({ spans }) => JSON.stringify(spans)).values()) {
        const ranges = joinRanges(same.flatMap((one) => one.ranges()));
        yield { ranges, spans: same[0]?.spans ?? [], was, is };
      }
    }
  }
}
