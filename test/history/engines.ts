/** The engines of the history, for tests that run on each. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Rows } from '../../src/history/base/rows.js';
import type { HistoryBatch, HistoryStore, StoreOptions } from '../../src/history/base/store.js';
import { type HistoryPlace, openStore, placeOf } from '../../src/history/place.js';
import type { EdgeHistory } from '../../src/edges/edge.js';
import { ClickhouseServer, PASSWORD } from './clickhouse-server.js';

export interface Engine {
  name: string;
  /** Another place each time, empty. */
  place(): HistoryPlace;
  open(place: HistoryPlace, options?: StoreOptions): Promise<HistoryStore>;
}

let places = 0;

/** The engines by name; what they need is gone when the test is. */
export async function engines(t: { teardown(f: () => unknown): void }): Promise<Engine[]> {
  const dir = mkdtempSync(join(tmpdir(), 'egress-history-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const server = await ClickhouseServer.start();
  t.teardown(() => server.close());
  const clickhouse = () =>
    `clickhouse://writer:${encodeURIComponent(PASSWORD)}@127.0.0.1:${server.port}/history_${places++}`;
  return [
    { name: 'duckdb', place: () => placeOf(join(dir, `${places++}.duckdb`)), open: openStore },
    { name: 'clickhouse', place: () => placeOf(clickhouse()), open: openStore },
  ];
}

/** What a ledger has to say. */
export function batchOf(ledger: number, histories: readonly EdgeHistory[], throughMs = 0): HistoryBatch {
  const rows = new Rows();
  for (const { edge, days } of histories) for (const day of days) rows.add(ledger, edge.id, day);
  const note = { ledger, node: `node-${ledger}`, beganMs: 1000 * ledger, overflow: ledger, throughMs };
  return { edges: histories.map(({ edge }) => ({ edge, mark: 1 + edge.address.length })), rows, notes: [note] };
}
