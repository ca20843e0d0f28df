/** An explanation as the page gets it: with bounds, and without what the viewer may not see. */
import type { ExplainedPolicy, ExplainedRule, ExplainedTarget, ExplainedTier } from '../../explain/explain.js';
import type { PolicyRef } from '../../ir/types.js';
import { mayUse, type Scope } from '../access/viewer.js';
import type { WhyPolicy, WhyRule, WhyTarget, WhyTier } from '../wire/explain.js';

/** Of one answer: addresses, policies that do not select the sender, rules of a policy, characters of a text. */
const MOST = { targets: 8, others: 50, rules: 200, text: 600, names: 20 };

/** @returns the addresses, and how many are left out */
export function targetsOf(targets: readonly ExplainedTarget[], scope: Scope): { targets: WhyTarget[]; more: number } {
  const kept = targets.slice(0, MOST.targets);
  return { targets: kept.map((t) => targetOf(t, scope)), more: targets.length - kept.length };
}

function targetOf(t: ExplainedTarget, scope: Scope): WhyTarget {
  return {
    ip: t.ip,
    port: t.port,
    is: t.is
      .filter((one) => isSeenObject(one, scope))
      .slice(0, MOST.names)
      .map(cut),
    names: (t.names ?? [])
      .slice(0, MOST.names)
      .map(({ name, alias }) => cut(`${name || '.'}${alias ? ' (alias)' : ''}`)),
    verdict: t.verdict.verdict,
    ...(t.before === undefined ? {} : { before: cut(t.before) }),
    tiers: t.tiers.map((tier) => tierOf(tier, scope)),
  };
}

function tierOf(tier: ExplainedTier, scope: Scope): WhyTier {
  const seen = tier.policies.filter(({ ref }) => mayUseAll(ref, scope));
  const others = seen.filter(({ selected }) => !selected);
  return {
    tier: tier.tier,
    outcome: tier.outcome,
    policies: seen.filter(({ selected }) => selected).map((policy) => policyOf(policy, scope)),
    others: others
      .slice(0, MOST.others)
      .map(({ policy, ref, why }) => ({ policy: cut(policy), why: isTold(ref, scope) ? cut(why) : UNTOLD })),
    moreOthers: Math.max(0, others.length - MOST.others),
    always: tier.applies ? tier.always.map(ruleOf) : [],
  };
}

/** Policies of the whole cluster concern everybody; those of a namespace only who may see it. */
function mayUseAll({ namespace }: PolicyRef, scope: Scope): boolean {
  return namespace === undefined || mayUse(scope, namespace);
}

/** The text of a policy of the whole cluster names labels of all namespaces. */
function isTold({ namespace }: PolicyRef, scope: Scope): boolean {
  return scope === undefined || namespace !== undefined;
}

const UNTOLD = 'shown to those who may see the whole cluster';

/** `pod shop/web`, `node a`: a pod of another namespace has no name here. */
function isSeenObject(text: string, scope: Scope): boolean {
  const [, namespace] = /^pod ([^/]+)\//.exec(text) ?? [];
  return namespace === undefined || mayUse(scope, namespace);
}

function policyOf({ policy, ref, staged, why, rules }: ExplainedPolicy, scope: Scope): WhyPolicy {
  const told = isTold(ref, scope);
  // The rule that decides is never left out.
  const decides = rules.findIndex(({ result }) => result === 'decides' || result === 'passes');
  const kept = rules.filter((_, n) => n < MOST.rules || n === decides);
  return {
    policy: cut(policy),
    staged,
    why: told ? cut(why) : UNTOLD,
    rules: kept.map((rule) => (told ? ruleOf(rule) : { ...ruleOf(rule), text: UNTOLD, why: UNTOLD })),
    more: rules.length - kept.length,
  };
}

function ruleOf({ rule, action, result, text, why }: ExplainedRule): WhyRule {
  return { rule: cut(rule), action, result, text: cut(text), why: cut(why) };
}

function cut(text: string): string {
  return text.length > MOST.text ? `${text.slice(0, MOST.text)}…` : text;
}
