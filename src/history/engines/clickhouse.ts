/**
 * The ClickHouse engine, for a history that outgrows one process. Plain SQL over HTTP: it runs on servers from 18.16 on,
 * which know neither parameters of queries nor half of today's formats.
 */
import { Readable } from 'node:stream';
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { DAY_MS, dayOf, type Edge } from '../../edges/edge.js';
import type { EdgeQuery } from '../../edges/query.js';
import type { ActivityResponse } from '../../proto/edges.js';
import { Marks, shardOf, workloadShard } from '../base/marks.js';
import {
  activityResponse,
  daysOf,
  EDGE_NUMBERS,
  EDGE_TEXTS,
  edgeCondition,
  edgeNumbers,
  edgeOfRow,
  edgeTexts,
  historiesOf,
  MOST_DENIED,
  ruleActivityOf,
  storeError,
} from '../base/sql.js';
import {
  type DescribedEdge,
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
import type { Rows } from '../base/rows.js';
import { migrate } from './clickhouse-schema.js';
import { RowBinary } from './row-binary.js';

/** Where a server is. */
export interface ClickhousePlace {
  /** `http://HOST:PORT`, `https://…` */
  url: string;
  database: string;
  username: string;
  password: string;
}

/** A request that takes longer has failed. */
const REQUEST_MS = 60_000;
/** Edges whose days have all been deleted are forgotten once in a while. */
const PRUNE_MS = 24 * 3_600_000;

const unhex = (digits: string): string => `unhex('${digits}')`;
const LATEST = `min(began) AS f, max(ended) AS l, max(connections) AS c, max(bytes) AS b, max(drops) AS d, groupBitOr(hours) AS h`;
/** Of each ledger one row for an edge and day: merges that leave one are done some time later. */
const rowsWhere = (condition: string) =>
  `(SELECT id, day, ledger, ${LATEST} FROM edge_days WHERE ${condition} GROUP BY id, day, ledger)`;

export class ClickhouseStore implements HistoryStore {
  readonly #client: ClickHouseClient;
  readonly #name: string;
  readonly #options: Required<StoreOptions>;
  /** Edge → the mark of its description; 0: not compared in this process. */
  readonly #marks = new Marks(true);
  /** Edge → the shards of its ends: src × 65,536 + dst. */
  readonly #shards = new Marks(true);
  #prunedMs = 0;
  #daysLost = 0;

  /** @throws AgentError USAGE if a later version wrote the tables, HISTORY if the server cannot be used */
  static async open(place: ClickhousePlace, options: Required<StoreOptions>): Promise<ClickhouseStore> {
    const store = new ClickhouseStore(place, options);
    try {
      await store.#prepare(place);
      return store;
    } catch (e) {
      await store.close();
      throw storeError(`ClickHouse at ${store.#name} cannot be used`, e);
    }
  }

  private constructor(place: ClickhousePlace, options: Required<StoreOptions>) {
    this.#client = clientOf(place, place.database);
    this.#name = `${new URL(place.url).host}/${place.database}`;
    this.#options = options;
  }

  async #prepare(place: ClickhousePlace): Promise<void> {
    const first = clientOf(place, '');
    // Without the right to do so, the database has to be there.
    await first.command({ query: `CREATE DATABASE IF NOT EXISTS ${place.database}` }).catch(() => {});
    await first.close();
    await migrate(this.#client, this.#name);
    await this.#loadMarks('1 = 1');
  }

  async #loadMarks(condition: string): Promise<void> {
    const rows = await this.#rows(`SELECT id, src, dst FROM edges WHERE ${condition}`);
    const before = this.#marks.copy();
    this.#marks.clear();
    this.#shards.clear();
    for (const [id, src, dst] of rows as [string, number, number][]) {
      this.#marks.add(Number(id), before.get(Number(id)));
      this.#shards.add(Number(id), src * 65_536 + dst);
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

  async describe(ids: readonly number[]): Promise<Map<number, Edge>> {
    try {
      return await this.#edgesOf({}, new Set(ids));
    } catch (e) {
      throw storeError('cannot be read', e);
    }
  }

  async #rows(query: string): Promise<unknown[][]> {
    const answer = await this.#client.query({ query, format: 'JSONCompact' });
    return ((await answer.json()) as unknown as { data: unknown[][] }).data;
  }

  async #insert(table: string, columns: string, values: RowBinary): Promise<void> {
    const { bytes } = values;
    if (bytes.length === 0) return;
    const query = `INSERT INTO ${table} (${columns}) FORMAT RowBinary`;
    const { stream } = await this.#client.exec({ query, values: Readable.from([bytes], { objectMode: false }) });
    for await (const _ of stream);
  }

  async write({ edges, rows, notes }: HistoryBatch): Promise<void> {
    try {
      // In this order: a row is found by the description of its edge.
      await this.#insert('edges', ['at', ...EDGE_NUMBERS, ...EDGE_TEXTS].join(', '), edgesBinary(edges));
      for (const { edge } of edges)
        this.#shards.add(edge.id, shardOf(edge.source) * 65_536 + shardOf(edge.destination));
      const columns = 'day, src, dst, id, ledger, began, ended, connections, bytes, drops, hours, version';
      await this.#insert('edge_days', columns, rowsBinary(rows, this.#shards));
      await this.#insert('notes', 'ledger, node, began, through, overflow', notesBinary(notes));
      for (const { edge, mark } of edges) this.#marks.add(edge.id, mark);
    } catch (e) {
      throw storeError('cannot be written', e);
    }
  }

  async edges(query: EdgeQuery, limit = 0): Promise<EdgesAnswer> {
    const most = limit > 0 ? Math.min(limit, MOST_ROWS) : MOST_ROWS;
    try {
      const found = await this.#rows(`SELECT id, day, min(f), max(l), sum(c), sum(b), sum(d), groupBitOr(h)
        FROM ${rowsWhere(rowCondition(query))} GROUP BY id, day ORDER BY day DESC, id LIMIT ${most + 1}`);
      const rows = found.slice(0, most).map((row) => row.map(Number));
      const edges = await this.#edgesOf(query, new Set(rows.map(([id]) => id as number)));
      return { histories: historiesOf(rows, edges), isCut: found.length > most };
    } catch (e) {
      throw storeError('cannot be read', e);
    }
  }

  async #edgesOf(query: EdgeQuery, ids: ReadonlySet<number>): Promise<Map<number, Edge>> {
    const edges = new Map<number, Edge>();
    if (ids.size === 0) return edges;
    const condition = ids.size <= 5000 ? `id IN (${[...ids].join(', ')})` : edgeCondition(query, unhex) || '1 = 1';
    const columns = [...EDGE_NUMBERS, ...EDGE_TEXTS].join(', ');
    // The latest description of each comes last.
    for (const row of await this.#rows(`SELECT ${columns} FROM edges WHERE ${condition} ORDER BY at`)) {
      const id = Number(row[0]);
      if (ids.has(id)) edges.set(id, edgeOfRow(row));
    }
    return edges;
  }

  async activity(query: EdgeQuery): Promise<ActivityResponse> {
    const half = (rule: string, audit: number, condition: string) =>
      this.#rows(`SELECT ruling, ${audit}, sum(c), sum(b), sum(d), min(f), max(l) AS latest, uniqExact(day)
        FROM ${rowsWhere(rowCondition(query))} ANY INNER JOIN
          (SELECT id, any(${rule}) AS ruling FROM edges WHERE ${condition} GROUP BY id) USING id
        GROUP BY ruling ORDER BY latest DESC, ruling`);
    try {
      const decided = await half('rule', 0, "rule != ''");
      const audited = await half('audit_rule', 1, "audit_rule != '' AND audit_verdict != 'none'");
      const rules = [...decided, ...audited].sort((a, b) => Number(b[6]) - Number(a[6])).map(ruleActivityOf);
      const denied = await this.#rows(
        `SELECT id, sum(c), max(l) AS latest FROM ${rowsWhere(
          `${rowCondition(query)} AND id IN (SELECT id FROM edges WHERE verdict = 'allow' AND audit_verdict = 'deny')`,
        )} GROUP BY id ORDER BY latest DESC, id LIMIT ${MOST_DENIED}`,
      );
      const edges = await this.#edgesOf(query, new Set(denied.map(([id]) => Number(id))));
      const listed = denied.flatMap(([id, connections, lastMs]) => {
        const edge = edges.get(Number(id));
        return edge ? [{ edge, connections: Number(connections), lastMs: Number(lastMs) }] : [];
      });
      const [began] = (await this.#rows('SELECT min(began), count() FROM notes')) as [[unknown, unknown]];
      return activityResponse(rules, listed, Number(began[1]) > 0 ? Number(began[0]) : undefined);
    } catch (e) {
      throw storeError('cannot be read', e);
    }
  }

  async ledgers(): Promise<LedgerNote[]> {
    try {
      const rows = await this.#rows(`SELECT ledger, argMax(node, through), min(began), max(overflow), max(through)
        FROM notes GROUP BY ledger`);
      return rows.map(([ledger, node, beganMs, overflow, throughMs]) => ({
        ledger: Number(ledger),
        node: String(node),
        beganMs: Number(beganMs),
        overflow: Number(overflow),
        throughMs: Number(throughMs),
      }));
    } catch (e) {
      throw storeError('cannot be read', e);
    }
  }

  async writeFlows(flows: readonly FlowRow[]): Promise<void> {
    const values = new RowBinary();
    for (const flow of flows) {
      values.u32(dayOf(flow.ms));
      values.u64(Math.floor(flow.ms));
      for (const text of [flow.node, flow.source, flow.destination, flow.verdict]) values.text(text);
      // JSON has no bytes.
      values.text(flow.message.toString('base64'));
    }
    try {
      await this.#insert('flows', 'day, ms, node, source, destination, verdict, message', values);
    } catch (e) {
      throw storeError('flows cannot be written', e);
    }
  }

  async flows({ sinceMs = 0, untilMs, namespaces, limit }: FlowRowQuery): Promise<FlowRow[]> {
    const conditions = [`day >= ${dayOf(sinceMs)} AND ms >= ${Math.floor(sinceMs)}`];
    if (untilMs !== undefined) conditions.push(`ms < ${Math.ceil(untilMs)}`);
    if (namespaces) {
      const list = namespaces.map((n) => unhex(Buffer.from(n).toString('hex'))).join(', ');
      conditions.push(namespaces.length === 0 ? '1 = 0' : `(source IN (${list}) OR destination IN (${list}))`);
    }
    try {
      const rows = await this.#rows(`SELECT ms, node, source, destination, verdict, message FROM flows
        WHERE ${conditions.join(' AND ')} ORDER BY ms DESC LIMIT ${limit}`);
      return (rows as [string, string, string, string, string, string][])
        .reverse()
        .map(([ms, node, source, destination, verdict, message]) => {
          return { ms: Number(ms), node, source, destination, verdict, message: Buffer.from(message, 'base64') };
        });
    } catch (e) {
      throw storeError('flows cannot be read', e);
    }
  }

  async maintain(nowMs: number): Promise<void> {
    try {
      const days = await this.#partitions('edge_days');
      for (const day of days.slice(0, Math.max(0, days.length - this.#options.days)))
        await this.#drop('edge_days', day);
      const flowDays = await this.#partitions('flows');
      const firstFlowDay = Math.floor((nowMs - this.#options.flowsMs) / DAY_MS);
      if (this.#options.flowsMs > 0) for (const day of flowDays) if (day < firstFlowDay) await this.#drop('flows', day);
      await this.#shrink();
      if (Math.abs(nowMs - this.#prunedMs) < PRUNE_MS) return;
      this.#prunedMs = nowMs;
      await this.#client.command({ query: 'ALTER TABLE edges DELETE WHERE id NOT IN (SELECT id FROM edge_days)' });
      await this.#loadMarks('id IN (SELECT id FROM edge_days)');
    } catch (e) {
      throw storeError('cannot be tidied', e);
    }
  }

  async #partitions(table: string): Promise<number[]> {
    const rows = await this.#rows(`SELECT DISTINCT partition FROM system.parts
      WHERE database = currentDatabase() AND table = '${table}' AND active`);
    return rows.map(([day]) => Number(day)).sort((a, b) => a - b);
  }

  async #drop(table: string, day: number): Promise<void> {
    await this.#client.command({ query: `ALTER TABLE ${table} DROP PARTITION ${day}` });
  }

  async #shrink(): Promise<void> {
    for (const table of ['flows', 'edge_days'])
      for (;;) {
        if ((await this.#bytes()) <= this.#options.maxBytes) return;
        const [oldest, ...others] = await this.#partitions(table);
        if (oldest === undefined || (table === 'edge_days' && others.length === 0)) break;
        await this.#drop(table, oldest);
        if (table === 'edge_days') this.#daysLost++;
      }
  }

  async #bytes(): Promise<number> {
    const rows = await this.#rows(
      'SELECT sum(bytes_on_disk) FROM system.parts WHERE database = currentDatabase() AND active',
    );
    return Number(rows[0]?.[0] ?? 0);
  }

  async stats(): Promise<StoreStats> {
    try {
      const days = await this.#partitions('edge_days');
      return { days, edges: this.#shards.size, bytes: await this.#bytes(), daysLost: this.#daysLost };
    } catch (e) {
      throw storeError('cannot be read', e);
    }
  }

  async close(): Promise<void> {
    await this.#client.close();
  }
}

function clientOf({ url, username, password }: ClickhousePlace, database: string): ClickHouseClient {
  return createClient({
    url,
    username,
    password,
    ...(database === '' ? {} : { database }),
    request_timeout: REQUEST_MS,
    log: { level: ClickHouseLogLevel.OFF },
    application: 'egress-relay',
  });
}

/** The condition on rows. */
function rowCondition(query: EdgeQuery): string {
  const { from, to } = daysOf(query);
  const edge = edgeCondition(query, unhex);
  const conditions = [`day BETWEEN ${from} AND ${to}`];
  if (query.workload !== undefined) {
    const shard = workloadShard(query.workload);
    conditions.push(`(src = ${shard} OR dst = ${shard})`);
  }
  conditions.push(`id IN (SELECT id FROM edges${edge === '' ? '' : ` WHERE ${edge}`})`);
  return conditions.join(' AND ');
}

function edgesBinary(edges: readonly DescribedEdge[]): RowBinary {
  const out = new RowBinary();
  const at = Date.now();
  for (const { edge } of edges) {
    const [id, src, dst, inbound, ...ports] = edgeNumbers(edge) as [number, number, number, number, ...number[]];
    out.u64(at);
    out.u64(id);
    out.u16(src);
    out.u16(dst);
    out.u8(inbound);
    for (const port of ports) out.u32(port);
    for (const text of edgeTexts(edge)) out.text(text);
  }
  return out;
}

function rowsBinary(rows: Rows, shards: Marks): RowBinary {
  const out = new RowBinary(Math.max(64, rows.size * 80));
  const [ledger, id, day] = [rows.column('ledger'), rows.column('id'), rows.column('day')];
  const numbers = (['first', 'last', 'connections', 'bytes', 'drops'] as const).map((name) => rows.column(name));
  const hours = rows.column('hours');
  for (let n = 0; n < rows.size; n++) {
    const both = shards.get(id[n] as number);
    out.u32(day[n] as number);
    out.u16(both >>> 16);
    out.u16(both & 0xffff);
    out.u64(id[n] as number);
    out.u64(ledger[n] as number);
    let version = 0;
    for (const column of numbers) {
      out.u64(column[n] as number);
      version += column[n] as number;
    }
    out.u32(hours[n] as number);
    // Numbers only grow, but for the first time: it says the same, or falls.
    out.u64(Math.min(version - (numbers[0]?.[n] as number), Number.MAX_SAFE_INTEGER));
  }
  return out;
}

function notesBinary(notes: readonly LedgerNote[]): RowBinary {
  const out = new RowBinary();
  for (const { ledger, node, beganMs, throughMs, overflow } of notes) {
    out.u64(ledger);
    out.text(node);
    out.u64(beganMs);
    out.u64(throughMs);
    out.u64(overflow);
  }
  return out;
}
