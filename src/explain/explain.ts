/**
 * Explains the verdict on a packet: every tier, policy and rule considered, with reasons. Plain data that can be
 * written as JSON.
 */
import type { Pod, Snapshot } from '../identity/snapshot.js';
import type { Learned, LearnedName, Packet, Verdict } from '../ir/packet.js';
import { hasPorts, protocolName } from '../net/protocol.js';
import {
  evaluate,
  isEncapsulation,
  type Judged,
  judgedAt,
  peerMatches,
  podsAt,
  portMatches,
  queryMatches,
  readAs,
  type Reading,
  ruleMatches,
  type TierView,
  tiersFor,
} from '../ir/evaluate.js';
import { findService, ownNodeAddresses } from '../ir/services.js';
import { describePatterns } from '../names/describe.js';
import { whySaid, whyUnverified } from './said.js';
import { describeNodes, describePort, describeRule, describeWorkload, saysOf } from './describe.js';
import { matchName, matchWorkload } from '../ir/match.js';
import { byId, formatPolicy, formatRule, ruleId } from '../ir/names.js';
import { allowingItself, outcomeOf, staysInside, withoutAddresses } from '../ir/outcome.js';
import { heardBy } from '../ir/said.js';
import { isNode, NODE_SENDER, senderOf } from '../ir/sender.js';
import { asksForName, type Peer, type WorkloadMatch } from '../ir/peers.js';
import type { Action, Ir, IrPolicy, PolicyRef, DnsRefusal, Rule, RuleRef } from '../ir/types.js';

export interface ExplainedRule {
  /** The rule's key, such as `np/default/web#2`. */
  rule: string;
  ref: RuleRef;
  action: Action;
  result: 'decides' | 'passes' | 'logs' | 'staged' | 'no-match' | 'not-reached';
  /** The rule in words: `to 10.0.0.0/8 except 10.1.0.0/16 on TCP 443`. */
  text: string;
  /** Why it matched or did not match. */
  why: string;
}

export interface ExplainedPolicy {
  policy: string;
  ref: PolicyRef;
  staged: boolean;
  selected: boolean;
  why: string;
  rules: ExplainedRule[];
}

export interface ExplainedTier {
  tier: string;
  order: number;
  /** Whether one of its policies selects the sender. */
  applies: boolean;
  outcome: 'allow' | 'deny' | 'pass' | 'does-not-apply' | 'not-reached';
  policies: ExplainedPolicy[];
  /** The implicit rules and the default. */
  always: ExplainedRule[];
}

export interface ExplainedTarget {
  ip: string;
  port: number;
  /** The objects of the snapshot that have the address: `pod default/web`, `node a`. */
  is: string[];
  /** The names under which the sender learned the address. */
  names?: readonly LearnedName[];
  verdict: Verdict;
  /** Why it is denied before any rule is evaluated. */
  before?: string;
  tiers: ExplainedTier[];
}

export interface Explanation {
  packet: Packet;
  sender: { key: string; known: boolean; selectable: boolean; why: string };
  service?: { namespace: string; name: string; port?: string; backends: number };
  /** The destination itself; for a Service address, each of its backends. */
  targets: ExplainedTarget[];
  /** The verdict of outcomeOf(). */
  verdict: Verdict;
  rule?: RuleRef;
  /**
   * How the packet is answered, if it is a DNS query that is refused; `option`: as the agent's --dns-refusal says.
   * Absent: it passes, or it is dropped like any other packet, since its server may not be asked for anything.
   */
  answer?: DnsRefusal | 'option';
  /** The verdict is on the handshake of a connection. What it says then decides. */
  pending?: true;
  /** The rule of the audit verdict. */
  auditRule?: RuleRef;
  /** The verdict in one sentence. */
  summary: string;
}

/**
 * Explains the verdict on a packet.
 * @param all the IR of all policies
 * @param learned what endpoints learned from DNS answers
 */
export function explain(all: Ir, snapshot: Snapshot, packet: Packet, learned?: Learned): Explanation {
  const stays = staysInside(snapshot, packet);
  const ir = stays ? allowingItself(all) : all;
  const verdict = outcomeOf(all, snapshot, packet, learned);
  const pod = senderOf(snapshot, packet.from);
  const sender = explainSender(packet.from, pod);
  const views = pod ? tiersFor(ir, snapshot, pod) : [];
  const itself = pod && judgedAt(pod, packet, learned);
  const reading = itself && !stays ? readAs(views, snapshot, packet, itself, learned) : undefined;
  const heard = reading?.heard === undefined ? {} : { heard: reading.heard };
  const judgedAs = (ip: string, port: number): Judged | undefined =>
    pod && {
      ...judgedAt(pod, packet, learned, { ip, port }),
      ...(reading?.asks ? { asks: true as const } : {}),
      ...heard,
    };
  // An encapsulated packet is judged at the address to which it was sent, without looking for a Service.
  const direct = stays || packet.from === NODE_SENDER || (itself && isEncapsulation(views, snapshot, itself));
  const found = direct ? undefined : findService(snapshot, packet);
  const places = found ? found.backends : [{ ip: packet.to, port: packet.port }];
  const targets = places.map(({ ip, port }): ExplainedTarget => {
    const judged = judgedAs(ip, port);
    // A backend is judged as an address of its own, even if another Service has the same address.
    const alone = { ...snapshot, services: withoutAddresses(snapshot) };
    const before = stays || !judged ? undefined : whyBefore(views, snapshot, judged, reading);
    return {
      ip,
      port,
      is: describeAddress(snapshot, ip),
      ...(judged && judged.names.length > 0 ? { names: judged.names } : {}),
      verdict: stays ? verdict : evaluate(ir, alone, { ...packet, to: ip, port }, learned),
      ...(before === undefined ? {} : { before }),
      tiers: judged ? explainTiers(ir, views, snapshot, judged, before !== undefined) : [],
    };
  });
  const refs = byId(views.flatMap((view) => view.rules.map((r) => r.ref)));
  const rule = refs.get(verdict.rule);
  const explanation: Explanation = {
    packet,
    sender,
    targets,
    verdict,
    rule,
    summary: summarize(packet, verdict, rule, sender, found, targets, stays),
  };
  const answer = itself && !stays ? answerTo(views, snapshot, packet, itself, verdict) : undefined;
  if (answer !== undefined) explanation.answer = answer;
  const isUnsaid = typeof reading?.heard === 'string';
  if (isUnsaid && verdict.verdict !== 'deny') explanation.pending = true;
  const auditRule = verdict.audit && refs.get(verdict.audit.rule);
  if (auditRule) explanation.auditRule = auditRule;
  if (found) {
    const { service, port, backends } = found;
    explanation.service = {
      namespace: service.namespace,
      name: service.name,
      port: port.name,
      backends: backends.length,
    };
  }
  return explanation;
}

/** How a refused query is answered: only where others might pass are queries read at all. */
function answerTo(
  views: readonly TierView[],
  snapshot: Snapshot,
  { query, ...packet }: Packet,
  { query: _, ...judged }: Judged,
  { verdict, rule }: Verdict,
): Explanation['answer'] {
  if (query === undefined || verdict !== 'deny') return undefined;
  const other = readAs(views, snapshot, packet, judged);
  if (!other.unreadable && other.verdict.verdict === 'deny') return undefined;
  const decider = views.flatMap((view) => view.rules).find(({ ref }) => ruleId(ref) === rule);
  return decider?.dnsRefusal ?? 'option';
}

function explainSender(key: string, pod: Pod | undefined): Explanation['sender'] {
  if (!pod) return { key, known: false, selectable: false, why: 'no pod of this name is known' };
  if (isNode(pod)) {
    const why = 'policies can select it; a Service is judged by the backend that is chosen';
    return { key, known: true, selectable: true, why };
  }
  if (pod.hostNetwork)
    return { key, known: true, selectable: false, why: 'it uses the network of its node: no policy selects it' };
  if (pod.ended) return { key, known: true, selectable: false, why: 'it has ended' };
  return { key, known: true, selectable: true, why: 'policies can select it' };
}

function describeAddress(snapshot: Snapshot, ip: string): string[] {
  const is = podsAt(snapshot, ip).map((pod) => `pod ${pod.namespace}/${pod.name}`);
  if (ownNodeAddresses(snapshot).includes(ip))
    is.push(`this node${snapshot.ownNode.name ? ` (${snapshot.ownNode.name})` : ''}`);
  for (const node of snapshot.nodes.values()) {
    if (node.name !== snapshot.ownNode.name && node.ips.includes(ip)) is.push(`node ${node.name}`);
  }
  return is;
}

/** Why a packet is denied before any rule; undefined: it is not. */
function whyBefore(views: readonly TierView[], snapshot: Snapshot, judged: Judged, reading?: Reading) {
  if (isEncapsulation(views, snapshot, judged)) return whyEncapsulation(judged);
  if (!reading?.unreadable) return undefined;
  if (reading.heard !== undefined)
    return 'only some of the backends may be told what it says, and who is told is not known when it is judged';
  if (judged.query !== undefined)
    return 'only some of the backends may get this DNS query, and who gets it is not known when its name is judged';
  return 'the names in DNS queries decide here, and it is no query';
}

function whyEncapsulation({ protocol, port }: Judged): string {
  const what = hasPorts(protocol) ? `${protocolName(protocol)} ${port}` : `IP protocol ${protocolName(protocol)}`;
  return `a node unwraps ${what}, and nobody would have judged what is inside; only with --allow-encapsulation do rules decide`;
}

function explainTiers(
  ir: Ir,
  views: readonly TierView[],
  snapshot: Snapshot,
  judged: Judged,
  decidedBefore: boolean,
): ExplainedTier[] {
  let decided = decidedBefore;
  return ir.tiers.map((tier): ExplainedTier => {
    const view = views.find((v) => v.tier === tier);
    const reached = !decided;
    // Rules in the order of evaluation: the rules of each policy, then the implicit rules and the default.
    let tierDecided = !reached;
    let outcome: ExplainedTier['outcome'] = !view ? 'does-not-apply' : reached ? 'pass' : 'not-reached';
    const step = (rule: Rule): ExplainedRule => {
      const explained = explainRule(rule, snapshot, judged, tierDecided);
      if (explained.result === 'decides' || explained.result === 'passes') {
        tierDecided = true;
        outcome = rule.action as 'allow' | 'deny' | 'pass';
        decided ||= explained.result === 'decides';
      }
      return explained;
    };
    const policies = tier.policies.map((policy): ExplainedPolicy => {
      const selected = view?.selecting.includes(policy) ?? false;
      const rules =
        view && selected
          ? policy.rules.map((rule) => step({ ...rule, ref: { ...rule.ref, staged: policy.staged } }))
          : [];
      return {
        policy: formatPolicy(policy.ref),
        ref: policy.ref,
        staged: policy.staged,
        selected,
        why: whySelected(policy, selected, judged.sender, snapshot),
        rules,
      };
    });
    const written = view ? view.selecting.reduce((n, p) => n + p.rules.length, 0) : 0;
    const always = (view?.rules.slice(written) ?? []).map(step);
    return { tier: tier.name, order: tier.order, applies: view !== undefined, outcome, policies, always };
  });
}

function explainRule(rule: Rule, snapshot: Snapshot, judged: Judged, decided: boolean): ExplainedRule {
  const matches = ruleMatches(rule, snapshot, judged);
  const base = { rule: formatRule(rule.ref), ref: rule.ref, action: rule.action, text: describeRule(rule) };
  const why = whyMatches(rule, snapshot, judged);
  if (!matches) return { ...base, result: 'no-match', why };
  if (decided) return { ...base, result: 'not-reached', why: `${why}, but an earlier rule has decided` };
  if (rule.ref.staged) return { ...base, result: 'staged', why: `${why}, but it is staged: not in force` };
  if (rule.action === 'pass') return { ...base, result: 'passes', why };
  if (rule.action === 'log') return { ...base, result: 'logs', why };
  return { ...base, result: 'decides', why };
}

function whySelected(policy: IrPolicy, selected: boolean, sender: Pod, snapshot: Snapshot): string {
  if (policy.nodes !== undefined || isNode(sender)) {
    const nodes = policy.nodes === undefined ? 'pods' : describeNodes(policy.nodes);
    return selected ? `selects the node: ${nodes}` : `the sender is not meant: ${nodes}`;
  }
  const selector = describeWorkload(policy.subject);
  if (selected) return `selects the sender: ${selector}`;
  const anyLabels: WorkloadMatch = { ...policy.subject, pods: { op: 'true' } };
  if (!matchWorkload(anyLabels, sender, snapshot))
    return `the sender's namespace ${sender.namespace} is not meant: ${selector}`;
  return `the sender's labels do not match: ${selector}`;
}

function whyMatches(rule: Rule, snapshot: Snapshot, { heard, ...others }: Judged): string {
  const judged: Judged = heard === undefined ? others : { ...others, heard: heardBy(rule, heard, others.protocol) };
  const { to, protocol, port, fragment, query } = judged;
  const target = fragment ? `a fragment of ${protocolName(protocol)}` : `${protocolName(protocol)} ${port}`;
  if (rule.peers?.length === 0 || rule.ports?.length === 0)
    return 'it names no destination, or was refused (egressctl validate says why): it cannot match';
  const met = { ...judged, heard: 'met' as const };
  // Who says itself which servers are meant need not be asked for those of its names.
  const asked = rule.serverNames === undefined ? judged : met;
  const peer = rule.peers?.find((p) => peerMatches(p, snapshot, asked));
  const unverified = peer ? undefined : rule.peers?.find((p) => peerMatches(p, snapshot, met));
  if (unverified)
    return `${to} ${saysOf([unverified], true)}${byName(unverified, judged)}${whyUnverified(rule, heard, protocol)}`;
  if (rule.peers !== null && !peer) return `${to} ${saysOf(rule.peers, false)}${knownAs(rule.peers, judged)}`;
  const where = peer ? `${to} ${saysOf([peer], true)}${byName(peer, judged)}` : 'every destination is meant';
  const match = rule.ports?.find((p) => portMatches(p, snapshot, judged));
  if (rule.ports !== null && !match)
    return `${where}, but ${target} is not ${rule.ports.map(describePort).join(' or ')}`;
  const what = match ? `${where} and ${target} is ${describePort(match)}` : `${where}, on every port`;
  if (rule.serverNames !== undefined || rule.http !== undefined) return `${what}${whySaid(rule, heard, protocol)}`;
  if (rule.queries === undefined) return what;
  const isMet = queryMatches(rule.queries, judged);
  const asksFor = query === undefined ? 'it is no DNS query' : `it asks for ${query || 'the root'}`;
  if (isMet && query === undefined) return `${what}; its DNS queries come later, and each is judged by its name`;
  return `${what}${isMet ? ' and' : ', but'} ${asksFor}${isMet ? '' : `, not for ${describePatterns(rule.queries)}`}`;
}

/** The learned name by which a peer matches. */
function byName(peer: Peer, { names }: Judged): string {
  const own = (peer.kind === 'all' ? peer.of : [peer]).find((part) => part.kind === 'names');
  const found = own && names.find((name) => matchName(own, name));
  return found ? ` (${found.name || 'the root'})` : '';
}

/** Of peers that ask for names and do not match: what is known of the address. */
function knownAs(peers: readonly Peer[], { names }: Judged): string {
  if (!peers.some(asksForName)) return '';
  if (names.length === 0) return ': the sender learned no name for it';
  const texts = names.map(({ name, alias }) => `${name}${alias ? ' (an alias)' : ''}`);
  return `: the sender learned it for ${texts.slice(0, KNOWN).join(', ')}${texts.length > KNOWN ? ', …' : ''}`;
}

/** Learned names that an explanation lists. */
const KNOWN = 5;

function summarize(
  packet: Packet,
  verdict: Verdict,
  rule: RuleRef | undefined,
  sender: Explanation['sender'],
  found: ReturnType<typeof findService>,
  targets: readonly ExplainedTarget[],
  stays: boolean,
): string {
  const to = found ? `Service ${found.service.namespace}/${found.service.name} (${packet.to})` : packet.to;
  const what = `${packet.from} to ${to}, ${protocolName(packet.protocol)} ${packet.port}`;
  if (verdict.verdict === 'partial') return `${what}: allowed to some of the backends only, judged once one is chosen`;
  const done = verdict.verdict === 'allow' ? 'allowed' : 'denied';
  if (rule) return `${what}: ${done} by ${formatRule(rule)}`;
  const before = targets.find((t) => t.verdict.verdict === verdict.verdict)?.before;
  if (before !== undefined) return `${what}: ${done} before any rule: ${before}`;
  if (stays) return `${what}: ${done}, what is sent to an own address stays inside, and no policy applies`;
  return `${what}: ${done}, ${sender.selectable ? 'no policy decides' : sender.why}`;
}
