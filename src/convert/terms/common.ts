/** Shared by the makers of all languages: the policy to express, and the reasons why it cannot be expressed. */
import type { Placed } from '../../dialects/base/dialect.js';
import { hearingAnnotations } from '../../dialects/hearing.js';
import { isRecord } from '../../identity/fields.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import { ruleField } from '../../ir/names.js';
import { IMPLICIT_RULE, type IrPolicy, type PortMatch, type Rule } from '../../ir/types.js';
import { alternatives, type Parted, parted, podExpr, Unsayable } from './labels.js';
import { type Assumptions, isAnywhere, type Term, termsOf } from './terms.js';

/** The languages to which policies can be converted. */
export const TARGETS = ['networkpolicy', 'cnp', 'calico', 'cilium'] as const;
export type Target = (typeof TARGETS)[number];

/** The reason why there is no equivalent. */
export interface Reason {
  /** Field of the original object; empty: the policy as a whole. */
  readonly field: string;
  readonly message: string;
}

/** An original policy and its meaning. */
export interface Source {
  readonly raw: RawPolicy;
  /** Such as `NetworkPolicy shop/web`. */
  readonly title: string;
  readonly parts: readonly Placed[];
}

export interface Context {
  readonly assumed: Assumptions;
  readonly refuse: (field: string, message: string) => void;
  /** The priority for a ClusterNetworkPolicy: of a part's rules, or of the default deny behind them. */
  readonly priority: (part: Placed, place: 'rules' | 'rest') => number;
}

/** An object of the target's language, before it is formatted. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly spec: Readonly<Record<string, unknown>>;
}

/** @returns the objects for a source; to be ignored if a reason was reported */
export type Maker = (source: Source, context: Context) => Manifest[];

/** Runs a function. If something cannot be expressed, that is reported as a reason. */
export function attempt<T>(context: Context, field: string, make: () => T): T | undefined {
  try {
    return make();
  } catch (e) {
    if (!(e instanceof Unsayable)) throw e;
    context.refuse(field, e.message);
    return undefined;
  }
}

/** A rule whose destinations are terms. */
export interface TermRule {
  readonly rule: Rule;
  readonly field: string;
  readonly terms: readonly Term[];
  readonly ports: readonly PortMatch[] | null;
}

/** A part of a policy to express: its rules, without those that no packet reaches. */
export interface Plan {
  readonly policy: IrPolicy;
  readonly rules: readonly TermRule[];
  /** Whether the tier's default denies what no rule allows. */
  readonly isolates: boolean;
  /** Whether a rule allows everything, whatever the rules before it say. */
  readonly opens: boolean;
  /** The traffic that the original language always allows, or that its rules pass before they deny. */
  readonly always: ReadonlySet<'self' | 'own-node'>;
  /** Whether denies never apply to the pod itself (Cilium). */
  readonly sparesSelf: boolean;
}

/** The plan for a part of a policy. Rules that cannot be expressed are reported. */
export function planOf({ tier, policy }: Placed, context: Context): Plan {
  const rules: TermRule[] = [];
  let sparesSelf = false;
  let opens = false;
  for (const rule of policy.rules) {
    if (rule.ref.index === IMPLICIT_RULE && rule.action === 'pass') {
      sparesSelf = true;
      continue;
    }
    if (rule.ports?.length === 0) continue;
    const field = ruleField(rule.ref);
    if (rule.queries) {
      context.refuse(field, 'judges DNS queries by their names: only rules.dns of Cilium does that');
      continue;
    }
    if (rule.serverNames || rule.http) {
      const what = rule.serverNames
        ? 'TLS connections by their server names: only serverNames of Cilium does that'
        : 'HTTP requests: rules.http of Cilium and http of Calico are not converted to each other';
      context.refuse(field, `judges ${what}`);
      continue;
    }
    const terms = attempt(context, field, () => termsOf(rule.peers, context.assumed));
    if (!terms || terms.length === 0) continue;
    const termRule: TermRule = { rule, field, terms, ports: anyPort(rule.ports) ? null : rule.ports };
    rules.push(termRule);
    if (!isEverything(termRule) || rule.action === 'log') continue;
    opens = rule.action === 'allow';
    break;
  }
  const isolates = policy.isolates !== false && tier.defaultAction === 'deny';
  const kinds = (policy.implicit ?? []).flatMap((rule) => rule.peers ?? []).map((peer) => peer.kind);
  const always = new Set(kinds.filter((kind) => kind === 'self' || kind === 'own-node'));
  return { policy, rules, isolates, opens, always, sparesSelf };
}

/** Whether every packet matches. */
export function isEverything({ terms, ports }: TermRule): boolean {
  return ports === null && terms.some(isAnywhere);
}

function anyPort(ports: readonly PortMatch[] | null): boolean {
  return ports?.some((match) => Object.values(match).every((v) => v === null || v === undefined)) ?? true;
}

/** If the last rule denies everything, which a language expresses by isolating: the rules before it. */
export function withoutDenyAll(rules: readonly TermRule[]): readonly TermRule[] | undefined {
  const last = rules.at(-1);
  return last && last.rule.action === 'deny' && isEverything(last) ? rules.slice(0, -1) : undefined;
}

/** Whether a separate rule allows this on every port. */
export function allows(plan: Plan, what: 'self' | 'own'): boolean {
  return plan.rules.some(
    ({ rule, terms, ports }) => rule.action === 'allow' && ports === null && terms.some((t) => isOnly(t, what)),
  );
}

export function isOnly(term: Term, what: 'self' | 'own'): boolean {
  return term[what] === true && Object.entries(term).every(([k, v]) => k === what || v === undefined || v === null);
}

/** The dialects whose policies select pods like a NetworkPolicy. */
const POD_SELECTORS: ReadonlySet<string> = new Set(['networkpolicy', 'applicationnetworkpolicy', 'fqdn']);

/** The field that selects a policy's pods. */
export function subjectField({ ref }: IrPolicy): string {
  if (POD_SELECTORS.has(ref.dialect)) return 'spec.podSelector';
  if (ref.dialect === 'calico') return 'spec.selector';
  return ref.dialect === 'cilium' ? 'spec.endpointSelector' : 'spec.subject';
}

/** The pods of the policy as alternatives; undefined, with a reason, if they cannot be expressed. */
export function subjects(policy: IrPolicy, context: Context): Parted[] | undefined {
  const { subject } = policy;
  return attempt(context, subjectField(policy), () => alternatives(podExpr(subject)).map(parted));
}

/** Reports traffic that the policy always allows or spares, and the target's language does not. */
export function checkAlways(plan: Plan, kind: string, { assumed, refuse }: Context): void {
  if (assumed.ignoreOwn) return;
  const names = { self: 'itself', 'own-node': 'its own node' } as const;
  const inexpressible = plan.opens ? [] : [...plan.always].map((one) => names[one]);
  if (inexpressible.length > 0)
    refuse('spec', `always lets a pod reach ${inexpressible.join(' and ')}: ${kind} has no peer for that${OWN_HINT}`);
  if (plan.sparesSelf)
    refuse(
      plan.rules[0]?.field ?? 'spec',
      `never denies what a pod sends to itself: ${kind} has no peer for that${OWN_HINT}`,
    );
}

export const OWN_HINT = ' (--ignore-own: that does not count)';

/** A hint for peers that match only addresses outside of the cluster, if a block may contain addresses inside. */
export function clusterHint({ cluster }: Assumptions): string {
  return cluster ? ', and a part of them is in the networks of the cluster' : ' (--cluster-cidr says where they are)';
}

const AUDIT = 'egress-agent.io/enforcement';

/** @param part number of the part, if an object becomes several */
export function metadata(source: Source, staged: boolean, name: string, namespace?: string): Record<string, unknown> {
  const given = isRecord(source.raw.object.metadata) ? source.raw.object.metadata : {};
  // What the names of its rules ask of connections stays with them.
  const annotations = { ...hearingAnnotations(source.raw), ...(staged ? { [AUDIT]: 'audit' } : {}) };
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(isRecord(given.labels) && Object.keys(given.labels).length > 0 ? { labels: given.labels } : {}),
    ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
  };
}

/** A name for a cluster-wide object. It includes the namespace, since such objects share one space of names. */
export function wideName({ raw }: Source): string {
  return raw.namespace === undefined ? raw.name : `${raw.namespace}-${raw.name}`;
}

/** `name`, or `name-1`, `name-2` if there are several. */
export function numbered(name: string, index: number, count: number): string {
  return count > 1 ? `${name}-${index + 1}` : name;
}

const ACTIONS = { allow: 'Allow', deny: 'Deny', pass: 'Pass', log: 'Log' } as const;

export function actionText(source: Source, rule: Rule): string {
  if (rule.ref.policy.dialect === 'cilium') return rule.action === 'deny' ? 'egressDeny' : 'egress';
  if (rule.action === 'allow' && source.raw.kind === 'ClusterNetworkPolicy') return 'action Accept';
  return `action ${ACTIONS[rule.action]}`;
}

/** Splits a list into chunks of at most `size` elements. */
export function chunks<T>(list: readonly T[], size: number): T[][] {
  const out: T[][] = [];
  for (let i = 0; i < list.length; i += size) out.push(list.slice(i, i + size));
  return out;
}
