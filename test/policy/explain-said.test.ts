/** What explain says of rules that ask what a connection says. */
import t from 'tap';
import { describeRule } from '../../src/explain/describe.js';
import { explain, type ExplainedRule } from '../../src/explain/explain.js';
import { describeSaid } from '../../src/explain/said.js';
import type { Learned, Packet } from '../../src/ir/packet.js';
import type { Verification } from '../../src/ir/peers.js';
import type { HttpMatch, Ir, Rule } from '../../src/ir/types.js';
import { helloSaying, requestSaying } from '../../src/said/given.js';
import { pod, snapshotOf } from './world.js';

const snapshot = snapshotOf(pod('default/web', '10.0.0.1', {}));
const policy = { dialect: 'test', kind: 'Test', namespace: 'default', name: 'p' };
const subject = { namespaces: { labels: { op: 'true' } }, pods: { op: 'true' } } as const;
const HTTPS = [{ protocol: 6, ports: [[443, 443]] }] as const;
const ANY_TLS = helloSaying('-');

function rule(index: number, more: Partial<Rule>): Rule {
  const action = more.action ?? 'allow';
  return { ref: { policy, index, tier: 'default', staged: false, action }, action, peers: null, ports: HTTPS, ...more };
}

function irOf(...rules: Rule[]): Ir {
  const policies = [{ ref: policy, subject, rules, staged: false }];
  return { tiers: [{ name: 'default', order: 1, defaultAction: 'deny', policies }] };
}

const packet = (said?: Packet['said'], port = 443): Packet => ({
  ...{ from: 'default/web', to: '203.0.113.1', protocol: 6, port },
  ...(said ? { said } : {}),
});

function rules(ir: Ir, of: Packet, learned?: Learned): ExplainedRule[] {
  const { targets } = explain(ir, snapshot, of, learned);
  return targets.flatMap((target) => target.tiers.flatMap((tier) => tier.policies.flatMap((p) => p.rules)));
}

t.test('server names', async (t) => {
  const ir = irOf(rule(0, { serverNames: ['*.example.com'] }));
  const met = explain(ir, snapshot, packet(helloSaying('api.example.com')));
  t.match(met, {
    verdict: { verdict: 'allow' },
    rule: { index: 0 },
    packet: { said: { serverName: 'api.example.com' } },
  });
  t.notOk(met.pending);
  const why = (said?: Packet['said']) => rules(ir, packet(said))[0]?.why;
  t.equal(
    why(helloSaying('api.example.com')),
    'every destination is meant and TCP 443 is TCP 443 and it is TLS or QUIC for api.example.com',
  );
  t.match(
    why(helloSaying('evil.example')),
    /, but it is TLS or QUIC for evil\.example, not TLS or QUIC for \*\.example\.com$/,
  );
  t.match(why(ANY_TLS), /, but it is TLS or QUIC without a server name, not/);
  t.match(why({ kind: 'other' }), /, but it is neither TLS, QUIC nor HTTP\/1, not/);
  const handshake = explain(ir, snapshot, packet());
  t.match(handshake, { verdict: { verdict: 'allow' }, pending: true });
  t.match(why(), /; what it says comes later, and is judged then$/);
  t.equal(explain(ir, snapshot, packet(helloSaying('evil.example'))).verdict.verdict, 'deny');
  const other = explain(ir, snapshot, packet(undefined, 80));
  t.equal(other.verdict.verdict, 'deny');
  t.notOk(other.pending, 'another port');
});

t.test('what passes by another rule meanwhile', async (t) => {
  const ir = irOf(rule(0, { action: 'deny', serverNames: ['evil.example'] }), rule(1, {}));
  const handshake = explain(ir, snapshot, packet());
  t.match(handshake, { verdict: { verdict: 'allow' }, rule: { index: 1 }, pending: true });
  t.match(rules(ir, packet())[0]?.why, /, but nothing is said yet$/);
  t.match(explain(ir, snapshot, packet(helloSaying('evil.example'))), {
    verdict: { verdict: 'deny' },
    rule: { index: 0 },
  });
  const moot = irOf(rule(0, {}), rule(1, { serverNames: ['a.example'] }));
  const [, second] = rules(moot, packet(helloSaying('b.example')));
  t.match(second?.why, /, but what it says decides nothing here: it is not read$/);
  t.notOk(explain(moot, snapshot, packet()).pending);
});

t.test('requests', async (t) => {
  const http: HttpMatch[] = [
    { method: 'GET', path: '/v1/.*', host: 'api\\.example\\.com', headers: [{ name: 'x-team', value: 'shop' }] },
    { path: '/health' },
  ];
  const ir = irOf(rule(0, { http }));
  const explained = (text: string, ...headers: string[]) => explain(ir, snapshot, packet(requestSaying(text, headers)));
  t.equal(explained('GET http://api.example.com/v1/a', 'X-Team: shop').verdict.verdict, 'allow');
  t.equal(explained('GET http://api.example.com/v1/a').verdict.verdict, 'deny');
  t.equal(explained('POST http://other/health').verdict.verdict, 'allow');
  t.match(
    rules(ir, packet(requestSaying('GET http://api.example.com/v2')))[0]?.why,
    /, but it is the request GET http:\/\/api\.example\.com\/v2, not an HTTP request: GET \/v1\/\.\* of api/,
  );
  t.equal(
    describeRule(rule(0, { http })),
    'allow to anywhere on TCP 443, an HTTP request: GET /v1/.* of api\\.example\\.com with x-team: shop, or any method /health',
  );
  t.match(describeRule(rule(0, { http: [{}] })), /an HTTP request: any request$/);
  t.match(
    describeRule(rule(0, { http: [{ method: 'GET', headers: [{ name: 'a', not: true }] }] })),
    /: GET without a$/,
  );
  t.match(
    describeRule(rule(0, { http: [], serverNames: ['a.b'] })),
    /, TLS or QUIC for a\.b, or an HTTP request: none$/,
  );
  const many = Array.from({ length: 20 }, (_, i) => ({ path: `/${i}` }));
  t.match(describeRule(rule(0, { http: many })), /\/7, or 12 more$/);
});

t.test('learned names that must be asked for', async (t) => {
  const learned: Learned = new Map([['default/web', new Map([['203.0.113.1', [{ name: 'api.example.com' }]]])]]);
  const verifying = (verify: Verification) =>
    irOf(rule(0, { peers: [{ kind: 'names', patterns: ['*.example.com'], verify }] }));
  const verdict = (verify: Verification, said?: Packet['said']) =>
    explain(verifying(verify), snapshot, packet(said), learned).verdict;
  const evil = helloSaying('evil.example');
  t.match(verdict('tls', evil), { verdict: 'deny' });
  t.match(verdict('tls', ANY_TLS), { verdict: 'allow' });
  t.match(verdict('strict', ANY_TLS), { verdict: 'deny' });
  const [first] = rules(verifying('tls'), packet(evil), learned);
  t.equal(
    first?.why,
    '203.0.113.1 is learned for name *.example.com, asked for by no other name (api.example.com), but it is TLS or QUIC for evil.example: it must ask for one of these names',
  );
  t.match(describeRule(verifying('strict').tiers[0]!.policies[0]!.rules[0]!), /asked for by such a name/);
  const audited = explain(verifying('audit'), snapshot, packet(evil), learned);
  t.match(audited, { verdict: { verdict: 'allow', audit: { verdict: 'deny' } }, auditRule: { index: -1 } });
  t.match(explain(verifying('tls'), snapshot, packet(), learned), { verdict: { verdict: 'allow' }, pending: true });
});

t.test('a Service of which only some backends may be told', async (t) => {
  const service = `---
{apiVersion: v1, kind: Pod, metadata: {namespace: default, name: a, labels: {app: a}}, status: {podIP: 10.0.0.2}, spec: {nodeName: node-b}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: default, name: b, labels: {app: a, x: y}}, status: {podIP: 10.0.0.3}, spec: {nodeName: node-b}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: default, name: s}, spec: {clusterIP: 10.96.0.1, selector: {app: a}, ports: [{port: 443}]}}
`;
  const world = snapshotOf(`${pod('default/web', '10.0.0.1', {})}\n${service}`);
  const block = { kind: 'cidr', cidr: '10.0.0.2/32', except: [] } as const;
  const ir = irOf(rule(0, { peers: [block], serverNames: ['a.example'] }));
  const explained = explain(ir, world, { ...packet(helloSaying('a.example')), to: '10.96.0.1' });
  t.equal(explained.verdict.verdict, 'deny');
  t.match(explained.summary, /denied before any rule: only some of the backends may be told what it says/);
});

t.test('words', async (t) => {
  t.equal(describeSaid(requestSaying('CONNECT a:443')), 'the request CONNECT a:443');
  t.equal(describeSaid(requestSaying('GET /a')), 'the request GET /a');
  t.equal(describeSaid({ kind: 'other' }), 'neither TLS, QUIC nor HTTP/1');
});
