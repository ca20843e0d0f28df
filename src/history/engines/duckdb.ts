/** The embedded engine: a file, or memory. One process uses a file at a time. */
import { statSync } from 'node:fs';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import type { Edge } from '../../edges/edge.js';
import type { EdgeQuery } from '../../edges/query.js';
import type { ActivityResponse } from '../../proto/edges.js';
import { Marks } from '../base/marks.js';
import { activityResponse, edgeOfRow, historiesOf, MOST_DENIED, ruleActivityOf, storeError } from '../base/sql.js';
import {
  type EdgesAnswer,
  type FlowRow,
  type FlowRowQuery,
  type HistoryBatch,
  type HistoryStore,
  type LedgerNote,
  MOST_ROWS,
  type StoreOptions,
  type StoreStats,
} from '../base/store.js';
import { activitySql, deniedSql, edgesSql, rowsSql, sortSql, unhex } from './duckdb-read.js';
import { dayTable, migrate, RECENT } from './duckdb-schema.js';
import { appendFlows, appendNotes, appendRows, putEdges } from './duckdb-write.js';

/** Rows of `recent` from which on they are sorted into the days. */
const COMPACT_ROWS = 8_000_000;
/** Rows of `recent` that are left there for so long, since sorting a day costs the same for few rows as for many. */
const COMPACT_MS = 600_000;
/** Edges whose days have all been deleted are forgotten once in a while. */
const PRUNE_MS = 6 * 3_600_000;

const SETTINGS = {
  /** Sorting a day of two million rows stays within; more goes to a file beside the database. */
  memory_limit: '512MB',
  threads: '2',
  // Nothing is ever loaded, nor read from elsewhere.
  autoinstall_known_extensions: 'false',
  autoload_known_extensions: 'false',
};

interface Connections {
  instance: DuckDBInstance;
  /** Of whoever changes something; they take turns. */
  writing: DuckDBConnection;
}

export class DuckdbStore implements HistoryStore {
  readonly #path: string;
  readonly #options: Required<StoreOptions>;
  #open: Connections | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** Edge → the mark of its description; 0: not compared in this process. */
  readonly #marks = new Marks(true);
  /** Ledger → its number in the tables. */
  readonly #numbers = new Map<number, number>();
  #days = new Set<number>();
  #recent = new Set<number>();
  #recentRows = 0;
  #compactedMs = 0;
  #prunedMs = 0;
  #daysLost = 0;

  /**
   * @param path a file, or `:memory:`
   * @throws AgentError USAGE if a later version wrote the file, HISTORY if it cannot be used
   */
  static async open(path: string, options: Required<StoreOptions>): Promise<DuckdbStore> {
    const store = new DuckdbStore(path, options);
    await store.#connected();
    return store;
  }

  private constructor(path: string, options: Required<StoreOptions>) {
    this.#path = path;
    this.#options = options;
  }

  async #connected(): Promise<Connections> {
    if (this.#open) return this.#open;
    let instance: DuckDBInstance | undefined;
    try {
      instance = await DuckDBInstance.create(this.#path, SETTINGS);
      const writing = await instance.connect();
      await writing.run('SET enable_external_access = false');
      await migrate(writing, this.#path);
      await this.#load(writing);
      this.#open = { instance, writing };
      return this.#open;
    } catch (e) {
      instance?.closeSync();
      throw storeError(`${this.#path} cannot be opened`, e);
    }
  }

  async #load(c: DuckDBConnection): Promise<void> {
    this.#days.clear();
    for (const [name] of await rowsOf(c, "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'day_%'"))
      this.#days.add(Number(String(name).slice('day_'.length)));
    this.#recent = new Set((await rowsOf(c, 'SELECT DISTINCT day FROM recent')).map(([day]) => Number(day)));
    this.#recentRows = Number((await rowsOf(c, 'SELECT count(*) FROM recent'))[0]?.[0]);
    this.#numbers.clear();
    for (const [number, ledger] of await rowsOf(c, 'SELECT number, ledger::DOUBLE FROM ledgers'))
      this.#numbers.set(Number(ledger), Number(number));
    await this.#loadMarks(c);
  }

  async #loadMarks(c: DuckDBConnection): Promise<void> {
    const before = this.#marks.copy();
    this.#marks.clear();
    const result = await c.stream('SELECT id::DOUBLE FROM edges');
    for (let chunk = await result.fetchChunk(); chunk && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
      const [ids] = chunk.getColumns() as [number[]];
      for (const id of ids) this.#marks.add(id, before.get(id));
    }
  }

  has(id: number): boolean {
    return this.#marks.has(id);
  }

  knows(id: number, mark: number): boolean {
    return this.#marks.get(id) === mark;
  }

  confirm(id: number, mark: number): void {
    if (this.#marks.has(id)) this.#marks.add(id, mark);
  }

  describe(ids: readonly number[]): Promise<Map<number, Edge>> {
    return this.#read('cannot be read', (c) => this.#edgesOf(c, {}, new Set(ids)));
  }

  /** Makes one change after the other, each in a transaction. */
  #change<T>(what: string, change: (c: DuckDBConnection) => Promise<T>): Promise<T> {
    return this.#turn(what, async (c) => {
      try {
        await c.run('BEGIN');
        const result = await change(c);
        await c.run('COMMIT');
        return result;
      } catch (e) {
        await c.run('ROLLBACK').catch(() => {});
        throw e;
      }
    });
  }

  /** Frees the blocks of what was deleted or replaced. It is tried again the next time. */
  async #checkpoint(): Promise<void> {
    await this.#turn('cannot be tidied', (c) => c.run('CHECKPOINT')).catch(() => {});
  }

  #turn<T>(what: string, work: (c: DuckDBConnection) => Promise<T>): Promise<T> {
    const run = async () => {
      const { writing } = await this.#connected();
      try {
        return await work(writing);
      } catch (e) {
        // After a write to its file has failed, DuckDB refuses everything until the file is opened again.
        if (/invalidated|FATAL/i.test(String(e)) && this.#path !== ':memory:') this.#disconnect();
        throw storeError(what, e);
      }
    };
    const result = this.#last.then(run);
    this.#last = result.catch(() => {});
    return result;
  }

  async write({ edges, rows, notes }: HistoryBatch): Promise<void> {
    const fresh: [number, number][] = [];
    const days = new Set(rows.column('day'));
    await this.#change('cannot be written', async (c) => {
      fresh.length = 0;
      // A question that is asked while a day is being sorted has to name its table already.
      for (const day of days) if (!this.#days.has(day)) await c.run(dayTable(day));
      const numbers = await this.#numbersOf(c, rows.column('ledger'), fresh);
      await putEdges(c, edges, (id) => this.#marks.has(id));
      await appendRows(c, rows, numbers);
      await appendNotes(c, notes);
    });
    for (const [ledger, number] of fresh) this.#numbers.set(ledger, number);
    for (const { edge, mark } of edges) this.#marks.add(edge.id, mark);
    for (const day of days) {
      this.#days.add(day);
      this.#recent.add(day);
    }
    this.#recentRows += rows.size;
  }

  async #numbersOf(c: DuckDBConnection, ledgers: Float64Array, fresh: [number, number][]): Promise<Float64Array> {
    const numbers = new Float64Array(ledgers.length);
    const added = new Map<number, number>();
    for (let n = 0; n < ledgers.length; n++) {
      const ledger = ledgers[n] as number;
      let number = this.#numbers.get(ledger) ?? added.get(ledger);
      if (number === undefined) added.set(ledger, (number = this.#numbers.size + added.size + 1));
      numbers[n] = number;
    }
    for (const [ledger, number] of added) {
      fresh.push([ledger, number]);
      await c.run(`INSERT INTO ledgers VALUES (${number}, ${ledger})`);
    }
    return numbers;
  }

  async #read<T>(what: string, read: (c: DuckDBConnection) => Promise<T>): Promise<T> {
    try {
      const { instance } = await this.#connected();
      // A connection has one statement at a time.
      const c = await instance.connect();
      try {
        return await read(c);
      } finally {
        c.closeSync();
      }
    } catch (e) {
      throw storeError(what, e);
    }
  }

  /** The statement of a question, in one view of the tables: days come and go. */
  async #ask(c: DuckDBConnection, sql: (days: number[], recent: number[]) => string): Promise<unknown[][]> {
    try {
      return await rowsOf(c, sql([...this.#days], [...this.#recent]));
    } catch (e) {
      if (!/does not exist/.test(String(e))) throw e;
      return rowsOf(c, sql([...this.#days], [...this.#recent]));
    }
  }

  edges(query: EdgeQuery, limit = 0): Promise<EdgesAnswer> {
    const most = limit > 0 ? Math.min(limit, MOST_ROWS) : MOST_ROWS;
    return this.#read('cannot be read', async (c) => {
      const rows = (await this.#ask(c, (days, recent) => rowsSql(query, days, recent, most + 1))) as number[][];
      const isCut = rows.length > most;
      if (isCut) rows.length = most;
      const edges = await this.#edgesOf(c, query, new Set(rows.map(([id]) => id as number)));
      return { histories: historiesOf(rows, edges), isCut };
    });
  }

  async #edgesOf(c: DuckDBConnection, query: EdgeQuery, ids: ReadonlySet<number>): Promise<Map<number, Edge>> {
    const edges = new Map<number, Edge>();
    const few = ids.size <= 5000 ? [...ids] : undefined;
    if (ids.size > 0)
      for (const row of await rowsOf(c, edgesSql(query, few)))
        if (ids.has(row[0] as number)) edges.set(row[0] as number, edgeOfRow(row));
    return edges;
  }

  activity(query: EdgeQuery): Promise<ActivityResponse> {
    return this.#read('cannot be read', async (c) => {
      const rules = (await this.#ask(c, (days, recent) => activitySql(query, days, recent))).map(ruleActivityOf);
      const denied = await this.#ask(c, (days, recent) => deniedSql(query, days, recent, MOST_DENIED));
      const edges = await this.#edgesOf(c, query, new Set(denied.map(([id]) => id as number)));
      const listed = denied.flatMap(([id, connections, lastMs]) => {
        const edge = edges.get(id as number);
        return edge ? [{ edge, connections: connections as number, lastMs: lastMs as number }] : [];
      });
      const [[began]] = (await rowsOf(c, 'SELECT min(began) FROM notes')) as [[number | null]];
      return activityResponse(rules, listed, began ?? undefined);
    });
  }

  ledgers(): Promise<LedgerNote[]> {
    return this.#read('cannot be read', async (c) => {
      const sql = `SELECT ledger, arg_max(node, through), min(began), max(overflow), max(through) FROM notes GROUP BY ledger`;
      return ((await rowsOf(c, sql)) as [number, string, number, number, number][]).map(
        ([ledger, node, beganMs, overflow, throughMs]) => ({ ledger, node, beganMs, overflow, throughMs }),
      );
    });
  }

  async writeFlows(flows: readonly FlowRow[]): Promise<void> {
    await this.#change('flows cannot be written', (c) => appendFlows(c, flows));
  }

  flows({ sinceMs = 0, untilMs, namespaces, limit }: FlowRowQuery): Promise<FlowRow[]> {
    const conditions = [`ms >= ${Math.floor(sinceMs)}`];
    if (untilMs !== undefined) conditions.push(`ms < ${Math.ceil(untilMs)}`);
    if (namespaces) {
      const list = namespaces.map((n) => unhex(Buffer.from(n).toString('hex'))).join(', ');
      conditions.push(namespaces.length === 0 ? 'false' : `(source IN (${list}) OR destination IN (${list}))`);
    }
    const sql = `SELECT ms::DOUBLE, node, source, destination, verdict, message FROM flows
      WHERE ${conditions.join(' AND ')} ORDER BY ms DESC LIMIT ${limit}`;
    return this.#read('flows cannot be read', async (c) => {
      type Row = [number, string, string, string, string, { bytes: Uint8Array }];
      return ((await rowsOf(c, sql)) as Row[]).reverse().map(([ms, node, source, destination, verdict, { bytes }]) => {
        return { ms, node, source, destination, verdict, message: Buffer.from(bytes) };
      });
    });
  }

  async maintain(nowMs: number): Promise<void> {
    if (this.#recentRows >= COMPACT_ROWS || Math.abs(nowMs - this.#compactedMs) >= COMPACT_MS) {
      await this.compact();
      this.#compactedMs = nowMs;
    }
    const { flowsMs, days } = this.#options;
    if (flowsMs > 0)
      await this.#change('old flows cannot be deleted', (c) =>
        c.run(`DELETE FROM flows WHERE ms < ${nowMs - flowsMs}`),
      );
    const sorted = [...this.#days].sort((a, b) => a - b);
    for (const day of sorted.slice(0, Math.max(0, sorted.length - days))) await this.#drop(day);
    await this.#shrink();
    if (Math.abs(nowMs - this.#prunedMs) >= PRUNE_MS) {
      await this.#prune();
      this.#prunedMs = nowMs;
    }
  }

  /** Sorts the recent rows into their days, in one transaction. */
  async compact(): Promise<void> {
    if (this.#recentRows === 0) return;
    await this.#change('cannot be sorted', async (c) => {
      for (const [value] of await rowsOf(c, 'SELECT DISTINCT day FROM recent')) {
        const day = Number(value);
        await c.run(sortSql(day));
      }
      await c.run(RECENT);
      await c.run(`CREATE OR REPLACE TABLE notes AS SELECT ledger, arg_max(node, through) AS node, min(began) AS began,
        max(through) AS through, max(overflow) AS overflow FROM notes GROUP BY ledger`);
    });
    this.#recent.clear();
    this.#recentRows = 0;
    await this.#checkpoint();
  }

  async #drop(day: number): Promise<void> {
    this.#days.delete(day);
    await this.#change('an old day cannot be deleted', (c) => c.run(`DROP TABLE IF EXISTS day_${day}`));
  }

  /** Deletes until the size is kept: flows first, then the oldest days, never the latest. */
  async #shrink(): Promise<void> {
    const { maxBytes } = this.#options;
    if ((await this.#bytes()) <= maxBytes) return;
    await this.#change('old flows cannot be deleted', (c) =>
      c.run('DELETE FROM flows WHERE ms < (SELECT median(ms) FROM flows)'),
    );
    for (;;) {
      await this.#checkpoint();
      if ((await this.#bytes()) <= maxBytes || this.#days.size <= 1) return;
      await this.#drop(Math.min(...this.#days));
      this.#daysLost++;
    }
  }

  /** Forgets the edges of which no row is left. */
  async #prune(): Promise<void> {
    const used = [...this.#days].map((day) => `SELECT edge FROM day_${day}`).join(' UNION ALL ');
    const stale = used === '' ? 'true' : `key NOT IN (${used})`;
    await this.#change('old edges cannot be deleted', async (c) => {
      await c.run(`DELETE FROM edges WHERE ${stale} AND id NOT IN (SELECT id::BIGINT FROM recent)`);
      await this.#loadMarks(c);
    });
  }

  async #bytes(): Promise<number> {
    return this.#read('cannot be measured', async (c) => {
      if (this.#path === ':memory:')
        return Number((await rowsOf(c, 'SELECT sum(memory_usage_bytes)::DOUBLE FROM duckdb_memory()'))[0]?.[0]);
      const sql = 'SELECT (used_blocks * block_size)::DOUBLE FROM pragma_database_size()';
      const wal = statSync(`${this.#path}.wal`, { throwIfNoEntry: false })?.size ?? 0;
      return Number((await rowsOf(c, sql))[0]?.[0]) + wal;
    });
  }

  async stats(): Promise<StoreStats> {
    const days = [...this.#days].sort((a, b) => a - b);
    const edges = await this.#read('cannot be read', (c) => rowsOf(c, 'SELECT count(*)::DOUBLE FROM edges'));
    return { days, edges: Number(edges[0]?.[0]), bytes: await this.#bytes(), daysLost: this.#daysLost };
  }

  async close(): Promise<void> {
    await this.#last;
    this.#disconnect();
  }

  #disconnect(): void {
    const open = this.#open;
    this.#open = undefined;
    open?.writing.closeSync();
    open?.instance.closeSync();
  }
}

async function rowsOf(c: DuckDBConnection, sql: string): Promise<unknown[][]> {
  return (await c.runAndReadAll(sql)).getRows();
}
