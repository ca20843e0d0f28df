/** What people read of rules that ask what connections say, and what they write of connections. */
import t from 'tap';
import { toIr } from '../../src/dialects/index.js';
import { describeRule, describeSaid } from '../../src/ir/describe.js';
import { explain } from '../../src/ir/explain.js';
import type { Rule } from '../../src/ir/types.js';
import { readSaid } from '../../src/tools/said.js';
import { packet, pod, snapshotOf } from './world.js';

t.test('what connections say', async (t) => {
  const host = 'api.example.com';
  const get = { kind: 'http', method: 'GET', headers: [['host', host]] } as const;
  t.same(readSaid('sni API.example.com'), { kind: 'tls', serverName: host });
  t.same(readSaid('sni -'), { kind: 'tls' });
  t.same(readSaid('says other'), { kind: 'other' });
  t.same(readSaid('http GET http://api.example.com/a/../b?c=d#e'), { ...get, host, path: '/a/../b?c=d#e' }, 'as it is');
  t.same(readSaid('http GET http://api.example.com'), { ...get, host, path: '/' });
  t.same(readSaid('http PUT /a'), { kind: 'http', method: 'PUT', path: '/a', headers: [] });
  t.same(readSaid('http GET http://x:80/ with X-A: b: c; accept: ; x-a: d'), {
    ...{ kind: 'http', method: 'GET', path: '/', host: 'x:80' },
    headers: [
      ['host', 'x:80'],
      ['x-a', 'b: c'],
      ['accept', ''],
      ['x-a', 'd'],
    ],
  });
  for (const text of ['', 'sni', 'sni a b', 'says', 'says tls', 'http', 'http GET', 'http GET a', 'http GET / with x'])
    t.equal(readSaid(text), undefined, text);
  const said = (text: string) => describeSaid(readSaid(text)!);
  t.equal(said('sni a.example'), 'names a.example in TLS');
  t.equal(said('sni -'), 'names no server in TLS');
  t.equal(said('http GET http://a.example/b?c'), 'requests GET a.example/b?c');
  t.equal(said('says other'), 'is neither TLS nor HTTP/1');
});

t.test('rules', async (t) => {
  const policy = { dialect: 'test', kind: 'Test', name: 'p' };
  const ref = { policy, index: 0, tier: 'default', staged: false, action: 'allow' } as const;
  const text = (more: Partial<Rule>) =>
    describeRule({ ref, action: 'allow', peers: null, ports: null, ...more }).replace('allow to ', '');
  t.equal(
    text({ serverNames: ['a.example', '*.b.example'] }),
    'anywhere on every port, TLS server names a.example, *.b.example',
  );
  t.equal(text({ serverNames: ['***'] }), 'anywhere on every port, TLS server names any name');
  t.equal(
    text({ http: [{ method: 'GET|HEAD', path: '/a.*' }, {}, { host: 'b', headers: [{ name: 'x', value: 'y' }] }] }),
    'anywhere on every port, HTTP requests GET|HEAD /a.* or any or any of host b with x: y',
  );
  t.equal(
    text({ http: [{ path: '/', headers: [{ name: 'x' }, { name: 'y', value: '1', not: true }] }], quic: 'reject' }),
    'anywhere on every port, HTTP requests / with x, not y: 1, QUIC refused',
  );
  t.equal(text({ http: [] }), 'anywhere on every port, HTTP requests of no kind');
  for (const [verify, what] of [
    ['audit', ', to be named by the connection (audit)'],
    ['tls', ', unless the connection names another'],
    ['strict', ', which the connection must name'],
  ] as const)
    t.equal(text({ peers: [{ kind: 'names', patterns: ['a'], verify }] }), `names a${what} on every port`);
});

const POLICY = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { namespace: 'shop', name: 'p', annotations: { 'egress-agent.io/verify-names': 'tls' } },
  spec: {
    endpointSelector: {},
    egress: [
      {
        toCIDR: ['203.0.113.0/24'],
        toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }], serverNames: ['a.example'] }],
      },
      { toCIDR: ['203.0.113.0/28'], toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }] },
      {
        toCIDR: ['203.0.113.0/24'],
        toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }], rules: { http: [{ path: '/a' }] } }],
      },
      { toFQDNs: [{ matchName: 'api.example.com' }] },
    ],
  },
};

t.test('explanations', async (t) => {
  const snapshot = snapshotOf(`${pod('shop/web', '10.1.0.1')}---\n${JSON.stringify(POLICY)}\n`);
  const { ir } = toIr(snapshot);
  const learned = new Map([['shop/web', new Map([['198.51.100.1', [{ name: 'api.example.com' }]]])]]);
  const explained = (target: string, says: string | undefined, quic?: 'reject') => {
    const said = says === undefined ? undefined : readSaid(says);
    const tiers = quic
      ? ir.tiers.map((tier) => ({
          ...tier,
          policies: tier.policies.map((p) => ({ ...p, rules: p.rules.map((r) => ({ ...r, quic })) })),
        }))
      : ir.tiers;
    return explain({ tiers }, snapshot, { ...packet('shop/web', target), ...(said ? { said } : {}) }, learned);
  };
  const why = (index: number, ...asked: Parameters<typeof explained>) =>
    explained(...asked).targets[0]?.tiers[0]?.policies[0]?.rules[index]?.why.replace(/^.* and (?=TCP \d+ is)/, '');
  const far = '203.0.113.99:443/tcp';
  t.equal(why(0, far, 'sni a.example'), 'TCP 443 is TCP 443 and it names a.example in TLS');
  t.equal(why(0, far, 'sni b.example'), 'TCP 443 is TCP 443, but it names b.example in TLS');
  t.equal(why(0, far, undefined), 'TCP 443 is TCP 443; what the connection says comes later, and decides then');
  t.match(explained(far, undefined).summary, /allowed by .*; what the connection says decides then$/);
  t.notMatch(explained(far, 'sni b.example').summary, /decides then/);
  t.equal(why(2, '203.0.113.1:80/tcp', 'http GET http://x/b'), 'TCP 80 is TCP 80, but it requests GET x/b');
  const named = '198.51.100.1:443/tcp';
  t.match(why(3, named, 'sni x.example'), /but it names x.example in TLS, which must be one of these names$/);
  t.match(why(3, named, 'sni api.example.com'), /on every port and it names api.example.com in TLS$/);
  t.match(why(3, '198.51.100.1:443/udp', 'sni api.example.com', 'reject'), /but it is QUIC, which is refused here$/);
  t.match(why(3, '198.51.100.2:443/tcp', 'sni x.example'), /the sender learned no name for it/);
  t.equal(explained(named, 'sni x.example').verdict.verdict, 'deny');
});
