/**
 * The reference semantics: the verdict of the policies on one packet, computed directly from the IR. It is slow and
 * simple on purpose; simulate(Image) and the kernel must give the same verdicts.
 *
 * Order of precedence:
 * 1. A sender that no policy can select (unknown, hostNetwork, ended) is allowed, by no rule.
 * 2. From a pod that a policy selects, encapsulated packets to a node's address are denied, by no rule. The same holds
 *   for link-local and similar addresses that any neighbour may claim. A later fragment is recognized by its protocol
 *   only.
 * 3. A Service address stands for its backends. Each backend is judged by steps 2 and 4 to 7. A denied backend denies
 *   the packet if no post-DNAT check would see it: on this node itself, or in a network beside it. This step does not
 *   apply to packets of the node itself: see sender.ts.
 * 4. Tiers are judged in order. A tier applies if one of its policies selects the sender.
 * 5. In a tier: the rules of the selecting policies in order, then the implicit rules, then the tier's default.
 * 6. The first matching rule that allows or denies decides. A pass rule continues with the next tier, a log rule with
 *   the next rule.
 * 7. If no tier decides, the packet is allowed, by no rule.
 *
 * DNS queries. A rule with `queries` matches a query by its name. A packet that is no query is judged twice: as if all
 * such rules matched, and as if none did. If the same rule decides, that is the verdict. Otherwise the names of its
 * connection's queries decide, each for itself: a TCP handshake passes if it may by either, and every other packet is
 * denied, by no rule, since it should be a query and cannot be read as one. A query to a Service is denied in the same
 * way if only some backends are allowed. Fragments match no such rule.
 */
import type { Backend, Pod, ServicePort, Snapshot } from '../identity/snapshot.js';
import { handshakeOf, type Learned, type LearnedName, type Packet, sameDecision, type Verdict } from './packet.js';
import { type Addr, type Cidr, cidrContains, parseAddr, parseCidr } from '../net/addr.js';
import { hasPorts, TCP } from '../net/protocol.js';
import { isOnLink, isTunnelled, tunnelTable } from '../net/tunnels.js';
import { findService, isBeside, ownNodeAddresses } from './services.js';
import { matchLabels, matchNames, matchService, matchWorkload } from './match.js';
import { governs, isNode, senderOf } from './sender.js';
import { ruleId } from './names.js';
import { asksForSaid, heardBy, type Heard, isAudited, isVerified, saidMatches, saidOf } from './said.js';
import { matchesName } from '../names/pattern.js';
import type { Peer } from './peers.js';
import {
  DEFAULT_RULE,
  defaultRefusal,
  implicitRules,
  type Ir,
  type IrPolicy,
  type PortMatch,
  refusing,
  type Rule,
  type Tier,
} from './types.js';

/**
 * A tier as it applies to one sender: the policies that select the sender, and the rules in the order they are judged.
 */
export interface TierView {
  readonly tier: Tier;
  readonly selecting: readonly IrPolicy[];
  readonly rules: readonly Rule[];
}

/** A packet after a Service address has been replaced by a backend. */
export interface Judged {
  readonly sender: Pod;
  /** Destination address, canonical text. */
  readonly to: string;
  readonly protocol: number;
  readonly port: number;
  /** True if the packet is a later fragment, whose ports are unknown. */
  readonly fragment: boolean;
  /** The names under which the sender learned the destination's address. */
  readonly names: readonly LearnedName[];
  /** The name that the packet asks a DNS server for. */
  readonly query?: string;
  /** Whether rules for queries match, whatever they ask for. */
  readonly asks?: true;
  /** What the connection says of itself; absent: nothing. */
  readonly heard?: Heard;
  /** The audit verdict is asked for. */
  readonly audit?: true;
}

/** A packet as it is judged at one address and port: its own, or those of a backend. */
export function judgedAt(
  sender: Pod,
  packet: Packet,
  learned: Learned | undefined,
  { ip, port } = { ip: packet.to, port: packet.port },
): Judged {
  const { protocol, fragment = false, query, from } = packet;
  const names = learned?.get(from)?.get(ip) ?? [];
  return { sender, to: ip, protocol, port, fragment, names, ...(query === undefined ? {} : { query }) };
}

/**
 * The verdict on a packet by the rules of precedence above.
 * @param learned what endpoints learned from DNS answers
 */
export function evaluate(ir: Ir, snapshot: Snapshot, packet: Packet, learned?: Learned): Verdict {
  const sender = senderOf(snapshot, packet.from);
  if (!sender) return { verdict: 'allow', rule: 0, logged: [] };
  return readAs(tiersFor(ir, snapshot, sender), snapshot, packet, judgedAt(sender, packet, learned), learned).verdict;
}

/** What a packet counts as where rules ask for the names in queries, and the verdict on it. */
export interface Reading {
  readonly verdict: Verdict;
  /** Whether rules for queries matched, whatever they ask for. */
  readonly asks: boolean;
  /** Whether it was denied because it should have been a query, or should have said what cannot be judged. */
  readonly unreadable: boolean;
  /** What the connection says, where the verdict depends on it. */
  readonly heard?: Heard;
}

/** Judges a packet, with what it is with respect to rules for queries. @param judged the packet at its own address */
export function readAs(
  tiers: readonly TierView[],
  snapshot: Snapshot,
  packet: Packet,
  judged: Judged,
  learned?: Learned,
): Reading {
  const { query: _, ...silentPacket } = packet;
  const { query, ...silent } = judged;
  // As a packet that asks for nothing.
  const as = (more: Partial<Judged>) => verdictOn(tiers, snapshot, silentPacket, { ...silent, ...more }, learned);
  const plain = query === undefined ? as({}) : verdictOn(tiers, snapshot, packet, judged, learned);
  const reading: Reading = { verdict: plain, asks: false, unreadable: false };
  if (judged.fragment) return reading;
  const audit = hasStaged(tiers) ? { audit: { verdict: 'deny', rule: 0 } as const } : {};
  const unreadable: Reading = {
    ...reading,
    verdict: { verdict: 'deny', rule: 0, logged: [], ...audit },
    unreadable: true,
  };
  if (hasRule(tiers, ({ queries }) => queries !== undefined)) {
    const asking = as({ asks: true });
    if (!sameDecision(query === undefined ? plain : as({}), asking)) {
      if (query !== undefined) return plain.verdict === 'partial' ? unreadable : reading;
      const best: Reading = plain.verdict === 'deny' ? { ...reading, verdict: asking, asks: true } : reading;
      const isHandshake = judged.protocol === TCP && packet.said === undefined;
      return best.verdict.verdict === 'deny' || isHandshake ? best : unreadable;
    }
  }
  // What depends on queries does not depend on anything else that its connection says.
  // What nodes say is not read.
  if (isNode(judged.sender) || !hasRule(tiers, asksForSaid)) return reading;
  const met = as({ heard: 'met' });
  if (sameDecision(plain, met)) return reading;
  const heard = saidOf(packet);
  if (judged.protocol === TCP) {
    // Nothing is said on a connection that is not accepted.
    const handshake = handshakeOf(plain, met, () => as({ heard: 'opening' }));
    // The check behind a Service's translation does not know what is said.
    if (handshake.verdict === 'partial') return { ...unreadable, heard };
    if (heard === 'nothing' || handshake.verdict === 'deny') {
      const closed = plain.verdict === 'deny' && met.rule !== plain.rule;
      const isOpening = met.verdict === 'deny' && handshake.verdict !== 'deny';
      return { ...reading, verdict: handshake, heard: closed ? (isOpening ? 'opening' : 'met') : 'nothing' };
    }
  }
  const said: Reading = { ...reading, verdict: as({ heard }), heard };
  return said.verdict.verdict === 'partial' ? { ...unreadable, heard } : said;
}

function hasRule(tiers: readonly TierView[], is: (rule: Rule) => boolean): boolean {
  return tiers.some(({ rules }) => rules.some(is));
}

function verdictOn(
  tiers: readonly TierView[],
  snapshot: Snapshot,
  packet: Packet,
  judged: Judged,
  learned: Learned | undefined,
): Verdict {
  const { sender } = judged;
  const service = isNode(sender) ? undefined : findService(snapshot, packet);
  if (!service || tiers.length === 0 || isEncapsulation(tiers, snapshot, judged)) return judge(tiers, snapshot, judged);

  const at = (b: Backend): Judged => ({ ...judged, ...judgedAt(sender, packet, learned, b) });
  const verdicts = service.backends.map((b) => judge(tiers, snapshot, at(b)));
  const allowed = verdicts.filter((v) => v.verdict === 'allow').length;
  // A packet that is translated to this node's own address never leaves it, so no post-DNAT check would see it.
  const own = new Set(ownNodeAddresses(snapshot));
  const stays = (ip: string) =>
    own.has(ip) || (isBeside(snapshot.ownNode, ip) && !podsAt(snapshot, ip).some((pod) => isHere(pod, snapshot)));
  const closed = verdicts.find((v, i) => v.verdict === 'deny' && stays(service.backends[i]?.ip ?? ''));
  if (closed) return { ...closed, logged: [] };
  // Only some backends are allowed, and kube-proxy chooses one. The packet is judged after its translation.
  if (allowed > 0 && allowed < verdicts.length) return { verdict: 'partial', rule: 0, logged: [] };
  return { ...(verdicts[0] as Verdict), logged: [] };
}

/** The tiers that apply to a sender, in order. */
export function tiersFor(ir: Ir, snapshot: Snapshot, sender: Pod): TierView[] {
  const views: TierView[] = [];
  for (const tier of ir.tiers) {
    const selecting = tier.policies.filter((policy) => governs(policy, sender, snapshot));
    if (selecting.length === 0) continue;
    const stagedAs = (rule: Rule, value: boolean): Rule => ({ ...rule, ref: { ...rule.ref, staged: value } });
    const rules = selecting.flatMap((policy) =>
      policy.rules.map((rule) => refusing(stagedAs(rule, policy.staged), policy.dnsRefusal)),
    );
    const isolating = selecting.filter((policy) => policy.isolates !== false);
    if (isolating.length > 0) {
      // If only staged policies bring a tier into force, the whole tier is staged: without them it would not apply.
      const staged = isolating.every((policy) => policy.staged);
      for (const rule of implicitRules(isolating)) rules.push(stagedAs(rule, staged));
      rules.push(tierDefault(tier, isolating, staged));
    }
    views.push({ tier, selecting, rules });
  }
  return views;
}

/** The default rule at the end of a tier, named after the first of the policies that bring the tier into force. */
function tierDefault(tier: Tier, isolating: readonly IrPolicy[], staged: boolean): Rule {
  const first = isolating.find((policy) => policy.staged === staged) as IrPolicy;
  const action = tier.defaultAction;
  const ref = { policy: first.ref, index: DEFAULT_RULE, tier: tier.name, staged, action };
  return refusing({ ref, action, peers: null, ports: null }, defaultRefusal(isolating, staged));
}

function judge(tiers: readonly TierView[], snapshot: Snapshot, judged: Judged): Verdict {
  const before = isEncapsulation(tiers, snapshot, judged) ? ENCAPSULATION : undefined;
  const real = before ?? walk(tiers, snapshot, judged, false);
  if (!hasStaged(tiers)) return real;
  const audit = before ?? walk(tiers, snapshot, { ...judged, audit: true }, true);
  return { ...real, audit: { verdict: audit.verdict, rule: audit.rule } };
}

function hasStaged(tiers: readonly TierView[]): boolean {
  return hasRule(tiers, (rule) => rule.ref.staged || isAudited(rule));
}

const ENCAPSULATION = { verdict: 'deny', rule: 0, logged: [] } as const;

/**
 * Whether a node that receives the packet would unwrap it. Without this check, a pod could reach any destination inside
 * of a tunnel. Not used for packets of the node itself.
 */
export function isEncapsulation(tiers: readonly TierView[], snapshot: Snapshot, judged: Judged): boolean {
  const { sender, to, protocol, port, fragment } = judged;
  if (tiers.length === 0 || isNode(sender)) return false;
  return isTunnelled(tunnelTable(snapshot.tunnels), protocol, port, fragment) && reachesNode(snapshot, to);
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

/** Whether a rule matches the packet, by peers, ports, the name in a query, and what the connection says. */
export function ruleMatches(rule: Rule, snapshot: Snapshot, judged: Judged): boolean {
  if (rule.queries && !queryMatches(rule.queries, judged)) return false;
  const heard = heardBy(rule, judged.heard ?? 'nothing', judged.protocol);
  if (!saidMatches(rule, heard)) return false;
  // Who says itself which servers are meant need not be asked for those of its names.
  const asked = { ...judged, heard: rule.serverNames === undefined ? heard : 'met' } as const;
  const toPeer = (at?: readonly Pod[]) =>
    rule.peers === null || rule.peers.some((peer) => peerMatches(peer, snapshot, asked, at));
  if (rule.ports === null) return toPeer();
  return rule.ports.some((port) => {
    if (port.named === undefined) return portMatches(port, snapshot, judged) && toPeer();
    // While several pods share an address, the peers must select the same pod that has the named port.
    return podsAt(snapshot, judged.to).some((pod) => portMatches(port, snapshot, judged, [pod]) && toPeer([pod]));
  });
}

/** Whether a rule for queries of these patterns matches the packet. */
export function queryMatches(queries: readonly string[], { query, asks, fragment }: Judged): boolean {
  if (fragment) return false;
  if (query === undefined) return asks === true && queries.length > 0;
  return queries.some((pattern) => matchesName(pattern, query));
}

/**
 * Whether a peer matches the destination.
 * @param judged `heard`: as the peer's rule hears it (heardBy())
 * @param at the pods at the address; by default all that have it
 */
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
    case 'names':
      // A port name asks for the pod that gives it. That is never told by a name.
      if (at !== undefined || !matchNames(peer, judged.names)) return false;
      return isVerified(peer, judged.heard === 'opening' ? 'met' : (judged.heard ?? 'nothing'), judged.audit ?? false);
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

/** Parsed CIDR peers: a proof judges a million packets. */
const blocks = new WeakMap<CidrPeer, { readonly cidr: Cidr; readonly except: readonly Cidr[] }>();

function blockOf(peer: CidrPeer) {
  let parsed = blocks.get(peer);
  if (!parsed) blocks.set(peer, (parsed = { cidr: parseCidr(peer.cidr), except: peer.except.map(parseCidr) }));
  return parsed;
}

let last: { readonly text: string; readonly address: Addr } | undefined;

function addressOf(text: string): Addr {
  if (last?.text !== text) last = { text, address: parseAddr(text) };
  return last.address;
}

/** Whether a port match matches the packet. @param at the pods at the address; by default all that have it */
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
  // A range of all ports does not read the port, so it matches fragments too.
  const allPorts = match.named === undefined && (match.ports?.some(([lo, hi]) => lo === 0 && hi === 65535) ?? true);
  if (allPorts && (match.ports === undefined || match.protocol !== null || hasPorts(protocol))) return true;
  if (fragment) return false;
  if (match.protocol === null && !hasPorts(protocol)) return false;
  if (match.ports?.some(([lo, hi]) => lo <= port && port <= hi)) return true;
  if (match.named === undefined) return false;
  // A port name means the ports that the destination pod gives that name, in this protocol.
  return (at ?? podsAt(snapshot, to)).some((pod) =>
    pod.ports.some((p) => p.name === match.named && p.protocol === protocol && p.port === port),
  );
}

/** The pods that have an address of their own and own this one. */
export function podsAt(snapshot: Snapshot, address: string): Pod[] {
  return [...snapshot.pods.values()].filter((pod) => !pod.hostNetwork && !pod.ended && pod.ips.includes(address));
}

/** Whether a pod runs on this node. In manifests that name no node, every pod does. */
function isHere(pod: Pod, snapshot: Snapshot): boolean {
  return pod.nodeName === snapshot.ownNode.name || pod.nodeName === '';
}

/** Whether a node may receive packets to the address. */
export function reachesNode(snapshot: Snapshot, address: string): boolean {
  return (
    isOnLink(address) ||
    (snapshot.ownNode.broadcasts?.includes(address) ?? false) ||
    ownNodeAddresses(snapshot).includes(address) ||
    [...snapshot.nodes.values()].some((node) => node.ips.includes(address))
  );
}
