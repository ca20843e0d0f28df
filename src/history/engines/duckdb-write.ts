/** Brings rows and descriptions into tables of the embedded engine, without an object or a call for each value. */
import { setImmediate as turn } from 'node:timers/promises';
import { type DuckDBConnection, DuckDBDataChunk, DOUBLE } from '@duckdb/node-api';
import duckdb from '@duckdb/node-bindings';
import type { DescribedEdge, FlowRow, LedgerNote } from '../base/store.js';
import { COLUMNS, type Rows } from '../base/rows.js';
import { EDGE_TEXTS, edgeNumbers, edgeTexts } from '../base/sql.js';

/** Rows of a chunk: DuckDB's vectors have as many values. */
const CHUNK_ROWS = 2048;
/** Edges or flows that are appended before others get their turn: about 10 ms. */
const TURN_ROWS = 1000;
const BYTES = Float64Array.BYTES_PER_ELEMENT;

/**
 * Appends rows to `recent`. The memory of the columns is copied as it is.
 * @param numbers the numbers of the ledgers, in place of their ids
 */
export async function appendRows(c: DuckDBConnection, rows: Rows, numbers: Float64Array): Promise<void> {
  if (rows.size === 0) return;
  const appender = await c.createAppender('recent');
  try {
    const columns = COLUMNS.map((name) => (name === 'ledger' ? numbers : rows.column(name)));
    const types = COLUMNS.map(() => DOUBLE);
    for (let at = 0; at < rows.size; at += CHUNK_ROWS) {
      const count = Math.min(CHUNK_ROWS, rows.size - at);
      const chunk = DuckDBDataChunk.create(types, count);
      for (const [n, column] of columns.entries()) {
        const vector = duckdb.data_chunk_get_vector(chunk.chunk, n);
        const from = column.byteOffset + at * BYTES;
        duckdb.copy_data_to_vector(vector, 0, column.buffer as ArrayBuffer, from, count * BYTES);
      }
      appender.appendDataChunk(chunk);
      if (at % (16 * CHUNK_ROWS) === 0) await turn();
    }
  } finally {
    appender.closeSync();
  }
}

const EDGE_IN = `CREATE OR REPLACE TEMP TABLE edge_in (id BIGINT, src USMALLINT, dst USMALLINT, inbound UTINYINT,
  service_port UINTEGER, port UINTEGER, protocol UINTEGER, ${EDGE_TEXTS.map((t) => `${t} VARCHAR`).join(', ')})`;

/**
 * Adds edges to `edges`. One that is there keeps its number, and gets its new address.
 * @param has whether an edge is there
 */
export async function putEdges(
  c: DuckDBConnection,
  edges: readonly DescribedEdge[],
  has: (id: number) => boolean,
): Promise<void> {
  if (edges.length === 0) return;
  const latest = new Map(edges.map(({ edge }) => [edge.id, edge]));
  await c.run(EDGE_IN);
  const appender = await c.createAppender('edge_in', 'main', 'temp');
  try {
    let n = 0;
    for (const edge of latest.values()) {
      const [id, src, dst, inbound, ...ports] = edgeNumbers(edge) as [number, number, number, number, ...number[]];
      appender.appendBigInt(BigInt(id));
      appender.appendUSmallInt(src);
      appender.appendUSmallInt(dst);
      appender.appendUTinyInt(inbound);
      for (const port of ports) appender.appendUInteger(port);
      for (const text of edgeTexts(edge)) appender.appendVarchar(text);
      appender.endRow();
      if (++n % TURN_ROWS === 0) await turn();
    }
  } finally {
    appender.closeSync();
  }
  if (edges.some(({ edge }) => has(edge.id)))
    await c.run('UPDATE edges SET address = edge_in.address FROM edge_in WHERE edges.id = edge_in.id');
  await c.run(`INSERT INTO edges SELECT nextval('edge_keys'), * FROM edge_in ANTI JOIN edges USING (id)`);
}

export async function appendNotes(c: DuckDBConnection, notes: readonly LedgerNote[]): Promise<void> {
  if (notes.length === 0) return;
  const appender = await c.createAppender('notes');
  try {
    for (const { ledger, node, beganMs, throughMs, overflow } of notes) {
      appender.appendDouble(ledger);
      appender.appendVarchar(node);
      for (const value of [beganMs, throughMs, overflow]) appender.appendDouble(value);
      appender.endRow();
    }
  } finally {
    appender.closeSync();
  }
}

export async function appendFlows(c: DuckDBConnection, flows: readonly FlowRow[]): Promise<void> {
  const appender = await c.createAppender('flows');
  try {
    for (const [n, flow] of flows.entries()) {
      appender.appendBigInt(BigInt(Math.floor(flow.ms)));
      for (const text of [flow.node, flow.source, flow.destination, flow.verdict]) appender.appendVarchar(text);
      appender.appendBlob(flow.message);
      appender.endRow();
      if ((n + 1) % TURN_ROWS === 0) await turn();
    }
  } finally {
    appender.closeSync();
  }
}
