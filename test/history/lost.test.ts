/** What a history loses, and what it never does: killed while it writes, full disks, servers that go away, schemas. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createClient } from '@clickhouse/client';
import { DuckDBInstance } from '@duckdb/node-api';
import t, { type Test } from 'tap';
import { migrate as migrateClickhouse } from '../../src/history/engines/clickhouse-schema.js';
import { migrate as migrateDuckdb } from '../../src/history/engines/duckdb-schema.js';
import type { HistoryStore } from '../../src/history/base/store.js';
import { openStore, placeOf, placeText } from '../../src/history/place.js';
import { HistoryWriter } from '../../src/history/writer.js';
import { makeLogger } from '../../src/log.js';
import { A_DAY } from '../edges/given.js';
import { until } from '../relay/world.js';
import { ClickhouseServer, PASSWORD } from './clickhouse-server.js';
import { batchOf } from './engines.js';
import { numbered } from './numbered.js';

t.setTimeout(120_000);
const dir = mkdtempSync(join(tmpdir(), 'egress-history-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));
const server = await ClickhouseServer.start();
t.teardown(() => server.close());
let databases = 0;
const clickhouse = () =>
  `clickhouse://writer:${encodeURIComponent(PASSWORD)}@127.0.0.1:${server.port}/lost_${databases++}`;
const quiet = makeLogger('error', () => {});

/** The number of the write that a store has. Every row is of the same one, unless `torn`. */
async function numberIn(t: Test, store: HistoryStore, { torn = false } = {}): Promise<number> {
  const { histories } = await store.edges({});
  const numbers = histories.flatMap((h) => h.days.map((d) => d.connections));
  if (!torn) t.equal(new Set(numbers).size <= 1, true, 'all of a write, or nothing');
  if (!torn && numbers.length > 0) t.equal(numbers.length, 500, 'every edge and day');
  return Math.min(...numbers, Number.POSITIVE_INFINITY) === Number.POSITIVE_INFINITY ? 0 : Math.min(...numbers);
}

async function killedAfter(place: string, from: number, ms: number): Promise<number> {
  const program = fileURLToPath(new URL('./write-on.js', import.meta.url));
  const child = spawn(process.execPath, [program, place, String(from)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let acknowledged = from;
  child.stdout.on('data', (chunk: Buffer) => {
    for (const n of String(chunk).split('\n')) acknowledged = Math.max(acknowledged, Number(n));
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  await until('the first write', () => acknowledged > from, 30_000);
  await new Promise((resolve) => setTimeout(resolve, ms));
  child.kill('SIGKILL');
  await ended;
  return acknowledged;
}

for (const [name, place] of [
  ['duckdb', join(dir, 'killed.duckdb')],
  ['clickhouse', clickhouse()],
] as const)
  t.test(`${name}: killed while it writes, again and again`, async (t) => {
    let from = 0;
    for (let n = 0; n < 6; n++) {
      const acknowledged = await killedAfter(place, from, 20 + n * 37);
      const store = await openStore(placeOf(place));
      const found = await numberIn(t, store);
      t.ok(found >= acknowledged, `acknowledged ${acknowledged}, found ${found}`);
      await store.close();
      from = found;
    }
    t.ok(from >= 6, `${from} writes`);
  });

t.test('a server that is killed: tried again, nothing acknowledged is lost', async (t) => {
  const store = await openStore(placeOf(clickhouse()));
  const lost: number[] = [];
  const writer = new HistoryWriter({
    ...{ log: quiet, store: async () => store, gatherMs: 10, retryMs: 50 },
    onLoss: (ledgers) => lost.push(...(ledgers ?? [0])),
  });
  const { signal } = new AbortController();
  await writer.put(batchOf(1, numbered(1)), signal);
  await until('a write', () => writer.counters.rowsWritten === 500);
  await server.kill();
  await writer.put(batchOf(1, numbered(2)), signal);
  await until('it fails', () => writer.counters.failingMs !== undefined);
  t.match(writer.counters.error, /^history: /);
  t.notMatch(writer.counters.error, PASSWORD);
  await t.rejects(store.edges({}), { code: 'HISTORY' });
  await server.start();
  await until('it is written', () => writer.counters.rowsWritten === 1000, 30_000);
  t.equal(writer.counters.failingMs, undefined);
  t.equal(await numberIn(t, store), 2);
  t.same(lost, []);
  await writer.close();
  await store.close();
});

t.test('a full disk: counted, and written when there is room', async (t) => {
  const mount = join(dir, 'small');
  mkdirSync(mount);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', mount]);
  t.teardown(() => execFileSync('umount', [mount]));
  const store = await openStore(placeOf(join(mount, 'h.duckdb')));
  const lost: number[] = [];
  const writer = new HistoryWriter({
    ...{ log: quiet, store: async () => store, gatherMs: 5, retryMs: 20, giveUpMs: 300, batchRows: 500 },
    onLoss: (ledgers) => lost.push(...(ledgers ?? [0])),
  });
  const { signal } = new AbortController();
  let n = 0;
  const putOn = async () => {
    for (let ledger = 1; ledger <= 20; ledger++) await writer.put(batchOf(ledger, numbered(++n)), signal);
  };
  const deadline = Date.now() + 60_000;
  while (writer.counters.failingMs === undefined && Date.now() < deadline) await putOn();
  t.not(writer.counters.failingMs, undefined, 'the disk is full');
  const written = writer.counters.rowsWritten;
  await until('rows are given up', () => writer.counters.rowsLost > 0);
  t.ok(lost.length > 0, 'their ledgers are read again');
  execFileSync('mount', ['-o', 'remount,size=64m', mount]);
  await writer.put(batchOf(21, numbered(++n)), signal);
  await until(
    'it is written again',
    () => writer.counters.failingMs === undefined && writer.counters.rowsWritten > written,
  );
  await writer.close();
  const { histories } = await store.edges({});
  t.ok((histories[0]?.days[0]?.connections ?? 0) > n, 'what was acknowledged before is there too');
  await store.maintain(A_DAY * 86_400_000);
  await store.close();
  const again = await openStore(placeOf(join(mount, 'h.duckdb')));
  t.same((await again.edges({})).histories, histories, 'whole');
  await again.close();
});

t.test('a slow store: whoever writes waits, memory does not grow', async (t) => {
  let [open, most, waiting] = [() => {}, 0, 0];
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  let rows = 0;
  const slow = {
    write: async (batch: { rows: { size: number } }) => {
      most = Math.max(most, batch.rows.size);
      await gate;
      rows += batch.rows.size;
    },
    writeFlows: async () => {},
  } as unknown as HistoryStore;
  const writer = new HistoryWriter({
    log: quiet,
    store: async () => slow,
    onLoss: () => {},
    gatherMs: 1,
    batchRows: 1000,
  });
  const puts = Array.from({ length: 200 }, async (_, n) => {
    waiting++;
    await writer.put(batchOf(n + 1, numbered(1)), new AbortController().signal);
    waiting--;
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.ok(waiting > 190, `${waiting} wait`);
  for (let n = 0; n < 100; n++)
    writer.putFlow({ ms: 0, node: '', source: '', destination: '', verdict: '', message: Buffer.alloc(1 << 20) });
  t.equal(writer.counters.flowsLost, 84, 'flows do not wait: they are counted');
  open();
  await Promise.all(puts);
  await writer.close();
  t.equal(rows, 200 * 500, 'all are written in the end');
  t.ok(most <= 1500, `at most ${most} rows at once`);
});

t.test('schemas: an earlier one is brought up, a later one is refused and left alone', async (t) => {
  const path = join(dir, 'old.duckdb');
  const file = await DuckDBInstance.create(path);
  const c = await file.connect();
  await migrateDuckdb(c, path, 1);
  await c.run("INSERT INTO notes VALUES (7, 'node-a', 5, 6)");
  c.closeSync();
  file.closeSync();
  const place = clickhouse();
  const { url } = new URL(`http://127.0.0.1:${server.port}`) && { url: `http://127.0.0.1:${server.port}` };
  const database = `lost_${databases - 1}`;
  const own = { url, username: 'writer', password: PASSWORD };
  const admin = createClient(own);
  await admin.command({ query: `CREATE DATABASE ${database}` });
  await admin.close();
  const client = createClient({ ...own, database });
  t.teardown(() => client.close());
  await migrateClickhouse(client, place, 1);
  await client.command({ query: "INSERT INTO notes VALUES (7, 'node-a', 5, 6)" });
  for (const where of [path, place]) {
    const store = await openStore(placeOf(where));
    const note = { ledger: 7, node: 'node-a', beganMs: 5, throughMs: 6 };
    t.same(await store.ledgers(), [{ ...note, overflow: 0 }], 'what was there is there');
    await store.write({ ...batchOf(1, numbered(1)), notes: [{ ...note, throughMs: 8, overflow: 9 }] });
    t.same(await store.ledgers(), [{ ...note, throughMs: 8, overflow: 9 }]);
    t.equal(await numberIn(t, store), 1);
    await store.close();
  }

  const later = await DuckDBInstance.create(path);
  const writing = await later.connect();
  await writing.run("UPDATE meta SET value = 1000 WHERE name = 'schema'");
  writing.closeSync();
  later.closeSync();
  await client.command({ query: 'INSERT INTO schema VALUES (1000)' });
  const before = readFileSync(path);
  for (const where of [path, place])
    await t.rejects(openStore(placeOf(where)), {
      code: 'USAGE',
      message: /schema 1000, which this version does not know/,
    });
  t.ok(before.equals(readFileSync(path)), 'the file is as it was');
  t.equal(statSync(`${path}.wal`, { throwIfNoEntry: false })?.size ?? 0, 0);

  const foreign = join(dir, 'foreign.duckdb');
  const other = await DuckDBInstance.create(foreign);
  const connection = await other.connect();
  await connection.run('CREATE TABLE meta (a INTEGER)');
  connection.closeSync();
  other.closeSync();
  await t.rejects(openStore(placeOf(foreign)), { code: 'HISTORY' }, 'a database of somebody else');
  await t.rejects(openStore(placeOf(fileURLToPath(import.meta.url))), { code: 'HISTORY' }, 'no database');
});

t.test('places: what is none is refused, no password is shown', async (t) => {
  t.same(placeOf('memory'), { file: ':memory:' });
  t.match(placeOf('clickhouse://u:p%40@h/db', undefined), {
    clickhouse: { url: 'http://h:8123', database: 'db', username: 'u', password: 'p@' },
  });
  t.match(placeOf('clickhouses://h:80/', 'secret'), {
    clickhouse: { url: 'https://h:80', database: 'egress', username: 'default', password: 'secret' },
  });
  t.match(placeOf('clickhouse://[2001:db8::1]:80/x'), { clickhouse: { url: 'http://[2001:db8::1]:80' } });
  for (const bad of [
    '',
    'relative.duckdb',
    'http://h/db',
    'clickhouse://',
    'clickhouse://u:hush@h/a;b',
    'clickhouse://u:hush@h:x/db',
  ])
    t.throws(() => placeOf(bad), { code: 'USAGE', message: /^((?!hush).)*$/ }, bad);
  t.notMatch(placeText(placeOf('clickhouse://u:hush@h/db')), /hush/);
  await t.rejects(openStore(placeOf('clickhouse://u:hush@127.0.0.1:1/db')), {
    code: 'HISTORY',
    message: /^((?!hush).)*$/,
  });
});
