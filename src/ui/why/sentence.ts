/** The verdict of an explanation in one sentence. */
import { counted } from '../../counted.js';
import type { ExplainedTarget, ExplainedTier, Explanation } from '../../explain/explain.js';
import { formatPolicy, formatRule } from '../../ir/names.js';
import { DEFAULT_RULE, IMPLICIT_RULE, type RuleRef } from '../../ir/types.js';

/** Policies that a sentence names. */
const NAMED = 3;

/** @param who the sender, @param whom the destination with its port, as people call them */
export function sentenceOf(e: Explanation, who: string, whom: string): string {
  const { verdict } = e.verdict;
  if (verdict === 'partial') {
    const allowed = e.targets.filter((t) => t.verdict.verdict === 'allow').length;
    return `${who} may reach some of what is behind ${whom}: ${allowed} of ${counted(e.targets.length, 'backend')}; judged is the one that is chosen`;
  }
  const may = verdict === 'allow' ? 'may reach' : 'may not reach';
  return `${who} ${may} ${whom}: ${reasonOf(e)}`;
}

function reasonOf({ targets, verdict, rule, sender }: Explanation): string {
  const target = targets.find((t) => t.verdict.verdict === verdict.verdict);
  if (target?.before !== undefined) return `it is denied before any rule, since ${target.before}`;
  if (!rule) {
    if (!sender.selectable) return sender.why;
    return target && target.tiers.length === 0 ? 'what is sent to an own address stays inside' : 'no policy selects it';
  }
  const tier = decidingTier(target, rule);
  if (rule.index === DEFAULT_RULE && tier) return defaultOf(tier, verdict.verdict === 'deny' ? 'denies' : 'allows');
  if (rule.index === IMPLICIT_RULE) return `${formatPolicy(rule.policy)} always allows it, whatever its rules say`;
  return `${formatRule(rule)} ${verdict.verdict === 'deny' ? 'denies' : 'allows'} it, in the tier ${rule.tier}`;
}

/** `tier default denies, since np/shop/web isolates it and none of its 2 rules matches` */
function defaultOf(tier: ExplainedTier, does: string): string {
  const selecting = tier.policies.filter((p) => p.selected && !p.staged);
  const rules = selecting.reduce((n, p) => n + p.rules.length, 0);
  const names = selecting.slice(0, NAMED).map(({ policy }) => policy);
  const more = selecting.length - names.length;
  if (more > 0) names.push(`${more} more`);
  const last = names.pop() ?? '';
  const all = names.length === 0 ? last : `${names.join(', ')} and ${last}`;
  const isOne = selecting.length === 1;
  const none =
    rules === 0
      ? `${isOne ? 'has' : 'have'} no rule for it`
      : rules === 1
        ? `${isOne ? 'its' : 'their'} only rule does not match`
        : `none of ${isOne ? 'its' : 'their'} ${rules} rules matches`;
  return `tier ${tier.tier} ${does}, since ${all} ${isOne ? 'isolates' : 'isolate'} it and ${none}`;
}

/** The tier whose rule decided about a target. */
function decidingTier(target: ExplainedTarget | undefined, rule: RuleRef): ExplainedTier | undefined {
  return target?.tiers.find((tier) => tier.tier === rule.tier);
}
