/**
 * The packets at every boundary of some IRs: who sends, where to and on which port so that each rule's edge is met from both sides.
 * Two sets of policies that judge all of them alike judge every packet alike: in between nothing can tell packets apart.
 *
 * Senders: pods that the same policies select are one; a pod's own addresses are its own.
 * Destinations: each CIDR's edges, and each kind of pod, node and backend that a rule could mean.
 * Ports: each range's edges, by protocol; the numbers that pods give names to; fragments; every protocol that rules name, and another.
 */
import { Selector } from '../compile/select.js';
import type { Backend, Node, Pod, Service, Snapshot } from '../identity/snapshot.js';
import type { Packet } from '../image/types.js';
import { type Judged, ownNodeAddresses, peerMatches } from '../ir/evaluate.js';
import type { Peer } from '../ir/peers.js';
import { NODE_SENDER, senderOf } from '../ir/sender.js';
import { implicitRules, type Ir, type IrPolicy, type PortMatch, type Rule } from '../ir/types.js';
import { hasPorts } from '../net/protocol.js';
import {
  type AddressRange,
  addressNumber,
  addressText,
  cidrRange,
  LAST_PORT,
  looksAtPort,
  pieceAt,
  type PortSpan,
  pieces,
  protocolOf,
} from './ranges.js';

/** Policies, and what they are about. */
export interface World {
  readonly ir: Ir;
  readonly snapshot: Snapshot;
}

/** Pods that no policy of any world tells apart. */
export interface Senders {
  /** `namespace/name`, ascending; the first stands for all. Or NODE_SENDER, alone. */
  readonly pods: readonly string[];
  /** World by world: what selects them. */
  readonly policies: readonly (readonly IrPolicy[])[];
  /** Every rule that may judge what they send, in any of the worlds; not the tiers' defaults, which are about everything. */
  readonly rules: readonly Rule[];
}

/** Is there a policy for nodes in one of the worlds? */
export function governNodes(worlds: readonly World[]): boolean {
  return worlds.some(({ ir }) => ir.tiers.some((t) => t.policies.some((p) => p.nodes !== undefined)));
}

/** @param only these pods; all pods that policies can select in one of the worlds, and the node if it has policies, otherwise */
export function sendersOf(worlds: readonly World[], only?: ReadonlySet<string>): Senders[] {
  const keys = new Set<string>();
  for (const { snapshot } of worlds)
    for (const [key, pod] of snapshot.pods)
      if (!pod.hostNetwork && !pod.ended && (only?.has(key) ?? true)) keys.add(key);
  if (governNodes(worlds) && (only?.has(NODE_SENDER) ?? true)) keys.add(NODE_SENDER);
  const numbers = new Map<IrPolicy, number>();
  const numberOf = (p: IrPolicy) => {
    const number = numbers.get(p) ?? numbers.size;
    numbers.set(p, number);
    return number;
  };
  const selected = worlds.map(({ ir, snapshot }) => new Selector().select(ir, snapshot, [...keys]));
  const groups = new Map<string, { pods: string[]; policies: IrPolicy[][] }>();
  for (const key of [...keys].sort()) {
    const policies = selected.map((s) => (s.get(key) ?? []).flatMap((selection) => selection.policies));
    const id = `${key === NODE_SENDER} ${policies.map((list) => list.map(numberOf).join()).join('|')}`;
    const group = groups.get(id);
    if (group) group.pods.push(key);
    else groups.set(id, { pods: [key], policies });
  }
  return [...groups.values()].map(({ pods, policies }) => {
    const rules = policies.flatMap((list) => [...list.flatMap((p) => p.rules), ...implicitRules(list)]);
    return { pods, policies, rules: [...new Set(rules)] };
  });
}

/** The peers that are made of no others. */
export function leaves(peers: readonly Peer[] | null): Peer[] {
  return (peers ?? []).flatMap((peer): Peer[] => {
    if (peer.kind === 'all' || peer.kind === 'some') return leaves(peer.of);
    return peer.kind === 'not' ? leaves([peer.of]) : [peer];
  });
}

/** The edges of every block that the rules name, exceptions too. */
export function cidrEdges(rules: Iterable<Rule>): AddressRange[] {
  const texts = new Set<string>();
  for (const rule of rules)
    for (const peer of leaves(rule.peers))
      if (peer.kind === 'cidr') for (const c of [peer.cidr, ...peer.except]) texts.add(c);
  return [...texts].map(cidrRange);
}

/** Addresses that are somebody's: pods', nodes', backends'. */
export function knownAddresses(worlds: readonly World[]): Set<string> {
  const out = new Set<string>();
  for (const { snapshot } of worlds) {
    for (const pod of snapshot.pods.values()) if (!pod.hostNetwork && !pod.ended) for (const ip of pod.ips) out.add(ip);
    for (const node of snapshot.nodes.values()) for (const ip of node.ips) out.add(ip);
    for (const ip of ownNodeAddresses(snapshot)) out.add(ip);
    for (const service of snapshot.services.values())
      for (const port of service.ports) for (const backend of port.backends) out.add(backend.ip);
  }
  return out;
}

/** An address and port of a Service's: its backends are judged in its place. */
export interface ServicePlace {
  /** `namespace/name`. */
  readonly service: string;
  readonly ip: string;
  readonly port: number;
  readonly protocol: number;
  readonly backends: readonly Backend[];
}

/** By `ip|port|protocol`; of Services that claim the same the first by name, as in ir/evaluate.ts findService. */
export function servicePlaces(snapshot: Snapshot): Map<string, ServicePlace> {
  const out = new Map<string, ServicePlace>();
  const own = ownNodeAddresses(snapshot);
  for (const [name, service] of [...snapshot.services].sort(([a], [b]) => (a < b ? -1 : 1))) {
    for (const { port, protocol, nodePort, backends } of service.ports) {
      const place = (ip: string, at: number) => {
        const { family } = addressNumber(ip);
        const behind = backends.filter((b) => addressNumber(b.ip).family === family);
        const id = `${ip}|${at}|${protocol}`;
        if (behind.length > 0 && !out.has(id)) out.set(id, { service: name, ip, port: at, protocol, backends: behind });
      };
      for (const ip of service.vips) place(ip, port);
      if (nodePort) for (const ip of own) place(ip, nodePort);
    }
  }
  return out;
}

/** Every protocol and port, cut where one of the rules may tell two apart. */
export function portSpans(rules: readonly Rule[], snapshots: readonly Snapshot[]): PortSpan[] {
  const matches = [...new Set(rules.flatMap((rule) => rule.ports ?? []))];
  const names = namedPorts(matches, snapshots);
  // Protocols of which the rules say the same are one, by what is said.
  const said = new Map<string, { protocols: number[]; cuts: Set<number> }>();
  for (let protocol = 0; protocol < 256; protocol++) {
    const cuts = new Set([0]);
    const texts: string[] = [hasPorts(protocol) ? 'ports' : looksAtPort(protocol) ? 'types' : ''];
    const cut = (lo: number, hi: number) => {
      cuts.add(lo);
      if (hi < LAST_PORT) cuts.add(hi + 1);
    };
    rules.forEach((rule, i) => {
      for (const m of rule.ports ?? []) {
        if (m.service) {
          const behind = serviceBackends(m.service, snapshots).filter((b) => b.protocol === protocol);
          if (behind.length === 0) continue;
          texts.push(`${i}:service`);
          for (const { port } of behind) cut(port, port);
          continue;
        }
        if (m.protocol === null ? m.ports === undefined || !hasPorts(protocol) : m.protocol !== protocol) continue;
        texts.push(`${i}:${JSON.stringify([m.ports, m.named, m.notNamed])}`);
        for (const [lo, hi] of m.ports ?? []) cut(lo, hi);
        for (const name of portNames(m)) for (const n of names.get(`${name}|${protocol}`) ?? []) cut(n, n);
      }
    });
    const key = texts.join(' ');
    const same = said.get(key);
    if (same) same.protocols.push(protocol);
    else said.set(key, { protocols: [protocol], cuts });
  }
  return [...said.values()].flatMap(({ protocols, cuts }) => {
    const sorted = [...cuts].sort((a, b) => a - b);
    const spans = sorted.map((lo, i): PortSpan => ({ protocols, lo, hi: (sorted[i + 1] ?? LAST_PORT + 1) - 1 }));
    return [...spans, { protocols, lo: 0, hi: LAST_PORT, fragment: true as const }];
  });
}

/** Names that a match asks for, also those that it leaves out. */
function portNames({ named, notNamed = [] }: PortMatch): readonly string[] {
  return named === undefined ? notNamed : [named];
}

/** What stands behind a Service, in any of the worlds. */
function serviceBackends({ namespace, name }: NonNullable<PortMatch['service']>, snapshots: readonly Snapshot[]) {
  return snapshots.flatMap((s) =>
    (s.services.get(`${namespace}/${name}`)?.ports ?? []).flatMap(({ protocol, backends }) =>
      backends.map(({ ip, port }) => ({ protocol, ip, port })),
    ),
  );
}

/** `name|protocol` → the numbers that pods give to it. */
function namedPorts(matches: readonly PortMatch[], snapshots: readonly Snapshot[]): Map<string, Set<number>> {
  const wanted = new Set(matches.flatMap(portNames));
  const out = new Map<string, Set<number>>();
  if (wanted.size === 0) return out;
  for (const snapshot of snapshots) {
    for (const pod of snapshot.pods.values()) {
      for (const { name, protocol, port } of pod.ports) {
        if (name === undefined || !wanted.has(name)) continue;
        const key = `${name}|${protocol}`;
        const numbers = out.get(key);
        if (numbers) numbers.add(port);
        else out.set(key, new Set([port]));
      }
    }
  }
  return out;
}

/**
 * All packets at the boundaries, one sender for each kind of pod. What has many members of one kind (pods that no rule tells
 * apart) is met once. Not all are stored: there may be millions.
 * @param only of these pods; all otherwise
 */
export function* boundaryPackets(worlds: readonly World[], only?: ReadonlySet<string>): Generator<Packet> {
  const views = worlds.map(({ snapshot }) => new AddressViews(snapshot));
  const known = knownAddresses(worlds);
  const places = new Map(worlds.flatMap(({ snapshot }) => [...servicePlaces(snapshot)]));
  for (const senders of sendersOf(worlds, only)) {
    const spans = portSpans(
      senders.rules,
      worlds.map((w) => w.snapshot),
    );
    const from = senders.pods[0] as string;
    const to = new Set<string>();
    const blocks = pieces(cidrEdges(senders.rules));
    for (const { family, lo, hi } of blocks) for (const n of [lo, hi]) to.add(addressText(family, n));
    for (const ip of kinds(known, blocks, senders, worlds, views)) to.add(ip);
    // A rule may mean a pod by itself: its own addresses, of each that sends; and they are others' destinations.
    const selfish = senders.rules.some((rule) => leaves(rule.peers).some((peer) => peer.kind === 'self'));
    const owns = (key: string, ips: readonly string[]) =>
      worlds.some(({ snapshot }) => snapshot.pods.get(key)?.ips.some((own) => ips.includes(own)));
    const tell = (ips: readonly string[]) => {
      const other = selfish && owns(from, ips) ? senders.pods.find((key) => !owns(key, ips)) : undefined;
      return other === undefined ? [from] : [from, other];
    };
    for (const ip of to) for (const key of tell([ip])) yield* toPorts(key, ip, spans);
    for (const key of selfish ? senders.pods : []) {
      for (const { snapshot } of worlds)
        for (const ip of snapshot.pods.get(key)?.ips ?? []) yield* toPorts(key, ip, spans);
    }
    for (const { ip, port, protocol, backends } of from === NODE_SENDER ? [] : places.values()) {
      const behind = backends.map((b) => b.ip);
      const own = selfish ? senders.pods.filter((key) => owns(key, behind)) : [];
      for (const key of new Set([...tell(behind), ...own])) yield { from: key, to: ip, protocol, port };
    }
  }
}

function* toPorts(from: string, to: string, spans: readonly PortSpan[]): Generator<Packet> {
  for (const span of spans) {
    const protocol = protocolOf(span);
    if (span.fragment) yield { from, to, protocol, port: 0, fragment: true };
    else if (!looksAtPort(protocol) && span.lo === 0) yield { from, to, protocol, port: 0 };
    else for (const port of new Set([span.lo, span.hi])) yield { from, to, protocol, port };
  }
}

/** One address of each kind: between the same edges, meant by the same selectors, with the same names of ports. */
function kinds(
  known: Iterable<string>,
  blocks: readonly AddressRange[],
  { pods, rules }: Senders,
  worlds: readonly World[],
  views: readonly AddressViews[],
): Iterable<string> {
  const selectors = new Map<string, Peer>();
  for (const rule of rules)
    for (const peer of leaves(rule.peers))
      if (peer.kind !== 'cidr' && peer.kind !== 'self' && peer.kind !== 'any')
        selectors.set(JSON.stringify(peer), peer);
  const matches = rules.flatMap((rule) => rule.ports ?? []);
  const names = new Set(matches.flatMap(portNames));
  const behind = matches
    .flatMap((m) => m.service ?? [])
    .flatMap((service, i) =>
      serviceBackends(
        service,
        worlds.map((w) => w.snapshot),
      ).map((b) => ({ ...b, i })),
    );
  const out = new Map<string, string>();
  for (const ip of known) {
    const { family, n } = addressNumber(ip);
    const parts: unknown[] = [pieceAt(blocks, family, n)];
    worlds.forEach(({ snapshot }, w) => {
      const view = (views[w] as AddressViews).at(ip);
      const sender = senderOf(snapshot, pods[0] as string) as Pod;
      const judged: Judged = { sender, to: ip, protocol: 6, port: 0, fragment: false };
      for (const peer of selectors.values()) parts.push(peerMatches(peer, view, judged) ? 1 : 0);
      const ports = [...view.pods.values()].flatMap((p) => (p.ended || p.hostNetwork ? [] : p.ports));
      parts.push(behind.filter((b) => b.ip === ip).map((b) => [b.i, b.protocol, b.port]));
      parts.push(
        ports.filter((p) => p.name !== undefined && names.has(p.name)).map((p) => [p.name, p.protocol, p.port]),
      );
    });
    const kind = JSON.stringify(parts);
    if (!out.has(kind)) out.set(kind, ip);
  }
  return out.values();
}

/** A snapshot as one address sees it: the pods, nodes and Services that it belongs to, so that asking costs what there is at the address. */
class AddressViews {
  private readonly pods = new Map<string, [string, Pod][]>();
  private readonly nodes = new Map<string, Map<string, Node>>();
  private readonly services = new Map<string, Map<string, Service>>();

  constructor(private readonly snapshot: Snapshot) {
    for (const entry of snapshot.pods) {
      for (const ip of entry[1].ips) {
        const there = this.pods.get(ip);
        if (there) there.push(entry);
        else this.pods.set(ip, [entry]);
      }
    }
    for (const [name, node] of snapshot.nodes) for (const ip of node.ips) into(this.nodes, ip).set(name, node);
    for (const [name, service] of snapshot.services)
      for (const port of service.ports) for (const { ip } of port.backends) into(this.services, ip).set(name, service);
  }

  at(ip: string): Snapshot {
    const { snapshot } = this;
    const nodes = new Map(this.nodes.get(ip));
    const own = snapshot.nodes.get(snapshot.ownNode.name);
    if (own) nodes.set(own.name, own);
    return { ...snapshot, pods: new Map(this.pods.get(ip)), nodes, services: this.services.get(ip) ?? new Map() };
  }
}

function into<V>(map: Map<string, Map<string, V>>, key: string): Map<string, V> {
  let found = map.get(key);
  if (!found) map.set(key, (found = new Map()));
  return found;
}
