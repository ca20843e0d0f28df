/** What policies and their rules have decided, summed up from edges. */
import type { ActivityResponse, RuleActivityMessage, WouldDenyMessage } from '../proto/edges.js';
import type { Edge, EdgeHistory, EdgeRule } from './edge.js';
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
  const activity = new ActivitySums(query);
  for (const history of histories) activity.add(history);
  return activity.response();
}

interface Denied {
  readonly edge: Edge;
  readonly connections: number;
  readonly lastMs: number;
}

/** The same, for who has other work between two edges. */
export class ActivitySums {
  readonly #query: EdgeQuery;
  readonly #sums = new Map<string, Sum>();
  readonly #denied: Denied[] = [];

  constructor(query: EdgeQuery) {
    this.#query = query;
  }

  add({ edge, days }: EdgeHistory): void {
    if (days.length === 0 || !edgeMatches(edge, this.#query)) return;
    if (edge.rule) count(this.#sums, edge.rule, false, days);
    if (edge.auditRule && edge.auditVerdict !== 'none') count(this.#sums, edge.auditRule, true, days);
    if (edge.verdict !== 'allow' || edge.auditVerdict !== 'deny') return;
    const connections = days.reduce((sum, d) => sum + d.connections, 0);
    this.#denied.push({ edge, connections, lastMs: Math.max(...days.map((d) => d.lastMs)) });
  }

  /** @param most rules, and flows that would have been denied: the most recent of each */
  response(most = Number.POSITIVE_INFINITY): ActivityResponse {
    const latest = <T extends { lastMs: number }>(all: T[]) => all.sort((a, b) => b.lastMs - a.lastMs).slice(0, most);
    return { rules: latest([...this.#sums.values()]).map(message), would_deny: latest(this.#denied).map(wouldDeny) };
  }
}

function wouldDeny({ edge, connections, lastMs }: Denied): WouldDenyMessage {
  const rule = edge.auditRule;
  return {
    ...(rule ? { rule: fullRuleMessage(rule.ref), generation: rule.generation } : {}),
    edge: edgeMessage(edge),
    connections,
    last_at: timestampOf(lastMs),
  };
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
