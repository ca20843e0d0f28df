/** Puts what several ledgers saw together. */
import { contentName } from '../ids.js';
import { type DayRow, type Edge, edgeId, edgeText, type EdgeHistory, sumDays } from './edge.js';

/**
 * One history for each edge, whatever ids it had in its ledgers: the days of all summed, with the address that was met
 * last. In the order of ids that depend on the edges alone, so that the same edges give the same list.
 */
export function mergeHistories(histories: Iterable<EdgeHistory>): EdgeHistory[] {
  const found = new Map<string, { edge: Edge; lastMs: number; days: Map<number, DayRow> }>();
  for (const { edge, days } of histories) {
    const name = contentName(edgeText(edge));
    const lastMs = days.reduce((last, d) => Math.max(last, d.lastMs), 0);
    let one = found.get(name);
    if (!one) found.set(name, (one = { edge, lastMs, days: new Map() }));
    const isLater = lastMs > one.lastMs || (lastMs === one.lastMs && edge.address > one.edge.address);
    if (isLater && edge.address !== '') [one.edge, one.lastMs] = [edge, lastMs];
    for (const row of days) {
      const before = one.days.get(row.day);
      one.days.set(row.day, before ? sumDays(before, row) : row);
    }
  }
  const taken = new Set<number>();
  const out: EdgeHistory[] = [];
  // By name, so that of two edges with one id it is always the same one that gives way.
  for (const [, { edge, days }] of [...found].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const text = edgeText(edge);
    let id = edgeId(text);
    for (let attempt = 1; taken.has(id); attempt++) id = edgeId(text, attempt);
    taken.add(id);
    out.push({ edge: { ...edge, id }, days: [...days.values()].sort((a, b) => a.day - b.day) });
  }
  return out.sort((a, b) => a.edge.id - b.edge.id);
}
