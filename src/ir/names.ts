/** What rules are called: for people, and as ids. */
import { contentId } from '../image/ids.js';
import { DEFAULT_RULE, IMPLICIT_RULE, type PolicyRef, type RuleRef } from './types.js';

/**
 * Short names of kinds, as kubectl and Calico know them; others show their kind in lower case. Calico's NetworkPolicy is not
 * Kubernetes'.
 */
const SHORT: Readonly<Record<string, string>> = {
  NetworkPolicy: 'np',
  ClusterNetworkPolicy: 'cnp',
  AdminNetworkPolicy: 'anp',
  BaselineAdminNetworkPolicy: 'banp',
  'calico/NetworkPolicy': 'calico',
  GlobalNetworkPolicy: 'gnp',
  StagedNetworkPolicy: 'snp',
  StagedGlobalNetworkPolicy: 'sgnp',
  StagedKubernetesNetworkPolicy: 'sknp',
  CiliumNetworkPolicy: 'cilium',
  CiliumClusterwideNetworkPolicy: 'ccnp',
  FQDNNetworkPolicy: 'fqdn',
};

/** `np/default/web`, `cnp/deny-all`. */
export function formatPolicy(ref: PolicyRef): string {
  const kind = SHORT[`${ref.dialect}/${ref.kind}`] ?? SHORT[ref.kind] ?? ref.kind.toLowerCase();
  return ref.namespace === undefined ? `${kind}/${ref.name}` : `${kind}/${ref.namespace}/${ref.name}`;
}

/** The rule in one word, as `egressctl test` takes it: `np/default/web#2`, `np/default/web#default`, `np/default/web#node`. */
export function ruleKey(ref: RuleRef): string {
  const index = ref.index === DEFAULT_RULE ? 'default' : ref.index === IMPLICIT_RULE ? 'node' : String(ref.index);
  return `${formatPolicy(ref.policy)}#${index}`;
}

/** The rule's own name, of those that somebody wrote. */
export function ruleName({ index, name }: RuleRef): string | undefined {
  return index >= 0 && name !== '' ? name : undefined;
}

/** For people: the key, and the rule's own name where it has one: `cnp/deny-all#2 "to the internet"`. */
export function formatRule(ref: RuleRef): string {
  const name = ruleName(ref);
  return name === undefined ? ruleKey(ref) : `${ruleKey(ref)} ${JSON.stringify(name)}`;
}

/**
 * The rule's id in the kernel. Two rules that print the same in one tier are one
 * to the user; action and staging are part of it, so that an event that outlives
 * an update still names what decided.
 */
export function ruleId(ref: RuleRef): number {
  const p = ref.policy;
  return contentId(
    JSON.stringify(['rule', p.dialect, p.kind, p.namespace ?? '', p.name, ref.index, ref.tier, ref.staged, ref.action]),
  );
}
