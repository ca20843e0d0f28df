/**
 * The reference semantics: what the policies say about one packet, read straight off
 * the IR. Slow and obvious on purpose; simulate(Image) and the kernel must agree with it.
 *
 * Order of precedence:
 * 1. A sender that no policy can select (unknown, hostNetwork, ended) is allowed, by no rule.
 * 2. A Service address stands for its backends: judged one by one, as 3 to 6 say. Not for what the node sends: see sender.ts.
 * 3. Tiers in order; a tier counts if one of its policies selects the sender.
 * 4. In a tier: the selecting policies' rules in order, then the implicit rules, then the default.
 * 5. The first rule that matches and allows or denies decides; pass goes to the next tier, log to the next rule.
 * 6. No tier decided: allowed, by no rule.
 */
import type { Pod, Service, ServicePort, Snapshot } from '../identity/snapshot.js';
import type { Packet, Verdict } from '../image/types.js';
import { type Addr, type Cidr, cidrContains, parseAddr, parseCidr } from '../net/addr.js';
import { hasPorts } from '../net/protocol.js';
import { matchLabels, matchService, matchWorkload } from './match.js';
import { governs, isNode, senderOf } from './sender.js';
import { ruleId } from './names.js';
import type { Peer } from './peers.js';
import { DEFAULT_RULE, implicitRules, type Ir, type IrPolicy, type PortMatch, type Rule, type Tier } from './types.js';

/** A tier as one sender meets it: the policies that select it, and its rules in the order they are judged. */
export interface TierView {
  readonly tier: Tier;
  readonly selecting: readonly IrPolicy[];
  readonly rules: readonly Rule[];
}

/** A packet as it is judged once a Service address has been replaced by a backend. */
export interface Judged {
  readonly sender: Pod;
  /** Canonical text. */
  readonly to: string;
  readonly protocol: number;
  readonly port: number;
  /** The ports cannot be seen. */
  readonly fragment: boolean;
}

export function evaluate(ir: Ir, snapshot: Snapshot, packet: Packet): Verdict {
  const sender = senderOf(snapshot, packet.from);
  if (!sender) return { verdict: 'allow', rule: 0, logged: [] };
  const tiers = tiersFor(ir, snapshot, sender);
  const judged: Judged = {
    sender,
    to: packet.to,
    protocol: packet.protocol,
    port: packet.port,
    fragment: packet.fragment ?? false,
  };
  const service = isNode(sender) ? undefined : findService(snapshot, packet);
  if (!service || tiers.length === 0) return judge(tiers, snapshot, judged);

  const verdicts = service.backends.map((b) => judge(tiers, snapshot, { ...judged, to: b.ip, port: b.port }));
  const allowed = verdicts.filter((v) => v.verdict === 'allow').length;
  // Some, not all: only the backend that kube-proxy chooses can tell. Judged after its translation.
  if (allowed > 0 && allowed < verdicts.length) return { verdict: 'partial', rule: 0, logged: [] };
  return { ...(verdicts[0] as Verdict), logged: [] };
}

/** The tiers that count for this sender. */
export function tiersFor(ir: Ir, snapshot: Snapshot, sender: Pod): TierView[] {
  const views: TierView[] = [];
  for (const tier of ir.tiers) {
    const selecting = tier.policies.filter((policy) => governs(policy, sender, snapshot));
    if (selecting.length === 0) continue;
    const stagedAs = (rule: Rule, value: boolean): Rule => ({ ...rule, ref: { ...rule.ref, staged: value } });
    const rules = selecting.flatMap((policy) => policy.rules.map((rule) => stagedAs(rule, policy.staged)));
    const isolating = selecting.filter((policy) => policy.isolates !== false);
    if (isolating.length > 0) {
      // A tier that only staged policies bring into force is staged as a whole: in force it would not count.
      const staged = isolating.every((policy) => policy.staged);
      for (const rule of implicitRules(isolating)) rules.push(stagedAs(rule, staged));
      rules.push(tierDefault(tier, isolating, staged));
    }
    views.push({ tier, selecting, rules });
  }
  return views;
}

/** The catch-all that ends a tier, named after the first of the policies that bring it into force. */
function tierDefault(tier: Tier, isolating: readonly IrPolicy[], staged: boolean): Rule {
  const first = isolating.find((policy) => policy.staged === staged) as IrPolicy;
  const action = tier.defaultAction;
  return {
    ref: { policy: first.ref, index: DEFAULT_RULE, tier: tier.name, staged, action },
    action,
    peers: null,
    ports: null,
  };
}

function judge(tiers: readonly TierView[], snapshot: Snapshot, judged: Judged): Verdict {
  const real = walk(tiers, snapshot, judged, false);
  const anyStaged = tiers.some((view) => view.rules.some((rule) => rule.ref.staged));
  if (!anyStaged) return real;
  const audit = walk(tiers, snapshot, judged, true);
  return { ...real, audit: { verdict: audit.verdict, rule: audit.rule } };
}

function walk(tiers: readonly TierView[], snapshot: Snapshot, judged: Judged, withStaged: boolean) {
  const logged: number[] = [];
  for (const { rules } of tiers) {
    for (const rule of rules) {
      if (rule.ref.staged && !withStaged) continue;
      if (!ruleMatches(rule, snapshot, judged)) continue;
      if (rule.action === 'log') {
        logged.push(ruleId(rule.ref));
        continue;
      }
      if (rule.action === 'pass') break;
      return { verdict: rule.action, rule: ruleId(rule.ref), logged };
    }
  }
  return { verdict: 'allow' as const, rule: 0, logged };
}

export function ruleMatches(rule: Rule, snapshot: Snapshot, judged: Judged): boolean {
  const toPeer = (at?: readonly Pod[]) =>
    rule.peers === null || rule.peers.some((peer) => peerMatches(peer, snapshot, judged, at));
  if (rule.ports === null) return toPeer();
  return rule.ports.some((port) => {
    if (port.named === undefined) return portMatches(port, snapshot, judged) && toPeer();
    // Where pods share an address for a while: the one that is meant must be the one that calls its port so.
    return podsAt(snapshot, judged.to).some((pod) => portMatches(port, snapshot, judged, [pod]) && toPeer([pod]));
  });
}

/** @param at the pods at the address; by default all that have it */
export function peerMatches(peer: Peer, snapshot: Snapshot, judged: Judged, at?: readonly Pod[]): boolean {
  const { sender, to } = judged;
  switch (peer.kind) {
    case 'any':
      return true;
    case 'all':
      return peer.of.every((p) => peerMatches(p, snapshot, judged, at));
    case 'some':
      return peer.of.some((p) => peerMatches(p, snapshot, judged, at));
    case 'not':
      return !peerMatches(peer.of, snapshot, judged, at);
    case 'services':
      return [...snapshot.services.values()].some(
        (service) =>
          matchService(peer, service, snapshot) && service.ports.some((p) => p.backends.some((b) => b.ip === to)),
      );
    case 'cidr': {
      const address = addressOf(to);
      const { cidr, except } = blockOf(peer);
      return cidrContains(cidr, address) && !except.some((inner) => cidrContains(inner, address));
    }
    case 'pods':
      return (at ?? podsAt(snapshot, to)).some((pod) => matchWorkload(peer, pod, snapshot));
    case 'self':
      return sender.ips.includes(to);
    case 'own-node':
      return ownNodeAddresses(snapshot).includes(to);
    case 'nodes':
      return [...snapshot.nodes.values()].some(
        (node) => matchLabels(peer.labels, node.labels) && node.ips.includes(to),
      );
    default:
      return peer satisfies never;
  }
}

type CidrPeer = Extract<Peer, { kind: 'cidr' }>;

/** Texts are read once: a proof asks for a million packets. */
const blocks = new WeakMap<CidrPeer, { readonly cidr: Cidr; readonly except: readonly Cidr[] }>();

function blockOf(peer: CidrPeer) {
  let known = blocks.get(peer);
  if (!known) blocks.set(peer, (known = { cidr: parseCidr(peer.cidr), except: peer.except.map(parseCidr) }));
  return known;
}

let last: { readonly text: string; readonly address: Addr } | undefined;

function addressOf(text: string): Addr {
  if (last?.text !== text) last = { text, address: parseAddr(text) };
  return last.address;
}

/** @param at the pods at the address; by default all that have it */
export function portMatches(match: PortMatch, snapshot: Snapshot, judged: Judged, at?: readonly Pod[]): boolean {
  const { to, protocol, port, fragment } = judged;
  if (match.protocol !== null && match.protocol !== protocol) return false;
  if (match.service) {
    const service = snapshot.services.get(`${match.service.namespace}/${match.service.name}`);
    const backs = (p: ServicePort) => p.protocol === protocol && p.backends.some((b) => b.ip === to && b.port === port);
    return !fragment && (service?.ports.some(backs) ?? false);
  }
  if (match.notNamed) {
    const calls = (pod: Pod) =>
      pod.ports.some((p) => p.protocol === protocol && p.port === port && match.notNamed?.includes(p.name ?? ''));
    const inside = match.ports?.some(([lo, hi]) => lo <= port && port <= hi) ?? true;
    return !fragment && inside && !podsAt(snapshot, to).some(calls);
  }
  // A range of all ports looks at none: it matches fragments too.
  const allPorts = match.named === undefined && (match.ports?.some(([lo, hi]) => lo === 0 && hi === 65535) ?? true);
  if (allPorts && (match.ports === undefined || match.protocol !== null || hasPorts(protocol))) return true;
  if (fragment) return false;
  if (match.protocol === null && !hasPorts(protocol)) return false;
  if (match.ports?.some(([lo, hi]) => lo <= port && port <= hi)) return true;
  if (match.named === undefined) return false;
  // The name means what the destination pod calls by it, in this protocol.
  return (at ?? podsAt(snapshot, to)).some((pod) =>
    pod.ports.some((p) => p.name === match.named && p.protocol === protocol && p.port === port),
  );
}

/** Pods that have this address to themselves. */
export function podsAt(snapshot: Snapshot, address: string): Pod[] {
  return [...snapshot.pods.values()].filter((pod) => !pod.hostNetwork && !pod.ended && pod.ips.includes(address));
}

export function ownNodeAddresses(snapshot: Snapshot): readonly string[] {
  return [...snapshot.ownNode.ips, ...(snapshot.nodes.get(snapshot.ownNode.name)?.ips ?? [])];
}

export interface FoundService {
  readonly service: Service;
  readonly port: ServicePort;
  /** Of the address's own family: kube-proxy never translates from one to the other. */
  readonly backends: ServicePort['backends'];
}

/**
 * The Service behind an address and port, if it has backends: one of its own addresses, or this
 * node's address with its node port. Of two that claim the same, the first by name.
 */
export function findService(snapshot: Snapshot, packet: Packet): FoundService | undefined {
  if (packet.fragment) return undefined;
  const family = parseAddr(packet.to).family;
  const byName = [...snapshot.services.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [, service] of byName) {
    for (const port of service.ports) {
      if (port.protocol !== packet.protocol) continue;
      const atVip = service.vips.includes(packet.to) && port.port === packet.port;
      const atNode = port.nodePort === packet.port && ownNodeAddresses(snapshot).includes(packet.to);
      if (!atVip && !atNode) continue;
      const backends = port.backends.filter((b) => parseAddr(b.ip).family === family);
      if (backends.length > 0) return { service, port, backends };
    }
  }
  return undefined;
}
