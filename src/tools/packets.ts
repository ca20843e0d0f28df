/**
 * Generates the packets at every boundary of some IRs: senders, destinations and ports on both sides of each rule's
 * edges. If two sets of policies judge all of them alike, they judge every packet alike, since nothing distinguishes
 * packets between two boundaries.
 *
 * Senders: one pod for all pods that the same policies select; a pod's own addresses are a separate case.
 * Destinations: the edges of each CIDR, and each kind of pod, node and backend that a rule could match.
 * Ports: the edges of each range by protocol, the numbers that pods give to port names, fragments, every protocol in a
 * rule, and one other protocol.
 * Names, by boundaryProbes(): each kind of names that patterns tell apart, learned for the destination or asked for in a
 * query, and names that just miss a pattern.
 */
import { Selector } from '../compile/select.js';
import { AddressViews } from '../identity/address-views.js';
import type { Backend, Pod, Snapshot } from '../identity/snapshot.js';
import type { Packet } from '../ir/packet.js';
import { type Judged, peerMatches } from '../ir/evaluate.js';
import { CLAIM, claimOf, isOwnDns, ownNodeAddresses, servicesInOrder } from '../ir/services.js';
import type { Peer } from '../ir/peers.js';
import { NODE_SENDER, senderOf } from '../ir/sender.js';
import { implicitRules, type Ir, type IrPolicy, type PortMatch, type Rule } from '../ir/types.js';
import { asksForSaid } from '../ir/said.js';
import { hasPorts, TCP, UDP } from '../net/protocol.js';
import { boundaryKinds, type NameKinds } from './names/kinds.js';
import { type Probe, withNames } from './names/probes.js';
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

/** Policies with the objects that they apply to. */
export interface World {
  readonly ir: Ir;
  readonly snapshot: Snapshot;
}

/** Pods that no policy of any world distinguishes. */
export interface Senders {
  /** `namespace/name`, ascending; the first stands for all. Or NODE_SENDER alone. */
  readonly pods: readonly string[];
  /** The policies that select them, by world. */
  readonly policies: readonly (readonly IrPolicy[])[];
  /** Every rule that may judge their packets in any world, without the tiers' defaults, which match everything. */
  readonly rules: readonly Rule[];
}

/** Whether one of the worlds has a policy for nodes. */
export function governNodes(worlds: readonly World[]): boolean {
  return worlds.some(({ ir }) => ir.tiers.some((t) => t.policies.some((p) => p.nodes !== undefined)));
}

/**
 * @param only considers only these pods. Default: all pods that policies can select in one of the worlds, and the node
 * if it has policies
 */
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

/** The peers without nested peers. */
export function leaves(peers: readonly Peer[] | null): Peer[] {
  return (peers ?? []).flatMap((peer): Peer[] => {
    if (peer.kind === 'all' || peer.kind === 'some') return leaves(peer.of);
    return peer.kind === 'not' ? leaves([peer.of]) : [peer];
  });
}

/** The ranges of every block in the rules, including exceptions. */
export function cidrEdges(rules: Iterable<Rule>): AddressRange[] {
  const texts = new Set<string>();
  for (const rule of rules)
    for (const peer of leaves(rule.peers))
      if (peer.kind === 'cidr') for (const c of [peer.cidr, ...peer.except]) texts.add(c);
  return [...texts].map(cidrRange);
}

/** All addresses of pods, nodes and backends. */
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

/** A Service's address and port, in place of which its backends are judged. */
export interface ServicePlace {
  /** `namespace/name`. */
  readonly service: string;
  readonly ip: string;
  readonly port: number;
  readonly protocol: number;
  readonly backends: readonly Backend[];
}

/**
 * Services by `ip|port|protocol`. If several claim the same, the one with the strongest claim, as in findService of
 * ir/evaluate.ts.
 */
export function servicePlaces(snapshot: Snapshot): Map<string, ServicePlace> {
  const out = new Map<string, ServicePlace>();
  const claims = new Map<string, number>();
  const own = ownNodeAddresses(snapshot);
  for (const [name, service] of servicesInOrder(snapshot)) {
    for (const { port, protocol, nodePort, backends } of service.ports) {
      const place = (ip: string, at: number, claim: number) => {
        const { family } = addressNumber(ip);
        const ofFamily = backends.filter((b) => addressNumber(b.ip).family === family);
        const id = `${ip}|${at}|${protocol}`;
        if (ofFamily.length === 0 || (claims.get(id) ?? Infinity) <= claim) return;
        claims.set(id, claim);
        out.set(id, { service: name, ip, port: at, protocol, backends: ofFamily });
      };
      for (const ip of service.vips) if (!isOwnDns(snapshot, ip, port)) place(ip, port, claimOf(service, ip));
      if (nodePort) for (const ip of own) place(ip, nodePort, CLAIM.node);
    }
  }
  return out;
}

/** All protocols and ports, split where one of the rules may distinguish two of them. */
export function portSpans(rules: readonly Rule[], snapshots: readonly Snapshot[]): PortSpan[] {
  const matches = [...new Set(rules.flatMap((rule) => rule.ports ?? []))];
  const names = namedPorts(matches, snapshots);
  // Protocols with the same cuts in all rules are joined.
  const byCuts = new Map<string, { protocols: number[]; cuts: Set<number> }>();
  // Where rules ask for queries, a TCP handshake is judged otherwise than a datagram that is no query.
  const asking = rules.some((rule) => rule.queries);
  // Where they ask what connections say, so it is, and a datagram can be one of QUIC.
  const listening = rules.some(asksForSaid);
  for (let protocol = 0; protocol < 256; protocol++) {
    const cuts = new Set([0]);
    const texts: string[] = [hasPorts(protocol) ? 'ports' : looksAtPort(protocol) ? 'types' : ''];
    if ((asking || listening) && protocol === TCP) texts.push('handshake');
    if (listening && protocol === UDP) texts.push('datagram');
    const cut = (lo: number, hi: number) => {
      cuts.add(lo);
      if (hi < LAST_PORT) cuts.add(hi + 1);
    };
    rules.forEach((rule, i) => {
      for (const m of rule.ports ?? []) {
        if (m.service) {
          const matching = serviceBackends(m.service, snapshots).filter((b) => b.protocol === protocol);
          if (matching.length === 0) continue;
          texts.push(`${i}:service`);
          for (const { port } of matching) cut(port, port);
          continue;
        }
        if (m.protocol === null ? m.ports === undefined || !hasPorts(protocol) : m.protocol !== protocol) continue;
        texts.push(`${i}:${JSON.stringify([m.ports, m.named, m.notNamed])}`);
        for (const [lo, hi] of m.ports ?? []) cut(lo, hi);
        for (const name of portNames(m)) for (const n of names.get(`${name}|${protocol}`) ?? []) cut(n, n);
      }
    });
    const key = texts.join(' ');
    const same = byCuts.get(key);
    if (same) same.protocols.push(protocol);
    else byCuts.set(key, { protocols: [protocol], cuts });
  }
  return [...byCuts.values()].flatMap(({ protocols, cuts }) => {
    const sorted = [...cuts].sort((a, b) => a - b);
    const spans = sorted.map((lo, i): PortSpan => ({ protocols, lo, hi: (sorted[i + 1] ?? LAST_PORT + 1) - 1 }));
    return [...spans, { protocols, lo: 0, hi: LAST_PORT, fragment: true as const }];
  });
}

/** The port names in a match, including excluded ones. */
function portNames({ named, notNamed = [] }: PortMatch): readonly string[] {
  return named === undefined ? notNamed : [named];
}

/** The backends of a Service in any of the worlds. */
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
 * Yields all packets at the boundaries, with one sender for each kind of pod. Destinations of one kind (pods that no
 * rule distinguishes) occur once. They are generated one by one, since there may be millions.
 * @param only considers only these pods; default: all
 */
export function* boundaryPackets(worlds: readonly World[], only?: ReadonlySet<string>): Generator<Packet> {
  for (const { packet } of packetsByRules(worlds, only)) yield packet;
}

/**
 * The same packets, each also to an address with names of each kind, and as a DNS query for a name of each kind. A
 * Service's address is never learned for a name here.
 */
export function* boundaryProbes(worlds: readonly World[], only?: ReadonlySet<string>): Generator<Probe> {
  let last: { readonly rules: readonly Rule[]; readonly kinds: NameKinds } | undefined;
  for (const { packet, rules, service } of packetsByRules(worlds, only)) {
    if (last?.rules !== rules) last = { rules, kinds: boundaryKinds(rules) };
    yield* withNames(packet, service ? { ...last.kinds, learned: [] } : last.kinds);
  }
}

/** A packet at a boundary of some rules. */
interface Placed {
  readonly packet: Packet;
  readonly rules: readonly Rule[];
  /** Whether it goes to a Service's address. */
  readonly service: boolean;
}

function* packetsByRules(worlds: readonly World[], only?: ReadonlySet<string>): Generator<Placed> {
  const views = worlds.map(({ snapshot }) => new AddressViews(snapshot));
  const known = knownAddresses(worlds);
  const places = new Map(worlds.flatMap(({ snapshot }) => [...servicePlaces(snapshot)]));
  for (const senders of sendersOf(worlds, only)) {
    const spans = portSpans(
      senders.rules,
      worlds.map((w) => w.snapshot),
    );
    const from = senders.pods[0] as string;
    const { rules } = senders;
    const placed = (packets: Iterable<Packet>) =>
      [...packets].map((packet): Placed => ({ packet, rules, service: false }));
    const to = new Set<string>();
    const blocks = pieces(cidrEdges(senders.rules));
    for (const { family, lo, hi } of blocks) for (const n of [lo, hi]) to.add(addressText(family, n));
    for (const ip of kinds(known, blocks, senders, worlds, views)) to.add(ip);
    // A packet to an own address does not leave its sender (ir/outcome.ts), so such an address must also occur as the
    // destination of another sender. If a rule may match a pod by itself, each sender's own addresses are needed.
    const selfish = meanSelf(senders.rules);
    const owns = (key: string, ips: readonly string[]) => ownAddresses(key, worlds).some((own) => ips.includes(own));
    const sendersTo = (ips: readonly string[]) => {
      const other = owns(from, ips) ? senders.pods.find((key) => !owns(key, ips)) : undefined;
      return other === undefined ? [from] : [from, other];
    };
    for (const ip of to) for (const key of sendersTo([ip])) yield* placed(toPorts(key, ip, spans));
    for (const key of selfish ? senders.pods : []) {
      for (const { snapshot } of worlds)
        for (const ip of snapshot.pods.get(key)?.ips ?? []) yield* placed(toPorts(key, ip, spans));
    }
    for (const { ip, port, protocol, backends } of from === NODE_SENDER ? [] : places.values()) {
      const backendIps = backends.map((b) => b.ip);
      const own = selfish ? senders.pods.filter((key) => owns(key, backendIps)) : [];
      for (const key of new Set([...sendersTo([ip]), ...sendersTo(backendIps), ...own]))
        yield { packet: { from: key, to: ip, protocol, port }, rules, service: true };
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

/** The addresses of one sender, in any of the worlds. */
function ownAddresses(key: string, worlds: readonly World[]): string[] {
  return worlds.flatMap(({ snapshot }) => senderOf(snapshot, key)?.ips ?? []);
}

/**
 * One address of each kind. Addresses of a kind are between the same edges, match the same selectors, have the same
 * port names, and are either all own addresses of the sender or not.
 */
function kinds(
  known: Iterable<string>,
  blocks: readonly AddressRange[],
  { pods, rules }: Senders,
  worlds: readonly World[],
  views: readonly AddressViews[],
): Iterable<string> {
  const kindOf = addressKinds(blocks, rules, worlds, views);
  const from = pods[0] as string;
  const own = new Set(ownAddresses(from, worlds));
  const out = new Map<string, string>();
  for (const ip of known) {
    const kind = `${own.has(ip)} ${kindOf(ip, from)}`;
    if (!out.has(kind)) out.set(kind, ip);
  }
  return out.values();
}

/**
 * Of senders that the same policies select, enough that each kind of address is some sender's own: what a pod sends to itself meets rules about
 * senders and about destinations at once. None where no rule means the sender itself.
 */
export function selfSenders({ pods, rules }: Senders, worlds: readonly World[]): string[] {
  if (!meanSelf(rules)) return [];
  const views = worlds.map(({ snapshot }) => new AddressViews(snapshot));
  const kindOf = addressKinds(pieces(cidrEdges(rules)), rules, worlds, views);
  const met = new Set<string>();
  return pods.filter((key) => {
    const unmet = ownAddresses(key, worlds)
      .map((ip) => kindOf(ip, key))
      .filter((kind) => !met.has(kind));
    for (const kind of unmet) met.add(kind);
    return unmet.length > 0;
  });
}

function meanSelf(rules: readonly Rule[]): boolean {
  return rules.some((rule) => leaves(rule.peers).some((peer) => peer.kind === 'self'));
}

/** @returns what the rules can tell of an address as a destination, but for whether it is the sender's own */
function addressKinds(
  blocks: readonly AddressRange[],
  rules: readonly Rule[],
  worlds: readonly World[],
  views: readonly AddressViews[],
): (ip: string, from: string) => string {
  const selectors = new Map<string, Peer>();
  for (const rule of rules)
    for (const peer of leaves(rule.peers))
      if (peer.kind !== 'cidr' && peer.kind !== 'self' && peer.kind !== 'any')
        selectors.set(JSON.stringify(peer), peer);
  const matches = rules.flatMap((rule) => rule.ports ?? []);
  const names = new Set(matches.flatMap(portNames));
  const backends = matches
    .flatMap((m) => m.service ?? [])
    .flatMap((service, i) =>
      serviceBackends(
        service,
        worlds.map((w) => w.snapshot),
      ).map((b) => ({ ...b, i })),
    );
  return (ip, from) => {
    const { family, n } = addressNumber(ip);
    const parts: unknown[] = [pieceAt(blocks, family, n)];
    worlds.forEach(({ snapshot }, w) => {
      const view = (views[w] as AddressViews).at(ip);
      const sender = senderOf(snapshot, from) as Pod;
      const judged: Judged = { sender, to: ip, protocol: 6, port: 0, fragment: false, names: [] };
      for (const peer of selectors.values()) parts.push(peerMatches(peer, view, judged) ? 1 : 0);
      const ports = [...view.pods.values()].flatMap((p) => (p.ended || p.hostNetwork ? [] : p.ports));
      parts.push(backends.filter((b) => b.ip === ip).map((b) => [b.i, b.protocol, b.port]));
      parts.push(
        ports.filter((p) => p.name !== undefined && names.has(p.name)).map((p) => [p.name, p.protocol, p.port]),
      );
    });
    return JSON.stringify(parts);
  };
}
