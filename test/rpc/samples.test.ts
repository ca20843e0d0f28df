/** SampleFlows of an agent, over a real socket: what is chosen, what is counted, and what it may cost. */
import { EventEmitter } from 'node:events';
import { join } from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { ServerWritableStream } from '@grpc/grpc-js';
import t from 'tap';
import { FlowHub } from '../../src/flow/hub/hub.js';
import { decode } from '../../src/proto/load.js';
import type { FlowFilter, FlowRecord, SampleFlowsRequest, SampleFlowsResponse } from '../../src/proto/messages.js';
import { ownSamples } from '../../src/rpc/sample/own.js';
import { type SamplePeriod, SampleStreams } from '../../src/rpc/sample/streams.js';
import { SAMPLE } from '../../src/rpc/sample/wire.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { flow, pod } from '../flow/flows.js';
import { RawIntake } from '../flow/raw.js';
import { TestAgent, tempDir, until } from '../relay/world.js';

t.setTimeout(120_000);

/** An agent that gets raw events, and a client of it. */
async function start(t: Parameters<typeof tempDir>[0], opts: ConstructorParameters<typeof RawIntake>[1] = {}) {
  const raw = new RawIntake('node-a', opts);
  const { hub } = raw.intake;
  const agent = new TestAgent('node-a', { hub });
  const path = join(tempDir(t), 'agent.sock');
  await agent.server.listen(path);
  const client = new AgentClient(path);
  t.teardown(async () => {
    client.close();
    await agent.server.close();
  });
  return { raw, hub, client };
}

/** A reader that has been accepted. */
class Reader {
  readonly got: SampleFlowsResponse[] = [];
  readonly #end = new AbortController();
  #done: Promise<void> = Promise.resolve();

  static async open(client: AgentClient, request: SampleFlowsRequest): Promise<Reader> {
    const reader = new Reader();
    await new Promise<void>((resolve, reject) => {
      reader.#done = (async () => {
        for await (const m of client.sampleFlows(request, reader.#end.signal, resolve)) reader.got.push(m);
      })();
      reader.#done.catch(reject);
    });
    return reader;
  }

  sum(field: 'seen' | 'lost'): number {
    return this.got.reduce((sum, m) => sum + Number(m[field] ?? 0), 0);
  }

  get records(): FlowRecord[] {
    return this.got.flatMap((m) => m.records ?? []);
  }

  async end(): Promise<void> {
    this.#end.abort();
    await this.#done;
  }
}

const timeOf = ({ flow }: FlowRecord) => Number(flow.time?.seconds) + Number(flow.time?.nanos ?? 0) / 1e9;
const uuids = (records: readonly FlowRecord[]) => records.map((r) => r.flow.uuid as string);

t.test('the denied first, the rest from all of the second, all of them counted', async (t) => {
  const { raw, hub, client } = await start(t);
  const reader = await Reader.open(client, { per_second: 50 });
  t.ok(hub.isRead, 'it is a reader');
  for (let n = 0; n < 20_000; n++) {
    const special = n % 2000 === 1999 ? ({ verdict: 'deny' } as const) : {};
    const audited = n % 4000 === 7 ? ({ audit: 'deny' } as const) : {};
    raw.add({ localPort: 1000 + n, ...special, ...audited, ...(n === 12 ? { verdict: 'partial' } : {}) });
    if (n % 500 === 499) await sleep(10);
  }
  await until('all are counted', () => reader.sum('seen') === 20_000);
  t.equal(reader.sum('lost'), 0);
  const { records } = reader;
  const count = (what: (r: FlowRecord) => boolean) => records.filter(what).length;
  t.equal(
    count((r) => r.verdict === 'deny'),
    10,
    'every denied one',
  );
  t.equal(
    count((r) => r.audit_verdict === 'deny'),
    5,
    'every one that the audit denies',
  );
  t.equal(
    count((r) => r.verdict === 'partial'),
    1,
  );
  for (const m of reader.got) {
    t.ok((m.records?.length ?? 0) <= 50);
    const times = (m.records ?? []).map(timeOf);
    t.same(
      times,
      [...times].sort((a, b) => a - b),
      'in order of time',
    );
  }
  const ports = records.map((r) => Number(r.flow.l4?.TCP?.source_port));
  t.equal(new Set(ports).size, ports.length, 'none twice');
  for (const part of [0, 1, 2, 3])
    t.ok(
      ports.some((p) => Math.floor((p - 1000) / 5000) === part),
      `quarter ${part}`,
    );
  t.match(records[0], { flow: { source: { pod_name: 'web-1', namespace: 'shop' }, node_name: 'node-a' } });
  await reader.end();
  await until('nobody reads', () => !hub.isRead);
});

t.test('what a request asks too much of is refused by the name of its field', async (t) => {
  const { client } = await start(t);
  const refused = async (request: SampleFlowsRequest) => {
    for await (const _ of client.sampleFlows(request)) return;
  };
  await t.rejects(refused({ per_second: 2001 }), { code: 'USAGE', message: /^per_second: 2001 .*2000/ });
  await t.rejects(refused({ last: 5001 }), { code: 'USAGE', message: /^last: 5001 .*5000/ });
  await t.rejects(refused({ whitelist: [{ source_ip: ['x'] }] }), {
    code: 'USAGE',
    message: /whitelist\[0\].source_ip/,
  });
  await t.rejects(refused({ blacklist: [{ http_path: ['('] }] }), {
    code: 'USAGE',
    message: /blacklist\[0\].http_path/,
  });
});

t.test('with filters, the same records as GetFlows while there are few', async (t) => {
  const { raw, hub, client } = await start(t);
  const requests: { whitelist?: FlowFilter[]; blacklist?: FlowFilter[] }[] = [
    {},
    { whitelist: [{ verdict: ['DROPPED'] }] },
    { whitelist: [{ source_pod: ['shop/web-2'] }, { destination_ip: ['192.0.2.0/29'] }] },
    { blacklist: [{ source_pod: ['shop/web-3'] }] },
    { whitelist: [{ protocol: ['dns'] }] },
    { whitelist: [{ verdict: ['AUDIT'], source_pod: ['shop/'] }], blacklist: [{ destination_ip: ['192.0.2.9'] }] },
  ];
  const pairs = await Promise.all(
    requests.map(async (request) => {
      const reader = await Reader.open(client, { ...request, per_second: 2000 });
      const records: FlowRecord[] = [];
      const stop = new AbortController();
      await new Promise<void>((resolve) => {
        void (async () => {
          for await (const { record } of client.getRecords({ ...request, follow: true }, stop.signal, resolve))
            if (record) records.push(record);
        })();
      });
      return { reader, records, stop };
    }),
  );
  const verdicts = ['allow', 'deny', 'partial'] as const;
  for (let n = 0; n < 600; n++) {
    raw.add({
      endpoint: 1 + (n % 4),
      verdict: verdicts[n % 3] as 'allow',
      audit: n % 5 === 0 ? 'deny' : 'none',
      remote: `192.0.2.${n % 20}`,
      localPort: n,
    });
    const dns = { query: 'a.example', isRead: true, queryType: 'A', isAnswer: false, rcode: 0, ips: [], cnames: [] };
    if (n % 100 === 0) hub.publish(flow({ uuid: `dns-${n}`, dns: { ...dns, ttl: 0, recordTypes: [], latencyNs: 0 } }));
    if (n % 100 === 0) await sleep(20);
  }
  const [all] = pairs as [(typeof pairs)[0]];
  await until('all were read', () => all.reader.sum('seen') === 606 && all.records.length === 606);
  await sleep(1200);
  for (const [n, { reader, records, stop }] of pairs.entries()) {
    await until(`all of ${n}`, () => reader.records.length === records.length);
    const byUuid = (a: FlowRecord, b: FlowRecord) => ((a.flow.uuid as string) < (b.flow.uuid as string) ? -1 : 1);
    t.ok(records.length > 0, `${records.length} of ${n}`);
    t.same([...reader.records].sort(byUuid), [...records].sort(byUuid), JSON.stringify(requests[n]));
    t.equal(reader.sum('seen'), records.length);
    stop.abort();
    await reader.end();
  }
});

t.test('what there is already comes first, and not again', async (t) => {
  const { raw, client } = await start(t);
  for (let n = 0; n < 300; n++) raw.add({ localPort: n, endpoint: 1 + (n % 2) });
  const early = await Reader.open(client, {});
  let n = 300;
  const timer = setInterval(() => raw.add({ localPort: n, endpoint: 1 + (n++ % 2) }), 2);
  await sleep(300);
  const late = await Reader.open(client, { last: 100 });
  const some = await Reader.open(client, { last: 10, whitelist: [{ source_pod: ['shop/web-2'] }] });
  await until('the past, and two seconds', () => late.got.length > 2 && some.got.length > 2);
  clearInterval(timer);
  await until('the last', () => early.sum('seen') === n - 300);
  const [first, ...others] = late.got;
  t.ok(first?.past);
  t.equal(first?.records?.length, 100);
  t.ok(others.every((m) => !m.past));
  const all = uuids(late.records);
  t.equal(new Set(all).size, all.length, 'none twice');
  t.same(all, [...all].sort(), 'in order');
  t.notOk(early.got.some((m) => m.past));
  t.equal(some.got[0]?.records?.length, 10);
  t.ok(some.records.every((r) => r.flow.source?.pod_name === 'web-2'));
  t.equal(
    (await lastOnly(client, { last: 5000, whitelist: [{ uuid: ['none'] }] })).records,
    undefined,
    'an empty past',
  );
  for (const reader of [early, late, some]) await reader.end();
});

async function lastOnly(client: AgentClient, request: SampleFlowsRequest): Promise<SampleFlowsResponse> {
  for await (const m of client.sampleFlows(request)) return m;
  throw new Error('no answer');
}

t.test('what nobody could look at is counted as lost', async (t) => {
  const { raw, hub, client } = await start(t, { batch: 20_000 });
  const reader = await Reader.open(client, {});
  for (let n = 0; n < 20_000; n++) raw.add({ localPort: n });
  await until('overtaken', () => reader.sum('seen') + reader.sum('lost') === 20_000);
  t.equal(reader.sum('seen'), 8191, 'as many as the ring holds');
  t.equal(hub.stats().queueLost, 20_000 - 8191);
  hub.lostInRing(7, 0, 'shop/web-1');
  hub.lostInRing(3);
  await until('lost in the ring', () => reader.sum('lost') === 20_000 - 8191 + 10);
  await reader.end();
});

t.test('a filter looks at so many a second, in short turns', async (t) => {
  const { raw, client } = await start(t, { batch: 500 });
  const reader = await Reader.open(client, { whitelist: [{ ip_version: ['IPv4'] }] });
  const only = await Reader.open(client, { whitelist: [{ verdict: ['DROPPED'] }] });
  let longest = 0;
  for (let n = 0; n < 60_000; n++) {
    raw.add({ localPort: n % 60_000, verdict: n % 1000 === 0 ? 'deny' : 'allow' });
    if (n % 500 !== 499) continue;
    const before = performance.now();
    await turn();
    longest = Math.max(longest, performance.now() - before);
  }
  await until('all are counted', () => reader.sum('seen') + reader.sum('lost') === 60_000);
  t.ok(reader.sum('seen') >= 10_000, `${reader.sum('seen')} looked at`);
  t.ok(reader.sum('lost') > 10_000, `${reader.sum('lost')} not`);
  await until('those of a kind cost nothing', () => only.sum('seen') === 60);
  t.equal(only.sum('lost'), 0);
  t.ok(longest < 100, `turns of at most ${longest.toFixed(1)} ms`);
  for (const r of [reader, only]) await r.end();
});

t.test('labels of any size do not hide a flow', async (t) => {
  const labels = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`label-${n}`, 'x'.repeat(60)]));
  const { raw, client } = await start(t, {
    pods: [pod('shop', 'large', '10.0.0.1', { labels }), pod('shop', 'b', '10.0.0.2')],
  });
  const reader = await Reader.open(client, { per_second: 10 });
  raw.add({ endpoint: 1, verdict: 'deny' });
  raw.add({ endpoint: 2 });
  await until('both', () => reader.records.length === 2);
  const [large, small] = reader.records;
  t.match(large, {
    verdict: 'deny',
    flow: { source: { pod_name: 'large', namespace: 'shop' } },
    rule: { name: 'web' },
  });
  t.equal(large?.flow.source?.labels, undefined);
  t.ok(small?.flow.source?.labels?.length);
  const past = await lastOnly(client, { last: 10 });
  t.same(uuids(past.records ?? []), uuids(reader.records), 'nor of the past');
  await reader.end();
});

t.test('equal requests share a sample, and a slow caller takes no memory', async (t) => {
  const started: ((period: SamplePeriod) => void)[] = [];
  let ended = 0;
  const source = {
    start: (_: unknown, put: (period: SamplePeriod) => void) => {
      started.push(put);
      return () => void ended++;
    },
    past: async () => ({ records: [], unavailable: [], has: () => false }),
  };
  const streams = new SampleStreams(source, { callers: 4, samples: () => 2 });
  const [slow, quick] = [new Call({ per_second: 7 }), new Call({ per_second: 7 })];
  slow.isFull = true;
  const served = [slow, quick].map((call) => streams.serve(call.real));
  await turn();
  t.equal(started.length, 1, 'one sample for both');
  const record = { bytes: Buffer.from([0x0a, 0]) };
  for (let n = 0; n < 100; n++) {
    started[0]?.({ records: [record], seen: 10, lost: 1, unavailable: n > 50 ? ['node-x'] : [] });
    await turn();
  }
  t.equal(quick.written.length, 100);
  t.equal(quick.written[0], slow.written[0], 'encoded once');
  t.equal(slow.written.length, 1, 'it has not read what it was sent first');
  slow.isFull = false;
  slow.emit('drain');
  await turn();
  const got = slow.written.map((bytes) => decode<SampleFlowsResponse>(SAMPLE, bytes));
  t.equal(got.length, 4, 'and then what was kept');
  t.equal(
    got.reduce((sum, m) => sum + Number(m.seen), 0),
    1000,
    'but all are counted',
  );
  t.equal(
    got.reduce((sum, m) => sum + Number(m.lost), 0),
    100,
  );
  t.same(got.at(-1)?.unavailable_nodes, ['node-x']);

  const [other, third, fourth] = [new Call({ per_second: 8 }), new Call({ per_second: 9 }), new Call({ last: 1 })];
  served.push(streams.serve(other.real));
  await streams.serve(third.real);
  t.match(third.refusal, { code: 8, details: /more than 2 different samples/ });
  served.push(streams.serve(new Call({ per_second: 8 }).real));
  await streams.serve(fourth.real);
  t.match(fourth.refusal, { code: 8, details: /more than 4 readers/ });
  quick.emit('cancelled');
  await turn();
  t.equal(ended, 0, 'one is left');
  slow.emit('cancelled');
  await turn();
  t.equal(ended, 1);
  streams.close();
  await Promise.all(served);
  t.equal(ended, 2);
});

t.test('what goes wrong with a flow ends the sample, and nothing else', async (t) => {
  const hub = new FlowHub({ nodeName: 'node-a' });
  let isBroken = true;
  const source = ownSamples(hub, () => {
    if (isBroken) throw new Error('no such flow');
    return undefined;
  });
  const streams = new SampleStreams(source, { callers: 9, samples: () => 9 });
  const calls = [new Call({}), new Call({}), new Call({ whitelist: [{ verdict: ['DROPPED'] }] })] as const;
  const served = calls.map((call) => streams.serve(call.real));
  await turn();
  hub.publish(flow());
  await Promise.all(served.slice(0, 2));
  for (const call of calls.slice(0, 2)) t.match(call.refusal, { code: 13, details: 'no such flow' });
  isBroken = false;
  const next = new Call({});
  served.push(streams.serve(next.real));
  await turn();
  hub.publish(flow({}, { verdict: 'deny' }));
  await until('others go on', () => next.written.length > 0 && calls[2].written.length > 0);
  t.match(decode(SAMPLE, next.written[0] as Buffer), { seen: '1', records: [{ verdict: 'deny' }] });
  t.ok(hub.isRead);
  streams.close();
  await Promise.all(served);
  t.notOk(hub.isRead);
});

/** The server's side of a call. */
class Call extends EventEmitter {
  readonly written: Buffer[] = [];
  refusal: unknown;
  isFull = false;
  cancelled = false;

  constructor(readonly request: SampleFlowsRequest) {
    super();
    this.on('error', (e) => {
      this.refusal = e;
    });
  }

  get real(): ServerWritableStream<SampleFlowsRequest, Buffer> {
    return this as unknown as ServerWritableStream<SampleFlowsRequest, Buffer>;
  }

  write(bytes: Buffer): boolean {
    this.written.push(bytes);
    return !this.isFull;
  }

  sendMetadata(): void {}

  end(): void {}
}
