/** The socket: real servers, real clients. Semantics of GetFlows over the wire, bad callers, health, reflection. */
import { NOTHING_SEEN } from '../edges/given.js';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials, status as grpcStatus, type ServiceError } from '@grpc/grpc-js';
import t from 'tap';
import { AgentError } from '../../src/errors.js';
import { Enricher } from '../../src/flow/names/enrich.js';
import { FlowHub } from '../../src/flow/hub/hub.js';
import { makeLogger } from '../../src/log.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { HEALTH, OBSERVER } from '../../src/proto/load.js';
import { MAX_REQUEST_BYTES } from '../../src/rpc/transport/base.js';
import { RpcServer } from '../../src/rpc/server.js';
import type { AgentStatus, AgentView, LearnedView, NamesQuery } from '../../src/rpc/view.js';
import { event, rule } from '../flow/flows.js';

const dir = mkdtempSync(join(tmpdir(), 'egress-agent-rpc-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));
const log = makeLogger('error', () => {});

const STATUS: AgentStatus = {
  version: '1.2.3',
  nodeName: 'node-a',
  mode: 'manifests',
  source: '/policies',
  pid: 7,
  startedAt: 1_700_000_000_000,
  uptimeNs: 5e9,
  attachMode: 'tcx',
  denyResponse: 'drop',
  endpoints: [
    {
      pod: 'shop/web',
      uid: 'u',
      interface: 'veth1',
      ifindex: 9,
      hooks: ['tcx ingress'],
      state: 'enforced',
      policies: 2,
      set: 2 ** 52 + 1,
      unproven: 0,
      lostEvents: 0,
      flows: 0,
      names: 7,
      namesRefused: 0,
      answersUntrusted: 0,
    },
  ],
  hooks: { attached: 1, expected: 2, problems: ['veth1 egress: gone'] },
  policies: {
    inForce: 3,
    staged: 1,
    refused: 1,
    problems: [{ severity: 'error', where: { object: 'NetworkPolicy a/b', field: 'spec' }, message: 'is wrong' }],
  },
  epoch: 4,
  maps: [{ name: 'rules', entries: 10, max: 100 }],
  flows: { perSecond: 1.5, seen: 2 ** 40, inTable: 12, share: 8192, notStored: 0, evicted: 0, busy: 0 },
  lost: { ring: [1, 2], queue: 3 },
  drops: { policy: 9 },
  staleness: { appliedAt: 1_700_000_001_000, failingSince: 1_700_000_002_000, lastError: 'no room' },
  namespaces: 1,
  names: {
    names: 12,
    pages: 20,
    share: 512,
    pageShare: 1024,
    refused: 0,
    overflow: 0,
    untrusted: 0,
    seeded: 0,
    resolvers: [],
    seen: [],
    dnsEventsLost: 0,
  },
  ledger: { beganMs: 1_700_000_000_000, edges: 3, max: 20_000, overflow: 0, forgotten: 0 },
  said: {
    inspected: 12,
    judged: 0,
    denied: 0,
    pending: 1,
    oversize: 0,
    withoutBuffer: 3,
    echWithoutRoom: 0,
    audited: 0,
    eventsLost: 4,
  },
};

const asked: NamesQuery[] = [];
const LEARNED: LearnedView = {
  pod: 'shop/web',
  name: 'api.example.com',
  asked: true,
  seeded: true,
  learnedAt: 1_700_000_000_000,
  answeredAt: 1_700_000_001_500,
  expiresAt: 1_700_000_060_000,
  resolver: '10.96.0.10:53',
  addresses: [{ ip: '203.0.113.1', alias: true, expiresAt: 1_700_000_060_000, ttl: 30 }],
  rules: [rule()],
};

const view: AgentView = {
  ...NOTHING_SEEN,
  status: () => STATUS,
  explain: (q) => {
    if (q.from !== 'shop/web') throw new AgentError('USAGE', `there is no pod ${q.from}`);
    return { packet: q, verdict: { verdict: 'deny', rule: 0, logged: [] }, targets: [], summary: 'because' } as never;
  },
  snapshot: () => {
    throw new Error('not asked for');
  },
  names: async (q) => {
    asked.push(q);
    if (q.ip === 'x') throw new AgentError('USAGE', 'x is not an IP address');
    return { names: [LEARNED], more: true };
  },
  policies: () => [{ kind: 'NetworkPolicy', namespace: 'shop', name: 'web', state: 'in-force', problems: [] }],
};

async function serve(name: string, hub = new FlowHub({ nodeName: 'node-a' })) {
  const path = join(dir, `${name}.sock`);
  const server = new RpcServer({ hub, view, log });
  await server.listen(path);
  const client = new AgentClient(path);
  const enricher = new Enricher({ nodeName: 'node-a' });
  const publish = (port: number, over = {}) =>
    hub.publish(enricher.enrich(event({ remotePort: port, timeNs: Number(process.hrtime.bigint()), ...over })));
  return { path, server, client, hub, publish };
}

async function ports(
  flows: AsyncIterable<{ record?: { flow: { l4?: { TCP?: { destination_port?: number } } } } }>,
): Promise<number[]> {
  const out: number[] = [];
  for await (const { record } of flows) if (record) out.push(record.flow.l4?.TCP?.destination_port ?? 0);
  return out;
}

t.test('the socket', async (t) => {
  const { path, server, client } = await serve('socket');
  t.equal(statSync(path).mode & 0o777, 0o660);
  await t.rejects(RpcServer.refuseIfServed(path), { code: 'AGENT' }, 'a second agent is refused');
  t.ok(statSync(path).isSocket(), 'and leaves the first one its socket');
  client.close();
  await server.close();
  t.throws(() => statSync(path), { code: 'ENOENT' }, 'gone with its server');
  const stale = join(dir, 'stale.sock');
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(stale, resolve));
  dead.close();
  writeFileSync(stale, '');
  const next = new RpcServer({ hub: new FlowHub({ nodeName: 'n' }), view, log });
  await next.listen(stale);
  t.ok(statSync(stale).isSocket(), 'a leftover is replaced');
  await next.close();
  const gone = new AgentClient(join(dir, 'nobody.sock'));
  await t.rejects(gone.status(), { code: 'AGENT', message: /no agent is running/ });
  gone.close();
});

t.test('flows: number, first, since, until, filters, all of 64 bits', async (t) => {
  const { client, server, publish } = await serve('flows');
  t.teardown(() => server.close());
  t.teardown(() => client.close());
  for (let port = 1; port <= 30; port++) publish(port);
  t.same(await ports(client.getRecords({ number: 3 })), [28, 29, 30], 'the newest, oldest first');
  t.same(await ports(client.getRecords({ number: 2, first: true })), [1, 2]);
  t.equal((await ports(client.getRecords({ number: '18446744073709551615' }))).length, 30);
  t.same(
    await ports(client.getRecords({ number: 2, whitelist: [{ destination_port: ['4', '5', '6'] }] })),
    [5, 6],
    'counted after the filter',
  );
  t.same(
    await ports(
      client.getRecords({
        number: 30,
        whitelist: [{ source_ip: ['10.0.0.0/8'] }],
        blacklist: [{ destination_port: ['30'] }, { destination_port: ['29'] }],
      }),
    ).then((p) => p.at(-1)),
    28,
  );
  t.same(await ports(client.getRecords({ since: { seconds: 1, nanos: 0 }, until: { seconds: 2, nanos: 0 } })), []);
  const now = Math.floor(Date.now() / 1000) - 60;
  t.equal(
    (await ports(client.getRecords({ since: { seconds: now, nanos: 0 }, number: 1 }))).length,
    30,
    'since beats number',
  );
  await t.rejects(ports(client.getRecords({ first: true, follow: true })), { code: 'USAGE' });
  await t.rejects(ports(client.getRecords({ whitelist: [{ source_ip: ['nonsense'] }] })), {
    code: 'USAGE',
    message: /source_ip/,
  });
  const masked = [];
  for await (const r of client.getFlows({ number: 1, field_mask: { paths: ['IP.destination', 'verdict'] } }))
    masked.push(r.flow);
  t.same(masked, [{ verdict: 'FORWARDED', IP: { destination: '192.0.2.1' } }]);
});

t.test('following', async (t) => {
  const { client, server, publish, hub } = await serve('follow', new FlowHub({ nodeName: 'node-a', capacity: 64 }));
  t.teardown(() => server.close());
  t.teardown(() => client.close());
  for (let port = 1; port <= 5; port++) publish(port);
  const stop = new AbortController();
  const got: number[] = [];
  const whose: string[] = [];
  let lost = 0;
  const reading = (async () => {
    for await (const r of client.getRecords({ number: 2, follow: true }, stop.signal)) {
      if (r.record) got.push(r.record.flow.l4?.TCP?.destination_port ?? 0);
      if (r.lost_events) lost += Number(r.lost_events.num_events_lost);
      if (r.lost_pod) whose.push(r.lost_pod);
    }
  })();
  const until = async (ready: () => boolean) => {
    for (let i = 0; i < 3000 && !ready(); i++) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  await until(() => got.length === 2);
  publish(6);
  await until(() => got.length === 3);
  t.same(got, [4, 5, 6]);
  hub.lostInRing(10, 1);
  hub.lostInRing(7, undefined, 'shop/web');
  await until(() => lost === 17);
  t.equal(lost, 17, 'losses in the kernel are told');
  t.same(whose, ['shop/web'], 'and whose events they were');
  // More at once than the ring holds: whoever reads slower than this is overtaken, and told by how many.
  for (let port = 100; port < 400; port++) publish(port);
  await until(() => got.includes(399) && lost > 17);
  t.ok(lost - 17 + got.filter((p) => p >= 100).length >= 299, `${lost - 17} lost and ${got.length} read of 300`);
  stop.abort();
  await reading;
  t.pass('ends when told to');
});

t.test('status, policies, explain', async (t) => {
  const { client, server } = await serve('status');
  t.teardown(() => server.close());
  t.teardown(() => client.close());
  const s = await client.status();
  t.match(s, {
    version: '1.2.3',
    flows_seen: String(2 ** 40),
    policies_in_force: 3,
    policies_staged: 1,
    lost_in_ring: ['1', '2'],
    drops: { policy: '9' },
    last_error: 'no room',
    said: { inspected: '12', pending: 1, without_buffer: '3', events_lost: '4' },
  });
  t.match(s.endpoints, [{ pod: 'shop/web', set: String(2 ** 52 + 1) }], 'an id of 53 bits survives');
  t.match(s.problems, [{ object: 'NetworkPolicy a/b', text: 'NetworkPolicy a/b: spec: is wrong' }]);
  t.match((await client.policies()).policies, [{ name: 'web', state: 'in-force' }]);
  t.equal((await client.explain({ from: 'shop/web', to: '10.0.0.1', port: 80, protocol: 6 })).verdict, 'deny');
  const said = async (input: object) => {
    const { json } = await client.explain({ from: 'shop/web', to: '10.0.0.1', port: 80, protocol: 6, said: input });
    return JSON.parse(json).packet.said;
  };
  t.same(await said({ server_name: '' }), { kind: 'tls' });
  t.same(await said({ server_name: 'a.example' }), { kind: 'tls', serverName: 'a.example' });
  t.match(await said({ http: { method: 'GET', host: 'a', path: '/b', headers: [{ key: 'C', value: 'd' }] } }), {
    headers: [
      ['host', 'a'],
      ['c', 'd'],
    ],
  });
  await t.rejects(said({ http: { host: 'a', path: '/../b' } }), { code: 'USAGE', message: /ambiguous/ });
  await t.rejects(client.explain({ from: 'shop/nobody', to: '10.0.0.1' }), {
    code: 'USAGE',
    message: /no pod shop\/nobody/,
  });
  await t.rejects(client.explain({ from: '@node/node-a', to: '10.0.0.1' }), { message: /no pod @node$/ }, 'this node');
  await t.rejects(client.explain({ from: '@node/b', to: '10.0.0.1' }), { code: 'USAGE', message: /node-a, not b/ });
  t.match(await client.serverStatus(), { num_connected_nodes: { value: 1 }, version: 'egress-agent v1.2.3' });
  t.match((await client.nodes()).nodes, [{ name: 'node-a', state: 'NODE_CONNECTED' }]);
});

t.test('health, reflection, what is not there, what is too large', async (t) => {
  const { path, server, client } = await serve('raw');
  t.teardown(() => server.close());
  t.teardown(() => client.close());
  const raw = new Client(`unix:${path}`, credentials.createInsecure());
  t.teardown(() => raw.close());
  const call = (method: string, bytes: Buffer) =>
    new Promise<Buffer>((resolve, reject) => {
      raw.makeUnaryRequest(
        method,
        (b: Buffer) => b,
        (b: Buffer) => b,
        bytes,
        (e: ServiceError | null, b?: Buffer) => (e ? reject(e) : resolve(b as Buffer)),
      );
    });
  const check = HEALTH.Check as NonNullable<(typeof HEALTH)['Check']>;
  for (const service of ['', 'hubble.server.Observer', 'observer.Observer']) {
    t.equal(
      (await call(check.path, check.requestSerialize({ service }) as Buffer)).toString('hex'),
      '0801',
      `${service || 'all'}: SERVING`,
    );
  }
  await t.rejects(call(check.path, check.requestSerialize({ service: 'x' }) as Buffer), { code: grpcStatus.NOT_FOUND });
  server.health.set('NOT_SERVING');
  t.equal((await call(check.path, Buffer.alloc(0))).toString('hex'), '0802');
  await t.rejects(call('/observer.Observer/Nothing', Buffer.alloc(0)), { code: grpcStatus.UNIMPLEMENTED });
  await t.rejects(call('/observer.Observer/ServerStatus', Buffer.alloc(MAX_REQUEST_BYTES + 1)), {
    code: grpcStatus.RESOURCE_EXHAUSTED,
  });
  await t.rejects(call('/egress.v1.Egress/Explain', Buffer.from('0affffffff', 'hex')), 'malformed bytes are an error');
  const services = await new Promise<string>((resolve, reject) => {
    const stream = raw.makeBidiStreamRequest(
      '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo',
      (b: Buffer) => b,
      (b: Buffer) => b,
    );
    stream.on('data', (b: Buffer) => resolve(b.toString('latin1')));
    stream.on('error', reject);
    stream.write(Buffer.from('3a012a', 'hex')); // list_services: "*"
    stream.end();
  });
  for (const name of ['observer.Observer', 'egress.v1.Egress', 'peer.Peer'])
    t.ok(services.includes(name), `reflection knows ${name}`);
  t.equal((await client.status()).version, '1.2.3', 'and the server is none the worse');
  t.ok(OBSERVER.GetFlows);
});

t.test('many readers, one of them stopped', async (t) => {
  const { path, server, publish } = await serve('many', new FlowHub({ nodeName: 'node-a', capacity: 4096 }));
  t.teardown(() => server.close());
  const stop = new AbortController();
  const clients = Array.from({ length: 20 }, () => new AgentClient(path));
  const counts = clients.map(() => 0);
  const readings = clients.map(async (c, i) => {
    for await (const r of c.getRecords({ follow: true, number: 1 }, stop.signal)) {
      counts[i] = (counts[i] ?? 0) + (r.record ? 1 : 0);
      if (stop.signal.aborted) break;
      // The last one takes one and then reads no more.
      if (i === 19) await new Promise((resolve) => stop.signal.addEventListener('abort', resolve));
    }
  });
  publish(1);
  for (let i = 0; i < 100 && counts.some((c) => c === 0); i++) await new Promise((resolve) => setTimeout(resolve, 20));
  for (let n = 0; n < 3000; n++) {
    publish(2 + n);
    if (n % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  for (let i = 0; i < 1500 && counts.slice(0, 19).some((c) => c < 3000); i++)
    await new Promise((resolve) => setTimeout(resolve, 20));
  t.ok(
    counts.slice(0, 19).every((c) => c >= 3000),
    `the others have all: ${Math.min(...counts.slice(0, 19))}`,
  );
  stop.abort();
  await Promise.all(readings);
  for (const c of clients) c.close();
});

t.test('learned names', async (t) => {
  const { server, client } = await serve('names');
  const { names, more } = await client.names({ pod: 'shop/web', name: '*.example.com', limit: 7 });
  t.same(asked.at(-1), { pod: 'shop/web', name: '*.example.com', ip: undefined, limit: 7 });
  t.equal(more, true);
  t.match(names, [
    {
      pod: 'shop/web',
      name: 'api.example.com',
      asked: true,
      seeded: true,
      learned_at: { seconds: '1700000000' },
      answered_at: { seconds: '1700000001', nanos: 500_000_000 },
      resolver: '10.96.0.10:53',
      addresses: [{ ip: '203.0.113.1', alias: true, ttl: 30 }],
      rules: [{ text: 'np/shop/web#2' }],
      node_name: 'node-a',
    },
  ]);
  await client.names({});
  t.same(asked.at(-1), { pod: undefined, name: undefined, ip: undefined, limit: 1000 });
  await client.names({ limit: 1_000_000 });
  t.equal(asked.at(-1)?.limit, 5000, 'bounded');
  await t.rejects(client.names({ ip: 'x' }), { code: 'USAGE', message: 'x is not an IP address' });
  client.close();
  await server.close();
});
