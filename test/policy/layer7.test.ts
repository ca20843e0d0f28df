/** What is refused of layer 7, by field path: in Cilium's toPorts, and in Calico's http. */
import t from 'tap';
import { checkRegex } from '../../src/dialects/base/requests.js';
import { ciliumServerName } from '../../src/dialects/base/names.js';
import type { Fault } from '../../src/dialects/base/dialect.js';
import { toIr } from '../../src/dialects/index.js';
import { matchesName } from '../../src/names/pattern.js';
import { literal } from '../../src/regex/literal.js';
import { matchesRegex } from '../../src/regex/match.js';
import { judgeOf, pod, problemsOf, snapshotOf } from './world.js';

const WORLD = pod('default/web', '10.1.0.1', { app: 'web' });
const OUT = '203.0.113.1:80/tcp';

function object(apiVersion: string, kind: string, spec: object, clusterwide = false): string {
  const metadata = clusterwide ? { name: 'p' } : { namespace: 'default', name: 'p' };
  return `${WORLD}---\n${JSON.stringify({ apiVersion, kind, metadata, spec })}\n`;
}

const cilium = (item: object) =>
  object('cilium.io/v2', 'CiliumNetworkPolicy', { endpointSelector: {}, egress: [{ toPorts: [item] }] });
const calico = (rule: object) =>
  object('projectcalico.org/v3', 'NetworkPolicy', { selector: 'all()', types: ['Egress'], egress: [rule] });

const TCP = { ports: [{ port: '80', protocol: 'TCP' }] };

t.test('Cilium: what closes its rule', async (t) => {
  const http = (entry: object) => ({ ...TCP, rules: { http: [entry] } });
  const header = (one: object) => http({ headerMatches: [{ name: 'X', ...one }] });
  const tls = (...serverNames: string[]) => ({ ...TCP, serverNames });
  const names = /is not a pattern of server names/;
  const rows: readonly [object, string, RegExp][] = [
    [tls('a.example', 'b.example.'), 'serverNames[1]', names],
    [tls(''), 'serverNames[0]', names],
    [tls('a..b'), 'serverNames[0]', names],
    [tls('***'), 'serverNames[0]', names],
    [tls('a**.b'), 'serverNames[0]', names],
    [tls('**a.b'), 'serverNames[0]', names],
    [tls('a/b'), 'serverNames[0]', names],
    [tls(`${'a.'.repeat(127)}example`), 'serverNames[0]', names],
    [{ ports: [{ port: '443', protocol: 'UDP' }], serverNames: ['a'] }, 'ports[0].protocol', /not read over UDP/],
    [{ ports: [{ port: '443', protocol: 'SCTP' }], serverNames: ['a'] }, 'ports[0].protocol', /not read over SCTP/],
    [{ ports: [{ port: '0', protocol: 'TCP' }], serverNames: ['a'] }, 'ports[0].port', /single port or a range beside/],
    [{ ...http({}), serverNames: ['a'] }, 'serverNames', /cannot stand beside rules/],
    [{ ...TCP, rules: { dns: [] }, serverNames: ['a'] }, 'serverNames', /cannot stand beside rules/],
    [{ ...TCP, rules: { dns: [], http: [{}] } }, 'rules', /has dns and http/],
    [{ ...tls('a'), terminatingTLS: {} }, 'terminatingTLS', /no proxy/],
    [{ ports: [{ port: '80' }], rules: { http: [{}] } }, 'ports[0].protocol', /not read over ANY/],
    [{ ports: [{ port: '0', protocol: 'TCP' }], rules: { http: [{}] } }, 'ports[0].port', /beside rules\.http/],
    [http({ path: '/a(' }), 'rules.http[0].path', /the regular expression "\/a\("/],
    [http({ path: 'a)(b' }), 'rules.http[0].path', /regular expression/],
    [http({ method: '(?=G)' }), 'rules.http[0].method', /look-around/],
    [http({ host: '\\1' }), 'rules.http[0].host', /backreferences/],
    [http({ path: '(a|b)*a(a|b){40}' }), 'rules.http[0].path', /the regular expression/],
    [http({ headers: ['Y', ': z'] }), 'rules.http[0].headers[1]', /names no header/],
    [http({ headers: ['X:1'] }), 'rules.http[0].headers[0]', /names no header/],
    [http({ headers: [':path /a'] }), 'rules.http[0].headers[0]', /names no header/],
    [header({ name: 'X Y' }), 'rules.http[0].headerMatches[0].name', /names no header/],
    [header({ mismatch: 'ADD', value: 'y' }), 'rules.http[0].headerMatches[0].mismatch', /ADD would change requests/],
    [header({ mismatch: 'DELETE' }), 'rules.http[0].headerMatches[0].mismatch', /DELETE would change/],
    [header({ mismatch: 'REPLACE', value: 'y' }), 'rules.http[0].headerMatches[0].mismatch', /REPLACE would change/],
    [header({ mismatch: 'log' }), 'rules.http[0].headerMatches[0].mismatch', /must be one of/],
    [header({ secret: { name: 's' } }), 'rules.http[0].headerMatches[0].secret', /is not read/],
    [http({ query: 'a' }), 'rules.http[0].query', /is not a field/],
  ];
  for (const [item, field, message] of rows) {
    const text = cilium(item);
    const told = problemsOf(text).filter((p) => p.includes(`spec.egress[0].toPorts[0].${field}:`));
    t.match(told, [message], `${field} ${message}`);
    t.match(told, [/^error .*until then spec\.egress\[0\] allows nothing$/]);
    t.equal(judgeOf(text)('default/web', OUT), 'deny [cilium/default/p#default]', JSON.stringify(item));
  }
  const deny = { endpointSelector: {}, egressDeny: [{ toPorts: [http({})] }] };
  const text = object('cilium.io/v2', 'CiliumNetworkPolicy', deny);
  t.match(problemsOf(text), [/spec\.egressDeny\[0\]\.toPorts\[0\]\.rules: is not a field .* denies everything$/]);
  t.equal(judgeOf(text)('default/web', OUT), 'deny [cilium/default/p#0]');
  const secret = problemsOf(cilium(header({ value: 'y', secret: { name: 's' } })));
  t.match(secret, [/^warning .*headerMatches\[0\]\.secret: is not read: the value beside it counts/]);
  for (const [item, field] of [
    [http({}), 'rules.http'],
    [tls('a'), 'serverNames'],
  ] as const) {
    const spec = { nodeSelector: {}, egress: [{ toPorts: [item] }] };
    const node = object('cilium.io/v2', 'CiliumClusterwideNetworkPolicy', spec, true);
    t.match(problemsOf(node), [new RegExp(`toPorts\\[0\\]\\.${field}: what the node itself says is not read`)]);
    t.equal(judgeOf(node)('@node', OUT), 'deny [ccnp/p#default]');
  }
});

t.test('Cilium: what a rule becomes', async (t) => {
  const rulesOf = (text: string) =>
    toIr(snapshotOf(text)).ir.tiers.flatMap(({ policies }) =>
      policies.flatMap(({ rules }) => rules.map(({ ref, peers: _, ...rule }) => ({ ...rule, index: ref.index }))),
    );
  const ports = [{ protocol: 6, ports: [[80, 80]] }];
  const entry = {
    method: '',
    path: '/a',
    headers: ['X-A: b.c d'],
    headerMatches: [
      { name: 'X-B', value: 'e*' },
      { name: 'X-C', mismatch: 'LOG' },
      { name: 'X-D', value: 'f', mismatch: 'LOG' },
    ],
  };
  const headers = [
    { name: 'x-a', value: 'b\\.c d' },
    { name: 'x-b', value: 'e\\*' },
  ];
  const logged = [
    { path: '/a', headers: [...headers, { name: 'x-c', not: true }] },
    { path: '/a', headers: [...headers, { name: 'x-d', value: 'f', not: true }] },
  ];
  t.same(rulesOf(cilium({ ...TCP, rules: { http: [entry] } })), [
    { action: 'log', ports, http: logged, index: 0 },
    { action: 'allow', ports, http: [{ path: '/a', headers }], index: 0 },
  ]);
  const both = { ports: [{ port: '80', protocol: 'ANY' }], serverNames: ['A.example', 'a.example'] };
  t.same(rulesOf(cilium(both)), [
    {
      action: 'allow',
      ports: [6, 17].map((protocol) => ({ ...ports[0], protocol })),
      serverNames: ['a.example'],
      index: 0,
    },
  ]);
});

t.test("names of servers, in Cilium's words", async (t) => {
  const rows: readonly [string, readonly string[], readonly string[]][] = [
    ['Api.Example', ['api.example'], ['x.api.example', 'example', 'api-example']],
    ['*.example', ['a.example'], ['example', 'a.b.example', '.example']],
    ['*a.example', ['a.example', 'xa.example'], ['x.a.example']],
    ['**.example', ['a.example', 'a.b.example'], ['example', 'xexample']],
    ['a.**', ['a.b', 'a.b.c'], ['a', 'xa.b']],
    ['a.**.b.*c', ['a.x.b.c', 'a.x.y.b.xc'], ['a.b.c', 'a.x.b.cx']],
    ['*', ['a', 'a.b.c'], ['a b', 'ä']],
    ['**', ['a', 'a.b.c'], ['']],
  ];
  const faults: Fault[] = [];
  for (const [text, yes, no] of rows) {
    const pattern = ciliumServerName(text, 'x', (fault) => faults.push(fault))!;
    for (const name of yes) t.ok(matchesName(pattern, name), `${text} means ${name}`);
    for (const name of no) t.notOk(matchesName(pattern, name), `${text} does not mean ${name}`);
  }
  t.same(faults, []);
});

t.test('Calico: what closes its rule', async (t) => {
  const allow = (http: object, more: object = {}) => ({ action: 'Allow', protocol: 'TCP', http, ...more });
  const rows: readonly [object, string, RegExp][] = [
    [allow({}, { protocol: 'UDP' }), 'protocol', /UDP has no HTTP that is read/],
    [allow({}, { protocol: undefined, notProtocol: 'UDP' }), 'notProtocol', /cannot stand beside http/],
    [allow({ methods: Array(21).fill('GET') }), 'http.methods', /has 21 items; Calico takes 20/],
    [allow({ paths: Array(21).fill({ exact: '/' }) }), 'http.paths', /has 21 items; Calico takes 20/],
    [allow({ methods: ['GET', ''] }), 'http.methods[1]', /is no method/],
    [allow({ paths: [{}] }), 'http.paths[0]', /names no path/],
    [allow({ paths: [{ exact: '/', prefix: '/' }] }), 'http.paths[0]', /has exact and prefix/],
    ...['a', '', '/a?b', '/a#b', '/a//b', '/a/./b', '/a/..', '/a;b', '/%2e', '/%', '/a b', '/ä', '/\\'].map(
      (exact): [object, string, RegExp] => [allow({ paths: [{ exact }] }), 'http.paths[0].exact', /is no path/],
    ),
    [allow({ paths: [{ prefix: 'a' }] }), 'http.paths[0].prefix', /is no path/],
    [allow({ hosts: ['a'] }), 'http.hosts', /is not a field/],
  ];
  for (const [rule, field, message] of rows) {
    const text = calico(rule);
    const told = problemsOf(text).filter((p) => p.includes(`spec.egress[0].${field}:`));
    t.match(told, [message], `${field} ${message}`);
    t.match(told, [/until then spec\.egress\[0\] allows nothing/]);
    t.equal(judgeOf(text)('default/web', OUT), 'deny [calico/default/p#default]', JSON.stringify(rule));
  }
  for (const action of ['Deny', 'Pass', 'Log']) {
    const text = calico({ action, http: {} });
    t.match(
      problemsOf(text).filter((p) => /^error/.test(p)),
      [/spec\.egress\[0\]\.http: is for rules that allow/],
    );
    t.equal(judgeOf(text)('default/web', OUT).startsWith('deny'), true, action);
  }
  t.match(problemsOf(calico(allow({}))), [
    /^warning .*spec\.egress\[0\]\.http: Calico itself has HTTP in ingress rules/,
  ]);
});

t.test('texts, letter by letter', async (t) => {
  const faults: Fault[] = [];
  for (const text of ['/a.b', 'a+b*c?', '(x)', '[y]', '{1,2}', '^$', 'a|b', '\\d', '-', '/é', '']) {
    t.ok(
      checkRegex(literal(text), 'x', (fault) => faults.push(fault)),
      text,
    );
    t.ok(matchesRegex(literal(text), text), text);
    t.notOk(matchesRegex(literal(text), `${text}x`), text);
  }
  t.notOk(matchesRegex(literal('a.b'), 'axb'));
  t.same(faults, []);
});
