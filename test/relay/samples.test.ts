/** SampleFlows of a relay: agents that come, go and lie, one sample for all who ask for the same, bounded memory. */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { encode } from '../../src/proto/load.js';
import type { SampleFlowsRequest, SampleFlowsResponse } from '../../src/proto/messages.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { mergedSamples } from '../../src/relay/merge/samples.js';
import { Agents } from '../../src/relay/nodes/agents.js';
import { RELAY_SERVER_NAME } from '../../src/relay/nodes/names.js';
import type { SampleNode, SampleNodes } from '../../src/relay/nodes/nodes.js';
import { RelayServer } from '../../src/relay/server.js';
import { sampleQueryOf } from '../../src/rpc/sample/query.js';
import type { SamplePeriod } from '../../src/rpc/sample/streams.js';
import { compareTimes, rankOfRecord, SAMPLE, timeOfRecord, uuidOfRecord } from '../../src/rpc/sample/wire.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { quiet, TestAgent, tempDir, until, writeTls } from './world.js';

t.setTimeout(120_000);
const certs = await makeCertificates('egress-system', 2);
const AGENT_TLS = writeTls(`${tempDir(t)}/agent`, certs.agent);
const RELAY_TLS = writeTls(`${tempDir(t)}/relay`, certs.relay);
const QUICK = { retryMs: 50, openMs: 500, pastMs: 2000 };

function recordOf(uuid: string, ms: number, verdict = 'allow', size = 0): Buffer {
  const time = { seconds: String(1_700_000_000 + Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 };
  const flow = { uuid, time, node_name: 'x'.repeat(size) };
  return encode(SAMPLE, { records: [{ flow, verdict, event: 'verdict', reason: 'rule', hook: 'from-pod' }] });
}

t.test('records are read without being decoded', async (t) => {
  const bytes = recordOf('some-uuid', 1234, 'deny', 300);
  t.equal(rankOfRecord(bytes), 0);
  t.same(timeOfRecord(bytes), { seconds: 1_700_000_001, nanos: 234e6 });
  t.equal(uuidOfRecord(bytes), 'some-uuid');
  const without = encode(SAMPLE, { records: [{ audit_verdict: 'deny' }] });
  t.equal(rankOfRecord(without), 1);
  t.same(timeOfRecord(without), { seconds: 0, nanos: 0 });
  t.equal(uuidOfRecord(without), '');
  for (let end = 1; end < bytes.length; end++) {
    const cut = bytes.subarray(0, end);
    t.throws(() => rankOfRecord(cut), RangeError, `cut at ${end}`);
    t.throws(() => timeOfRecord(cut), RangeError);
  }
  t.ok(compareTimes(timeOfRecord(recordOf('a', 999)), timeOfRecord(recordOf('b', 1000))) < 0);
});

class Reader {
  readonly got: SampleFlowsResponse[] = [];
  readonly #end = new AbortController();
  readonly #done: Promise<void>;

  constructor(client: AgentClient, request: SampleFlowsRequest) {
    this.#done = (async () => {
      for await (const m of client.sampleFlows(request, this.#end.signal)) this.got.push(m);
    })();
  }

  get uuids(): string[] {
    return this.got.flatMap((m) => m.records ?? []).map((r) => r.flow.uuid as string);
  }

  get seen(): number {
    return this.got.reduce((sum, m) => sum + Number(m.seen ?? 0), 0);
  }

  async end(): Promise<void> {
    this.#end.abort();
    await this.#done;
  }
}

t.test('of real agents, one of which goes away and comes back', async (t) => {
  const [a, b] = [await new TestAgent('node-a').listen(AGENT_TLS), await new TestAgent('node-b').listen(AGENT_TLS)];
  const agents = new Agents(() => certs.relay);
  const place = (x: TestAgent, id = x.name) => ({ id, name: x.name, address: x.address });
  const nobody = { id: 'x', name: 'node-x', address: '127.0.0.1:1' };
  agents.set([place(a), place(b), nobody]);
  const relay = new RelayServer({ agents, version: '1', tls: true, log: quiet, samples: QUICK });
  const { port } = await relay.listenTls('127.0.0.1:0', RELAY_TLS, { clientCertificates: 'off' });
  const address = `127.0.0.1:${port}`;
  const client = new AgentClient({ address, name: 'relay', tls: certs.client, serverName: RELAY_SERVER_NAME });
  let back: TestAgent | undefined;
  t.teardown(async () => {
    client.close();
    agents.close();
    await relay.close();
    for (const agent of [a, b, back]) await agent?.server.close();
  });
  const before = Array.from({ length: 40 }, (_, n) => (n % 2 ? a : b).publish(n));
  const reader = new Reader(client, { per_second: 20, last: 30 });
  await until('the past', () => reader.got.length > 0);
  t.ok(reader.got[0]?.past);
  t.same(reader.uuids, before.slice(-30), 'in order of time');
  t.same(reader.got[0]?.unavailable_nodes, ['node-x']);
  await until('who does not answer is named', () => reader.got.at(-1)?.unavailable_nodes?.[0] === 'node-x');

  const denied: string[] = [];
  for (let n = 0; n < 400; n++) {
    const isDenied = n % 80 === 3;
    const uuid = (n % 4 ? a : b).publish(1000 + n, isDenied ? { verdict: 'deny', reason: 'rule' } : {});
    if (isDenied) denied.push(uuid);
  }
  await until('all are counted', () => reader.seen >= 400);
  t.equal(reader.seen, 400);
  for (const uuid of denied) t.ok(reader.uuids.includes(uuid), `${uuid} is shown`);
  for (const m of reader.got.slice(1)) {
    t.ok((m.records?.length ?? 0) <= 20);
    const times = (m.records ?? []).map((r) => Number(r.flow.time?.seconds) * 1e3 + Number(r.flow.time?.nanos) / 1e6);
    t.same(
      times,
      [...times].sort((x, y) => x - y),
    );
  }
  t.ok(new Set(reader.uuids.map((u) => u.slice(0, 6))).size > 1, 'of both');

  const late = new Reader(client, { per_second: 20, last: 5 });
  await until('a past of its own', () => late.got.length > 0);
  t.ok(late.got[0]?.past);
  t.equal(late.got[0]?.records?.length, 5);

  const oldPort = b.port;
  await b.server.close();
  await until('it is gone', () => reader.got.at(-1)?.unavailable_nodes?.includes('node-b') === true);
  const alone = a.publish(5000);
  await until('the other is there', () => reader.uuids.includes(alone));
  back = await new TestAgent('node-b').listen(AGENT_TLS, oldPort);
  await until('it is back', () => reader.got.at(-1)?.unavailable_nodes?.includes('node-b') !== true, 30_000);
  const again = back.publish(6000);
  await until('its flows too', () => reader.uuids.includes(again) && late.uuids.includes(again));

  agents.set([place(a)]);
  await until('who is no node is not named', () => reader.got.at(-1)?.unavailable_nodes === undefined);
  const refused = async (request: SampleFlowsRequest) => {
    for await (const _ of client.sampleFlows(request)) return;
  };
  await t.rejects(refused({ per_second: 5000 }), { code: 'USAGE', message: /per_second/ });
  await t.rejects(refused({ whitelist: [{ source_port: ['x'] }] }), { code: 'USAGE', message: /source_port/ });
  for (const r of [reader, late]) await r.end();
});

/** A node whose answers the test writes. */
class Node implements SampleNode {
  readonly asked: SampleFlowsRequest[] = [];
  readonly #queue: Buffer[] = [];
  #wake = () => {};
  open = 0;

  constructor(
    readonly name: string,
    readonly past: Buffer[] = [],
  ) {}

  get id(): string {
    return this.name;
  }

  send(...parts: Buffer[]): void {
    this.#queue.push(Buffer.concat(parts));
    this.#wake();
  }

  async *sampleBytes(request: SampleFlowsRequest, signal: AbortSignal, opened?: () => void): AsyncGenerator<Buffer> {
    this.asked.push(request);
    this.open++;
    opened?.();
    signal.addEventListener('abort', () => this.#wake());
    try {
      if (request.last) yield Buffer.concat([...this.past.slice(-request.last), encode(SAMPLE, { past: true })]);
      while (!signal.aborted) {
        const next = this.#queue.shift();
        if (next) yield next;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      this.open--;
    }
  }
}

class Fleet implements SampleNodes {
  readonly #listeners = new Set<() => void>();
  constructor(private nodes: readonly SampleNode[]) {}

  list(): readonly SampleNode[] {
    return this.nodes;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  set(nodes: readonly SampleNode[]): void {
    this.nodes = nodes;
    for (const listener of this.#listeners) listener();
  }
}

t.test('each node gives its share, and more where fewer are left', async (t) => {
  const nodes = Array.from({ length: 100 }, (_, n) => new Node(`node-${n}`));
  const [first, second] = nodes as [Node, Node];
  const fleet = new Fleet(nodes);
  const periods: SamplePeriod[] = [];
  const end = mergedSamples(fleet, QUICK).start(
    sampleQueryOf({ per_second: 200, last: 7 }),
    (p) => periods.push(p),
    (e) => t.fail(String(e)),
  );
  await sleep(10);
  t.match(first.asked, [{ per_second: 4 }], 'twice what would be its part');
  t.equal(first.asked[0]?.last, undefined, 'the past is asked for by each caller');
  fleet.set([first, second]);
  await sleep(10);
  t.match(first.asked, [{ per_second: 4 }, { per_second: 200 }]);
  t.equal(first.open, 1);
  t.equal(nodes[2]?.open, 0, 'who is gone is not followed');
  first.send(recordOf('one', 1), encode(SAMPLE, { seen: 3, lost: 2 }));
  second.send(recordOf('zero', 0, 'deny'), encode(SAMPLE, { seen: 1 }));
  await until('a period', () => periods.length > 0);
  t.match(periods, [{ seen: 4, lost: 2, unavailable: [] }]);
  t.same(
    periods[0]?.records.map((r) => uuidOfRecord(r.bytes)),
    ['zero', 'one'],
  );
  end();
  await sleep(10);
  t.same([first.open, second.open], [0, 0]);
});

t.test('a node that sends what is no message is left, the others are heard', async (t) => {
  const [bad, good] = [new Node('bad'), new Node('good')];
  const periods: SamplePeriod[] = [];
  const end = mergedSamples(new Fleet([bad, good]), { ...QUICK, openMs: 0, retryMs: 5000 }).start(
    sampleQueryOf({}),
    (p) => periods.push(p),
    (e) => t.fail(String(e)),
  );
  bad.send(Buffer.from([0x0a, 0xff]));
  good.send(recordOf('fine', 0), encode(SAMPLE, { seen: 1 }));
  await until('a period', () => periods.length > 0);
  t.match(periods, [{ seen: 1, unavailable: ['bad'], records: { length: 1 } }]);
  t.equal(bad.open, 0);
  end();
});

t.test('what is held is bounded in bytes, for each rank by itself', async (t) => {
  const node = new Node('node');
  const periods: SamplePeriod[] = [];
  const end = mergedSamples(new Fleet([node]), QUICK).start(
    sampleQueryOf({ per_second: 100 }),
    (p) => periods.push(p),
    (e) => t.fail(String(e)),
  );
  // Whoever makes allowed flows large does not hide the denied ones.
  for (let n = 0; n < 200; n++) node.send(recordOf(`large-${n}`, n, 'allow', 30_000), encode(SAMPLE, { seen: 1 }));
  node.send(recordOf('denied', 500, 'deny'), encode(SAMPLE, { seen: 1 }));
  await until('a period', () => periods.length > 0);
  const [period] = periods as [SamplePeriod];
  t.equal(period.seen, 201);
  const bytes = period.records.reduce((sum, r) => sum + r.bytes.length, 0);
  t.ok(bytes < 300_000, `${bytes} bytes`);
  t.ok(period.records.length > 4);
  t.equal(uuidOfRecord(period.records.at(-1)?.bytes as Buffer), 'denied');
  end();
});

t.test('the past of a thousand nodes, some of which do not answer', async (t) => {
  const record = (node: number, n: number) => recordOf(`${node}-${n}`, n * 1000 + node);
  const nodes = Array.from({ length: 1000 }, (_, i) => {
    const node = new Node(
      `node-${i}`,
      Array.from({ length: 10 }, (_, n) => record(i, n)),
    );
    if (i % 500 !== 7) return node;
    return Object.assign(node, {
      sampleBytes: async function* (_: unknown, signal: AbortSignal) {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
    });
  });
  const source = mergedSamples(new Fleet(nodes), { ...QUICK, pastMs: 200 });
  const query = sampleQueryOf({ last: 2000 });
  const never = new AbortController().signal;
  const stopped = new AbortController();
  const pasts = Array.from({ length: 5 }, () => source.past(query, never));
  const givenUp = source.past(query, stopped.signal);
  stopped.abort();
  await givenUp;
  // A time limit must not be lost with what the collector takes.
  setFlagsFromString('--expose-gc');
  const collecting = setInterval(runInNewContext('gc'), 20);
  t.teardown(() => clearInterval(collecting));
  for (const past of await Promise.all(pasts)) {
    t.equal(past.records.length, 2000);
    t.same(past.unavailable, ['node-507', 'node-7']);
    const uuids = past.records.map((r) => uuidOfRecord(r.bytes));
    t.equal(uuids.at(-1), '999-9', 'the newest is last');
    t.ok(
      uuids.every((uuid) => /-[789]$/.test(uuid)),
      'those of the last seconds',
    );
    t.ok(past.has({ bytes: record(999, 9) }));
    t.notOk(past.has({ bytes: record(999, 0) }));
  }
  t.equal((nodes[0] as Node).open, 0, 'nothing stays open');
});
