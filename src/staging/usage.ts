/** Which policies and rules have decided anything, compared with those that there are. */
import { millisOf, ruleRefOf } from '../edges/wire.js';
import { formatPolicy, ruleKey } from '../ir/names.js';
import type { ActivityResponse, PolicyObjectMessage, RuleActivityMessage } from '../proto/edges.js';

/** What one rule, or several contents of a policy, have decided. */
export interface Hits {
  readonly connections: number;
  readonly drops: number;
  readonly days: number;
  /** Milliseconds since 1970; undefined: never. */
  readonly lastMs: number | undefined;
}

export interface RuleUsage extends Hits {
  /** `np/shop/web#0`. */
  readonly rule: string;
  readonly action: string;
}

export interface PolicyUsage {
  /** `np/shop/web`. */
  readonly policy: string;
  readonly kind: string;
  readonly namespace: string;
  readonly tier: string;
  readonly staged: boolean;
  readonly state: string;
  readonly pods: number;
  /** Since when it has its content, as far as the agent knows. */
  readonly sinceMs: number | undefined;
  /** Every rule, in order; then what is denied by default, or always allowed, where that decided. */
  readonly rules: readonly RuleUsage[];
  readonly hits: Hits;
  /** What earlier contents of it decided. */
  readonly earlier: Hits;
  /** Whom it would have denied, if it is staged: workloads with connections, the most first. */
  readonly wouldDeny: readonly (readonly [workload: string, connections: number])[];
}

export interface Usage {
  readonly policies: readonly PolicyUsage[];
  /** Policies that decided something, and that are not there any more. */
  readonly gone: readonly { readonly policy: string; readonly hits: Hits }[];
}

const NEVER: Hits = { connections: 0, drops: 0, days: 0, lastMs: undefined };

/** Compares activity with the objects that are there. Pure. */
export function usageOf(objects: readonly PolicyObjectMessage[], activity: ActivityResponse): Usage {
  const byPolicy = new Map<string, RuleActivityMessage[]>();
  for (const one of activity.rules ?? []) {
    // What a rule in force decides, it decides once more beside what is staged: that is no second connection.
    if (!one.rule || (one.audit && !one.rule.staged)) continue;
    const name = formatPolicy(ruleRefOf(one.rule).policy);
    const list = byPolicy.get(name);
    if (list) list.push(one);
    else byPolicy.set(name, [one]);
  }
  const denied = wouldDeny(activity);
  const known = new Set<string>();
  const policies: PolicyUsage[] = [];
  for (const object of merged(objects)) {
    known.add(object.name);
    policies.push(policyUsage(object, byPolicy.get(object.name) ?? [], denied));
  }
  const gone = [...byPolicy]
    .filter(([name]) => !known.has(name))
    .map(([policy, all]) => ({ policy, hits: all.map(hitsOf).reduce(sum) }));
  return { policies, gone };
}

interface Merged {
  readonly name: string;
  readonly object: PolicyObjectMessage;
  readonly rules: NonNullable<PolicyObjectMessage['rules']>;
}

/** Objects with rules for egress, each once: those of several tiers are told once for each. */
function merged(objects: readonly PolicyObjectMessage[]): Merged[] {
  const out = new Map<string, Merged>();
  for (const object of objects) {
    if (object.supporting || object.tier === undefined || object.tier === '') continue;
    const { dialect = '', kind = '', namespace, name: own = '', rules = [] } = object;
    const name = formatPolicy({ dialect, kind, ...(namespace ? { namespace } : {}), name: own });
    const known = out.get(name);
    out.set(name, known ? { ...known, rules: [...known.rules, ...rules] } : { name, object, rules });
  }
  return [...out.values()];
}

function policyUsage(
  { name, object, rules }: Merged,
  activity: readonly RuleActivityMessage[],
  denied: ReturnType<typeof wouldDeny>,
): PolicyUsage {
  const { kind = '', namespace = '', tier = '', staged = false, state = '', pods = 0, since } = object;
  const generation = Number(object.generation ?? 0);
  // A policy that is enforced after it was staged keeps what was counted for it.
  const present = activity.filter((a) => Number(a.generation ?? 0) === generation);
  const earlier = activity.filter((a) => Number(a.generation ?? 0) !== generation);
  const byRule = new Map<string, { action: string; hits: Hits }>();
  for (const rule of rules) byRule.set(ruleKey(ruleRefOf(rule)), { action: rule.action ?? '', hits: NEVER });
  for (const one of present) {
    if (!one.rule) continue;
    const key = ruleKey(ruleRefOf(one.rule));
    const before = byRule.get(key);
    byRule.set(key, { action: before?.action ?? one.rule.action ?? '', hits: sum(before?.hits ?? NEVER, hitsOf(one)) });
  }
  const whom = [...(denied.get(`${generation} ${name}`) ?? [])].sort((a, b) => b[1] - a[1]);
  return {
    ...{ policy: name, kind, namespace, tier, staged, state, pods },
    sinceMs: millisOf(since),
    rules: [...byRule].map(([rule, { action, hits }]) => ({ rule, action, ...hits })),
    hits: present.map(hitsOf).reduce(sum, NEVER),
    earlier: earlier.map(hitsOf).reduce(sum, NEVER),
    wouldDeny: staged ? whom : [],
  };
}

function wouldDeny({ would_deny = [] }: ActivityResponse): Map<string, Map<string, number>> {
  const out = new Map<string, Map<string, number>>();
  for (const { rule, generation, edge, connections } of would_deny) {
    if (!rule) continue;
    const key = `${Number(generation ?? 0)} ${formatPolicy(ruleRefOf(rule).policy)}`;
    const { namespace, name = '' } = edge?.source ?? {};
    const workload = namespace ? `${namespace}/${name}` : name;
    let workloads = out.get(key);
    if (!workloads) out.set(key, (workloads = new Map()));
    workloads.set(workload, (workloads.get(workload) ?? 0) + Number(connections ?? 0));
  }
  return out;
}

function hitsOf({ connections, drops, days = 0, last_at }: RuleActivityMessage): Hits {
  return { connections: Number(connections ?? 0), drops: Number(drops ?? 0), days, lastMs: millisOf(last_at) };
}

/** Days may be the same ones: the larger number is certain. */
function sum(a: Hits, b: Hits): Hits {
  const lastMs = Math.max(a.lastMs ?? 0, b.lastMs ?? 0);
  return {
    connections: a.connections + b.connections,
    drops: a.drops + b.drops,
    days: Math.max(a.days, b.days),
    lastMs: lastMs === 0 ? undefined : lastMs,
  };
}
