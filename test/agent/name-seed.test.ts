/** Names in policies, resolved for pods that ran before the agent. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { type Answer, NameSeeder, type SeededName, type SeedTarget } from '../../agent/resolvers/seed.js';
import type { TrustedServer } from '../../agent/resolvers/resolvers.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Ir } from '../../src/ir/types.js';
import { pod, snapshot } from '../flow/flows.js';

const DNS: TrustedServer = { ip: '10.96.0.10', port: 53, source: 'kube-system/kube-dns', asked: true };
const BACKEND: TrustedServer = { ...DNS, ip: '10.244.0.5', asked: false };
const WEB: SeedTarget = { id: 1, ifindex: 7, key: 'shop/web' };
const DB: SeedTarget = { id: 2, ifindex: 8, key: 'data/db' };
const PODS = snapshot([pod('shop', 'web', '10.244.0.2'), pod('data', 'db', '10.244.0.3')]);

/** A policy of all pods of namespace shop, with these destinations. */
function policies(...peers: Peer[]): Ir {
  const policy = { dialect: 'test', kind: 'Test', name: 'p' };
  const ref = { policy, index: 0, tier: 't', staged: false, action: 'allow' as const };
  const rules = [{ ref, action: 'allow' as const, peers, ports: null }];
  const subject = { namespaces: { names: ['shop'] }, pods: { op: 'true' as const } };
  return {
    tiers: [{ name: 't', order: 1, defaultAction: 'deny', policies: [{ ref: policy, subject, rules, staged: false }] }],
  };
}

const names = (...patterns: string[]): Peer => ({ kind: 'names', patterns });

function bed(ask: (server: { ip: string }, name: string) => Promise<Answer[]>, known: string[] = []) {
  const entered: SeededName[] = [];
  const asked: string[] = [];
  const said: string[] = [];
  const say = (m: string) => said.push(m);
  const seeder = new NameSeeder({
    enter: (seed) => entered.push(seed) > 0,
    knows: (_endpoint, name) => known.includes(name),
    trusted: () => [BACKEND, DNS],
    log: { error: say, warn: say, info: say, debug: () => {} } as never,
    ask: async (server, name) => {
      asked.push(`${server.ip} ${name}`);
      return ask(server, name);
    },
    procDir: '/nonexistent-is-not-read',
  });
  return { seeder, entered, asked, said };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

t.test('exact names of the policies that select the pod, once', async (t) => {
  const { seeder, entered, asked } = bed(
    async () => [
      { ip: '203.0.113.1', ttlS: 60 },
      { ip: '2001:db8::1', ttlS: 5 },
    ],
    ['known.example'],
  );
  seeder.ranBefore([WEB, DB]);
  const ir = policies(names('api.example.com', '*.example.com', 'known.example'), {
    kind: 'all',
    of: [names('db.example.com'), { kind: 'not', of: { kind: 'nodes', labels: { op: 'true' } } }],
  });
  seeder.applied(ir, PODS);
  await settled();
  t.same(
    asked,
    ['10.96.0.10 api.example.com', '10.96.0.10 db.example.com'],
    'no pattern, nothing that is known, no backend',
  );
  t.same(entered[0], { endpoint: 1, ifindex: 7, name: 'api.example.com', ip: '203.0.113.1', ttlS: 60, resolver: DNS });
  t.equal(entered.length, 4);
  t.equal(seeder.entered, 4);
  seeder.applied(policies(names('api.example.com', 'later.example.com')), PODS);
  await settled();
  t.same(asked.slice(2), ['10.96.0.10 later.example.com'], 'of a policy that comes later, only what is new');
  seeder.keep(new Set([2]));
  seeder.applied(policies(names('last.example.com')), PODS);
  await settled();
  t.equal(asked.length, 3, 'the pod has gone');
});

t.test('a pod that starts later asks by itself', async (t) => {
  const { seeder, asked } = bed(async () => []);
  seeder.applied(policies(names('api.example.com')), PODS);
  await settled();
  t.same(asked, []);
});

t.test('a resolver that fails is not asked for ever', async (t) => {
  const { seeder, asked, said } = bed(async () => {
    throw new Error('no answer');
  });
  seeder.ranBefore([WEB]);
  seeder.applied(policies(names('api.example.com')), PODS);
  await settled();
  t.equal(asked.length, 1);
  t.same(said, [], 'it is tried again later');
  seeder.close();
});

t.test('a policy with very many names', async (t) => {
  const { seeder, asked, said } = bed(async () => []);
  seeder.ranBefore([WEB]);
  seeder.applied(policies(names(...Array.from({ length: 3000 }, (_, i) => `n${i}.example`))), PODS);
  for (let i = 0; i < 50 && asked.length < 1024; i++) await settled();
  t.equal(asked.length, 1024);
  t.match(said, [/too many names/]);
});

t.test('a resolver on the wire: A and AAAA, and what has no address', async (t) => {
  const server = createSocket('udp4');
  t.teardown(() => server.close());
  server.on('message', (query, { port, address }) => {
    const end = query.indexOf(0, 12) + 5;
    const type = query.readUInt16BE(end - 4);
    const gone = query.includes('gone');
    const data = type === 1 ? Buffer.from([203, 0, 113, 9]) : Buffer.from('20010db8000000000000000000000009', 'hex');
    const record = Buffer.concat([Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 77, 0, data.length]), data]);
    const header = Buffer.from(query.subarray(0, end));
    header.writeUInt16BE(gone ? 0x8183 : 0x8180, 2);
    header.writeUInt16BE(gone ? 0 : 1, 6);
    header.writeUInt16BE(0, 10);
    server.send(gone ? header : Buffer.concat([header, record]), port, address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const entered: SeededName[] = [];
  const seeder = new NameSeeder({
    enter: (seed) => entered.push(seed) > 0,
    knows: () => false,
    trusted: () => [{ ...DNS, ip: '127.0.0.1', port: (server.address() as AddressInfo).port }],
    log: { error: t.fail, warn: t.fail, info: () => {}, debug: () => {} } as never,
  });
  seeder.ranBefore([WEB]);
  seeder.applied(policies(names('api.example.com', 'gone.example.com')), PODS);
  for (let i = 0; i < 100 && entered.length < 2; i++) await settled();
  t.same(entered.map(({ name, ip, ttlS }) => [name, ip, ttlS]).sort(), [
    ['api.example.com', '2001:db8::9', 77],
    ['api.example.com', '203.0.113.9', 77],
  ]);
});
