import t from 'tap';
import fc from '../seeded.js';
import { Bed, isBelow, type Result } from './bed.js';

t.setTimeout(300_000);
const bed = new Bed(t);
const dns = (
  rules: readonly object[],
  lists: Readonly<Record<string, readonly string[]>>,
  assumed: Record<string, boolean> = {},
  connections = false,
): Result =>
  bed.run(
    'route53-dns-firewall',
    {
      'rules.json': JSON.stringify({ FirewallRules: rules }, null, 1),
      ...Object.fromEntries(Object.entries(lists).map(([id, Domains]) => [`${id}.json`, JSON.stringify({ Domains })])),
    },
    'cilium',
    { connections },
    assumed,
  );
const rule = (Priority: number, Action: string, FirewallDomainListId: string, more: object = {}) => ({
  Priority,
  Action,
  FirewallDomainListId,
  FirewallDomainRedirectionAction: 'TRUST_REDIRECTION_DOMAIN',
  ...more,
});

t.test('lists, priorities and answers', (t) => {
  const r = dns(
    [
      rule(200, 'BLOCK', 'all', { BlockResponse: 'NXDOMAIN' }),
      rule(100, 'ALLOW', 'good'),
      rule(50, 'BLOCK', 'bad', { BlockResponse: 'NODATA' }),
      rule(150, 'ALERT', 'watched'),
    ],
    { all: ['*'], good: ['example.com.', '*.example.org', 'b.bad.com'], bad: ['*.bad.com'], watched: ['w.com'] },
  );
  t.equal(r.no, '');
  t.match(r.told, /rules\.json:1?\d?: is answered otherwise than .*: a policy has one answer .*, nxdomain/);
  t.match(r.told, /an ALERT lets the query pass/);
  t.same(r.objects[0]?.metadata.annotations, { 'egress-agent.io/dns-refusal': 'nxdomain' });
  for (const query of ['example.com', 'x.y.example.org', 'w.com']) t.ok(r.allows({ query }), query);
  for (const query of ['x.example.com', 'example.org', 'b.bad.com', 'far.org', '']) t.notOk(r.allows({ query }), query);
  t.notOk(r.allows({}), 'connections are for other policies');
  t.end();
});

t.test('a list of what is blocked leaves nothing that a language says', (t) => {
  const r = dns([rule(1, 'BLOCK', 'bad', { BlockResponse: 'OVERRIDE' })], { bad: ['bad.com'] });
  t.match(r.no, /rules\.json: allows everything but some names: no language denies by name/);
  t.match(r.told, /answers with another name, .* \(nxdomain\)/);
  t.notOk(r.allows({ query: 'good.com' }));
  t.end();
});

t.test('what is not known closes', (t) => {
  const missing = [rule(1, 'BLOCK', 'managed', { BlockResponse: 'NODATA' }), rule(2, 'ALLOW', 'good')];
  const r = dns(missing, { good: ['a.com'] });
  t.match(
    r.no,
    /rules\.json:3: the domains of list managed are not in the files: it denies always \(--assume 'managed=no'/,
  );
  t.notOk(r.allows({ query: 'a.com' }));
  t.ok(dns(missing, { good: ['a.com'] }, { managed: false }).allows({ query: 'a.com' }));
  const typed = dns([rule(1, 'ALLOW', 'good', { Qtype: 'A' }), rule(2, 'BLOCK', 'all')], {
    good: ['a.com', 'x*.com'],
    all: ['*'],
  });
  t.match(typed.no, /asks for queries of type A: rules\.dns judges every type alike: it allows nothing/);
  t.match(typed.no, /domain "x\*\.com" .* is not a name/);
  t.notOk(typed.allows({ query: 'a.com' }));
  t.match(
    dns([{ Priority: 1, Action: 'BLOCK', DnsThreatProtection: 'DGA' }], {}).no,
    /asks for something else than a list of domains/,
  );
  t.throws(() => dns([{ Action: 'BLOCK' }], {}), { message: /rules\.json:3 is a rule without a Priority/ });
  t.throws(() => bed.run('route53-dns-firewall', { 'x.json': '{"a": 1}' }), {
    message: /has no Domains and no FirewallRules/,
  });
  for (const to of ['cnp', 'calico', 'fqdn'] as const) {
    const other = bed.run('route53-dns-firewall', { 'x.json': '{"Domains": ["a.com"]}' }, to);
    t.match(other.no, /only rules\.dns of Cilium does that \(--to cilium\)/);
    t.same(other.objects, []);
  }
  t.end();
});

t.test('a page of a list is not the list', (t) => {
  const run = (file: object, more: object) =>
    bed.run('route53-dns-firewall', {
      'l.json': JSON.stringify({ Domains: ['bad.com'], ...file }),
      'all.json': '{"Domains": ["*"]}',
      'rules.json': JSON.stringify({ FirewallRules: [rule(1, 'BLOCK', 'l'), rule(2, 'ALLOW', 'all')], ...more }),
    });
  t.match(run({ NextToken: 'x' }, {}).no, /one page of several \(NextToken\): it denies always/);
  t.throws(() => run({}, { NextToken: 'x' }), { message: /rules\.json:1 is one page of several/ });
  t.end();
});

t.test('with every connection that is no query', (t) => {
  const r = dns([rule(1, 'ALLOW', 'good'), rule(2, 'BLOCK', 'all')], { good: ['a.com'], all: ['*.'] }, {}, true);
  t.ok(r.allows({ query: 'a.com' }) && r.allows({}) && r.allows({ protocol: 17, port: 123 }));
  t.notOk(r.allows({ query: 'b.com' }));
  t.notOk(r.allows({ query: 'b.com', to: '198.51.100.1' }), 'nor to another server');
  t.end();
});

const label = fc.constantFrom('a', 'b', 'c');
const domain = fc
  .tuple(fc.boolean(), fc.array(label, { minLength: 1, maxLength: 2 }))
  .map(([star, labels]) => `${star ? '*.' : ''}${labels.join('.')}.com`);

t.test('random rules', (t) => {
  let exact = 0;
  const rules = fc.uniqueArray(
    fc.record({
      priority: fc.nat(9),
      action: fc.constantFrom('ALLOW', 'BLOCK', 'ALERT'),
      list: fc.constantFrom('l0', 'l1', 'l2', 'all'),
      group: fc.constantFrom('g0', 'g1'),
    }),
    { maxLength: 6, selector: ({ priority, group }) => `${group} ${priority}` },
  );
  fc.assert(
    fc.property(
      rules,
      fc.array(fc.array(domain, { maxLength: 4 }), { minLength: 3, maxLength: 3 }),
      fc.boolean(),
      (all, lists, swapped) => {
        const known: Record<string, readonly string[]> = { l0: lists[0]!, l1: lists[1]!, l2: lists[2]!, all: ['*'] };
        const groups = {
          FirewallRuleGroupAssociations: ['g0', 'g1'].map((FirewallRuleGroupId, i) => ({
            FirewallRuleGroupId,
            VpcId: 'v',
            Priority: swapped ? 9 - i : i,
          })),
        };
        const r = bed.run('route53-dns-firewall', {
          'groups.json': JSON.stringify(groups),
          'rules.json': JSON.stringify({
            FirewallRules: all.map(({ priority, action, list, group }) =>
              rule(priority, action, list, { FirewallRuleGroupId: group }),
            ),
          }),
          ...Object.fromEntries(
            Object.entries(known).map(([id, Domains]) => [`${id}.json`, JSON.stringify({ Id: id, Domains })]),
          ),
        });
        const order = swapped ? ['g1', 'g0'] : ['g0', 'g1'];
        const sorted = [...all].sort(
          (a, b) => order.indexOf(a.group) - order.indexOf(b.group) || a.priority - b.priority,
        );
        if (r.refused.length === 0) exact++;
        for (const query of ['a.com', 'z.a.com', 'b.a.com', 'c.b.a.com', 'c.com', 'com', 'far.org']) {
          const found = sorted.find(({ list }) =>
            known[list]!.some((x) => x === '*' || (x.startsWith('*.') ? isBelow(query, x.slice(2)) : x === query)),
          );
          const said = found?.action !== 'BLOCK';
          const is = r.allows({ query });
          const text = () => `${query} ${JSON.stringify([sorted, known], null, 1)}\n${r.texts.join('')}${r.no}`;
          if (is && !said) throw new Error(`is allowed: ${text()}`);
          if (!is && said && r.refused.length === 0) throw new Error(`is not allowed: ${text()}`);
        }
      },
    ),
    { numRuns: 300 },
  );
  t.ok(exact > 30, `${exact} of them were exact`);
  t.end();
});
