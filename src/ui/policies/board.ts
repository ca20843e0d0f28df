/** Makes what the policies board is told of policy objects and of their activity. Pure. */
import { millisOf } from '../../edges/wire.js';
import type { ActivityResponse, PolicyObjectMessage } from '../../proto/edges.js';
import type { ProblemMessage } from '../../proto/status.js';
import { objectName } from '../../staging/live/count.js';
import { type PolicyUsage, usageOf } from '../../staging/usage.js';
import { mayUse, type Scope } from '../access/viewer.js';
import type {
  ActivityAnswer,
  BoardPolicy,
  BoardTier,
  Hits,
  PoliciesAnswer,
  PolicyAnswer,
  RuleHits,
} from '../wire/policies.js';

/** Longest message of an error on a card: its detail has all of it. */
const LONGEST_FAULT = 300;

/**
 * The policies that may be seen: those of one's namespaces; and of those of the whole cluster, which concern everybody,
 * that they are there, since their texts name labels of all namespaces, and their numbers count what all of them do.
 */
export function seenPolicies(objects: readonly PolicyObjectMessage[], scope: Scope): PolicyObjectMessage[] {
  return objects
    .filter((o) => !o.supporting && (!o.namespace || mayUse(scope, o.namespace)))
    .map((o) => (scope === undefined || o.namespace ? o : withoutText(o)));
}

function withoutText({ yaml: _, problems: __, pods: ___, ...rest }: PolicyObjectMessage): PolicyObjectMessage {
  return rest;
}

/** Whether what a policy selects, says and counts is left out. */
function isHidden({ namespace }: PolicyObjectMessage, scope: Scope): boolean {
  return scope !== undefined && !namespace;
}

/** @param objects in the order in which they are judged */
export function boardOf(objects: readonly PolicyObjectMessage[], scope: Scope): PoliciesAnswer {
  const policies = new Map<string, BoardPolicy>();
  const tiers = new Map<string, { tier: Omit<BoardTier, 'policies'>; ids: string[] }>();
  for (const object of objects) {
    const id = objectName(object);
    const known = policies.get(id);
    const own = policyOf(id, object, isHidden(object, scope));
    // Of several tiers: what concerns all of it is told with each, its rules are told in parts.
    policies.set(id, known ? { ...known, rules: known.rules + own.rules, staged: known.staged && own.staged } : own);
    const { tier = '', tier_order = 0, tier_default = '' } = object;
    if (tier === '') continue;
    const key = `${tier_order} ${tier}`;
    const found = tiers.get(key);
    if (found) found.ids.push(id);
    else tiers.set(key, { tier: { name: tier, defaultAction: tier_default }, ids: [id] });
  }
  return {
    tiers: [...tiers.values()].map(({ tier, ids }) => ({ ...tier, policies: ids })),
    policies: [...policies.values()],
  };
}

function policyOf(id: string, object: PolicyObjectMessage, hidden: boolean): BoardPolicy {
  const { kind = '', namespace = '', name = '', dialect, staged = false, state, pods = 0, rules = [] } = object;
  const problems = object.problems ?? [];
  const error = problems.find((p) => p.severity === 'error');
  const sinceMs = millisOf(object.since);
  return {
    ...{ id, kind, namespace, name, staged, pods },
    rules: hidden ? 0 : rules.filter(({ index = 0 }) => index >= 0).length,
    ...(hidden ? { hidden } : {}),
    dialect: dialect || dialectOf(object),
    refused: state === 'refused',
    ...(sinceMs === undefined ? {} : { sinceMs }),
    ...(error ? { fault: { field: error.field ?? '', message: cut(error.message) } } : {}),
    warnings: problems.length - problems.filter((p) => p.severity === 'error').length,
  };
}

/** Policies without rules for egress have no dialect. */
function dialectOf({ api_version = '' }: PolicyObjectMessage): string {
  if (/projectcalico\.org\//.test(api_version)) return 'calico';
  if (/^cilium\.io\//.test(api_version)) return 'cilium';
  if (/^networking\.gke\.io\//.test(api_version)) return 'fqdn';
  return /^networking\.k8s\.io\//.test(api_version) ? 'networkpolicy' : 'clusternetworkpolicy';
}

function cut(text: string): string {
  return text.length > LONGEST_FAULT ? `${text.slice(0, LONGEST_FAULT)}…` : text;
}

/**
 * What policies have decided.
 * @param objects as they may be seen; of the hidden ones nothing is told
 * @param all the activity of all days: it says when each decided last
 */
export function activityAnswer(
  objects: readonly PolicyObjectMessage[],
  window: ActivityResponse,
  all: ActivityResponse,
  { scope, nowMs }: { scope: Scope; nowMs: number },
): ActivityAnswer {
  const told = objects.filter((object) => !isHidden(object, scope));
  const last = new Map(usageOf(told, all).policies.map((p) => [p.policy, p.hits.lastMs ?? 0]));
  const hits: Record<string, Hits> = {};
  for (const usage of usageOf(told, window).policies) {
    const [allowed, denied, passed] = countsOf(usage);
    const wouldDeny = usage.wouldDeny.reduce((sum, [, n]) => sum + n, 0);
    const lastMs = last.get(usage.policy) ?? usage.hits.lastMs ?? 0;
    if (lastMs > 0) hits[usage.policy] = [allowed, denied, passed, wouldDeny, lastMs];
  }
  const began = millisOf(all.began_at);
  return {
    hits,
    ...(began === undefined ? {} : { beganMs: began }),
    unavailable: [...new Set([...(all.unavailable_nodes ?? []), ...(window.unavailable_nodes ?? [])])],
    nowMs,
  };
}

function countsOf({ rules }: PolicyUsage): [allowed: number, denied: number, passed: number] {
  let [allowed, denied, passed] = [0, 0, 0];
  for (const { action, connections } of rules) {
    if (action === 'allow') allowed += connections;
    else if (action === 'deny') denied += connections;
    else passed += connections;
  }
  return [allowed, denied, passed];
}

/** One policy with its rules and text; undefined: it is not among the objects. */
export function policyAnswer(
  objects: readonly PolicyObjectMessage[],
  id: string,
  all: ActivityResponse,
  scope: Scope,
): PolicyAnswer | undefined {
  const own = objects.filter((o) => objectName(o) === id);
  const [first] = own;
  const { policies } = boardOf(own, scope);
  const [policy] = policies;
  if (!first || !policy) return undefined;
  const usage = usageOf(own, all).policies[0];
  const titles = new Map(own.flatMap((o) => (o.rules ?? []).map((r) => [r.index ?? 0, r.rule_name ?? ''])));
  const { hidden = false } = policy;
  const ruleHits = (hidden ? [] : (usage?.rules ?? [])).map(
    ({ rule, action, connections, drops, days, lastMs }): RuleHits => {
      const index = rule.slice(rule.lastIndexOf('#') + 1);
      const title = titles.get(Number(index)) ?? '';
      return { rule, title, action, connections, drops, days, ...(lastMs === undefined ? {} : { lastMs }) };
    },
  );
  const began = millisOf(all.began_at);
  return {
    ...policy,
    apiVersion: first.api_version ?? '',
    tiers: own.flatMap((o) => o.tier || []),
    ...(first.yaml ? { yaml: first.yaml } : {}),
    ruleHits,
    earlier: hidden ? 0 : (usage?.earlier.connections ?? 0),
    wouldDeny: (usage?.wouldDeny ?? [])
      .filter(([workload]) => isSeenWorkload(workload, scope))
      .map(([workload, connections]) => ({ workload, connections })),
    problems: (first.problems ?? []).map(problemOf),
    ...(began === undefined ? {} : { beganMs: began }),
  };
}

/** Whether a workload `namespace/name`, or something without a namespace, may be seen. */
export function isSeenWorkload(workload: string, scope: Scope): boolean {
  const slash = workload.indexOf('/');
  return scope === undefined || (slash > 0 && mayUse(scope, workload.slice(0, slash)));
}

export function problemOf({ severity, object = '', field = '', message, hint = '' }: ProblemMessage) {
  return { severity, object, field, message, hint };
}
