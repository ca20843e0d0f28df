/** The relay's history of real agents over TLS: collected, asked for, agents that go away and come back. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { EdgeBook } from '../../src/edges/book.js';
import { type DayRow, dayOf, type Edge, type EdgeHistory, sumDays } from '../../src/edges/edge.js';
import { dayMatches, edgeMatches, type EdgeFeed } from '../../src/edges/query.js';
import { History } from '../../src/history/history.js';
import { mergedFlows } from '../../src/relay/merge/flows.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { Agents } from '../../src/relay/nodes/agents.js';
import { RelayServer } from '../../src/relay/server.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { RELAY_SERVER_NAME } from '../../src/relay/nodes/names.js';
import { makeDay, makeEdge, outside, workload } from '../edges/given.js';
import { quiet, TestAgent, tempDir, until, writeTls } from '../relay/world.js';

t.setTimeout(120_000);
const certs = await makeCertificates('egress-system', 2);
const dir = tempDir(t);
mkdirSync(dir, { recursive: true });
const agentTls = writeTls(join(dir, 'agent'), certs.agent);
const relayTls = writeTls(join(dir, 'relay'), certs.relay);
const TODAY = dayOf(Date.now());

/** A ledger that grows. */
class Ledger implements EdgeFeed {
  ledger: number;
  readonly beganMs = (TODAY - 40) * 86_400_000;
  readonly overflow = 1;
  readonly asked: (number | undefined)[] = [];
  readonly #rows = new Map<string, { edge: Edge; row: DayRow; version: number }>();
  #version = 1;

  constructor(ledger: number) {
    this.ledger = ledger;
  }

  put(edge: Edge, row: DayRow): void {
    this.#rows.set(`${edge.id} ${row.day}`, { edge, row, version: ++this.#version });
  }

  histories(): EdgeHistory[] {
    return [...this.#rows.values()].map(({ edge, row }) => ({ edge, days: [row] }));
  }

  all(): EdgeHistory[] {
    return this.histories();
  }

  changesSince(version: number, query: Parameters<EdgeFeed['changesSince']>[1]) {
    if (version === 0) this.asked.push(query.sinceMs);
    const rows = [...this.#rows.values()].filter(
      (r) => r.version > version && edgeMatches(r.edge, query) && dayMatches(r.row, query),
    );
    return { version: this.#version, rows };
  }
}

const shared = makeEdge({ source: workload('shop/web'), destination: workload('shop/api'), port: 8080 });
const denied = makeEdge({ source: workload('shop/web'), destination: outside('192.0.2.1'), verdict: 'deny' });
const far = makeEdge({ source: workload('db/db'), destination: outside('192.0.2.2') });

async function agent(t: Test, name: string, ledger: Ledger, port = 0): Promise<TestAgent> {
  const one = await new TestAgent(name, { edges: ledger }).listen(agentTls, port);
  t.teardown(() => one.server.close());
  return one;
}

async function relay(t: Test, history: History | undefined, agents: Agents): Promise<AgentClient> {
  const server = new RelayServer({ agents, version: '0', tls: true, log: quiet, history });
  const { port } = await server.listenTls('127.0.0.1:0', relayTls, { pollMs: 50 });
  const client = new AgentClient({
    address: `127.0.0.1:${port}`,
    name: 'relay',
    tls: certs.client,
    serverName: RELAY_SERVER_NAME,
  });
  t.teardown(async () => {
    client.close();
    await server.close();
  });
  return client;
}

async function read(client: AgentClient, request: Parameters<AgentClient['edges']>[0] = {}): Promise<EdgeBook> {
  const book = new EdgeBook();
  for await (const message of client.edges(request)) book.add(message);
  return book;
}

t.test('collected, summed, followed; an agent that goes and comes back', async (t) => {
  const [a, b] = [new Ledger(11), new Ledger(22)];
  const row = makeDay(TODAY, { connections: 5 });
  for (const ledger of [a, b]) ledger.put(shared, row);
  a.put(denied, makeDay(TODAY - 3));
  b.put(far, makeDay(TODAY));
  a.put(far, makeDay(TODAY + 400));
  a.put(far, makeDay(TODAY - 400));
  const one = await agent(t, 'node-a', a);
  const two = await agent(t, 'node-b', b);
  const agents = new Agents(() => certs.relay);
  agents.set([one, two].map(({ name, address }) => ({ id: name, name, address })));
  const place = { file: join(dir, 'h.duckdb') };
  const start = () =>
    History.start({
      ...{ place, sources: agents, log: quiet, intervalMs: 100, retryMs: 100, flowsMs: 3_600_000 },
      follow: (signal) => mergedFlows(agents, { follow: true }, signal, { holdBackMs: 50 }),
    });
  const history = await start();
  const client = await relay(t, history, agents);
  await until('both ledgers', async () => (await read(client)).histories().length === 3);
  const book = await read(client, { workload: 'shop/web' });
  t.same(
    book.histories(),
    [
      { edge: shared, days: [sumDays(row, row)] },
      { edge: denied, days: [makeDay(TODAY - 3)] },
    ].sort((x, y) => x.edge.id - y.edge.id),
  );
  t.equal(book.beganMs, a.beganMs);
  t.equal(book.overflow, 2);
  await t.rejects(read(client, { verdicts: ['?'] }), { code: 'USAGE' });
  t.equal((await read(client, { limit: 1 })).isCut, true);
  const activity = await client.activity({});
  t.same(activity.rules ?? [], []);
  const stats = await client.history();
  t.match(stats, { place: place.file, rows_early: '1', rows_late: '1', keeps_flows: true, days: 2 });

  const followed = new EdgeBook();
  const end = new AbortController();
  const following = (async () => {
    for await (const message of client.edges({ follow: true, interval_ms: 100, workload: 'shop/web' }, end.signal))
      followed.add(message);
  })();
  await until('the past', () => followed.histories().length === 2);
  a.put(shared, { ...row, connections: 50 });
  await until('a change', () => followed.histories().some((h) => h.days[0]?.connections === 55));
  end.abort();
  await following;

  const uuid = one.publish(Date.now() - 100_000);
  await until('a flow', async () => {
    const seen: string[] = [];
    for await (const { record } of client.historyFlows({})) seen.push(record?.flow.uuid ?? '');
    return seen.includes(uuid);
  });

  await two.server.close();
  await until('it is missed', async () => (await read(client)).unavailable.includes('node-b'));
  t.equal((await read(client)).histories().length, 3, 'what it said stays');
  b.put(denied, makeDay(TODAY, { connections: 7 }));
  const again = await agent(t, 'node-b', b, two.port);
  t.equal(again.port, two.port);
  await until('it is heard again', async () => {
    const found = (await read(client)).histories().find((h) => h.edge.id === denied.id);
    return found?.days.at(-1)?.connections === 7;
  });
  t.ok((b.asked.at(-1) ?? 0) > Date.now() - 27 * 3_600_000, 'only the last days are asked for again');

  await history.close();
  b.ledger = 33;
  const next = await start();
  t.teardown(() => next.close());
  const reader = await relay(t, next, agents);
  await until('another ledger is read from its beginning', () => b.asked.at(-1) === undefined);
  await until('and added', async () => {
    const found = (await read(reader)).histories().find((h) => h.edge.id === denied.id);
    return found?.days.at(-1)?.connections === 14;
  });
});

t.test('without a history all agents are asked', async (t) => {
  const [a, b] = [new Ledger(11), new Ledger(22)];
  for (const ledger of [a, b]) ledger.put(shared, makeDay(TODAY));
  b.put(far, makeDay(TODAY));
  const both = [await agent(t, 'node-a', a), await agent(t, 'node-b', b)];
  const agents = new Agents(() => certs.relay);
  t.teardown(() => agents.close());
  const places = both.map(({ name, address }) => ({ id: name, name, address }));
  agents.set([...places, { id: 'dead', name: 'node-dead', address: '127.0.0.1:1' }]);
  const client = await relay(t, undefined, agents);
  const book = await read(client);
  t.equal(book.histories().length, 2);
  t.same(book.unavailable, ['node-dead']);
  t.equal(book.histories().find((h) => h.edge.id === shared.id)?.days[0]?.connections, 2);
  t.same((await read(client, { limit: 1 })).isCut, true);
  t.same((await client.activity({})).unavailable_nodes, ['node-dead']);
  t.same(await client.history(), {});
  await t.rejects(read(client, { verdicts: ['?'] }), { code: 'USAGE' });
  await t.rejects(
    (async () => {
      for await (const _ of client.historyFlows({}));
    })(),
    { code: 'USAGE' },
  );
});

t.test('policies: one agent answers, with the edges of all', async (t) => {
  const [a, b] = [new Ledger(11), new Ledger(22)];
  a.put(shared, makeDay(TODAY));
  a.put(shared, makeDay(TODAY - 1));
  b.put(far, makeDay(TODAY));
  const requests: { evidence?: unknown[] }[] = [];
  const answer = async (request: object) => {
    requests.push(request);
    return {};
  };
  const view = { policyObjects: () => ({ objects: [{ name: 'one' }] }), preview: answer, recommend: answer };
  const both = await Promise.all(
    [a, b].map(async (edges, n) => {
      const one = await new TestAgent(`node-${n}`, { edges, ...view }).listen(agentTls);
      t.teardown(() => one.server.close());
      return one;
    }),
  );
  const agents = new Agents(() => certs.relay);
  t.teardown(() => agents.close());
  const places = both.map(({ name, address }) => ({ id: name, name, address }));
  agents.set([...places, { id: 'dead', name: 'node-dead', address: '127.0.0.1:1' }]);
  const client = await relay(t, undefined, agents);
  t.equal((await client.policyObjects({})).objects?.length, 1);
  await client.recommend({ workloads: ['shop/web'] });
  t.match(requests.pop(), { evidence: [{ edge: { id: String(shared.id) }, day: [TODAY - 1, TODAY] }] });
  await client.recommend({ namespaces: ['none'] });
  t.equal(requests.pop()?.evidence, undefined);
  await client.preview({ manifests: 'metadata: {namespace: shop}\n---\nmetadata: {namespace: db}' });
  t.equal(requests.at(-1)?.evidence?.length, 2);
  await client.preview({ manifests: 'metadata: {namespace: db}' });
  t.equal(requests.at(-1)?.evidence?.length, 1);
  await client.preview({ manifests: 'metadata: {name: all}' });
  t.match(requests.pop(), { evidence: [{ connections: { length: 1 } }, { connections: { length: 1 } }] });
  for (let n = 0; n < 15_000; n++)
    a.put(
      makeEdge({ source: workload('big/big'), destination: outside(`${'x'.repeat(200)}${n}`, 'name') }),
      makeDay(TODAY),
    );
  await t.rejects(client.recommend({ namespaces: ['big'] }), { code: 'USAGE', message: /fewer workloads/ });
});
