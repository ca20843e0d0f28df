/** The tables of the ClickHouse engine, and how those of earlier versions become those of this one. */
import type { ClickHouseClient } from '@clickhouse/client';
import { newerSchema } from '../base/sql.js';

/**
 * `edges` describes edges, the latest description counts; `edge_days` has the rows. A partition is a day, so that an old
 * one is dropped as a whole. Of rows of one ledger, edge and day the one with the largest numbers stays. Every statement
 * can be repeated: there are no transactions.
 */
const STEPS: readonly (readonly string[])[] = [
  [
    `CREATE TABLE IF NOT EXISTS edges (id UInt64, at UInt64, src UInt16, dst UInt16, inbound UInt8, service_port UInt32,
       port UInt32, protocol UInt32, source_kind String, source_namespace String, source_workload_kind String,
       source_name String, destination_kind String, destination_namespace String, destination_workload_kind String,
       destination_name String, service String, verdict String, audit_verdict String, reason String, rule String,
       audit_rule String, address String) ENGINE = ReplacingMergeTree(at) ORDER BY id`,
    `CREATE TABLE IF NOT EXISTS edge_days (day UInt32, src UInt16, dst UInt16, id UInt64, ledger UInt64, began UInt64,
       ended UInt64, connections UInt64, bytes UInt64, drops UInt64, hours UInt32, version UInt64)
       ENGINE = ReplacingMergeTree(version) PARTITION BY day ORDER BY (src, id, ledger)`,
    `CREATE TABLE IF NOT EXISTS notes (ledger UInt64, node String, began UInt64, through UInt64)
       ENGINE = ReplacingMergeTree(through) ORDER BY ledger`,
  ],
  [
    'ALTER TABLE notes ADD COLUMN overflow UInt64',
    `CREATE TABLE IF NOT EXISTS flows (day UInt32, ms UInt64, node String, source String, destination String,
       verdict String, message String) ENGINE = MergeTree PARTITION BY day ORDER BY ms`,
  ],
];

/**
 * Brings the tables up to this version.
 * @param where the server, for messages @param upTo only for tests: an earlier version
 * @throws AgentError USAGE if a later version wrote them: nothing is changed
 */
export async function migrate(c: ClickHouseClient, where: string, upTo = STEPS.length): Promise<void> {
  await c.command({ query: 'CREATE TABLE IF NOT EXISTS schema (version UInt32) ENGINE = MergeTree ORDER BY version' });
  const answer = await c.query({ query: 'SELECT max(version) AS version FROM schema', format: 'JSON' });
  const found = Number((await answer.json<{ version: number | string }>()).data[0]?.version ?? 0);
  if (found > STEPS.length) throw newerSchema(where, found, STEPS.length);
  for (let version = found + 1; version <= upTo; version++) {
    for (const query of STEPS[version - 1] ?? []) await c.command({ query }).catch(passDone);
    await c.command({ query: `INSERT INTO schema VALUES (${version})` });
  }
}

/** Old servers do not know IF NOT EXISTS of columns: what a migration that was cut off has added is there already. */
function passDone(e: Error): void {
  if (!/column .* already exists|DUPLICATE_COLUMN/i.test(e.message)) throw e;
}
