/** OTLP: every field as a collector reads it; collectors that refuse, are slow, away, and come back. */
import { mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js';
import t from 'tap';
import { Exports } from '../../src/export/exports.js';
import type { GetRecordsResponse } from '../../src/proto/messages.js';
import { VERSION } from '../../src/version.js';
import { rule, WEB, WORLD } from '../flow/flows.js';
import { certificates } from './certificates.js';
import { memoryLog, partial, type Received, Receiver, readRequest, response, spec, Stream, until } from './given.js';

async function exporting(url: string) {
  const stream = new Stream();
  const { log, lines } = memoryLog();
  const exports = await Exports.start({ specs: [await spec(url)], source: stream.source, node: 'node-a', log });
  return { stream, exports, lines, state: () => exports.status()[0] as ReturnType<Exports['status']>[number] };
}

const numbered = (n: number) => response({ source: { ...WEB, port: n } }, { localPort: n });
const ports = (records: readonly Received[]) => records.map((r) => Number(r.attributes['source.port']));

t.test('fields', async (t) => {
  const receiver = await Receiver.start();
  t.teardown(() => receiver.close());
  const dir = t.testdir({ headers: '# secrets\nAuthorization: Bearer abc\n\nx-b: 2\r\n' });
  const params = `header.x-a=1&headers-file=${join(dir, 'headers')}&filter=--verdict DENIED`;
  const { stream, exports, lines } = await exporting(`otlp+http://127.0.0.1:${receiver.port}?${params}`);
  const denied = response(
    {
      destination: WORLD,
      rule: rule(),
      destinationNames: ['api.example.com'],
      said: { kind: 'http', serverName: '', method: 'POST', host: 'api.example.com', path: '/v1?q', isCut: false },
    },
    { type: 'drop', verdict: 'deny', reason: 'rule', drops: 7, bytesOut: 123456789012 },
  );
  const audited = response({ auditRule: rule({ staged: true }) }, { auditVerdict: 'deny' });
  const answered = response(
    { source: WORLD, destination: WEB, sourceNames: ['api.example.com'] },
    { isReply: true, hook: 'to-pod' },
  );
  const lost: GetRecordsResponse = {
    lost_events: { source: 'PERF_EVENT_RING_BUFFER', num_events_lost: 17 },
    lost_pod: 'shop/web-1',
    node_name: 'node-a',
    time: { seconds: 1_700_000_000, nanos: 5 },
  };
  stream.put(denied, audited, answered, lost, { node_status: { state_change: 'NODE_GONE', node_names: ['b'] } });
  await until('it has come', () => receiver.records.length === 4);
  t.match(stream.requests, [{ follow: true, whitelist: [{ verdict: ['DROPPED'] }] }]);
  t.match(receiver.headers[0], {
    'x-a': '1',
    'x-b': '2',
    authorization: 'Bearer abc',
    'user-agent': `egress-agent/${VERSION}`,
    'content-type': 'application/x-protobuf',
  });
  t.equal(receiver.urls[0], 'POST /v1/logs');
  const [one, two, three, four] = receiver.records as [Received, Received, Received, Received];
  t.strictSame(one, {
    resource: { 'service.name': 'egress-agent', 'service.version': VERSION, 'k8s.node.name': 'node-a' },
    scope: { name: 'egress-agent', version: VERSION },
    timeNs: 1_700_000_100_000_000_000n,
    severity: 13,
    severityText: 'WARN',
    body: 'shop/web-1 -> api.example.com (192.0.2.1):443/tcp DENIED http POST http://api.example.com/v1?q np/shop/web#2 (drop)',
    event: 'egress.flow',
    attributes: {
      'egress.verdict': 'deny',
      'source.address': '10.0.0.1',
      'source.port': 40000,
      'destination.address': '192.0.2.1',
      'destination.port': 443,
      'network.transport': 'tcp',
      'egress.event': 'drop',
      'egress.rule': 'np/shop/web#2',
      'egress.reason': 'rule',
      'egress.source.namespace': 'shop',
      'egress.source.pod': 'web-1',
      'egress.source.workload': 'Deployment/web',
      'egress.destination.names': ['api.example.com'],
      'egress.direction': 'egress',
      'network.protocol.name': 'http',
      'http.request.method': 'POST',
      'url.full': 'http://api.example.com/v1?q',
      'egress.bytes_out': 123456789012,
      'egress.packets_out': 1,
      'egress.drops': 7,
      'egress.uuid': denied.record.flow.uuid,
      'k8s.namespace.name': 'shop',
      'k8s.pod.name': 'web-1',
      'k8s.deployment.name': 'web',
    },
  });
  t.match(two, { severityText: 'NOTICE', severity: 10, attributes: { 'egress.audit.verdict': 'deny' } });
  t.match(
    three.attributes,
    { 'source.address': '10.0.0.1', 'destination.address': '192.0.2.1', 'k8s.pod.name': 'web-1' },
    'a reply is told by who opened its connection',
  );
  t.match(four, {
    event: 'egress.lost',
    timeNs: 1_700_000_000_000_000_005n,
    attributes: { 'egress.lost.flows': 17, 'egress.lost.where': 'ring', 'egress.lost.pod': 'shop/web-1' },
  });
  await until('it is counted', () => exports.status()[0]?.exported === 3);
  t.match(exports.status(), [{ target: `otlp+http://127.0.0.1:${receiver.port}`, exported: 3, lost: { source: 17 } }]);
  await exports.close(1000);
  t.notMatch(lines.join(''), /abc|x-a/);
});

t.test('refused, in part and as a whole', async (t) => {
  const receiver = await Receiver.start();
  t.teardown(() => receiver.close());
  const { stream, exports, lines, state } = await exporting(`otlp+http://127.0.0.1:${receiver.port}`);
  receiver.answer = () => ({ body: partial(2, 'too old\nforged line') });
  stream.put(...[1, 2, 3, 4, 5].map(numbered));
  await until('some are refused', () => state().lost.refused === 2);
  t.equal(state().exported, 3);
  receiver.answer = () => ({ status: 401 });
  stream.put(...[6, 7, 8].map(numbered));
  await until('all are refused', () => (state().lost.refused ?? 0) >= 5);
  t.equal(state().exported, 3);
  t.match(state().lastError, /HTTP 401/);
  receiver.answer = () => ({});
  stream.put(numbered(9));
  await until('the rest arrives', () => ports(receiver.records).includes(9));
  const told = receiver.records.filter((r) => r.event === 'egress.lost');
  const sum = told.reduce((n, r) => n + Number(r.attributes['egress.lost.flows']), 0);
  t.equal(sum, 5, 'the output tells of them');
  t.equal(told[0]?.attributes['egress.lost.where'], 'export');
  await until('it is counted', () => state().reconnects === 1);
  t.equal(lines.filter((l) => l.split('\n').length > 2).length, 0, 'no line of the log is forged');
  await exports.close(1000);
});

t.test('away, and back: what found room arrives, the rest is counted', async (t) => {
  const first = await Receiver.start();
  const { port } = first;
  await first.close();
  const { stream, exports, state, lines } = await exporting(`otlp+http://127.0.0.1:${port}?queue=100`);
  for (let n = 1; n <= 250; n++) stream.put(numbered(n));
  await until('it is tried in vain', () => state().failingSince !== undefined);
  t.match(state(), { exported: 0, queued: 100, lost: { queue: 150 } });
  const receiver = await Receiver.start(port);
  t.teardown(() => receiver.close());
  await until('they arrive', () => state().exported === 100);
  stream.put(numbered(1000));
  await until('the notice and the next', () => receiver.records.length === 102, 20_000);
  const numbers = ports(receiver.records);
  t.strictSame(
    numbers.slice(0, 100),
    Array.from({ length: 100 }, (_, i) => i + 1),
    'the first ones, in order',
  );
  t.match(receiver.records[100], { event: 'egress.lost', attributes: { 'egress.lost.flows': 150 } });
  t.equal(numbers[101], 1000);
  await until('it is counted', () => state().exported === 101);
  t.match(state(), { exported: 101, queued: 0, reconnects: 1, failingSince: undefined });
  t.equal(lines.filter((l) => l.includes('cannot be exported')).length, 1, 'one line for one outage');
  await exports.close(1000);
});

t.test('503 is tried again, with the pause that was asked for', async (t) => {
  const receiver = await Receiver.start();
  t.teardown(() => receiver.close());
  let tries = 0;
  receiver.answer = () => (++tries < 3 ? { status: 503, headers: { 'retry-after': '1' } } : {});
  const { stream, exports, state } = await exporting(`otlp+http://127.0.0.1:${receiver.port}?gzip=on`);
  const start = Date.now();
  stream.put(numbered(1));
  await until('it is counted', () => state().exported === 1);
  t.ok(Date.now() - start > 2900, 'linger, and a second twice at least');
  t.match(state(), { exported: 1, lost: {} });
  t.equal(receiver.headers[0]?.['content-encoding'], 'gzip');
  await exports.close(1000);
});

t.test('a collector that never answers holds neither memory nor the end', async (t) => {
  const receiver = await Receiver.start();
  t.teardown(() => receiver.close());
  receiver.answer = () => undefined;
  const { stream, exports, state } = await exporting(`otlp+http://127.0.0.1:${receiver.port}?queue=64`);
  for (let n = 0; n < 5000; n++) stream.put(numbered(n));
  await until('all are read', () => stream.isRead);
  t.match(state(), { queued: 64, lost: { queue: 4936 } });
  const start = Date.now();
  await exports.close(500);
  t.ok(Date.now() - start < 2000);
  t.equal(state().lost.shutdown, 64);
});

t.test('the end writes what is there', async (t) => {
  const receiver = await Receiver.start();
  t.teardown(() => receiver.close());
  const { stream, exports } = await exporting(`otlp+http://127.0.0.1:${receiver.port}`);
  for (let n = 0; n < 3000; n++) stream.put(numbered(n));
  await exports.close(5000);
  t.equal(receiver.records.length, 3000);
});

t.test('TLS with certificates of both sides', async (t) => {
  const dir = mkdtempSync(join(t.testdir(), 'tls-'));
  certificates(dir);
  const file = (name: string) => readFileSync(join(dir, name));
  const receiver = await Receiver.start(0, {
    cert: file('server.crt'),
    key: file('server.key'),
    ca: file('ca.crt'),
    requestCert: true,
  });
  t.teardown(() => receiver.close());
  const files = `ca=${dir}/ca.crt&cert=${dir}/client.crt&key=${dir}/client.key`;
  const good = await exporting(`otlp+https://127.0.0.1:${receiver.port}?${files}&server-name=collector`);
  good.stream.put(numbered(1));
  await until('it arrives', () => receiver.records.length === 1);
  await good.exports.close(1000);
  const refused = async (bad: string) => {
    const { stream, exports, state } = await exporting(`otlp+https://127.0.0.1:${receiver.port}?${bad}`);
    stream.put(numbered(2));
    await until('it is refused', () => state().failingSince !== undefined);
    await exports.close(10);
  };
  const stranger = `ca=${dir}/client.crt&server-name=collector`;
  await Promise.all(
    [files, stranger, `${files}&server-name=other`, `ca=${dir}/ca.crt&server-name=collector`].map(refused),
  );
  t.equal(receiver.records.length, 1);
});

t.test('gRPC', async (t) => {
  const records: Received[] = [];
  const metadata: Metadata[] = [];
  let fail: { code: status; details: string } | undefined = { code: status.UNAVAILABLE, details: 'later' };
  const server = new Server();
  const same = (bytes: Buffer) => bytes;
  const path = '/opentelemetry.proto.collector.logs.v1.LogsService/Export';
  const method = { path, requestStream: false, responseStream: false } as const;
  server.addService(
    {
      Export: {
        ...method,
        requestSerialize: same,
        requestDeserialize: same,
        responseSerialize: same,
        responseDeserialize: same,
      },
    },
    {
      Export: (call: { request: Buffer; metadata: Metadata }, done: (e: object | null, answer?: Buffer) => void) => {
        metadata.push(call.metadata);
        if (fail) return done(fail);
        records.push(...readRequest(call.request));
        return done(null, partial(1, 'one is bad'));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (e, p) => (e ? reject(e) : resolve(p))),
  );
  t.teardown(() => server.forceShutdown());
  const { stream, exports, state } = await exporting(`otlp+grpc://127.0.0.1:${port}?header.x-a=1&gzip=on`);
  stream.put(numbered(1), numbered(2));
  await until('it fails', () => state().failingSince !== undefined);
  fail = undefined;
  await until('they arrive', () => records.length >= 2);
  t.strictSame(ports(records).slice(0, 2), [1, 2]);
  await until('it is counted', () => state().lost.refused === 1);
  t.equal(state().exported, 1);
  t.strictSame(metadata[0]?.get('x-a'), ['1']);
  fail = { code: status.PERMISSION_DENIED, details: 'no' };
  stream.put(numbered(3));
  await until('it is refused', () => (state().lost.refused ?? 0) >= 2);
  t.match(state().lastError, /no$/);
  await exports.close(1000);
});
