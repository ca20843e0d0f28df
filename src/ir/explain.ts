/** Why a packet is judged as it is: every tier, policy and rule considered, in words. Plain data, ready for JSON. */
import type { Pod, Service, Snapshot } from '../identity/snapshot.js';
import type { Packet, Verdict } from '../image/types.js';
import { protocolName } from '../net/protocol.js';
import {
  evaluate,
  findService,
  type Judged,
  ownNodeAddresses,
  peerMatches,
  podsAt,
  portMatches,
  ruleMatches,
  type TierView,
  tiersFor,
} from './evaluate.js';
import { matchWorkload } from './match.js';
import { formatPolicy, formatRule, ruleId } from './names.js';
import { isNode, NODE_SENDER, senderOf } from './sender.js';
import type { LabelExpr, NamespaceMatch, Peer, WorkloadMatch } from './peers.js';
import type { Action, Ir, IrPolicy, PolicyRef, PortMatch, Rule, RuleRef } from './types.js';

export interface ExplainedRule {
  /** `np/default/web#2`. */
  rule: string;
  ref: RuleRef;
  action: Action;
  result: 'decides' | 'passes' | 'logs' | 'staged' | 'no-match' | 'not-reached';
  /** What it says: `to 10.0.0.0/8 except 10.1.0.0/16 on TCP 443`. */
  text: string;
  /** Why it did or did not match. */
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
  /** One of its policies selects the sender. */
  applies: boolean;
  outcome: 'allow' | 'deny' | 'pass' | 'does-not-apply' | 'not-reached';
  policies: ExplainedPolicy[];
  /** Implicit rules and the default. */
  always: ExplainedRule[];
}

export interface ExplainedTarget {
  ip: string;
  port: number;
  /** What the snapshot knows of the address: `pod default/web`, `node a`. */
  is: string[];
  verdict: Verdict;
  tiers: ExplainedTier[];
}

export interface Explanation {
  packet: Packet;
  sender: { key: string; known: boolean; selectable: boolean; why: string };
  service?: { namespace: string; name: string; port?: string; backends: number };
  /** The destination itself; for a Service address each of its backends. */
  targets: ExplainedTarget[];
  /** The same as evaluate(). */
  verdict: Verdict;
  rule?: RuleRef;
  /** One sentence. */
  summary: string;
}

export function explain(ir: Ir, snapshot: Snapshot, packet: Packet): Explanation {
  const verdict = evaluate(ir, snapshot, packet);
  const pod = senderOf(snapshot, packet.from);
  const sender = explainSender(packet.from, pod);
  const found = packet.from === NODE_SENDER ? undefined : findService(snapshot, packet);
  const places = found ? found.backends : [{ ip: packet.to, port: packet.port }];
  const views = pod ? tiersFor(ir, snapshot, pod) : [];
  const targets = places.map(({ ip, port }): ExplainedTarget => {
    const judged = pod && { sender: pod, to: ip, protocol: packet.protocol, port, fragment: packet.fragment ?? false };
    // A backend is judged as itself, even where another Service has its address.
    const alone = { ...snapshot, services: withoutAddresses(snapshot) };
    return {
      ip,
      port,
      is: describeAddress(snapshot, ip),
      verdict: evaluate(ir, alone, { ...packet, to: ip, port }),
      tiers: judged ? explainTiers(ir, views, snapshot, judged) : [],
    };
  });
  const rule = views.flatMap((view) => view.rules).find((r) => ruleId(r.ref) === verdict.rule)?.ref;
  const explanation: Explanation = {
    packet,
    sender,
    targets,
    verdict,
    rule,
    summary: summarize(packet, verdict, rule, sender, found),
  };
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

/** The Services, with what stands behind them, and no address of their own. */
function withoutAddresses({ services }: Snapshot): Snapshot['services'] {
  const bare = new Map<string, Service>();
  for (const [key, service] of services) {
    const ports = service.ports.map(({ nodePort: _, ...port }) => port);
    bare.set(key, { ...service, vips: [], ports });
  }
  return bare;
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

function explainTiers(ir: Ir, views: readonly TierView[], snapshot: Snapshot, judged: Judged): ExplainedTier[] {
  let decided = false;
  return ir.tiers.map((tier): ExplainedTier => {
    const view = views.find((v) => v.tier === tier);
    const reached = !decided;
    // Rules in the order in which they are judged: each policy's, then what is always there.
    let over = !reached;
    let outcome: ExplainedTier['outcome'] = !view ? 'does-not-apply' : reached ? 'pass' : 'not-reached';
    const step = (rule: Rule): ExplainedRule => {
      const explained = explainRule(rule, snapshot, judged, over);
      if (explained.result === 'decides' || explained.result === 'passes') {
        over = true;
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

function explainRule(rule: Rule, snapshot: Snapshot, judged: Judged, over: boolean): ExplainedRule {
  const matches = ruleMatches(rule, snapshot, judged);
  const base = { rule: formatRule(rule.ref), ref: rule.ref, action: rule.action, text: describeRule(rule) };
  const why = whyMatches(rule, snapshot, judged);
  if (!matches) return { ...base, result: 'no-match', why };
  if (over) return { ...base, result: 'not-reached', why: `${why}, but the verdict stands already` };
  if (rule.ref.staged) return { ...base, result: 'staged', why: `${why}, but it is staged: not in force` };
  if (rule.action === 'pass') return { ...base, result: 'passes', why };
  if (rule.action === 'log') return { ...base, result: 'logs', why };
  return { ...base, result: 'decides', why };
}

function whySelected(policy: IrPolicy, selected: boolean, sender: Pod, snapshot: Snapshot): string {
  if (policy.nodes !== undefined || isNode(sender)) {
    const nodes = policy.nodes === undefined ? 'pods' : `nodes with ${describeLabels(policy.nodes)}`;
    return selected ? `selects the node: ${nodes}` : `the sender is not meant: ${nodes}`;
  }
  const selector = describeWorkload(policy.subject);
  if (selected) return `selects the sender: ${selector}`;
  const anyLabels: WorkloadMatch = { ...policy.subject, pods: { op: 'true' } };
  if (!matchWorkload(anyLabels, sender, snapshot))
    return `the sender's namespace ${sender.namespace} is not meant: ${selector}`;
  return `the sender's labels do not match: ${selector}`;
}

function whyMatches(rule: Rule, snapshot: Snapshot, judged: Judged): string {
  const { to, protocol, port, fragment } = judged;
  const target = fragment ? `a fragment of ${protocolName(protocol)}` : `${protocolName(protocol)} ${port}`;
  if (rule.peers?.length === 0 || rule.ports?.length === 0) return 'it names no destination: it cannot match';
  const peer = rule.peers?.find((p) => peerMatches(p, snapshot, judged));
  if (rule.peers !== null && !peer) return `${to} is not ${rule.peers.map(describePeer).join(' or ')}`;
  const where = peer ? `${to} is ${describePeer(peer)}` : 'every destination is meant';
  const match = rule.ports?.find((p) => portMatches(p, snapshot, judged));
  if (rule.ports !== null && !match)
    return `${where}, but ${target} is not ${rule.ports.map(describePort).join(' or ')}`;
  return match ? `${where} and ${target} is ${describePort(match)}` : `${where}, on every port`;
}

function describeRule(rule: Rule): string {
  const to = rule.peers === null ? 'anywhere' : rule.peers.map(describePeer).join(' or ') || 'nothing';
  const on = rule.ports === null ? 'every port' : rule.ports.map(describePort).join(' or ') || 'no port';
  return `${rule.action} to ${to} on ${on}`;
}

function describePeer(peer: Peer): string {
  switch (peer.kind) {
    case 'any':
      return 'anywhere';
    case 'all':
      return peer.of.map(describePart).join(' and ') || 'anywhere';
    case 'some':
      return peer.of.map(describePart).join(' or ') || 'nothing';
    case 'not':
      return `not ${describePart(peer.of)}`;
    case 'services':
      return peer.name === undefined
        ? `what is behind Services with ${describeLabels(peer.labels)} ${describeNamespaces(peer.namespaces)}`
        : `what is behind Service ${peer.name} ${describeNamespaces(peer.namespaces)}`;
    case 'cidr':
      return peer.except.length === 0 ? peer.cidr : `${peer.cidr} except ${peer.except.join(', ')}`;
    case 'pods':
      return describeWorkload(peer);
    case 'self':
      return 'the pod itself';
    case 'own-node':
      return "the pod's own node";
    case 'nodes':
      return `nodes with ${describeLabels(peer.labels)}`;
    default:
      return peer satisfies never;
  }
}

function describePart(peer: Peer): string {
  const text = describePeer(peer);
  return (peer.kind === 'all' || peer.kind === 'some') && peer.of.length > 1 ? `(${text})` : text;
}

function describeWorkload(match: WorkloadMatch): string {
  return `${match.pods.op === 'true' ? 'every pod' : `pods with ${describeLabels(match.pods)}`} ${describeNamespaces(match.namespaces)}`;
}

function describeNamespaces(match: NamespaceMatch): string {
  if ('names' in match) return `in namespace ${match.names.join(' or ')}`;
  return match.labels.op === 'true' ? 'in every namespace' : `in namespaces with ${describeLabels(match.labels)}`;
}

/** As kubectl writes selectors: `app=web,tier in (a,b),!legacy`. */
function describeLabels(expr: LabelExpr): string {
  switch (expr.op) {
    case 'true':
      return 'any labels';
    case 'in':
      return expr.values.length === 1 ? `${expr.key}=${expr.values[0]}` : `${expr.key} in (${expr.values.join(',')})`;
    case 'notin':
      return expr.values.length === 1
        ? `${expr.key}!=${expr.values[0]}`
        : `${expr.key} notin (${expr.values.join(',')})`;
    case 'contains':
      return `${expr.key} contains ${expr.value}`;
    case 'starts':
      return `${expr.key} starts with ${expr.value}`;
    case 'ends':
      return `${expr.key} ends with ${expr.value}`;
    case 'exists':
      return expr.key;
    case 'notexists':
      return `!${expr.key}`;
    case 'and':
      return expr.of.map(describeLabels).join(',');
    case 'or':
      return `(${expr.of.map(describeLabels).join(' or ')})`;
    case 'not':
      return `not (${describeLabels(expr.of)})`;
    default:
      return expr satisfies never;
  }
}

function describePort(match: PortMatch): string {
  if (match.service) return `the backends' ports of Service ${match.service.namespace}/${match.service.name}`;
  const protocol = match.protocol === null ? 'any protocol' : protocolName(match.protocol);
  if (match.named !== undefined) return `${protocol} port "${match.named}"`;
  if (match.notNamed) {
    const { notNamed, ...rest } = match;
    return `${describePort(rest)} but ports named ${notNamed.map((name) => `"${name}"`).join(', ')}`;
  }
  if (match.ports === undefined) return protocol;
  return `${protocol} ${match.ports.map(([lo, hi]) => (lo === hi ? String(lo) : `${lo}-${hi}`)).join(',')}`;
}

function summarize(
  packet: Packet,
  verdict: Verdict,
  rule: RuleRef | undefined,
  sender: Explanation['sender'],
  found: ReturnType<typeof findService>,
): string {
  const to = found ? `Service ${found.service.namespace}/${found.service.name} (${packet.to})` : packet.to;
  const what = `${packet.from} to ${to}, ${protocolName(packet.protocol)} ${packet.port}`;
  if (verdict.verdict === 'partial') return `${what}: allowed to some of the backends only, judged once one is chosen`;
  const done = verdict.verdict === 'allow' ? 'allowed' : 'denied';
  if (rule) return `${what}: ${done} by ${formatRule(rule)}`;
  return `${what}: ${done}, ${sender.selectable ? 'no policy decides' : sender.why}`;
}
