/** The questions to the embedded engine, as statements. */
import { DAY_MS } from '../../edges/edge.js';
import type { EdgeQuery } from '../../edges/query.js';
import { workloadShard } from '../base/marks.js';
import { daysOf, edgeCondition, EDGE_NUMBERS, EDGE_TEXTS } from '../base/sql.js';

export const unhex = (digits: string): string => `decode(unhex('${digits}'))`;

/** Aggregates that make one row of rows that say the same, later or earlier: no number ever falls. */
const LATEST =
  'min("first") AS "first", max("last") AS "last", max(connections) AS connections, max(bytes) AS bytes, max(drops) AS drops, bit_or(hours) AS hours';
const SUM =
  'min("first") AS "first", max("last") AS "last", sum(connections) AS connections, sum(bytes) AS bytes, sum(drops) AS drops, bit_or(hours) AS hours';
const VALUES = '"first", "last", connections, bytes, drops, hours';

/** The rows of `recent` in the form of those of `day_N`. */
const RECENT_VALUES = `(r."first" - r.day * ${DAY_MS})::INTEGER AS "first", (r."last" - r.day * ${DAY_MS})::INTEGER AS "last",
  r.connections::BIGINT AS connections, r.bytes::BIGINT AS bytes, r.drops::BIGINT AS drops, r.hours::UINTEGER AS hours`;

/**
 * The parts of a WITH clause: `picked` (key, id: the edges asked for) and `totals` (day, edge, values: rows of one ledger
 * or of several, which are yet to be summed; of each ledger at most one for an edge and day).
 * @param days the days that have tables @param recent the days that have rows in `recent`
 */
function parts(query: EdgeQuery, days: readonly number[], recent: readonly number[]): string {
  const condition = edgeCondition(query, unhex);
  const { from, to } = daysOf(query);
  const asked = (day: number) => day >= from && day <= to;
  // A row whose edge ends at a workload is there twice, so that either question reads a few blocks of a day.
  const workload = query.workload === undefined ? undefined : `shard = ${workloadShard(query.workload)}`;
  const where = workload ?? `NOT mirrored${condition === '' ? '' : ' AND edge IN (SELECT key FROM picked)'}`;
  const table = (day: number) => `SELECT ${day} AS day, edge, ledger, ${VALUES} FROM day_${day} WHERE ${where}`;
  const settled = days.filter((day) => asked(day) && !recent.includes(day)).map(table);
  const open = days.filter((day) => asked(day) && recent.includes(day)).map(table);
  if (recent.some(asked))
    open.push(`SELECT r.day::INTEGER AS day, p.key AS edge, r.ledger::INTEGER AS ledger, ${RECENT_VALUES}
      FROM recent r JOIN picked p ON p.id::DOUBLE = r.id WHERE r.day BETWEEN ${from} AND ${to}`);
  const all = [
    ...settled.map((s) => `SELECT day, edge, ${VALUES} FROM (${s})`),
    ...(open.length === 0
      ? []
      : [`SELECT day, edge, ${LATEST} FROM (${open.join(' UNION ALL ')}) GROUP BY day, edge, ledger`]),
  ];
  if (all.length === 0) {
    const none = VALUES.split(', ').map((name) => `0 AS ${name}`);
    all.push(`SELECT 0 AS day, 0 AS edge, ${none.join(', ')} WHERE false`);
  }
  return `WITH picked AS MATERIALIZED (SELECT key, id FROM edges${condition === '' ? '' : ` WHERE ${condition}`}),
    totals AS (${all.join(' UNION ALL ')})`;
}

/** Rows of historiesOf(), the most recent days first. */
export function rowsSql(query: EdgeQuery, days: readonly number[], recent: readonly number[], limit: number): string {
  return `${parts(query, days, recent)},
    summed AS (SELECT day, edge, ${SUM} FROM totals GROUP BY day, edge)
    SELECT id::DOUBLE, day::DOUBLE, (day::BIGINT * ${DAY_MS} + "first")::DOUBLE, (day::BIGINT * ${DAY_MS} + "last")::DOUBLE,
      connections::DOUBLE, bytes::DOUBLE, drops::DOUBLE, hours::DOUBLE
    FROM summed JOIN picked ON key = edge ORDER BY day DESC, id LIMIT ${limit}`;
}

const DESCRIPTION = [...EDGE_NUMBERS.map((name) => `${name}::DOUBLE`), ...EDGE_TEXTS].join(', ');

/** Descriptions: of these edges, or those that match. */
export function edgesSql(query: EdgeQuery, ids: readonly number[] | undefined): string {
  const condition = ids ? `id IN (${ids.join(', ')})` : edgeCondition(query, unhex);
  return `SELECT ${DESCRIPTION} FROM edges${condition === '' ? '' : ` WHERE ${condition}`}`;
}

/** Rows of ruleActivityOf(), the latest first. */
export function activitySql(query: EdgeQuery, days: readonly number[], recent: readonly number[]): string {
  const half = (
    rule: string,
    audit: number,
    condition: string,
  ) => `SELECT ${rule} AS rule, ${audit} AS audit, day, ${SUM}
    FROM totals JOIN edges ON key = edge WHERE key IN (SELECT key FROM picked) AND ${condition} GROUP BY ${rule}, day`;
  return `${parts(query, days, recent)},
    ruled AS (${half('rule', 0, "rule <> ''")} UNION ALL ${half('audit_rule', 1, "audit_rule <> '' AND audit_verdict <> 'none'")})
    SELECT rule, audit::DOUBLE, sum(connections)::DOUBLE, sum(bytes)::DOUBLE, sum(drops)::DOUBLE,
      min(day::BIGINT * ${DAY_MS} + "first")::DOUBLE, max(day::BIGINT * ${DAY_MS} + "last")::DOUBLE AS latest, count(DISTINCT day)::DOUBLE
    FROM ruled GROUP BY rule, audit ORDER BY latest DESC, rule`;
}

/** Edges that staged policies would have denied: id, connections, time of the last. */
export function deniedSql(query: EdgeQuery, days: readonly number[], recent: readonly number[], limit: number): string {
  return `${parts(query, days, recent)}
    SELECT id::DOUBLE, sum(connections)::DOUBLE, max(day::BIGINT * ${DAY_MS} + "last")::DOUBLE AS latest
    FROM totals JOIN edges ON key = edge
    WHERE key IN (SELECT key FROM picked) AND verdict = 'allow' AND audit_verdict = 'deny'
    GROUP BY id ORDER BY latest DESC, id LIMIT ${limit}`;
}

const LATEST_DOUBLES = LATEST.replace('bit_or(hours)', 'bit_or(hours::UINTEGER)');

/** Sorts the recent rows of a day into its table: the latest of each edge and ledger. */
export function sortSql(day: number): string {
  return `CREATE OR REPLACE TABLE day_${day} AS WITH
    news AS (SELECT ledger, id, day, ${LATEST_DOUBLES} FROM recent WHERE day = ${day} GROUP BY ledger, id, day),
    latest AS (SELECT edge, src, dst, ledger, ${LATEST} FROM (
      SELECT e.key AS edge, e.src, e.dst, r.ledger::INTEGER AS ledger, ${RECENT_VALUES}
      FROM news r JOIN edges e ON e.id = r.id::BIGINT
      UNION ALL SELECT edge, shard, other, ledger, ${VALUES} FROM day_${day} WHERE NOT mirrored)
      GROUP BY edge, src, dst, ledger)
    SELECT edge, src AS shard, dst AS other, false AS mirrored, ledger, ${VALUES} FROM latest
    UNION ALL SELECT edge, dst, src, true, ledger, ${VALUES} FROM latest WHERE dst <> 0 AND dst <> src
    ORDER BY shard, edge, ledger`;
}
