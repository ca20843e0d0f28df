/** What policies and their rules have decided, summed up from edges. */
import type { ActivityResponse, RuleActivityMessage, WouldDenyMessage } from '../proto/edges.js';
import type { EdgeHistory, EdgeRule } from './edge.js';
import { edgeMatches, type EdgeQuery } from './query.js';
import { edgeMessage, fullRuleMessage, timestampOf } from './wire.js';
import { ruleText } from '../ir/names.js';

interface Sum {
  rule: EdgeRule;
  audit: boolean;
  connections: number;
  bytes: number;
  drops: number;
  firstMs: number;
  lastMs: number;
  days: Set<number>;
}

/** The activity of each rule and generation, and what staged policies would have denied. Most recent first. */
export function activityOf(histories: Iterable<EdgeHistory>, query: EdgeQuery = {}): ActivityResponse {
  const sums = new Map<string, Sum>();
  const denied: { ms: number; message: WouldDenyMessage }[] = [];
  for (const { edge, days } of histories) {
    if (days.length === 0 || !edgeMatches(edge, query)) continue;
    if (edge.rule) count(sums, edge.rule, false, days);
    if (edge.auditRule && edge.auditVerdict !== 'none') count(sums, edge.auditRule, true, days);
    if (edge.verdict !== 'allow' || edge.auditVerdict !== 'deny') continue;
    const lastMs = Math.max(...days.map((d) => d.lastMs));
    denied.push({
      ms: lastMs,
      message: {
        ...(edge.auditRule ? { rule: fullRuleMessage(edge.auditRule.ref), generation: edge.auditRule.generation } : {}),
        edge: edgeMessage(edge),
        connections: days.reduce((sum, d) => sum + d.connections, 0),
        last_at: timestampOf(lastMs),
      },
    });
  }
  const rules = [...sums.values()].sort((a, b) => b.lastMs - a.lastMs).map(message);
  return { rules, would_deny: denied.sort((a, b) => b.ms - a.ms).map((d) => d.message) };
}

function count(sums: Map<string, Sum>, rule: EdgeRule, audit: boolean, days: EdgeHistory['days']): void {
  const key = `${audit ? 'audit ' : ''}${rule.generation} ${ruleText(rule.ref)}`;
  let sum = sums.get(key);
  if (!sum) {
    const [firstMs, lastMs] = [Number.POSITIVE_INFINITY, 0];
    sums.set(key, (sum = { rule, audit, connections: 0, bytes: 0, drops: 0, firstMs, lastMs, days: new Set() }));
  }
  for (const d of days) {
    sum.connections += d.connections;
    sum.bytes += d.bytes;
    sum.drops += d.drops;
    sum.firstMs = Math.min(sum.firstMs, d.firstMs);
    sum.lastMs = Math.max(sum.lastMs, d.lastMs);
    sum.days.add(d.day);
  }
}

function message({ rule, audit, days, firstMs, lastMs, ...counts }: Sum): RuleActivityMessage {
  return {
    rule: fullRuleMessage(rule.ref),
    generation: rule.generation,
    ...counts,
    first_at: timestampOf(firstMs),
    last_at: timestampOf(lastMs),
    days: days.size,
    ...(audit ? { audit } : {}),
  };
}
