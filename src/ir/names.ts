/** Names of rules and policies for people, and their ids. */
import { AgentError } from '../errors.js';
import { type Ids, PLAIN_IDS } from '../ids.js';
import { DEFAULT_RULE, IMPLICIT_RULE, implicitRules, type Ir, type PolicyRef, type RuleRef } from './types.js';

/**
 * Short names of kinds, as in kubectl and Calico. Other kinds are written in lower case. Calico's NetworkPolicy differs
 * from Kubernetes' NetworkPolicy, so it has another short name.
 */
const SHORT: Readonly<Record<string, string>> = {
  NetworkPolicy: 'np',
  ApplicationNetworkPolicy: 'appnp',
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

/** The short name of a kind: `np`. */
export function shortKind(dialect: string, kind: string): string {
  const known = [`${dialect}/${kind}`, kind].find((text) => Object.hasOwn(SHORT, text));
  return (known === undefined ? undefined : SHORT[known]) ?? kind.toLowerCase();
}

/** The short name of a policy: `np/default/web`, `cnp/deny-all`. */
export function formatPolicy(ref: PolicyRef): string {
  const kind = shortKind(ref.dialect, ref.kind);
  return ref.namespace === undefined ? `${kind}/${ref.name}` : `${kind}/${ref.namespace}/${ref.name}`;
}

/**
 * The key of a rule, as `egressctl test` expects it: `np/default/web#2`, `np/default/web#default`,
 * `np/default/web#node`.
 */
export function ruleKey(ref: RuleRef): string {
  const index = ref.index === DEFAULT_RULE ? 'default' : ref.index === IMPLICIT_RULE ? 'node' : String(ref.index);
  return `${formatPolicy(ref.policy)}#${index}`;
}

/** The rule's own name. undefined for rules that nobody wrote. */
export function ruleName({ index, name }: RuleRef): string | undefined {
  return index >= 0 && name !== '' ? name : undefined;
}

/** The key of a rule, with the rule's own name if it has one: `cnp/deny-all#2 "to the internet"`. */
export function formatRule(ref: RuleRef): string {
  const name = ruleName(ref);
  return name === undefined ? ruleKey(ref) : `${ruleKey(ref)} ${JSON.stringify(name)}`;
}

/** The field path of a rule in its object. */
export function ruleField({ policy, index, name = '', tier }: RuleRef): string {
  const [path = ''] = name.split(' ');
  if (policy.dialect === 'cilium' && /^specs?(\[\d+\])?\.egress/.test(path)) return path;
  if (index === DEFAULT_RULE || index === IMPLICIT_RULE) return 'spec';
  return `spec.${policy.dialect === 'cilium' && tier === 'deny' ? 'egressDeny' : 'egress'}[${index}]`;
}

/**
 * The content that identifies a rule. Two rules with the same text in one tier are the same to the user. Action and
 * staging are part of it, so that an event that outlives an update still names the rule that decided.
 */
export function ruleText({ policy: p, index, tier, staged, action }: RuleRef): string {
  return JSON.stringify(['rule', p.dialect, p.kind, p.namespace ?? '', p.name, index, tier, staged, action]);
}

/** The rule's id under a node's secret. Ids of two nodes, and of evaluate(), are unrelated. */
export function ruleId(ref: RuleRef, ids: Ids = PLAIN_IDS): number {
  return ids.of(ruleText(ref));
}

const rulesOf = new WeakMap<Ir, ReadonlyMap<number, RuleRef>>();

/**
 * Every rule, by the id that evaluate() and Images with plain ids use.
 * @throws AgentError HASH_COLLISION
 */
export function rulesById(ir: Ir): ReadonlyMap<number, RuleRef> {
  let found = rulesOf.get(ir);
  if (!found) rulesOf.set(ir, (found = byId(refsOf(ir))));
  return found;
}

function* refsOf(ir: Ir): Generator<RuleRef> {
  for (const { name: tier, defaultAction: action, policies } of ir.tiers) {
    for (const { ref } of implicitRules(policies)) yield ref;
    for (const { ref: policy, rules } of policies) {
      for (const { ref } of rules) yield ref;
      yield { policy, index: DEFAULT_RULE, tier, staged: false, action };
    }
  }
}

/** Rules by their plain ids. @throws AgentError HASH_COLLISION */
export function byId(refs: Iterable<RuleRef>): Map<number, RuleRef> {
  const out = new Map<number, RuleRef>();
  for (const one of refs) {
    for (const staged of [false, true]) {
      const ref = { ...one, staged };
      const id = ruleId(ref);
      const existing = out.get(id);
      if (existing && ruleText(existing) !== ruleText(ref))
        throw new AgentError('HASH_COLLISION', ruleClash(existing, ref), {
          hint: 'call one of the policies otherwise',
        });
      out.set(id, ref);
    }
  }
  return out;
}

/** The error message about two rules with the same id. */
export function ruleClash(one: RuleRef, other: RuleRef): string {
  return `rules ${formatRule(one)} and ${formatRule(other)} have one id`;
}
