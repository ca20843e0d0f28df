/** What the SQL of both engines has in common: the columns of an edge's description, and the conditions of a query. */
import { type Edge, type EdgeHistory, type EdgeParty, type EdgeRule, dayOf, type PartyKind } from '../../edges/edge.js';
import type { EdgeQuery } from '../../edges/query.js';
import { edgeMessage, fullRuleMessage, ruleRefOf, timestampOf } from '../../edges/wire.js';
import { AgentError } from '../../errors.js';
import type { ActivityResponse, RuleActivityMessage } from '../../proto/edges.js';
import type { RuleMessage } from '../../proto/messages.js';
import { shardOf, workloadShard } from './marks.js';

/** Columns of a description, those of numbers first. `src` and `dst` are the shards of its ends. */
export const EDGE_NUMBERS = ['id', 'src', 'dst', 'inbound', 'service_port', 'port', 'protocol'] as const;
export const EDGE_TEXTS = [
  ...['source_kind', 'source_namespace', 'source_workload_kind', 'source_name'],
  ...['destination_kind', 'destination_namespace', 'destination_workload_kind', 'destination_name'],
  ...['service', 'verdict', 'audit_verdict', 'reason', 'rule', 'audit_rule', 'address'],
] as const;

const partyTexts = (p: EdgeParty): string[] => [p.kind, p.namespace, p.workloadKind, p.name];
const ruleText = (rule: EdgeRule | undefined): string =>
  rule ? JSON.stringify([fullRuleMessage(rule.ref), rule.generation]) : '';

export function edgeNumbers(e: Edge): number[] {
  return [e.id, shardOf(e.source), shardOf(e.destination), e.inbound ? 1 : 0, e.servicePort, e.port, e.protocol];
}

export function edgeTexts(e: Edge): string[] {
  const own = [e.service, e.verdict, e.auditVerdict, e.reason, ruleText(e.rule), ruleText(e.auditRule), e.address];
  return [...partyTexts(e.source), ...partyTexts(e.destination), ...own];
}

function ruleOf(text: string): EdgeRule | undefined {
  if (text === '') return undefined;
  const [message, generation] = JSON.parse(text) as [RuleMessage, number];
  return { ref: ruleRefOf(message), generation };
}

function partyOf([kind, namespace, workloadKind, name]: readonly string[]): EdgeParty {
  return { kind: kind as PartyKind, namespace: namespace ?? '', workloadKind: workloadKind ?? '', name: name ?? '' };
}

/** The edge of a row: EDGE_NUMBERS, then EDGE_TEXTS. */
export function edgeOfRow(row: readonly unknown[]): Edge {
  const [id, , , inbound, servicePort, port, protocol] = row.map(Number) as number[];
  const texts = row.slice(EDGE_NUMBERS.length) as string[];
  const [service = '', verdict, auditVerdict, reason = '', rule = '', auditRule = '', address = ''] = texts.slice(8);
  const [decided, audited] = [ruleOf(rule), ruleOf(auditRule)];
  return {
    id: id as number,
    source: partyOf(texts.slice(0, 4)),
    destination: partyOf(texts.slice(4, 8)),
    inbound: inbound === 1,
    service,
    servicePort: servicePort as number,
    port: port as number,
    protocol: protocol as number,
    verdict: verdict as Edge['verdict'],
    auditVerdict: auditVerdict as Edge['auditVerdict'],
    reason,
    ...(decided ? { rule: decided } : {}),
    ...(audited ? { auditRule: audited } : {}),
    address,
  };
}

/** How an engine makes a text of hexadecimal digits: no character of a caller's text is ever part of a statement. */
export type Unhex = (digits: string) => string;

function text(value: string, unhex: Unhex): string {
  return unhex(Buffer.from(value).toString('hex'));
}

/** The condition on descriptions; empty: all match. */
export function edgeCondition(query: EdgeQuery, unhex: Unhex): string {
  const list = (values: readonly string[]) => `(${values.map((v) => text(v, unhex)).join(', ')})`;
  const all: string[] = [];
  if (query.verdicts) all.push(`verdict IN ${list(query.verdicts)}`);
  const namespaces = query.namespaces?.filter((n) => n !== '');
  if (namespaces) {
    if (namespaces.length === 0) all.push('1 = 0');
    else all.push(`(source_namespace IN ${list(namespaces)} OR destination_namespace IN ${list(namespaces)})`);
  }
  if (query.workload !== undefined) {
    const [namespace, name] = splitWorkload(query.workload);
    const end = (side: string) =>
      `(${side}_kind = 'workload' AND ${side}_namespace = ${text(namespace, unhex)} AND ${side}_name = ${text(name, unhex)})`;
    const shard = workloadShard(query.workload);
    all.push(`((src = ${shard} AND ${end('source')}) OR (dst = ${shard} AND ${end('destination')}))`);
  }
  return all.join(' AND ');
}

function splitWorkload(workload: string): [string, string] {
  const at = workload.indexOf('/');
  return [workload.slice(0, at), workload.slice(at + 1)];
}

/** The days of a query: from, to; both included. */
export function daysOf({ sinceMs, untilMs }: EdgeQuery): { from: number; to: number } {
  return {
    from: sinceMs === undefined ? 0 : dayOf(Math.max(0, sinceMs)),
    to: untilMs === undefined ? 2 ** 31 - 1 : Math.max(-1, Math.ceil(untilMs / 86_400_000) - 1),
  };
}

/** Puts rows and descriptions together. @param rows id, day, first, last, connections, bytes, drops, hours; in any order */
export function historiesOf(rows: Iterable<readonly number[]>, edges: ReadonlyMap<number, Edge>): EdgeHistory[] {
  const found = new Map<number, { edge: Edge; days: EdgeHistory['days'][number][] }>();
  for (const row of rows) {
    const [id, day, firstMs, lastMs, connections, bytes, drops, hours] = row as [
      ...[number, number, number, number],
      ...[number, number, number, number],
    ];
    const edge = edges.get(id);
    if (!edge) continue;
    let history = found.get(id);
    if (!history) found.set(id, (history = { edge, days: [] }));
    history.days.push({ day, firstMs, lastMs, connections, bytes, drops, hours });
  }
  for (const { days } of found.values()) days.sort((a, b) => a.day - b.day);
  return [...found.values()].sort((a, b) => a.edge.id - b.edge.id);
}

/** Most edges that staged policies would have denied in an answer, the latest first. */
export const MOST_DENIED = 2000;

/** A row of the sums by rule: rule, whether it is staged, connections, bytes, drops, first, last, days. */
export function ruleActivityOf(row: readonly unknown[]): RuleActivityMessage {
  const rule = ruleOf(row[0] as string) as EdgeRule;
  const [, audit, connections, bytes, drops, firstMs, lastMs, days] = row.map(Number) as number[];
  return {
    rule: fullRuleMessage(rule.ref),
    generation: rule.generation,
    connections: connections as number,
    bytes: bytes as number,
    drops: drops as number,
    first_at: timestampOf(firstMs as number),
    last_at: timestampOf(lastMs as number),
    days: days as number,
    ...(audit ? { audit: true } : {}),
  };
}

/** @param denied the edges with their connections and the time of the last */
export function activityResponse(
  rules: readonly RuleActivityMessage[],
  denied: readonly { edge: Edge; connections: number; lastMs: number }[],
  beganMs: number | undefined,
): ActivityResponse {
  return {
    rules: [...rules],
    would_deny: denied.map(({ edge, connections, lastMs }) => ({
      ...(edge.auditRule ? { rule: fullRuleMessage(edge.auditRule.ref), generation: edge.auditRule.generation } : {}),
      edge: edgeMessage(edge),
      connections,
      last_at: timestampOf(lastMs),
    })),
    ...(beganMs === undefined ? {} : { began_at: timestampOf(beganMs) }),
  };
}

/** The error of a statement, with what the engine says. */
export function storeError(what: string, cause: unknown): AgentError {
  if (cause instanceof AgentError) return cause;
  const said = String((cause as Error)?.message ?? cause).split('\n', 1)[0] as string;
  return new AgentError('HISTORY', `history: ${what}: ${said.slice(0, 300)}`, { cause });
}

/** A schema that a later version wrote. */
export function newerSchema(where: string, found: number, known: number): AgentError {
  return new AgentError('USAGE', `history: ${where} has schema ${found}, which this version does not know`, {
    hint: `it knows schemas up to ${known}: run the version that wrote it, or name another place`,
  });
}
