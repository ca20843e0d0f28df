/** Names by which users ask: explanations of names, the rules that a name serves, names that are given. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Learned } from '../../src/ir/packet.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Ir, Rule } from '../../src/ir/types.js';
import { explainName, STAND_IN } from '../../src/named/explain-name.js';
import { isDnsName, learnedFrom, parseGiven, readGiven } from '../../src/named/given.js';
import { NamedRules } from '../../src/named/rules.js';
import { globTest } from '../../src/names/glob.js';
import { matchesName } from '../../src/names/pattern.js';
import { pod, snapshot } from '../flow/flows.js';

const POLICY = { dialect: 'test', kind: 'NetworkPolicy', namespace: 'shop', name: 'web' };
const PODS = snapshot([pod('shop', 'web', '10.244.0.2'), pod('data', 'db', '10.244.0.3')]);
const WEB = 'shop/web';

/** A policy of namespace shop that allows these destinations, each by a rule of its own, and nothing else. */
function world(...rules: (Peer[] | Partial<Rule>)[]): Ir {
  const made = rules.map((rule, index): Rule => {
    const ref = { policy: POLICY, index, tier: 't', staged: false, action: 'allow' as const };
    const base = { ref, action: 'allow' as const, peers: null, ports: null };
    return Array.isArray(rule) ? { ...base, peers: rule } : { ...base, ...rule };
  });
  const subject = { namespaces: { names: ['shop'] }, pods: { op: 'true' as const } };
  const policies = [{ ref: POLICY, subject, rules: made, staged: false }];
  return { tiers: [{ name: 't', order: 1, defaultAction: 'deny', policies }] };
}

const names = (...patterns: string[]): Peer => ({ kind: 'names', patterns });
const aliases = (...patterns: string[]): Peer => ({ kind: 'names', patterns, aliases: true });
const knows = (of: Record<string, { name: string; alias?: true }[]>): Learned =>
  new Map([[WEB, new Map(Object.entries(of))]]);

t.test('the rules that a name serves', async (t) => {
  const ir = world(
    [names('api.example.com', '*.example.com')],
    [{ kind: 'all', of: [names('**.example.com'), { kind: 'not', of: { kind: 'nodes', labels: { op: 'true' } } }] }],
    [aliases('*.net', 'a*.b.*')],
    [names('***')],
    [{ kind: 'cidr', cidr: '0.0.0.0/0', except: [] }],
  );
  const rules = new NamedRules(ir, PODS, WEB);
  const serving = (name: string, alias = false) => rules.serving(name, alias).map((ref) => ref.index);
  t.same(serving('api.example.com'), [0, 1, 3], 'each rule once');
  t.same(serving('x.y.example.com'), [1, 3]);
  t.same(serving('example.com'), [3]);
  t.same(serving('cdn.net'), [2, 3]);
  t.same(serving('cdn.net', true), [2], 'an alias');
  t.same(serving('api.example.com', true), []);
  t.same(serving('abc.b.org'), [2, 3]);
  t.same(serving(''), [3], 'the root');
  t.same(serving('strange?.example.com'), []);
  t.same(new NamedRules(ir, PODS, 'data/db').serving('api.example.com', false), [], 'no policy selects it');
  t.equal(new NamedRules(ir, PODS, 'data/db').isEmpty, true);
  t.equal(new NamedRules(ir, PODS, 'shop/none').isEmpty, true);
});

t.test('the same rules as when every pattern is tried', async (t) => {
  const parts = ['a', '*', 'a*', '**', 'b', '*b'];
  const patterns = [
    '***',
    ...parts.flatMap((x) => [x, ...parts.flatMap((y) => [`${x}.${y}`, ...parts.map((z) => `${x}.${y}.${z}`)])]),
  ];
  const words = ['a', 'b', 'ab', 'ba', 'c'];
  const all = [
    '',
    ...words.flatMap((x) => [x, ...words.flatMap((y) => [`${x}.${y}`, ...words.map((z) => `${x}.${y}.${z}`)])]),
  ];
  const rules = new NamedRules(world(...patterns.map((p) => [names(p)])), PODS, WEB);
  let wrong = 0;
  for (const name of all) {
    const found = new Set(rules.serving(name, false).map((ref) => ref.index));
    patterns.forEach((pattern, i) => {
      if (found.has(i) !== matchesName(pattern, name) && wrong++ < 5) t.fail(`${pattern} ${name}`);
    });
  }
  t.equal(wrong, 0);
});

t.test('a name is judged by each address that was learned for it', async (t) => {
  const ir = world([names('api.example.com')], [{ kind: 'cidr', cidr: '192.0.2.0/24', except: [] }]);
  const ask = (name: string, learned: Learned = new Map()) =>
    explainName(ir, PODS, { from: WEB, name, port: 443, protocol: 6 }, learned);
  const api = ask(
    'api.example.com',
    knows({ '203.0.113.1': [{ name: 'api.example.com' }], '203.0.113.2': [{ name: 'x.example' }] }),
  );
  t.match(api, { known: true, verdict: 'allow', more: 0, explanations: { length: 1 } });
  t.equal(api.explanations[0]?.packet.to, '203.0.113.1');
  const both = ask(
    'x.example',
    knows({ '203.0.113.2': [{ name: 'x.example' }], '192.0.2.1': [{ name: 'x.example' }] }),
  );
  t.equal(both.verdict, 'partial', 'one of its addresses is allowed by a block');
  const many = Object.fromEntries(
    Array.from({ length: 30 }, (_, i) => [`203.0.113.${i}`, [{ name: 'api.example.com' }]]),
  );
  t.match(ask('api.example.com', knows(many)), { more: 22, explanations: { length: 8 } });
  const unknown = ask('api.example.com');
  t.match(unknown, { known: false, verdict: 'allow' });
  t.equal(unknown.explanations[0]?.packet.to, STAND_IN);
  t.match(ask('other.example.com'), { known: false, verdict: 'deny' });
});

t.test('why a pattern does not match', async (t) => {
  const hints = (rules: Peer[], name: string, learned: Learned = new Map()) =>
    explainName(world(rules), PODS, { from: WEB, name, port: 443, protocol: 6 }, learned).hints.join('\n');
  t.match(
    hints([names('*.example.com')], 'example.com'),
    /np\/shop\/web#0: \*\.example\.com stands for names below example\.com/,
  );
  t.match(hints([names('**.example.com')], 'example.com'), /\*\*\.example\.com stands for names below/);
  t.match(hints([names('*.example.com')], 'a.b.example.com'), /in \*\.example\.com the star stands for one label only/);
  t.equal(hints([names('**.example.com')], 'a.b.example.com'), '');
  t.equal(hints([names('*.example.com')], 'a.example.com'), '');
  t.equal(hints([names('*.example.com')], 'badexample.com'), '');
  const alias = knows({ '203.0.113.1': [{ name: 'a.example.com', alias: true }, { name: 'www.example.org' }] });
  t.match(hints([names('*.example.com')], 'a.example.com', alias), /means names that the pod asks for/);
  t.equal(hints([aliases('*.example.com')], 'a.example.com', alias), '');
});

t.test('the query for a name', async (t) => {
  const dns = { ports: [{ protocol: 17, ports: [[53, 53]] as [number, number][] }] };
  const ir = world({ ...dns, queries: ['*.example.com'] }, [names('***')]);
  const resolver = { ip: '10.96.0.10', port: 53 };
  const ask = (name: string) =>
    explainName(ir, PODS, { from: WEB, name, port: 443, protocol: 6, resolver }, new Map()).query;
  t.same(ask('api.example.com'), { to: '10.96.0.10', verdict: 'allow', rule: 'np/shop/web#0' });
  t.same(ask('api.example.org'), { to: '10.96.0.10', verdict: 'deny', rule: 'np/shop/web#default', answer: 'option' });
  const free = world([names('***')]);
  t.equal(
    explainName(free, PODS, { from: WEB, name: 'a.b', port: 0, protocol: 6, resolver }, new Map()).query,
    undefined,
  );
});

t.test('names that are given', async (t) => {
  t.same(parseGiven('API.example.com.=203.0.113.1, 2001:DB8::1'), {
    name: 'api.example.com',
    ips: ['203.0.113.1', '2001:db8::1'],
  });
  for (const bad of [
    '',
    '=1.2.3.4',
    'a.b',
    'a.b=',
    'a.b=x',
    'a b=1.2.3.4',
    'a..b=1.2.3.4',
    'ä.b=1.2.3.4',
    `${'a'.repeat(254)}=1.2.3.4`,
  ])
    t.throws(() => parseGiven(bad), { code: 'USAGE' }, JSON.stringify(bad));
  const dir = mkdtempSync(join(tmpdir(), 'egress-agent-named-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'names');
  writeFileSync(file, '# known\napi.example.com 203.0.113.1 203.0.113.2 # two\n\ncdn.example.net=203.0.113.1\n');
  const given = readGiven(file);
  t.same(given, [
    { name: 'api.example.com', ips: ['203.0.113.1', '203.0.113.2'] },
    { name: 'cdn.example.net', ips: ['203.0.113.1'] },
  ]);
  t.same(
    [...(learnedFrom(WEB, [...given, ...given]).get(WEB) ?? [])],
    [
      ['203.0.113.1', [{ name: 'api.example.com' }, { name: 'cdn.example.net' }]],
      ['203.0.113.2', [{ name: 'api.example.com' }]],
    ],
  );
  writeFileSync(
    file,
    JSON.stringify({ names: [{ name: 'a.example', addresses: [{ ip: '192.0.2.1', alias: false }] }] }),
  );
  t.same(readGiven(file), [{ name: 'a.example', ips: ['192.0.2.1'] }], 'what egressctl names -o json prints');
  for (const [text, message] of [
    ['a.example\n', /names:1: a\.example: not NAME IP/],
    ['\na.example x\n', /names:2: .*x is not an address/],
    ['{', /is no JSON/],
    ['{}', /has no list/],
    ['{"names":[{}]}', /names\[0\] has no name/],
    ['{"names":[{"name":"a.b","addresses":[{}]}]}', /names\[0\]: undefined is not an address/],
  ] as const) {
    writeFileSync(file, text);
    t.throws(() => readGiven(file), { code: 'USAGE', message }, text);
  }
  t.throws(() => readGiven(join(dir, 'none')), { code: 'USAGE' });
});

t.test('what looks like a name', async (t) => {
  for (const good of [
    'api.example.com',
    'API.Example.COM.',
    '_dmarc.example.com',
    'a.b',
    'xn--d1acufc.xn--p1ai',
    'cluster.local.',
  ])
    t.ok(isDnsName(good), good);
  for (const bad of [
    'web',
    'shop/web',
    '1.2.3.4',
    '1.2.3',
    'fd00::1',
    'a..b',
    '.a',
    'a b.c',
    'a.b:443',
    `${'a'.repeat(64)}.b`,
    '',
  ])
    t.notOk(isDnsName(bad), bad);
});

t.test('patterns in queries', async (t) => {
  const rows: [string, string, boolean][] = [
    ['api.example.com', 'api.example.com', true],
    ['API.example.com.', 'api.example.com', true],
    ['api.example.com', 'xapi.example.com', false],
    ['*.example.com', 'a.b.example.com', true],
    ['*.example.com', 'example.com', false],
    ['*', '', true],
    ['**', 'a.b', true],
    ['a*a', 'a', false],
    ['a*a', 'aa', true],
    ['*b*b', 'abb', true],
    ['*b*b', 'ab', false],
    ['a*b*c', 'a.b.b.c', true],
    ['a*b*c', 'acb', false],
  ];
  for (const [pattern, name, matches] of rows) t.equal(globTest(pattern, 'name')(name), matches, `${pattern} ${name}`);
  for (const bad of ['', ' ', 'a b', 'a/b', 'ä', '*a*a*a*a*a*a*a*a*a', 'a'.repeat(300)])
    t.throws(() => globTest(bad, 'name'), { code: 'USAGE' }, JSON.stringify(bad));
});
