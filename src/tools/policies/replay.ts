/**
 * Judges edges by policies as they are, and as they would be. An edge names workloads: one pod for each kind of pods of
 * the workload that no policy tells apart stands for it, and one pod of the destination's.
 */
import { Selector } from '../../compile/select.js';
import type { Selection } from '../../compile/sets.js';
import type { Edge, EdgeParty } from '../../edges/edge.js';
import { AddressViews } from '../../identity/address-views.js';
import type { Pod, Snapshot } from '../../identity/snapshot.js';
import { sameList } from '../../identity/unchanged.js';
import { judgedAt, readAs, type TierView, tiersFor } from '../../ir/evaluate.js';
import { formatRule, rulesById } from '../../ir/names.js';
import { withoutAddresses } from '../../ir/outcome.js';
import type { Learned, Packet, Verdict } from '../../ir/packet.js';
import { isNode, isSelectable, NODE_SENDER, nodeOf, onNode, senderOf } from '../../ir/sender.js';
import type { Ir, Tier } from '../../ir/types.js';
import type { World } from '../packets.js';

/** `partial`: it depends on what the connection says, or asks. `unknown`: the pods, or the address, are not known. */
export interface Judgement {
  readonly verdict: 'allow' | 'deny' | 'partial' | 'unknown';
  /** The rule that decides; empty: none. */
  readonly rule: string;
}

const UNKNOWN: Judgement = { verdict: 'unknown', rule: '' };

/** Pods of one workload that the same policies select, on both sides. */
interface Group {
  /** `namespace/name` of the one that stands for them, or NODE_SENDER. */
  readonly from: string;
  readonly sender: Pod;
  /** The cluster as its node sees it. */
  readonly snapshot: Snapshot;
  readonly tiers: Both<readonly TierView[]>;
  readonly selected: Both<readonly Selection[]>;
  readonly changes: boolean;
}

/** Before and after. */
type Both<T> = readonly [T, T];

/** Two sets of policies on the same pods, nodes and Services, of which one is in force. */
export class Replay {
  readonly #worlds: Both<World>;
  readonly #views: AddressViews;
  readonly #pods = new Map<string, [key: string, pod: Pod][]>();
  readonly #selected: Both<ReadonlyMap<string, readonly Selection[]>>;
  readonly #serviceViews = new Map<string, Snapshot>();
  readonly #groups = new Map<string, readonly Group[]>();

  constructor(before: World, after: World) {
    this.#worlds = [before, after];
    this.#views = new AddressViews(before.snapshot);
    for (const entry of before.snapshot.pods) {
      const [, pod] = entry;
      if (pod.ended) continue;
      const name = workloadOf(pod);
      const list = this.#pods.get(name);
      if (list) list.push(entry);
      else this.#pods.set(name, [entry]);
    }
    const keys = [...before.snapshot.pods].flatMap(([key, pod]) => (isSelectable(pod) ? [key] : []));
    const select = ({ ir, snapshot }: World) => new Selector().select(ir, snapshot, keys);
    this.#selected = [select(before), select(after)];
  }

  /** The pods, `namespace/name`, that other policies select than before; and NODE_SENDER, if it is so for a node. */
  changedSenders(): Set<string> {
    const [before, after] = this.#selected;
    const out = new Set([...before.keys()].filter((key) => !sameSelections(before.get(key), after.get(key))));
    const ofNodes = ({ ir }: World) =>
      ir.tiers.flatMap(({ policies }) => policies.filter((p) => p.nodes !== undefined));
    if (!sameList(ofNodes(this.#worlds[0]), ofNodes(this.#worlds[1]))) out.add(NODE_SENDER);
    return out;
  }

  /**
   * How an edge is judged before and after; undefined: the policies of its sender stay as they are. `unknown` on both
   * sides: its sender is gone, or where it leads is not known. If pods of the sender are judged differently, the first
   * counts whose verdict changes.
   */
  judge(edge: Edge): Both<Judgement> | undefined {
    const groups = this.#groupsOf(edge.source);
    if (groups.length === 0) return [UNKNOWN, UNKNOWN];
    let result: Both<Judgement> | undefined;
    for (const group of groups) {
      if (!group.changes) continue;
      const to = this.#addressOf(edge, group);
      if (to === undefined) {
        result = [UNKNOWN, UNKNOWN];
        continue;
      }
      const [was, is] = [this.#verdict(0, group, edge, to), this.#verdict(1, group, edge, to)];
      if (was.verdict !== is.verdict) return [named(was, this.#worlds[0].ir), named(is, this.#worlds[1].ir)];
      result ??= [
        { ...was, rule: '' },
        { ...is, rule: '' },
      ];
    }
    return result;
  }

  #verdict(side: 0 | 1, group: Group, edge: Edge, to: string): Decided {
    const { from, sender, tiers } = group;
    const learned = learnedBy(from, to, edge.destination);
    // Where the workload behind a Service is not known, all of its backends decide.
    const isService = edge.destination.kind === 'service';
    const port = isService ? edge.servicePort || edge.port : edge.port;
    const packet: Packet = { from, to, protocol: edge.protocol, port };
    const { ownNode } = group.snapshot;
    const view = isService ? { ...this.#serviceView(to), ownNode } : this.#addressView(to, ownNode);
    const read = readAs(tiers[side], view, packet, judgedAt(sender, packet, learned), learned);
    const depends = read.asks || read.unreadable || read.heard !== undefined;
    return depends ? { verdict: 'partial', rule: read.verdict.rule } : read.verdict;
  }

  /** What there is at an address. An edge leads to where its packets were translated to: they are not translated again. */
  #addressView(ip: string, ownNode: Snapshot['ownNode']): Snapshot {
    const view = { ...this.#views.at(ip), ownNode };
    return view.services.size === 0 ? view : { ...view, services: withoutAddresses(view) };
  }

  /** What there is at a Service's address, and at those of its backends. */
  #serviceView(vip: string): Snapshot {
    const known = this.#serviceViews.get(vip);
    if (known) return known;
    const { snapshot } = this.#worlds[0];
    const services = new Map([...snapshot.services].filter(([, service]) => service.vips.includes(vip)));
    const ips = [...services.values()].flatMap(({ ports }) =>
      ports.flatMap(({ backends }) => backends.map((b) => b.ip)),
    );
    const parts = [...new Set([vip, ...ips])].map((ip) => this.#views.at(ip));
    const view: Snapshot = {
      ...snapshot,
      pods: new Map(parts.flatMap((part) => [...part.pods])),
      // Which of them is the sender's own node is not known yet.
      nodes: snapshot.nodes,
      services: new Map([...services, ...parts.flatMap((part) => [...part.services])]),
    };
    this.#serviceViews.set(vip, view);
    return view;
  }

  #groupsOf(source: EdgeParty): readonly Group[] {
    const name = partyKey(source);
    let groups = this.#groups.get(name);
    if (!groups) this.#groups.set(name, (groups = this.#makeGroups(source)));
    return groups;
  }

  #makeGroups(source: EdgeParty): readonly Group[] {
    if (source.kind === 'node') return this.#nodeGroup(source.name);
    if (source.kind !== 'workload') return [];
    const groups: Group[] = [];
    for (const [from, pod] of this.#pods.get(partyKey(source)) ?? []) {
      const selected = [this.#selected[0].get(from) ?? [], this.#selected[1].get(from) ?? []] as const;
      const same = (g: Group) =>
        sameSelections(g.selected[0], selected[0]) && sameSelections(g.selected[1], selected[1]);
      if (groups.some(same)) continue;
      const tiers = (side: 0 | 1) => tiersFor({ tiers: selected[side].map(whole) }, this.#worlds[side].snapshot, pod);
      const [{ snapshot }] = this.#worlds;
      groups.push({
        from,
        sender: pod,
        snapshot: onNode(snapshot, nodeOf(snapshot, pod)),
        tiers: [tiers(0), tiers(1)],
        selected,
        changes: !sameSelections(selected[0], selected[1]),
      });
    }
    return groups;
  }

  #nodeGroup(name: string): readonly Group[] {
    const snapshot = onNode(this.#worlds[0].snapshot, name);
    const sender = snapshot.nodes.has(name) ? senderOf(snapshot, NODE_SENDER) : undefined;
    if (!sender) return [];
    const tiersOf = (side: 0 | 1) => tiersFor(this.#worlds[side].ir, snapshot, sender);
    const tiers = [tiersOf(0), tiersOf(1)] as const;
    const selections = (views: readonly TierView[]) => views.map((v) => ({ tier: v.tier, policies: v.selecting }));
    const selected = [selections(tiers[0]), selections(tiers[1])] as const;
    const changes = !sameSelections(selected[0], selected[1]);
    return [{ from: NODE_SENDER, sender, snapshot, tiers, selected, changes }];
  }

  /** The address that an edge leads to now. The one that was met last, while it still belongs to the destination. */
  #addressOf({ destination: d, address }: Edge, { from, sender, snapshot }: Group): string | undefined {
    switch (d.kind) {
      case 'workload': {
        const pods = this.#pods.get(partyKey(d)) ?? [];
        const others = pods.filter(([key, pod]) => key !== from && pod.ips.length > 0);
        const met = others.find(([, pod]) => pod.ips.includes(address));
        if (met) return address;
        const family = address.includes(':');
        const ips = others.flatMap(([, pod]) => pod.ips);
        // What a pod sends to itself is not judged.
        return (
          ips.find((ip) => ip.includes(':') === family) ?? ips[0] ?? (isNode(sender) ? pods[0]?.[1].ips[0] : undefined)
        );
      }
      case 'node': {
        const ips = snapshot.nodes.get(d.name)?.ips ?? [];
        return ips.includes(address) ? address : ips[0];
      }
      case 'service': {
        const vips = snapshot.services.get(`${d.namespace}/${d.name}`)?.vips ?? [];
        return vips.includes(address) ? address : vips[0];
      }
      case 'address':
        return d.name;
      case 'name':
        return address === '' ? undefined : address;
      default:
        return undefined;
    }
  }
}

type Decided = Pick<Verdict, 'verdict' | 'rule'>;

function named({ verdict, rule }: Decided, ir: Ir): Judgement {
  const ref = rule === 0 ? undefined : rulesById(ir).get(rule);
  return { verdict, rule: ref ? formatRule(ref) : '' };
}

function whole({ tier, policies }: Selection): Tier {
  return { ...tier, policies };
}

function sameSelections(a: readonly Selection[] = [], b: readonly Selection[] = []): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  return a.every((one, i) => {
    const other = b[i] as Selection;
    return sameTier(one.tier, other.tier) && sameList(one.policies, other.policies);
  });
}

function sameTier(a: Tier, b: Tier): boolean {
  return a === b || (a.name === b.name && a.order === b.order && a.defaultAction === b.defaultAction);
}

function workloadOf({ namespace, name, workload }: Pod): string {
  return ['workload', namespace, workload?.kind ?? 'Pod', workload?.name ?? name].join('\0');
}

function partyKey({ kind, namespace, workloadKind, name }: EdgeParty): string {
  return [kind, namespace, workloadKind, name].join('\0');
}

function learnedBy(from: string, to: string, destination: EdgeParty): Learned | undefined {
  if (destination.kind !== 'name') return undefined;
  return new Map([[from, new Map([[to, [{ name: destination.name }]]])]]);
}
