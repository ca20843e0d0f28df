/** Edges and their days in the messages of egress.v1, both ways. */
import { ruleMessage } from '../flow/hubble.js';
import type { Action, RuleRef } from '../ir/types.js';
import type { EdgeMessage, EdgePartyMessage, EdgeRowsMessage, RowColumns } from '../proto/edges.js';
import type { RuleMessage, Timestamp } from '../proto/messages.js';
import type { DayRow, Edge, EdgeHistory, EdgeParty, EdgeRule, PartyKind } from './edge.js';

/** A time in milliseconds since 1970. */
export function millisOf(t: Timestamp | undefined): number | undefined {
  return t === undefined ? undefined : Number(t.seconds ?? 0) * 1000 + Math.floor(Number(t.nanos ?? 0) / 1e6);
}

/** @param ms milliseconds since 1970 */
export function timestampOf(ms: number): Timestamp {
  return { seconds: Math.floor(ms / 1000), nanos: Math.round(ms % 1000) * 1_000_000 };
}

/** A rule with all that makes it a RuleRef again. */
export function fullRuleMessage(ref: RuleRef): RuleMessage {
  return { ...ruleMessage(ref), dialect: ref.policy.dialect, tier: ref.tier, action: ref.action };
}

/** The rule of a message; labels of the policy are not in it. */
export function ruleRefOf(m: RuleMessage): RuleRef {
  const { kind, namespace, name, index = 0, staged = false, rule_name, dialect = '', tier = '' } = m;
  return {
    policy: { dialect, kind, ...(namespace ? { namespace } : {}), name },
    index,
    ...(rule_name ? { name: rule_name } : {}),
    tier,
    staged,
    action: (m.action ?? 'allow') as Action,
  };
}

function partyMessage(p: EdgeParty): EdgePartyMessage {
  return {
    kind: p.kind,
    ...(p.namespace === '' ? {} : { namespace: p.namespace }),
    ...(p.workloadKind === '' ? {} : { workload_kind: p.workloadKind }),
    ...(p.name === '' ? {} : { name: p.name }),
  };
}

function partyOf(m: EdgePartyMessage = {}): EdgeParty {
  const { kind = 'other', namespace = '', workload_kind: workloadKind = '', name = '' } = m;
  return { kind: kind as PartyKind, namespace, workloadKind, name };
}

export function edgeMessage(e: Edge): EdgeMessage {
  return {
    id: e.id,
    source: partyMessage(e.source),
    destination: partyMessage(e.destination),
    ...(e.inbound ? { inbound: true } : {}),
    ...(e.service === '' ? {} : { service: e.service, service_port: e.servicePort }),
    port: e.port,
    protocol: e.protocol,
    verdict: e.verdict,
    audit_verdict: e.auditVerdict,
    reason: e.reason,
    ...(e.rule ? { rule: fullRuleMessage(e.rule.ref), generation: e.rule.generation } : {}),
    ...(e.auditRule ? { audit_rule: fullRuleMessage(e.auditRule.ref), audit_generation: e.auditRule.generation } : {}),
    ...(e.address === '' ? {} : { address: e.address }),
  };
}

export function edgeOf(m: EdgeMessage): Edge {
  const rule = (of: RuleMessage | undefined, generation: unknown): EdgeRule | undefined =>
    of && { ref: ruleRefOf(of), generation: Number(generation ?? 0) };
  const decided = rule(m.rule, m.generation);
  const audited = rule(m.audit_rule, m.audit_generation);
  return {
    id: Number(m.id ?? 0),
    source: partyOf(m.source),
    destination: partyOf(m.destination),
    inbound: m.inbound ?? false,
    service: m.service ?? '',
    servicePort: m.service_port ?? 0,
    port: m.port ?? 0,
    protocol: m.protocol ?? 0,
    verdict: (m.verdict ?? 'none') as Edge['verdict'],
    auditVerdict: (m.audit_verdict ?? 'none') as Edge['auditVerdict'],
    reason: m.reason ?? '',
    ...(decided ? { rule: decided } : {}),
    ...(audited ? { auditRule: audited } : {}),
    address: m.address ?? '',
  };
}

/** Rows as columns. */
export function columnsOf(rows: readonly DayRow[]): Required<RowColumns> {
  return {
    day: rows.map((r) => r.day),
    first_ms: rows.map((r) => r.firstMs),
    last_ms: rows.map((r) => r.lastMs),
    connections: rows.map((r) => r.connections),
    bytes: rows.map((r) => r.bytes),
    drops: rows.map((r) => r.drops),
    hours: rows.map((r) => r.hours),
  };
}

/** Row n of columns. */
export function rowAt(c: RowColumns, n: number): DayRow {
  return {
    day: c.day?.[n] ?? 0,
    firstMs: Number(c.first_ms?.[n] ?? 0),
    lastMs: Number(c.last_ms?.[n] ?? 0),
    connections: Number(c.connections?.[n] ?? 0),
    bytes: Number(c.bytes?.[n] ?? 0),
    drops: Number(c.drops?.[n] ?? 0),
    hours: c.hours?.[n] ?? 0,
  };
}

export function edgeRowsMessage({ edge, days }: EdgeHistory): EdgeRowsMessage {
  return { edge: edgeMessage(edge), ...columnsOf(days) };
}

export function edgeHistoryOf(m: EdgeRowsMessage): EdgeHistory {
  return { edge: edgeOf(m.edge ?? {}), days: (m.day ?? []).map((_, n) => rowAt(m, n)) };
}
