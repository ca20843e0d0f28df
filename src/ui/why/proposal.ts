/** What would allow what is denied now: a policy to begin from, or the policy that is to be changed. */
import { stringify } from 'yaml';
import type { Explanation } from '../../explain/explain.js';
import { formatPolicy, formatRule } from '../../ir/names.js';
import { DEFAULT_RULE } from '../../ir/types.js';
import { hasPorts, protocolName } from '../../net/protocol.js';
import { lastingLabels } from '../../recommend/base/selectors.js';
import type { WhyAllow } from '../wire/explain.js';

/** Who would be allowed to reach whom. */
export interface Wish {
  readonly namespace: string;
  /** Of the sender's workload. */
  readonly name: string;
  /** The sender's; undefined: unknown. */
  readonly labels: Readonly<Record<string, string>> | undefined;
  readonly to:
    | { readonly kind: 'pod'; readonly namespace: string; readonly labels: Readonly<Record<string, string>> }
    | { readonly kind: 'name'; readonly name: string }
    | { readonly kind: 'address'; readonly address: string };
  readonly port: number;
  readonly protocol: number;
}

/** The tier in which NetworkPolicies and what is united with them are judged. */
const UNITED = 'default';
/** Labels of a selector. */
const MOST_LABELS = 4;

/** @returns undefined: it is not denied */
export function allowOf({ verdict, rule, targets }: Explanation, wish: Wish): WhyAllow | undefined {
  if (verdict.verdict !== 'deny') return undefined;
  if (targets.some((t) => t.before !== undefined))
    return { text: 'No policy can allow it: it is denied before any rule.' };
  if (!rule) return undefined;
  const policy = formatPolicy(rule.policy);
  if (rule.index !== DEFAULT_RULE)
    return {
      text: `${formatRule(rule)} denies it, whatever is judged later: change that rule, or allow it before.`,
      policy,
    };
  if (rule.tier !== UNITED)
    return {
      text: `The tier ${rule.tier} denies what none of its rules decides: ${policy} needs a rule that allows it, or passes it on.`,
      policy,
    };
  const yaml = proposal(wish, rule.policy.dialect);
  return yaml === undefined
    ? { text: `${policy} needs a rule for it.`, policy }
    : { text: 'A policy beside those that isolate it: policies of this tier are united.', yaml, policy };
}

/** A policy that allows what is wished, as YAML. @returns undefined: it cannot be said so simply */
function proposal(wish: Wish, dialect: string): string | undefined {
  const { namespace, name, labels, to, port, protocol } = wish;
  const own = labels && chosen(labels);
  if (!own || !hasPorts(protocol) || port === 0) return undefined;
  const metadata = { name: nameOf(name), namespace };
  const ports = [{ protocol: protocolName(protocol), port }];
  if (to.kind === 'name')
    return stringify(
      dialect === 'cilium' ? ofCilium(metadata, own, to.name, wish) : ofNames(metadata, own, to.name, ports),
    );
  const peer = to.kind === 'pod' ? podPeer(to, namespace) : { ipBlock: { cidr: single(to.address) } };
  if (!peer) return undefined;
  return stringify({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata,
    spec: { podSelector: { matchLabels: own }, policyTypes: ['Egress'], egress: [{ to: [peer], ports }] },
  });
}

function ofNames(metadata: object, labels: object, name: string, ports: readonly object[]) {
  return {
    apiVersion: 'networking.gke.io/v1alpha1',
    kind: 'FQDNNetworkPolicy',
    metadata,
    spec: { podSelector: { matchLabels: labels }, egress: [{ matches: [{ name }], ports }] },
  };
}

function ofCilium(metadata: object, labels: object, name: string, { port, protocol }: Wish) {
  const toPorts = [{ ports: [{ port: String(port), protocol: protocolName(protocol) }] }];
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata,
    spec: { endpointSelector: { matchLabels: labels }, egress: [{ toFQDNs: [{ matchName: name }], toPorts }] },
  };
}

function podPeer(to: Extract<Wish['to'], { kind: 'pod' }>, own: string): object | undefined {
  const labels = chosen(to.labels);
  if (!labels) return undefined;
  const there = { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': to.namespace } } };
  return { ...(to.namespace === own ? {} : there), podSelector: { matchLabels: labels } };
}

/** The labels that a workload's pods keep, the best known first. */
function chosen(labels: Readonly<Record<string, string>>): Record<string, string> | undefined {
  const lasting = lastingLabels(labels).slice(0, MOST_LABELS);
  return lasting.length === 0 ? undefined : Object.fromEntries(lasting);
}

function single(address: string): string {
  return `${address}/${address.includes(':') ? 128 : 32}`;
}

function nameOf(workload: string): string {
  const plain = workload
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 50);
  return `allow-${plain || 'egress'}`;
}
