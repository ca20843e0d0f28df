/** The tables of the embedded engine, and how those of earlier versions become those of this one. */
import type { DuckDBConnection } from '@duckdb/node-api';
import { newerSchema, storeError } from '../base/sql.js';

/**
 * `edges` describes edges, each under a small number of its own; `recent` has the rows as they come; `day_N` those of
 * day N, one for each edge and ledger, in the order of the workloads where they begin (`shard`), and mirrored in that of those
 * where they end: a question about one workload reads a few blocks of each. Times in them are milliseconds of the day. `notes` grows by a row for each write, and the
 * latest counts.
 */
const STEPS: readonly (readonly string[])[] = [
  [
    'CREATE TABLE meta (name VARCHAR, value BIGINT)',
    "INSERT INTO meta VALUES ('schema', 0)",
    'CREATE SEQUENCE edge_keys',
    `CREATE TABLE edges (key INTEGER, id BIGINT, src USMALLINT, dst USMALLINT, inbound UTINYINT, service_port UINTEGER,
       port UINTEGER, protocol UINTEGER, source_kind VARCHAR, source_namespace VARCHAR, source_workload_kind VARCHAR,
       source_name VARCHAR, destination_kind VARCHAR, destination_namespace VARCHAR, destination_workload_kind VARCHAR,
       destination_name VARCHAR, service VARCHAR, verdict VARCHAR, audit_verdict VARCHAR, reason VARCHAR, rule VARCHAR,
       audit_rule VARCHAR, address VARCHAR)`,
    'CREATE TABLE ledgers (number INTEGER, ledger BIGINT)',
    'CREATE TABLE notes (ledger DOUBLE, node VARCHAR, began DOUBLE, through DOUBLE)',
    `CREATE TABLE recent (ledger DOUBLE, id DOUBLE, day DOUBLE, "first" DOUBLE, "last" DOUBLE, connections DOUBLE,
       bytes DOUBLE, drops DOUBLE, hours DOUBLE)`,
  ],
  [
    'ALTER TABLE notes ADD COLUMN overflow DOUBLE DEFAULT 0',
    'CREATE TABLE flows (ms BIGINT, node VARCHAR, source VARCHAR, destination VARCHAR, verdict VARCHAR, message BLOB)',
  ],
];

export const RECENT = STEPS[0]?.at(-1)?.replace('CREATE', 'CREATE OR REPLACE') as string;

/**
 * Brings the tables of a database up to this version, in one transaction.
 * @param upTo only for tests: an earlier version
 * @throws AgentError USAGE if a later version wrote it: nothing is changed
 */
export async function migrate(c: DuckDBConnection, where: string, upTo = STEPS.length): Promise<void> {
  const found = await schemaOf(c, where);
  if (found > STEPS.length) throw newerSchema(where, found, STEPS.length);
  if (found >= upTo) return;
  await c.run('BEGIN');
  try {
    for (const step of STEPS.slice(found, upTo)) for (const sql of step) await c.run(sql);
    await c.run(`UPDATE meta SET value = ${upTo} WHERE name = 'schema'`);
    await c.run('COMMIT');
  } catch (e) {
    await c.run('ROLLBACK').catch(() => {});
    throw storeError(`${where} cannot be brought up to schema ${upTo}`, e);
  }
}

async function schemaOf(c: DuckDBConnection, where: string): Promise<number> {
  const tables = (await c.runAndReadAll('SELECT table_name FROM duckdb_tables()')).getRows().flat();
  if (tables.length === 0) return 0;
  if (tables.includes('meta')) {
    const rows = (await c.runAndReadAll("SELECT value FROM meta WHERE name = 'schema'")).getRows();
    if (rows.length === 1) return Number(rows[0]?.[0]);
  }
  throw storeError(where, new Error('is a database, but not a history'));
}

/** Makes the table of a day. */
export function dayTable(day: number): string {
  return `CREATE TABLE IF NOT EXISTS day_${day} (edge INTEGER, shard USMALLINT, other USMALLINT, mirrored BOOLEAN, ledger INTEGER,
    "first" INTEGER, "last" INTEGER, connections BIGINT, bytes BIGINT, drops BIGINT, hours UINTEGER)`;
}
