/** Live Edges of a relay: what real agents say arrives at once, agents come, go and begin anew, and nobody waits for another. */
import { setTimeout as sleep } from 'node:timers/promises';
import fc from '../seeded.js';
import t, { type Test } from 'tap';
import { EdgeBook } from '../../src/edges/book.js';
import { DAY_MS } from '../../src/edges/edge.js';
import { Ledger } from '../../src/edges/ledger.js';
import { edgeMessage } from '../../src/edges/wire.js';
import { History } from '../../src/history/history.js';
import type { EdgesRequest, EdgesResponse } from '../../src/proto/edges.js';
import { decode, encode } from '../../src/proto/load.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { LiveEdges, type LiveEdgesOptions } from '../../src/relay/edges/live.js';
import { joinMessages, readMessage } from '../../src/relay/edges/message.js';
import { Agents } from '../../src/relay/nodes/agents.js';
import { RELAY_SERVER_NAME } from '../../src/relay/nodes/names.js';
import { RelayServer } from '../../src/relay/server.js';
import { AgentClient, FullError } from '../../src/rpc/transport/client.js';
import { makeEdge, outside, workload } from '../edges/given.js';
import { SlowCall, Sources } from './edge-sources.js';
import { quiet, TestAgent, tempDir, until, writeTls } from './world.js';

t.setTimeout(120_000);
const certs = await makeCertificates('egress-system', 2);
const AGENT_TLS = writeTls(`${tempDir(t)}/agent`, certs.agent);
const RELAY_TLS = writeTls(`${tempDir(t)}/relay`, certs.relay);
/** Whoever has said nothing for longer is named: on a busy machine, a connection takes a second. */
const QUICK: LiveEdgesOptions = { retryMs: 50, openMs: 5000 };
const MESSAGE = 'egress.v1.EdgesResponse';
const FOLLOW: EdgesRequest = { follow: true, interval_ms: 100 };

/** An edge of a workload in `shop` to an address. */
function called(n: number) {
  return makeEdge({ source: workload('shop/web'), destination: outside(`203.0.113.${n}`) });
}

function count(ledger: Ledger, n: number, connections = 1): void {
  ledger.count(ledger.slotOf(called(n)) as number, Date.now(), connections, 0, 0);
}

/** Reads, until the end or a fault. */
class Reader {
  readonly got: EdgesResponse[] = [];
  readonly book = new EdgeBook();
  fault: Error | undefined;
  readonly #end = new AbortController();
  readonly #done: Promise<void>;

  constructor(client: AgentClient, request: EdgesRequest = FOLLOW) {
    this.#done = (async () => {
      try {
        for await (const m of client.edges(request, this.#end.signal)) {
          this.got.push(...(m.parts ?? [m]));
          this.book.add(m);
        }
      } catch (e) {
        this.fault = e as Error;
      }
    })();
  }

  get caughtUp(): number {
    return this.got.filter((m) => m.caught_up).length;
  }

  /** Destination → connections. */
  get sums(): Record<string, number> {
    const sum = (days: readonly { connections: number }[]) => days.reduce((n, d) => n + d.connections, 0);
    return Object.fromEntries(this.book.histories().map((h) => [h.edge.destination.name.slice(10), sum(h.days)]));
  }

  async end(): Promise<void> {
    this.#end.abort();
    await this.#done;
  }
}

interface World {
  agents: Agents;
  client: AgentClient;
  agent(name: string, ledger: Ledger, port?: number): Promise<TestAgent>;
}

async function world(
  t: Test,
  options: LiveEdgesOptions = {},
  history?: (agents: Agents) => Promise<History>,
): Promise<World> {
  const agents = new Agents(() => certs.relay);
  const kept = await history?.(agents);
  const edges = { ...QUICK, ...options };
  const relay = new RelayServer({ agents, version: '1', tls: true, log: quiet, edges, history: kept });
  const { port } = await relay.listenTls('127.0.0.1:0', RELAY_TLS, { clientCertificates: 'off' });
  const address = `127.0.0.1:${port}`;
  const client = new AgentClient({ address, name: 'relay', tls: certs.client, serverName: RELAY_SERVER_NAME });
  const made: TestAgent[] = [];
  t.teardown(async () => {
    client.close();
    agents.close();
    await relay.close();
    await kept?.close();
    for (const agent of made) await agent.server.close();
  });
  const agent = async (name: string, ledger: Ledger, at = 0) => {
    const one = await new TestAgent(name, { edges: ledger }).listen(AGENT_TLS, at);
    made.push(one);
    return one;
  };
  return { agents, client, agent };
}

const place = (x: TestAgent, id = x.name) => ({ id, name: x.name, address: x.address });

t.test('changes arrive at once; a node goes away, comes back, and is no more', async (t) => {
  const { agents, client, agent } = await world(t);
  const [one, two] = [Ledger.fresh(Date.now()), Ledger.fresh(Date.now())];
  count(one, 1, 5);
  count(two, 1, 7);
  count(two, 2, 1);
  const [a, b] = [await agent('node-a', one), await agent('node-b', two)];
  agents.set([place(a), place(b), { id: 'x', name: 'node-x', address: '127.0.0.1:1' }]);
  const reader = new Reader(client, { ...FOLLOW, interval_ms: 1000 });
  await until('the beginning', () => reader.caughtUp === 1);
  t.same(reader.sums, { 1: 12, 2: 1 });
  t.same(reader.book.unavailable, ['node-x']);
  t.same([...new Set(reader.got.map((m) => Number(m.ledger ?? 0)))].sort(), [0, one.ledger, two.ledger].sort());
  t.same(
    new Set(reader.got.map((m) => m.node_name ?? '')),
    new Set(['node-a', 'node-b', '']),
    'each ledger with its node',
  );

  count(one, 3);
  const began = performance.now();
  await until('a change', () => reader.sums[3] === 1);
  t.ok(performance.now() - began < 1500, 'at once');

  const { port } = b;
  await b.server.close();
  await until('it is named', () => reader.book.unavailable.includes('node-b'));
  t.equal(reader.sums[1], 12, 'what it has seen stays');
  count(two, 4);
  await agent('node-b', two, port);
  await until('it is named no longer', () => !reader.book.unavailable.includes('node-b'), 30_000);
  t.same(reader.sums, { 1: 12, 2: 1, 3: 1, 4: 1 }, 'its rows replace those before');

  agents.set([place(a)]);
  await until('nobody is missing', () => reader.book.unavailable.length === 0);
  t.same(reader.got.at(-1)?.unavailable_nodes ?? [], []);
  t.ok(reader.got.at(-1)?.caught_up, 'an empty list is told too');
  count(one, 5);
  await until('the other goes on', () => reader.sums[5] === 1);
  t.same(reader.sums, { 1: 12, 2: 1, 3: 1, 4: 1, 5: 1 }, 'what a node has seen that is no more');

  const third = Ledger.fresh(Date.now());
  count(third, 6);
  const c = await agent('node-c', third);
  agents.set([place(a), place(c)]);
  await until('a new node', () => reader.sums[6] === 1);
  await reader.end();
});

t.test('a node with another ledger has lost the one before', async (t) => {
  const { agents, client, agent } = await world(t);
  const [one, two] = [Ledger.fresh(Date.now()), Ledger.fresh(Date.now())];
  count(one, 1);
  count(two, 1, 10);
  count(two, 2, 10);
  const [a, b] = [await agent('node-a', one), await agent('node-b', two)];
  agents.set([place(a), place(b)]);
  const reader = new Reader(client);
  await until('the beginning', () => reader.caughtUp === 1);
  t.same(reader.sums, { 1: 11, 2: 10 });

  const { port } = b;
  await b.server.close();
  const fresh = Ledger.fresh(Date.now());
  count(fresh, 3);
  const again = await agent('node-b', fresh, port);
  await until('the new one', () => reader.sums[3] === 1, 30_000);
  t.same(reader.sums, { 1: 1, 3: 1 });
  t.same(reader.got.flatMap((m) => m.gone_ledgers ?? []).map(Number), [two.ledger]);

  // Its pod is replaced: another agent on the same node.
  const newer = Ledger.fresh(Date.now());
  count(newer, 4);
  const replaced = await agent('node-b', newer);
  agents.set([place(a), place(replaced, 'another pod')]);
  await until('the newer one', () => reader.sums[4] === 1);
  t.same(reader.sums, { 1: 1, 4: 1 });

  // A node that says a ledger of another one is not believed.
  const liar = await agent('node-l', one);
  agents.set([place(a), place(replaced, 'another pod'), place(liar)]);
  await until('it is named', () => reader.book.unavailable.includes('node-l'));
  t.same(reader.sums, { 1: 1, 4: 1 });
  await again.server.close();
  await reader.end();
});

t.test('of a relay with a history, only if it is asked for', async (t) => {
  const file = `${tempDir(t)}/h.duckdb`;
  const keep = (agents: Agents) =>
    History.start({ place: { file }, sources: agents, log: quiet, intervalMs: 100, retryMs: 100 });
  const { agents, client, agent } = await world(t, { upstreams: 1 }, keep);
  const ledger = Ledger.fresh(Date.now());
  count(ledger, 1);
  agents.set([place(await agent('node-a', ledger))]);
  const [summed, live] = [new Reader(client), new Reader(client, { ...FOLLOW, live: true })];
  await until('both', () => summed.sums[1] === 1 && live.sums[1] === 1);
  t.same(new Set(summed.got.map((m) => Number(m.ledger ?? 0))), new Set([0]));
  t.same(new Set(live.got.map((m) => Number(m.ledger ?? 0))), new Set([0, ledger.ledger]));
  const other = new Reader(client, { ...FOLLOW, live: true, workload: 'shop/web' });
  await until('no room', () => other.fault !== undefined);
  t.type(other.fault, FullError);
  for (const reader of [summed, live]) await reader.end();
});

t.test('requests that cannot be answered', async (t) => {
  const { client } = await world(t);
  const refused = async (request: EdgesRequest) => {
    for await (const _ of client.edges(request)) return;
  };
  await t.rejects(refused({ ...FOLLOW, interval_ms: 1 }), { code: 'USAGE', message: /interval_ms/ });
  await t.rejects(refused({ ...FOLLOW, workload: 'x' }), { code: 'USAGE', message: /workload/ });
  const namespaces = Array.from({ length: 20_000 }, (_, n) => `namespace-${n}-with-a-name`);
  await t.rejects(refused({ ...FOLLOW, namespaces }), { code: 'USAGE', message: /longer than/ });
  await t.rejects(refused({ live: true }), { code: 'USAGE', message: /follow/ });
});

t.test('equal requests share their streams, and who comes later takes the others over', async (t) => {
  const sources = new Sources(3);
  const live = new LiveEdges(sources, quiet, { ...QUICK, upstreams: 2 });
  const since = Math.floor(Date.now() / DAY_MS) * DAY_MS;
  const at = (ms: number) => ({ seconds: (since + ms) / 1000, nanos: 0 });
  const calls = [1000, 2000].map((ms) => new SlowCall({ ...FOLLOW, since: at(ms) }));
  for (const call of calls) void live.serve(call.server);
  await until('both begin', () => calls.every((c) => c.caughtUp > 0));
  t.equal(live.upstreams, 1, 'the same day');
  t.equal(sources.opened, 3);
  sources.say(1, [1]);
  await until('both see it', () => calls.every((c) => c.sum(1) === 1));

  const late = new SlowCall({ ...FOLLOW, since: at(3000) });
  void live.serve(late.server);
  await until('a beginning of its own', () => late.caughtUp > 0);
  t.equal(late.sum(1), 1);
  sources.say(2, [2]);
  await until('all see it', () => [...calls, late].every((c) => c.sum(2) === 1));
  await until('the earlier streams end', () => live.upstreams === 1 && sources.open === 3, 20_000);
  sources.say(1, [1, 3]);
  await until('and yet all see what follows', () => [...calls, late].every((c) => c.sum(1) === 2 && c.sum(3) === 1));

  const other = new SlowCall({ ...FOLLOW, namespaces: ['shop'] });
  void live.serve(other.server);
  await until('another request', () => other.caughtUp > 0);
  const third = new SlowCall({ ...FOLLOW, namespaces: ['data'] });
  void live.serve(third.server);
  await until('no room', () => third.fault !== undefined);
  t.equal(third.fault?.code, 8);
  t.match(third.fault?.details, /more than 2 different live requests/);
  for (const call of [...calls, late, other]) call.leave();
  await until('nothing is read any more', () => live.upstreams === 0 && sources.open === 0);
});

t.test('who waits, waits for the next beginning; a limit is shared', async (t) => {
  const sources = new Sources(4, { holdMs: 300 });
  for (let n = 0; n < 4; n++)
    sources.say(
      n,
      Array.from({ length: 50 }, (_, k) => n * 50 + k),
    );
  const live = new LiveEdges(sources, quiet, QUICK);
  const first = new SlowCall({ ...FOLLOW, limit: 100 });
  void live.serve(first.server);
  await sleep(150);
  const [second, third] = [new SlowCall({ ...FOLLOW, limit: 100 }), new SlowCall({ ...FOLLOW, limit: 100 })];
  for (const call of [second, third]) void live.serve(call.server);
  await until('all', () => [first, second, third].every((c) => c.caughtUp > 0));
  t.equal(sources.opened, 8, 'the second and the third began together');
  for (const call of [first, second, third]) {
    t.equal(call.rows, 100);
    t.ok(call.more);
  }
  for (const call of [first, second, third]) call.leave();
  await until('nothing is read any more', () => live.upstreams === 0);
});

t.test('a reader that does not keep up is ended, and holds nobody up', async (t) => {
  const sources = new Sources(2, { padding: 10_000 });
  const bytes = { total: 400_000, each: 400_000 };
  const live = new LiveEdges(sources, quiet, { ...QUICK, bytes, holdUpMs: 300 });
  const [slow, quick] = [new SlowCall(FOLLOW), new SlowCall(FOLLOW)];
  for (const call of [slow, quick]) void live.serve(call.server);
  await until('both begin', () => [slow, quick].every((c) => c.caughtUp > 0));
  slow.isStuck = true;
  for (let n = 0; n < 100; n++) {
    sources.say(0, [n]);
    await sleep(2);
  }
  await until('it is ended', () => slow.fault !== undefined);
  t.equal(slow.fault?.code, 10);
  t.match(slow.fault?.details, /begin anew/);
  await until('the other has all', () => Array.from({ length: 100 }, (_, n) => quick.sum(n)).every((s) => s === 1));

  // At a beginning, the agents are read no faster than the readers read, for some time.
  const stuck = new SlowCall({ ...FOLLOW, verdicts: ['allow'] });
  const with1 = new SlowCall({ ...FOLLOW, verdicts: ['allow'] });
  stuck.isStuck = true;
  for (const call of [stuck, with1]) void live.serve(call.server);
  await until('it has held up the other for long enough', () => stuck.fault !== undefined);
  await until('the other begins', () => with1.caughtUp > 0);
  t.equal(with1.sum(99), 1);
  for (const call of [quick, with1]) call.leave();
  await until('nothing is read any more', () => live.upstreams === 0);
});

t.test('an agent that says nothing, or nonsense, is named and does not delay the others', async (t) => {
  const sources = new Sources(40, { silent: new Set([0, 1, 2]), wrong: new Set([3]) });
  for (let n = 4; n < 40; n++) sources.say(n, [n]);
  const live = new LiveEdges(sources, quiet, { ...QUICK, openMs: 500 });
  const call = new SlowCall(FOLLOW);
  const began = performance.now();
  void live.serve(call.server);
  await until('the beginning', () => call.caughtUp > 0);
  t.ok(performance.now() - began < 3000);
  t.same(call.unavailable, ['node-0', 'node-1', 'node-2', 'node-3']);
  t.equal(call.rows, 36);
  sources.silent.clear();
  sources.wrong.clear();
  sources.cut();
  await until('all are there', () => call.unavailable.length === 0, 20_000);
  live.close();
  await until('nothing is read any more', () => live.upstreams === 0);
});

t.test('a thousand agents are read some at a time', async (t) => {
  const sources = new Sources(1000, { holdMs: 10 });
  for (let n = 0; n < 1000; n++) sources.say(n, [n % 200]);
  const live = new LiveEdges(sources, quiet, QUICK);
  const call = new SlowCall(FOLLOW);
  void live.serve(call.server);
  await until('the beginning', () => call.caughtUp > 0);
  t.equal(call.sum(7), 5);
  t.ok(sources.most <= 16, `${sources.most} at once`);
  call.leave();
  await until('nothing is read any more', () => sources.open === 0);
});

t.test('what is passed on can be decoded', (t) => {
  const columns = { day: [1], first_ms: [1], last_ms: [1], connections: [1], bytes: [1], drops: [1], hours: [1] };
  const whole = {
    ledger: 5,
    node_name: 'n',
    began_at: { seconds: 5 },
    edges: [edgeMessage(called(1))],
    id: [9],
    ...columns,
  };
  const bytes = encode(MESSAGE, whole);
  t.strictSame(readMessage(bytes), { bytes, ledger: 5, rows: 1, caughtUp: false, more: false });
  const own = { caught_up: true, unavailable_nodes: ['a', 'b'], gone_ledgers: [1, 2], parts: [{ ledger: 6 }] };
  const said = readMessage(encode(MESSAGE, { ...whole, more: true, ...own }));
  t.ok(said.caughtUp && said.more);
  t.strictSame(said.bytes, encode(MESSAGE, { ...whole, more: true }), 'what only a relay says is left out');
  const joined = joinMessages([bytes, encode(MESSAGE, { ledger: 8 }), bytes]);
  const alone = decode<EdgesResponse>(MESSAGE, bytes);
  t.strictSame(decode(MESSAGE, joined), { parts: [alone, { ledger: '8' }, alone] });
  t.equal(joinMessages([bytes]), bytes);
  let taken = 0;
  const check = (given: Buffer) => {
    let message: ReturnType<typeof readMessage>;
    try {
      message = readMessage(given);
    } catch {
      return;
    }
    taken++;
    const { id = [], day = [] } = decode<EdgesResponse>(MESSAGE, message.bytes);
    if (id.length !== message.rows || day.length !== message.rows) throw new Error('a row is not whole');
  };
  for (let end = 0; end < bytes.length; end++) check(bytes.subarray(0, end));
  const change = fc.tuple(fc.nat(bytes.length - 1), fc.nat(255));
  const property = fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
    const changed = Buffer.from(bytes);
    for (const [at, byte] of changes) changed[at] = byte;
    check(changed);
  });
  fc.assert(property, { numRuns: 20_000 });
  t.ok(taken > 100, `${taken} were taken`);
  for (const [why, wrong] of [
    [/no ledger/, encode(MESSAGE, { ...whole, ledger: 0 })],
    [/as many values/, encode(MESSAGE, { ...whole, day: [1, 2] })],
    [/another type/, Buffer.from([0x08, 5, 0x10, 1])],
    [/another type/, Buffer.from([0x08, 5, 0x30, 1])],
    [/number is too long/, Buffer.from([0x08, 5, 0x32, 11, ...new Array(11).fill(0x80)])],
    [/number is cut off/, Buffer.from([0x08, 5, 0x32, 1, 0x80])],
    [/./, Buffer.from([0x08, 5, 0x2a, 2, 0x12, 9])],
    [/has \d+ bytes/, encode(MESSAGE, { ...whole, node_name: 'x'.repeat(20_000) })],
  ] as const)
    t.throws(() => readMessage(wrong), { message: why });
  t.end();
});
