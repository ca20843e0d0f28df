/** Edges with their days, as rows for people and for programs. */
import Table from 'cli-table3';
import type { EdgeBook } from '../../edges/book.js';
import { type DayRow, DAY_MS, type Edge, type EdgeHistory, edgeRuleText, partyName } from '../../edges/edge.js';
import { millisOf } from '../../edges/wire.js';
import { protocolName } from '../../net/protocol.js';
import type { HistoryResponse } from '../../proto/edges.js';
import { PLAIN } from '../flows/format.js';
import { bytes, type Paint, type Style, safe } from '../common/output.js';

/** An edge, with what all its days add up to. */
export interface Row {
  edge: Edge;
  days: readonly DayRow[];
  firstMs: number;
  lastMs: number;
  connections: number;
  bytes: number;
  drops: number;
}

/** The most connections first. */
export function rowsOf(histories: readonly EdgeHistory[]): Row[] {
  const rows = histories.map(({ edge, days }): Row => {
    const sum = (of: (d: DayRow) => number) => days.reduce((total, d) => total + of(d), 0);
    return {
      edge,
      days,
      firstMs: days.reduce((least, d) => Math.min(least, d.firstMs), Number.POSITIVE_INFINITY),
      lastMs: days.reduce((most, d) => Math.max(most, d.lastMs), 0),
      connections: sum((d) => d.connections),
      bytes: sum((d) => d.bytes),
      drops: sum((d) => d.drops),
    };
  });
  return rows.sort((a, b) => b.connections - a.connections || b.lastMs - a.lastMs || a.edge.id - b.edge.id);
}

const STYLES: Partial<Record<Edge['verdict'], Style>> = { allow: 'green', deny: 'red', partial: 'yellow' };

export function historyTable(rows: readonly Row[], wide: boolean, paint: Paint): string {
  const head = ['SOURCE', 'DESTINATION', 'PORT', 'VERDICT', 'RULE', 'LAST SEEN', 'DAYS', 'CONNECTIONS'];
  const more = ['FIRST SEEN', 'BYTES', 'DROPS', 'STAGED', 'SERVICE', 'ADDRESS'];
  const t = new Table({
    head: wide ? [...head, ...more] : head,
    style: { head: [], border: [], compact: true },
    chars: PLAIN,
  });
  for (const { edge, days, ...r } of rows) {
    const style = STYLES[edge.verdict];
    const staged = edge.auditVerdict === 'none' ? '' : `${edge.auditVerdict} ${edgeRuleText(edge.auditRule)}`.trim();
    t.push([
      safe(partyName(edge.source)),
      safe(partyName(edge.destination)),
      portText(edge),
      style ? paint(style, edge.verdict) : safe(edge.verdict),
      safe(edgeRuleText(edge.rule) || edge.reason),
      timeText(r.lastMs),
      String(days.length),
      String(r.connections),
      ...(wide ? [timeText(r.firstMs), bytes(r.bytes), String(r.drops)] : []),
      ...(wide ? [safe(staged), safe(edge.service), safe(edge.address)] : []),
    ]);
  }
  return t.toString();
}

/** `443/tcp`; of ICMP the type and code: `8:0/icmp`. */
function portText({ port, protocol }: Edge): string {
  const name = protocolName(protocol).toLowerCase();
  if (protocol === 1 || protocol === 58) return `${port >> 8}:${port & 255}/${name}`;
  return port === 0 ? name : `${port}/${name}`;
}

/** `2026-01-31 12:00` in UTC, as the days are. */
export function timeText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace('T', ' ');
}

const dateOf = (day: number) => new Date(day * DAY_MS).toISOString().slice(0, 10);

/** Times in RFC 3339, days as dates. `egressctl recommend --edges` reads it: src/recommend/saved.ts. */
export function historyJson(book: EdgeBook, rows: readonly Row[]): unknown {
  return {
    ...(book.beganMs === undefined ? {} : { began_at: new Date(book.beganMs).toISOString() }),
    overflow: book.overflow,
    more: book.isCut,
    unavailable_nodes: book.unavailable,
    edges: rows.map(({ edge, days, ...r }) => {
      const { id, rule, auditRule, ...rest } = edge;
      return {
        id: String(id),
        ...rest,
        rule: edgeRuleText(rule),
        auditRule: edgeRuleText(auditRule),
        firstSeen: new Date(r.firstMs).toISOString(),
        lastSeen: new Date(r.lastMs).toISOString(),
        connections: r.connections,
        bytes: r.bytes,
        drops: r.drops,
        days: days.map(({ day, firstMs, lastMs, hours, ...counts }) => ({
          day: dateOf(day),
          firstSeen: new Date(firstMs).toISOString(),
          lastSeen: new Date(lastMs).toISOString(),
          hours: Array.from({ length: 24 }, (_, h) => h).filter((h) => (hours >>> h) & 1),
          ...counts,
        })),
      };
    }),
  };
}

/** The state of a history, for people. */
export function statusText(h: HistoryResponse): string {
  if (!h.place) return 'the relay keeps no history';
  const [lost, early, late] = [Number(h.rows_lost ?? 0), Number(h.rows_early ?? 0), Number(h.rows_late ?? 0)];
  const flows = h.keeps_flows ? `${h.flows_written ?? 0} written, ${h.flows_lost ?? 0} lost` : 'not kept';
  const at = (t: HistoryResponse['lost_at']) => timeText(millisOf(t) ?? 0);
  return [
    `place    ${safe(h.place)}`,
    `days     ${h.days ?? 0}${h.oldest_day ? `, since ${dateOf(h.oldest_day)}` : ''}`,
    `edges    ${h.edges ?? 0}`,
    `size     ${bytes(Number(h.bytes ?? 0))}`,
    `rows     ${h.rows_written ?? 0} written, ${lost} lost${h.lost_at ? `, last ${at(h.lost_at)}` : ''}`,
    `flows    ${flows}`,
    ...(early + late > 0
      ? [`refused  ${early} rows of days long past, ${late} of days to come: is a clock wrong?`]
      : []),
    ...(Number(h.days_lost ?? 0) > 0
      ? [`deleted  ${h.days_lost} days before their time: the history is at its size`]
      : []),
    ...(h.failing_since ? [`failing  since ${at(h.failing_since)}: ${safe(h.error ?? '')}`] : []),
    ...(!h.failing_since && h.error ? [`error    ${safe(h.error)}`] : []),
  ].join('\n');
}
