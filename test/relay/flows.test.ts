/** Flows of several agents over real TLS sockets: order, numbers, slow and dead nodes, nodes that come and go. */
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { Agents } from '../../src/relay/nodes/agents.js';
import { type MergedFlowsOptions, mergedFlows } from '../../src/relay/merge/flows.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import type { GetFlowsRequest, GetRecordsResponse } from '../../src/proto/messages.js';
import { LEAD } from '../flow/flows.js';
import { TestAgent, tempDir, until, writeTls } from './world.js';

t.setTimeout(120_000);
const certs = await makeCertificates('egress-system', 2);
const dir = writeTls(join(tempDir(t), 'agent'), certs.agent);

type Test = { teardown(f: () => unknown): void };

async function start(t: Test, name: string, port = 0): Promise<TestAgent> {
  const agent = await new TestAgent(name).listen(dir, port);
  t.teardown(() => agent.server.close());
  return agent;
}

function fleet(t: Test, places: { name: string; address: string }[]): Agents {
  const agents = new Agents(() => certs.client);
  agents.set(places.map((p) => ({ id: `${p.name} ${p.address}`, name: p.name, address: p.address })));
  t.teardown(() => agents.close());
  return agents;
}

interface Seen {
  uuids: string[];
  states: string[];
  lost: number;
}

function note(seen: Seen, r: GetRecordsResponse): void {
  if (r.record) seen.uuids.push(r.record.flow.uuid ?? '');
  if (r.lost_events) seen.lost += Number(r.lost_events.num_events_lost);
  if (r.node_status) seen.states.push(`${r.node_status.state_change} ${r.node_status.node_names.join(' ')}`);
}

async function all(agents: Agents, request: GetFlowsRequest, opts: MergedFlowsOptions = {}): Promise<Seen> {
  const seen: Seen = { uuids: [], states: [], lost: 0 };
  for await (const r of mergedFlows(agents, request, new AbortController().signal, opts)) note(seen, r);
  return seen;
}

function follow(t: Test, agents: Agents, request: GetFlowsRequest, opts: MergedFlowsOptions = {}): Seen {
  const seen: Seen = { uuids: [], states: [], lost: 0 };
  const stop = new AbortController();
  const reading = (async () => {
    const options = { holdBackMs: 200, retryMs: 50, ...opts };
    for await (const r of mergedFlows(agents, { ...request, follow: true }, stop.signal, options)) note(seen, r);
  })();
  t.teardown(async () => {
    stop.abort();
    await reading;
  });
  return seen;
}

/** Accepts connections and never says a word. */
async function mute(t: Test): Promise<string> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => sockets.add(socket.on('error', () => {})));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${(server.address() as { port: number }).port}`;
}

const DEAD = { name: 'node-dead', address: '127.0.0.1:1' };

t.test('answers that end', async (t) => {
  const agents = [await start(t, 'node-a'), await start(t, 'node-b'), await start(t, 'node-c')];
  const expected: { uuid: string; ms: number }[] = [];
  // More of each than a stream may be ahead, interleaved in blocks.
  for (let ms = 0; ms < 3000; ms++) {
    const agent = agents[Math.floor(ms / 700) % 3] as TestAgent;
    expected.push({ uuid: agent.publish(ms), ms });
  }
  const inOrder = expected.map((e) => e.uuid);
  const three = fleet(t, agents);
  t.same((await all(three, {})).uuids, inOrder, 'all there are, in order');
  t.same((await all(three, { number: '18446744073709551615' })).uuids, inOrder, '2^64 - 1 are all');
  t.same((await all(three, { number: 5 })).uuids, inOrder.slice(-5), 'the last of the cluster, not of each node');
  t.same((await all(three, { number: 5, first: true })).uuids, inOrder.slice(0, 5), 'the first of the cluster');
  const since = { seconds: String((LEAD + 100_000_000_000n) / 1_000_000_000n), nanos: 0 };
  t.equal((await all(three, { since, number: 5 })).uuids.length, 3000, 'since beats number');
  t.equal((await all(three, { since, number: 7, first: true })).uuids.length, 7, 'but not with first');
  t.throws(() => mergedFlows(three, { first: true, follow: true }, new AbortController().signal), { code: 'USAGE' });
  const filter = { whitelist: [{ source_ip: ['nonsense'] }] };
  await t.rejects(all(three, filter), { code: 'USAGE' }, 'a filter that is none');
  await t.rejects(all(three, { number: 60_000 }), { code: 'USAGE' });
  t.same((await all(fleet(t, []), {})).uuids, [], 'no nodes, no flows');

  const withDead = await all(fleet(t, [...agents, DEAD]), { number: 3000 });
  t.same(withDead.uuids, inOrder, 'a dead node takes nothing from the others');
  t.same(withDead.states, ['NODE_UNAVAILABLE node-dead']);
  const started = Date.now();
  const muted = { name: 'node-mute', address: await mute(t) };
  const withMute = await all(fleet(t, [...agents, muted]), {}, { stallMs: 1500 });
  t.same(withMute.uuids, inOrder, 'nor does one that does not answer');
  t.same(withMute.states, ['NODE_UNAVAILABLE node-mute']);
  t.ok(Date.now() - started < 5000, `in time: ${Date.now() - started} ms`);
});

t.test('following: the past, then what comes, each once', async (t) => {
  const [a, b] = [await start(t, 'node-a'), await start(t, 'node-b')];
  const past = [a.publish(1), b.publish(2), a.publish(3), b.publish(4)];
  const seen = follow(t, fleet(t, [a, b, DEAD]), { number: 3 });
  // While the streams are being opened, flows keep coming.
  const more: string[] = [];
  for (let ms = 10; ms < 200; ms++) {
    more.push((ms % 2 ? a : b).publish(ms));
    if (ms % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await until('all of it', () => seen.uuids.length >= 3 && seen.uuids.at(-1) === more.at(-1));
  t.equal(new Set(seen.uuids).size, seen.uuids.length, 'nothing twice');
  for (const { name } of [a, b]) {
    const got = seen.uuids.filter((u) => u.startsWith(name));
    const told = [...past, ...more].filter((u) => u.startsWith(name));
    t.same(got, told.slice(-got.length), `${name}: without a gap, to the last one`);
  }
  t.ok(seen.uuids.length >= 3, `${seen.uuids.length} flows`);
  t.same(seen.states.sort(), ['NODE_CONNECTED node-a node-b', 'NODE_UNAVAILABLE node-dead']);
  const started = Date.now();
  b.publish(500);
  await until('one flow of one node', () => seen.uuids.at(-1)?.startsWith('node-b') === true);
  t.ok(Date.now() - started < 2000, 'a node without flows is not waited for');
});

t.test('following since: all since then, without number', async (t) => {
  const [a, b] = [await start(t, 'node-a'), await start(t, 'node-b')];
  const uuids = Array.from({ length: 500 }, (_, ms) => (ms % 3 ? a : b).publish(ms));
  const since = { seconds: String((LEAD + 100_100_000_000n) / 1_000_000_000n), nanos: 100_000_000 };
  const seen = follow(t, fleet(t, [a, b]), { since, number: 1 });
  await until('the past', () => seen.uuids.length >= 400);
  const next = a.publish(600);
  await until('the next', () => seen.uuids.at(-1) === next);
  t.same(seen.uuids, [...uuids.slice(100), next]);
});

t.test('nodes that come, go and come back', async (t) => {
  const [a, b] = [await start(t, 'node-a'), await start(t, 'node-b')];
  const agents = fleet(t, [a]);
  const seen = follow(t, agents, {});
  await until('connected', () => seen.states.includes('NODE_CONNECTED node-a'));
  const place = (x: TestAgent) => ({ id: `${x.name} ${x.address}`, name: x.name, address: x.address });
  agents.set([place(a), place(b)]);
  await until('b joins', () => seen.states.includes('NODE_CONNECTED node-b'));
  const now = () => Number(BigInt(Date.now()) * 1_000_000n - LEAD - 100_000_000_000n) / 1e6;
  const first = b.publish(now());
  await until('a flow of it', () => seen.uuids.includes(first));

  const port = b.port;
  await b.server.close();
  await until('b is lost', () => seen.states.includes('NODE_UNAVAILABLE node-b'));
  const meanwhile = a.publish(now());
  await until('the others go on', () => seen.uuids.includes(meanwhile));
  const again = await start(t, 'node-b', port);
  again.publish(now() - 60_000);
  const fresh = again.publish(now() + 1);
  await until('b is back', () => seen.states.filter((s) => s === 'NODE_CONNECTED node-b').length === 2);
  // The uuids of the one that came back begin again: this one's first is of long ago, and not told.
  await until('its flows since', () => seen.uuids.includes(fresh));
  t.equal(seen.uuids.length, new Set(seen.uuids).size, 'nothing twice');
  agents.set([place(a)]);
  await until('b is gone', () => seen.states.includes('NODE_GONE node-b'));
  t.equal(
    seen.states.filter((s) => s === 'NODE_UNAVAILABLE node-b').length,
    1,
    'told once, however often it was tried',
  );
});

t.test('losses are told', async (t) => {
  const [a, b] = [await start(t, 'node-a'), await start(t, 'node-b')];
  const seen = follow(t, fleet(t, [a, b]), {});
  await until('connected', () => seen.states.length === 1);
  b.hub.lostInRing(17, 0);
  b.publish(1);
  await until('losses', () => seen.lost === 17);
  t.pass();
});
