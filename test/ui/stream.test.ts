/** The stream of a page: what it has put together is what the agents' ledgers say, whatever comes in which order. */
import fc from '../seeded.js';
import t from 'tap';
import { EVERYTHING, type Scope, type Viewer } from '../../src/ui/access/viewer.js';
import { Feeds, type Outlet } from '../../src/ui/api/stream.js';
import { FullError } from '../../src/rpc/transport/client.js';
import { EdgeFeed } from '../../src/ui/feeds/edge-feed.js';
import { EdgeTable, rowOf } from '../../src/ui/feeds/edges.js';
import type { EdgeInfo, EdgeRow, StreamMessage, View, Window } from '../../src/ui/wire/messages.js';
import { EdgeBook } from '../../src/edges/book.js';
import { DAY_MS } from '../../src/edges/edge.js';
import type { EdgeMessage, EdgesResponse } from '../../src/proto/edges.js';
import { silence, silentSource, type TestSource } from './source.js';
import type { FlowRecord } from '../../src/proto/messages.js';

const NOW = Date.now();
const TODAY = Math.floor(NOW / DAY_MS);

const namespaces = ['shop', 'data', 'secret'];

/** One of some edges. */
function edge(n: number): EdgeMessage {
  const from = namespaces[n % 3] as string;
  const to = namespaces[Math.floor(n / 3) % 3] as string;
  return {
    id: 1000 + n,
    source: { kind: 'workload', namespace: from, workload_kind: 'Deployment', name: `w${n % 5}` },
    destination: { kind: 'workload', namespace: to, workload_kind: 'Deployment', name: 'db' },
    port: 443 + n,
    protocol: 6,
    verdict: n % 4 === 0 ? 'deny' : 'allow',
    audit_verdict: 'none',
    reason: 'rule',
    rule: {
      text: '',
      kind: 'NetworkPolicy',
      namespace: from,
      name: 'p',
      index: 0,
      staged: false,
      dialect: 'networkpolicy',
      tier: 'default',
      action: 'allow',
    },
    generation: 7,
  };
}

interface Step {
  ledger: number;
  rows: { n: number; ago: number; connections: number; lastMs: number }[];
}

/** A message of a ledger; it describes each edge that it has not described before. */
function messageOf({ ledger, rows }: Step, described: Set<string>): EdgesResponse {
  const fresh = rows.filter(({ n }) => !described.has(`${ledger}/${n}`));
  for (const { n } of fresh) described.add(`${ledger}/${n}`);
  return {
    ledger,
    node_name: `n${ledger}`,
    edges: [...new Set(fresh.map(({ n }) => n))].map(edge),
    id: rows.map(({ n }) => 1000 + n),
    day: rows.map(({ ago }) => TODAY - ago),
    first_ms: rows.map(({ lastMs }) => lastMs - 5),
    last_ms: rows.map(({ lastMs }) => lastMs),
    connections: rows.map(({ connections }) => connections),
    bytes: rows.map(({ connections }) => connections * 10),
    drops: rows.map(() => 0),
    hours: rows.map(({ n }) => 1 << (n % 24)),
    caught_up: true,
  };
}

const steps = fc.array(
  fc.record({
    ledger: fc.integer({ min: 1, max: 3 }),
    rows: fc.array(
      fc
        .record({
          n: fc.integer({ min: 0, max: 17 }),
          ago: fc.integer({ min: 0, max: 34 }),
          connections: fc.integer({ min: 1, max: 1000 }),
        })
        .map((row) => ({ ...row, lastMs: NOW - row.ago * DAY_MS - 60_000 })),
      { maxLength: 6 },
    ),
  }),
  { maxLength: 12 },
);

/** What the ledgers say, by the edge's port, which tells these edges apart: the sum of all days of the window. */
function truth(messages: readonly EdgesResponse[], firstDay: number): Map<number, [connections: number, days: number]> {
  const book = new EdgeBook();
  for (const message of messages) book.add(message);
  const out = new Map<number, [number, number]>();
  for (const { edge: e, days } of book.histories()) {
    const inside = days.filter(({ day }) => day >= firstDay);
    if (inside.length === 0) continue;
    const bits = inside.reduce((sum, { day }) => sum + 2 ** (TODAY - day), 0);
    out.set(e.port, [inside.reduce((sum, d) => sum + d.connections, 0), bits]);
  }
  return out;
}

t.test('the sums of an EdgeTable are those of the ledgers', (t) => {
  const property = fc.property(steps, fc.constantFrom<Window>('24h', '7d', '35d'), (list, window) => {
    const described = new Set<string>();
    const messages = list.map((step) => messageOf(step, described));
    const table = new EdgeTable(window);
    for (const message of messages) table.add(message);
    const days = { '24h': 1, '7d': 7, '35d': 35, live: 1 }[window];
    const wanted = truth(messages, Math.floor((NOW - days * DAY_MS) / DAY_MS));
    const found = new Map<number, [number, number]>();
    for (const known of table.since(0)) {
      const row = rowOf(known, window, NOW);
      if (row[2] > 0) found.set(known.info.port, [row[3], row[6]]);
    }
    t.strictSame(sorted(found), sorted(wanted));
  });
  fc.assert(property, { numRuns: 200 });
  t.end();
});

t.test('what a ledger has said is taken back when its node has begun another one', (t) => {
  const described = new Set<string>();
  const at = (connections: number, ago = 0, lastMs = NOW - 1000) => ({ ago, connections, lastMs });
  const table = new EdgeTable('live');
  const sums = () =>
    [...table.since(0)]
      .map((known) => [known.info.port, rowOf(known, 'live', NOW)[3], known.lastMs] as const)
      .sort(([a], [b]) => a - b);
  table.add({
    ...messageOf({ ledger: 1, rows: [{ n: 1, ...at(5, 0, NOW - 5000) }] }, described),
    began_at: { seconds: 9, nanos: 0 },
  });
  const second = messageOf({ ledger: 2, rows: [1, 2].map((n) => ({ n, ...at(10) })) }, described);
  table.add({ ...second, overflow: 3, began_at: { seconds: 5, nanos: 0 } });
  // Ledger 21 begins like ledger 2.
  table.add(messageOf({ ledger: 21, rows: [{ n: 3, ...at(7) }] }, described));
  t.strictSame([table.overflow, table.beganMs], [3, 5000]);
  const before = table.changes;
  table.add({ gone_ledgers: ['2', 99] });
  t.strictSame(sums(), [
    [444, 5, NOW - 5000],
    [445, 0, 0],
    [446, 7, NOW - 1000],
  ]);
  t.same([...table.since(before)].map((k) => k.info.port).sort(), [444, 445], 'both have changed');
  t.strictSame([table.overflow, table.beganMs], [0, 9000]);
  t.equal(table.expire(NOW).length, 1, 'what no other has seen');
  t.same(
    sums().map(([port]) => port),
    [444, 446],
  );
  table.add(messageOf({ ledger: 4, rows: [{ n: 2, ...at(1) }] }, described));
  t.strictSame(sums()[1], [445, 1, NOW - 1000], 'another ledger says it again');
  t.end();
});

t.test('who has caught up names all nodes that are missing', (t) => {
  const table = new EdgeTable('live');
  table.add({ caught_up: true, unavailable_nodes: ['a', 'b'] });
  t.same(table.unavailable, ['a', 'b']);
  table.add({ ledger: 1, id: [] });
  t.same(table.unavailable, ['a', 'b'], 'a ledger says nothing of others');
  table.add({ caught_up: true, unavailable_nodes: ['b'] });
  t.same(table.unavailable, ['b']);
  table.add({ caught_up: true });
  t.same(table.unavailable, []);
  const book = new EdgeBook();
  book.add({ unavailable_nodes: ['x'] });
  book.add({ ledger: 5, caught_up: true });
  t.same(book.unavailable, ['x'], 'an agent says nothing of others');
  book.add({ caught_up: true, unavailable_nodes: ['y'] });
  t.same(book.unavailable, ['y']);
  t.end();
});

t.test('a relay without room for a live stream gives its history, and is asked again', async (t) => {
  const source = fedSource();
  const edges = source.edges;
  const asked: boolean[] = [];
  let isFull = true;
  source.edges = (request, signal) => {
    asked.push(request.live ?? false);
    if (request.live && isFull) throw new FullError('AGENT', 'no room');
    return edges(request, signal);
  };
  const feed = new EdgeFeed(source, 'live', [], { liveAgainMs: 300 });
  source.say(messageOf({ ledger: 0, rows: [{ n: 1, ago: 0, connections: 5, lastMs: Date.now() }] }, new Set()));
  await until('the history', () => feed.table.caughtUp);
  t.same(asked, [true, false]);
  t.equal(feed.trouble, '', 'that is no trouble');
  isFull = false;
  await until('it is asked again', () => asked.length === 3);
  t.same(asked, [true, false, true]);
  source.say(messageOf({ ledger: 7, rows: [{ n: 1, ago: 0, connections: 6, lastMs: Date.now() }] }, new Set()));
  await until('a live one', () => [...feed.table.since(0)].some((e) => e.parts.has(`7/${TODAY}`)));
  const gone: number[] = [];
  feed.onChange((ids) => gone.push(...ids));
  source.say({ gone_ledgers: [7] });
  await until('its edges leave at once', () => gone.length === 1);
  feed.end();
  isFull = true;
  const long = new EdgeFeed(source, '7d', []);
  await until('another window', () => asked.length === 4);
  t.equal(asked[3], false, 'is left to the relay');
  long.end();
});

function sorted<T>(map: Map<number, T>): [number, T][] {
  return [...map].sort(([a], [b]) => a - b);
}

/** A page, as the browser's store puts it together. */
class Page {
  readonly edges = new Map<number, { info: EdgeInfo; row: EdgeRow | undefined }>();
  readonly messages: StreamMessage[] = [];

  take(m: StreamMessage): void {
    this.messages.push(m);
    if (m.type !== 'edges') return;
    for (const id of m.gone ?? []) this.edges.delete(id);
    for (const info of m.edges) {
      if (this.edges.has(info.id)) throw new Error(`edge ${info.id} was described twice`);
      this.edges.set(info.id, { info, row: undefined });
    }
    for (const row of m.rows) {
      const known = this.edges.get(row[0]);
      if (!known) throw new Error(`a row of an edge ${row[0]} that was not described`);
      known.row = row;
    }
  }

  /** Connections by port, which tells the edges of these tests apart. */
  ports(): [number, number][] {
    return [...this.edges.values()]
      .map(({ info, row }): [number, number] => [info.port, row?.[3] ?? 0])
      .sort(([a], [b]) => a - b);
  }
}

const VIEW: View = { window: '35d', namespaces: [], chips: [], edges: true };

function open(feeds: Feeds, viewer: Viewer, view: View = VIEW): { page: Page; end: () => Promise<void> } {
  const page = new Page();
  const leaving = new AbortController();
  const outlet: Outlet = {
    signal: leaving.signal,
    send: (message) => {
      page.take(message);
      return page.messages.length % 2 === 0;
    },
    drained: () => new Promise((resolve) => setImmediate(resolve)),
  };
  const done = feeds.serve(view, viewer, () => outlet);
  return {
    page,
    end: async () => {
      leaving.abort();
      await done;
    },
  };
}

async function until(what: string, is: () => boolean): Promise<void> {
  for (let n = 0; n < 400; n++) {
    if (is()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`it never came: ${what}`);
}

/** A source of edges that a test feeds. */
function fedSource(): TestSource & { opened: number; requests: object[]; say(m: EdgesResponse): void; cut(): void } {
  let waiting: (m: EdgesResponse | undefined) => void = () => {};
  const queue: (EdgesResponse | undefined)[] = [];
  const put = (m: EdgesResponse | undefined) => {
    queue.push(m);
    waiting(undefined);
  };
  const source = {
    ...silentSource(),
    opened: 0,
    requests: [] as object[],
    say: put,
    cut: () => put(undefined),
    edges: async function* (request: object, signal?: AbortSignal) {
      source.opened++;
      source.requests.push(request);
      signal?.addEventListener('abort', () => waiting(undefined));
      while (!signal?.aborted) {
        if (queue.length === 0) await new Promise((resolve) => (waiting = resolve as never));
        if (queue.length === 0) continue;
        const m = queue.shift();
        if (m === undefined) throw new Error('the agent is gone');
        yield m;
      }
    },
  };
  return source as never;
}

t.test('a page follows changes, and a source that was away', async (t) => {
  const source = fedSource();
  const feeds = new Feeds(source);
  const { page, end } = open(feeds, EVERYTHING);
  let described = new Set<string>();
  const row = (n: number, connections: number, ledger = 1) =>
    source.say(messageOf({ ledger, rows: [{ n, ago: 0, connections, lastMs: Date.now() }] }, described));
  row(1, 5);
  row(2, 7);
  await until('two edges', () => page.edges.size === 2);
  row(2, 9);
  row(2, 1, 2);
  await until('a sum of two ledgers', () => page.ports().at(-1)?.[1] === 10);
  t.strictSame(page.ports(), [
    [444, 5],
    [445, 10],
  ]);
  source.cut();
  await until('trouble', () => page.messages.some((m) => m.type === 'trouble' && /gone/.test(m.message)));
  t.equal(page.edges.size, 2, 'what was shown stays');
  await until('another stream', () => source.opened === 2);
  described = new Set();
  row(3, 4);
  await until('the new edges', () => page.edges.size === 1);
  t.strictSame(page.ports(), [[446, 4]]);
  t.ok(
    page.messages.some((m) => m.type === 'trouble' && m.message === ''),
    'it is over',
  );
  await end();
  feeds.close();
});

t.test('a slow page, which is waited for again and again, leaves nothing behind', async (t) => {
  const warnings: string[] = [];
  const listen = ({ message }: Error) => warnings.push(message);
  process.on('warning', listen);
  t.teardown(() => process.off('warning', listen));
  const source = fedSource();
  const feeds = new Feeds(source);
  const { page, end } = open(feeds, EVERYTHING);
  const described = new Set<string>();
  for (let n = 1; n <= 40; n++) {
    source.say(messageOf({ ledger: 1, rows: [{ n: 1, ago: 0, connections: n, lastMs: Date.now() }] }, described));
    await until('it has come', () => page.ports()[0]?.[1] === n);
  }
  await end();
  feeds.close();
  t.strictSame(warnings, []);
});

t.test('pages with one view share one stream, and a reload does too', async (t) => {
  const source = fedSource();
  const feeds = new Feeds(source);
  const first = open(feeds, EVERYTHING);
  source.say(messageOf({ ledger: 1, rows: [{ n: 1, ago: 0, connections: 5, lastMs: Date.now() }] }, new Set()));
  await until('an edge', () => first.page.edges.size === 1);
  const second = open(feeds, EVERYTHING);
  await until('the same edge', () => second.page.edges.size === 1);
  await first.end();
  await second.end();
  const third = open(feeds, EVERYTHING);
  await until('once more', () => third.page.edges.size === 1);
  t.equal(source.opened, 1);
  await third.end();
  feeds.close();
});

t.test('a viewer of one namespace sees its edges, and of the other side no rule', async (t) => {
  const source = fedSource();
  const feeds = new Feeds(source);
  let scope: Scope = new Set(['shop']);
  const viewer: Viewer = { id: 'u', name: 'u', scope: async () => scope };
  const { page, end } = open(feeds, viewer);
  const all = Array.from({ length: 18 }, (_, n) => ({ n, ago: 0, connections: 1, lastMs: Date.now() }));
  source.say(messageOf({ ledger: 1, rows: all }, new Set()));
  await until('edges', () => page.edges.size > 0);
  for (const { info } of page.edges.values()) {
    t.ok([info.source.namespace, info.destination.namespace].includes('shop'));
    if (info.rule) t.equal(info.rule.namespace, 'shop');
  }
  t.equal(page.edges.size, 10);
  t.match(source.requests, [{ namespaces: ['shop'] }], 'the rest was not even read');
  await end();
  scope = new Set();
  const none = open(feeds, viewer);
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(none.page.edges.size, 0);
  await none.end();
  feeds.close();
});

t.test('rows come in parts of 2,000, and the last one says so', async (t) => {
  const source = fedSource();
  const feeds = new Feeds(source);
  const ids = Array.from({ length: 5000 }, (_, n) => n);
  source.say({
    ledger: 1,
    edges: ids.map((n) => ({ ...edge(0), id: 1000 + n, port: n })),
    id: ids.map((n) => 1000 + n),
    day: ids.map(() => TODAY),
    first_ms: ids.map(() => NOW),
    last_ms: ids.map(() => NOW),
    connections: ids.map(() => 1),
    caught_up: true,
  });
  const { page, end } = open(feeds, EVERYTHING);
  await until('all of them', () => page.edges.size === 5000);
  const parts = page.messages.filter((m) => m.type === 'edges');
  t.ok(parts.every((m) => m.rows.length <= 2000));
  t.strictSame(
    parts.filter((m) => m.rows.length > 0).map((m) => m.caughtUp),
    [false, false, true],
  );
  await end();
  feeds.close();
});

t.test('flows of the past and of the samples meet without a gap and without repetition', async (t) => {
  const record = (ms: number): FlowRecord => ({
    flow: { time: { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 } },
    event: 'verdict',
    reason: 'rule',
    hook: 'from-pod',
    verdict: 'allow',
  });
  const at = Date.now() - 10_000;
  let calls = 0;
  const source: TestSource = {
    ...silentSource(),
    getRecords: async function* ({ number = 0 }) {
      for (let n = 10 - Number(number); n < 10; n++) yield { record: record(at + n) };
    },
    sampleFlows: async function* (_, signal) {
      calls++;
      yield { records: [record(at + 8), record(at + 9), record(at + 10)], seen: 300, lost: 4 };
      yield { records: [record(at + 11)], seen: 1, lost: 0 };
      yield* silence(signal);
    },
  };
  const feeds = new Feeds(source);
  const view: View = { ...VIEW, edges: false, flows: { last: 5 } };
  const pages = [open(feeds, EVERYTHING, view), open(feeds, EVERYTHING, view)];
  const flowsOf = ({ page }: (typeof pages)[number]) => page.messages.flatMap((m) => (m.type === 'flows' ? [m] : []));
  await until('all flows', () => flowsOf(pages[0] as never).flatMap(({ flows }) => flows).length === 7);
  const messages = flowsOf(pages[0] as never);
  t.strictSame(
    messages.flatMap(({ flows }) => flows.map(({ timeMs }) => timeMs - at)),
    [5, 6, 7, 8, 9, 10, 11],
  );
  t.strictSame(
    messages.map(({ past, seen, lost }) => [past, seen, lost]),
    [
      [true, 5, 0],
      [false, 300, 4],
      [false, 1, 0],
    ],
  );
  t.equal(calls, 1, 'the samples are read once');
  for (const { end } of pages) await end();
  feeds.close();
});
