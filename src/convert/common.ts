/** What the makers of all languages share: the policy as it is to be said, and reasons why it cannot be. */
import type { Placed } from '../dialects/dialect.js';
import { isRecord } from '../identity/fields.js';
import type { RawPolicy } from '../identity/snapshot.js';
import { DEFAULT_RULE, IMPLICIT_RULE, type IrPolicy, type PortMatch, type Rule, type RuleRef } from '../ir/types.js';
import { alternatives, type Parted, parted, podExpr, Unsayable } from './labels.js';
import { type Assumptions, isAnywhere, type Term, termsOf } from './terms.js';

/** The languages that policies can be converted to. */
export const TARGETS = ['networkpolicy', 'cnp', 'calico', 'cilium'] as const;
export type Target = (typeof TARGETS)[number];

/** Why there is no equivalent. */
export interface Reason {
  /** Of the object that was given; empty: the policy as a whole. */
  readonly field: string;
  readonly message: string;
}

/** A policy as it was given, and what it means. */
export interface Source {
  readonly raw: RawPolicy;
  /** `NetworkPolicy shop/web`. */
  readonly title: string;
  readonly parts: readonly Placed[];
}

export interface Context {
  readonly assumed: Assumptions;
  readonly refuse: (field: string, message: string) => void;
  /** Of ClusterNetworkPolicies: a part's rules, or what denies the rest after them. */
  readonly priority: (part: Placed, place: 'rules' | 'rest') => number;
}

/** An object of the target's language, before it is written down. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly spec: Readonly<Record<string, unknown>>;
}

/** @returns what a source is in the language; with a refusal it does not count */
export type Maker = (source: Source, context: Context) => Manifest[];

/** Where a rule stands in the object that was given. */
export function ruleField({ policy, index, name = '', tier }: RuleRef): string {
  const [said = ''] = name.split(' ');
  if (policy.dialect === 'cilium' && /^specs?(\[\d+\])?\.egress/.test(said)) return said;
  if (index === DEFAULT_RULE || index === IMPLICIT_RULE) return 'spec';
  return `spec.${policy.dialect === 'cilium' && tier === 'deny' ? 'egressDeny' : 'egress'}[${index}]`;
}

/** Runs it; what cannot be said is a reason. */
export function attempt<T>(context: Context, field: string, make: () => T): T | undefined {
  try {
    return make();
  } catch (e) {
    if (!(e instanceof Unsayable)) throw e;
    context.refuse(field, e.message);
    return undefined;
  }
}

/** A rule with its destinations as statements. */
export interface Said {
  readonly rule: Rule;
  readonly field: string;
  readonly terms: readonly Term[];
  readonly ports: readonly PortMatch[] | null;
}

/** A part of a policy as it is to be said: its rules, without those that nothing can reach. */
export interface Plan {
  readonly policy: IrPolicy;
  readonly rules: readonly Said[];
  /** What no rule allows is denied, by the tier's default. */
  readonly isolates: boolean;
  /** A rule allows everything, whatever the rules before it say. */
  readonly opens: boolean;
  /** What its language always allows, and what rules of it pass before they deny. */
  readonly always: ReadonlySet<'self' | 'own-node'>;
  /** Denies never concern the pod itself (Cilium). */
  readonly sparesSelf: boolean;
}

export function planOf({ tier, policy }: Placed, context: Context): Plan {
  const rules: Said[] = [];
  let sparesSelf = false;
  let opens = false;
  for (const rule of policy.rules) {
    if (rule.ref.index === IMPLICIT_RULE && rule.action === 'pass') {
      sparesSelf = true;
      continue;
    }
    if (rule.ports?.length === 0) continue;
    const field = ruleField(rule.ref);
    const terms = attempt(context, field, () => termsOf(rule.peers, context.assumed));
    if (!terms || terms.length === 0) continue;
    const said: Said = { rule, field, terms, ports: anyPort(rule.ports) ? null : rule.ports };
    rules.push(said);
    if (!isEverything(said) || rule.action === 'log') continue;
    opens = rule.action === 'allow';
    break;
  }
  const isolates = policy.isolates !== false && tier.defaultAction === 'deny';
  const kinds = (policy.implicit ?? []).flatMap((rule) => rule.peers ?? []).map((peer) => peer.kind);
  const always = new Set(kinds.filter((kind) => kind === 'self' || kind === 'own-node'));
  return { policy, rules, isolates, opens, always, sparesSelf };
}

/** Every packet matches. */
export function isEverything({ terms, ports }: Said): boolean {
  return ports === null && terms.some(isAnywhere);
}

function anyPort(ports: readonly PortMatch[] | null): boolean {
  return ports?.some((match) => Object.values(match).every((v) => v === null || v === undefined)) ?? true;
}

/** The last rule denies everything: what a language says by isolating. @returns the rules before it */
export function withoutDenyAll(rules: readonly Said[]): readonly Said[] | undefined {
  const last = rules.at(-1);
  return last && last.rule.action === 'deny' && isEverything(last) ? rules.slice(0, -1) : undefined;
}

/** A rule of its own allows this on every port. */
export function allows(plan: Plan, what: 'self' | 'own'): boolean {
  return plan.rules.some(
    ({ rule, terms, ports }) => rule.action === 'allow' && ports === null && terms.some((t) => isOnly(t, what)),
  );
}

export function isOnly(term: Term, what: 'self' | 'own'): boolean {
  return term[what] === true && Object.entries(term).every(([k, v]) => k === what || v === undefined || v === null);
}

/** The field that says for which pods a policy is. */
export function subjectField({ ref }: IrPolicy): string {
  if (ref.dialect === 'networkpolicy') return 'spec.podSelector';
  if (ref.dialect === 'calico') return 'spec.selector';
  return ref.dialect === 'cilium' ? 'spec.endpointSelector' : 'spec.subject';
}

/** Pods that the policy is for, alternative by alternative; undefined and a reason if it cannot be said. */
export function subjects(policy: IrPolicy, context: Context): Parted[] | undefined {
  const { subject } = policy;
  return attempt(context, subjectField(policy), () => alternatives(podExpr(subject)).map(parted));
}

/** What a policy always allows or spares, and the target's language does not. */
export function checkAlways(plan: Plan, kind: string, { assumed, refuse }: Context): void {
  if (assumed.ignoreOwn) return;
  const names = { self: 'itself', 'own-node': 'its own node' } as const;
  const left = plan.opens ? [] : [...plan.always].map((one) => names[one]);
  if (left.length > 0)
    refuse('spec', `always lets a pod reach ${left.join(' and ')}: ${kind} has no peer for that${OWN_HINT}`);
  if (plan.sparesSelf)
    refuse(
      plan.rules[0]?.field ?? 'spec',
      `never denies what a pod sends to itself: ${kind} has no peer for that${OWN_HINT}`,
    );
}

export const OWN_HINT = ' (--ignore-own: that does not count)';

/** Of peers that mean addresses outside of the cluster alone: said of blocks that may have some inside. */
export function clusterHint({ cluster }: Assumptions): string {
  return cluster ? ', and a part of them is in the networks of the cluster' : ' (--cluster-cidr says where they are)';
}

const AUDIT = 'egress-agent.io/enforcement';

/** @param part of an object that becomes several */
export function metadata(source: Source, staged: boolean, name: string, namespace?: string): Record<string, unknown> {
  const given = isRecord(source.raw.object.metadata) ? source.raw.object.metadata : {};
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(isRecord(given.labels) && Object.keys(given.labels).length > 0 ? { labels: given.labels } : {}),
    ...(staged ? { annotations: { [AUDIT]: 'audit' } } : {}),
  };
}

/** Objects without a namespace have one space of names: the namespace goes into it. */
export function wideName({ raw }: Source): string {
  return raw.namespace === undefined ? raw.name : `${raw.namespace}-${raw.name}`;
}

/** `name`, or with more than one `name-1`, `name-2`. */
export function numbered(name: string, index: number, count: number): string {
  return count > 1 ? `${name}-${index + 1}` : name;
}

const ACTIONS = { allow: 'Allow', deny: 'Deny', pass: 'Pass', log: 'Log' } as const;

export function actionText(source: Source, rule: Rule): string {
  if (rule.ref.policy.dialect === 'cilium') return rule.action === 'deny' ? 'egressDeny' : 'egress';
  if (rule.action === 'allow' && source.raw.kind === 'ClusterNetworkPolicy') return 'action Accept';
  return `action ${ACTIONS[rule.action]}`;
}

/** A list in runs of at most so many. */
export function chunks<T>(list: readonly T[], size: number): T[][] {
  const out: T[][] = [];
  for (let i = 0; i < list.length; i += size) out.push(list.slice(i, i + size));
  return out;
}
