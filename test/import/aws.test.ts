import t from 'tap';
import type { Kind } from '../../src/import/base/speech.js';
import type { Target } from '../../src/import/names.js';
import fc from '../seeded.js';
import { Bed, FAR, isBelow, type Result } from './bed.js';

t.setTimeout(300_000);
const bed = new Bed(t);
type Groups = readonly object[];
const firewall = (groups: Groups, to: Target = 'cilium', assumed: Record<string, boolean> = {}): Result =>
  bed.run(
    'aws-network-firewall',
    Object.fromEntries(groups.map((one, i) => [`g${i}.json`, JSON.stringify(one, null, 1)])),
    to,
    {},
    assumed,
  );
const list = (
  GeneratedRulesType: string,
  Targets: readonly string[],
  TargetTypes: readonly string[] = ['TLS_SNI'],
) => ({
  RulesSource: { RulesSourceList: { Targets, TargetTypes, GeneratedRulesType } },
});
const header = (h: object) => ({
  Protocol: 'TCP',
  Source: 'ANY',
  SourcePort: 'ANY',
  Direction: 'FORWARD',
  Destination: 'ANY',
  DestinationPort: 'ANY',
  ...h,
});
const rule = (Action: string, h: object, RuleOptions: object[] = [{ Keyword: 'sid', Settings: ['1'] }]) => ({
  Action,
  Header: header(h),
  RuleOptions,
});
const rules = (...StatefulRules: object[]) => ({ RulesSource: { StatefulRules } });
const suricata = (...lines: string[]) => ({ RulesSource: { RulesString: lines.join('\n') } });

t.test('lists', (t) => {
  const r = firewall([list('ALLOWLIST', ['.example.com', 'www.example.org', '*.x.com'])]);
  t.match(r.no, /^g0\.json:3: RulesSourceList: "\*\.x\.com" \(line 7\) is not a name: it allows nothing$/);
  t.match(r.told, /the list drops the rest of TLS only; .* narrower/);
  t.equal(r.told.match(/AWS Network Firewall judges the name/g)?.length, 1);
  for (const name of ['example.com', 'a.b.example.com', 'www.example.org']) t.ok(r.allows({ name }), name);
  for (const name of ['xexample.com', 'example.org', 'a.x.com', undefined]) t.notOk(r.allows({ name }), String(name));
  const wrapped = firewall([
    { RuleGroupResponse: {}, RuleGroup: list('ALLOWLIST', ['a.com']) },
    { Resources: { G: { Properties: { RuleGroup: list('ALLOWLIST', ['b.com']) } } } },
  ]);
  t.ok(wrapped.allows({ name: 'a.com' }) && wrapped.allows({ name: 'b.com' }));
  const deny = firewall([list('DENYLIST', ['.bad.com'])]);
  t.match(deny.no, /g0\.json: allows everything but some names: no language denies by name/);
  t.notOk(deny.allows({ name: 'good.com' }));
  t.match(firewall([list('ALLOWLIST', ['a.com'], ['QUIC'])]).no, /TargetTypes must be/);
  t.ok(firewall([list('ALERTLIST', ['a.com'])]).allows({ name: 'b.com', protocol: 17 }), 'an alert decides nothing');
  t.end();
});

t.test('rules in fields: actions in their order, variables, and what closes', (t) => {
  const r = firewall(
    [
      rules(
        rule('DROP', { Destination: '203.0.113.0/24' }),
        rule('PASS', { Destination: '203.0.113.64/26', DestinationPort: '[443,8000:8001]' }),
      ),
      list('ALLOWLIST', ['a.com']),
    ],
    'cnp',
  );
  t.equal(r.no, '');
  t.ok(r.allows({ to: '203.0.113.64', port: 8001 }), 'passes come first');
  t.notOk(r.allows({ to: '203.0.113.64', port: 8002 }));
  t.notOk(r.allows({ name: 'a.com', to: '203.0.113.63', port: 8002 }) && r.allows({ to: '203.0.113.63' }));
  t.ok(r.allows({ name: 'a.com' }));
  const strict = {
    ...rules(rule('DROP', { Destination: '203.0.113.0/25' }), rule('PASS', { Destination: '203.0.113.0/24' })),
    StatefulRuleOptions: { RuleOrder: 'STRICT_ORDER' },
  };
  for (const to of ['cilium', 'cnp', 'calico'] as const) {
    const s = firewall([strict], to);
    t.equal(s.no, '', to);
    t.match(s.told, /the firewall policy, .* is not given: the rest is denied/);
    t.notOk(s.allows({ to: '203.0.113.127' }));
    t.ok(s.allows({ to: '203.0.113.128' }));
    t.notOk(s.allows({}));
  }
  t.ok(
    firewall([strict, { FirewallPolicy: { StatefulDefaultActions: ['aws:alert_strict'] } }]).allows({}),
    'the rest passes',
  );
  const vars = {
    RuleVariables: {
      IPSets: { HOME_NET: { Definition: ['10.0.0.0/8'] }, OURS: { Definition: ['203.0.113.0/24', '!203.0.113.9'] } },
      PortSets: { WEB: { Definition: ['80', '443'] } },
    },
  };
  const v = firewall(
    [
      {
        ...rules(
          rule('PASS', { Source: '$HOME_NET', Destination: '$OURS', DestinationPort: '$WEB' }),
          rule('DROP', { Protocol: 'IP' }),
        ),
        ...vars,
      },
    ],
    'cilium',
    { $HOME_NET: true },
  );
  t.equal(v.no, '');
  t.ok(v.allows({ to: '203.0.113.8', port: 80 }));
  t.notOk(v.allows({ to: '203.0.113.9', port: 80 }) || v.allows({ to: '203.0.113.8', port: 81 }));
  for (const [h, message] of [
    [{ Source: '10.0.0.0/8' }, /asks who sends it, 10\.0\.0\.0\/8/],
    [{ SourcePort: '99' }, /the port 99 of the client/],
    [{ Protocol: 'SSH' }, /asks for protocol SSH in the packets/],
    [{ Destination: '$NOBODY' }, /destination \$NOBODY is not known from the file: it allows nothing \(--assume/],
    [{ DestinationPort: '99:1' }, /port 99:1 cannot be read/],
    [{ Direction: 'BACK' }, /Direction must be/],
  ] as const) {
    const closed = firewall([rules(rule('PASS', h), rule('DROP', { Protocol: 'IP' }))]);
    t.match(closed.no, message);
    t.notOk(closed.allows({}));
    const denied = firewall([rules(rule('DROP', h))]);
    t.match(denied.no, /it denies always/);
  }
  t.match(
    firewall([rules(rule('PASS', {}, [{ Keyword: 'flowbits' }]), rule('DROP', { Protocol: 'IP' }))]).no,
    /asks for flowbits/,
  );
  t.match(firewall([rules(rule('JUMP', {}))]).no, /action jump is not known: it denies/);
  t.match(
    firewall([{ RulesSource: { StatelessRulesAndCustomActions: {} } }]).no,
    /judged without a state: everything is denied/,
  );
  t.throws(() => firewall([{}]), { code: 'MANIFEST', message: /has no RulesSource/ });
  t.throws(() => firewall([strict, rules(rule('PASS', {}))]), { message: /a firewall takes one/ });
  t.end();
});

t.test('a DNS server in a network that is denied', (t) => {
  const groups = [
    rules(
      rule('DROP', { Protocol: 'IP', Destination: '203.0.113.0/24' }),
      rule('PASS', { Destination: '203.0.0.0/16' }),
    ),
  ].map((one) => ({ ...one, StatefulRuleOptions: { RuleOrder: 'STRICT_ORDER' } }));
  const files = { 'g.json': JSON.stringify(groups[0]) };
  const resolvers = [{ cidr: '203.0.113.0/32' }, { cidr: '198.51.100.77/32' }];
  t.match(
    bed.run('aws-network-firewall', files, 'cilium', { resolvers }).no,
    /g\.json: what it becomes denies DNS to 203\.0\.113\.0/,
  );
  const r = bed.run('aws-network-firewall', files, 'cnp', { resolvers });
  t.equal(r.no, '', 'there, DNS comes first');
  t.ok(r.allows({ to: '203.0.113.0', protocol: 17, port: 53 }));
  t.notOk(r.allows({ to: '203.0.113.0', port: 54 }));
  t.end();
});

t.test('without denies, a destination is said once for all of its ports', (t) => {
  const r = firewall([
    rules(rule('PASS', { Destination: '203.0.113.0/24', DestinationPort: '22' })),
    list('ALLOWLIST', ['.a.com']),
  ]);
  t.equal(r.no, '');
  const { egress } = r.objects[0]!.spec as { egress: unknown[] };
  t.equal(egress.length, 3);
  t.ok(r.allows({ name: 'a.com', port: 22, by: 'tls' }) && r.allows({ to: '203.0.113.1', port: 22 }));
  t.notOk(r.allows({ to: '203.0.113.1', port: 23 }));
  t.end();
});

t.test("Suricata's rules", (t) => {
  const r = firewall([
    suricata(
      'pass tls $HOME_NET any -> any any (msg:"a;b"; tls.sni; dotprefix; content:".example.com"; nocase; endswith; flow:to_server, established; sid:1; rev:1;)',
      'pass http any any -> any [80, 8080] (http.host; content:"a.org"; startswith; endswith; sid:2;)',
      'pass tls any any -> any any (tls.sni; content:".below.net"; endswith; sid:3;)',
      '# a comment',
      'alert tls any any -> any any (sid:4;)',
      'drop ip any any -> any any (sid:5;)',
    ),
  ]);
  t.equal(r.no, '');
  for (const name of ['example.com', 'x.example.com', 'x.below.net']) t.ok(r.allows({ name }), name);
  t.ok(r.allows({ name: 'a.org', port: 8080 }));
  for (const name of ['xexample.com', 'below.net', 'a.org', 'b.a.org']) t.notOk(r.allows({ name }), String(name));
  for (const [line, message] of [
    [
      'pass tls any any -> any any (tls.sni; content:"example.com"; endswith; sid:1;)',
      /is not a name, or the end of one at a dot/,
    ],
    ['pass tls any any -> any any (tls.sni; content:"a"; content:"b"; sid:1;)', /asks for several things/],
    ['pass tls any any -> any any (tls.sni; pcre:"/x/"; sid:1;)', /asks for pcre/],
    ['pass ssh any any -> any any (sid:1;)', /asks for protocol ssh/],
    ['pass tls any any -> any any (tls.sni; content:"a.com', /cannot be read: it allows nothing/],
  ] as const) {
    const closed = firewall([suricata(line, 'drop ip any any -> any any (sid:5;)')]);
    t.match(closed.no, message);
    t.match(closed.no, /^g0\.json:3: RulesString line 1: /);
    t.notOk(closed.allows({ name: 'a.com' }));
  }
  t.end();
});

t.test('what a list or a rule is for: TLS, HTTP, or both', (t) => {
  const asks = (r: Result, by: Kind, says?: string) =>
    r.allows({ name: 'a.com', by, ...(says === undefined ? {} : { says }) });
  for (const [types, tls, http] of [
    [['TLS_SNI'], true, false],
    [['HTTP_HOST'], false, true],
    [['TLS_SNI', 'HTTP_HOST'], true, true],
  ] as const) {
    const r = firewall([list('ALLOWLIST', ['a.com'], types)]);
    t.equal(r.no, '');
    t.same([asks(r, 'tls'), asks(r, 'http'), asks(r, 'other')], [tls, http, false], types.join());
    t.notOk(asks(r, 'tls', 'b.com') || asks(r, 'http', 'b.com'));
  }
  const both = [list('ALLOWLIST', ['a.com']), list('ALLOWLIST', ['b.com'], ['HTTP_HOST'])];
  for (const RuleOrder of ['DEFAULT_ACTION_ORDER', 'STRICT_ORDER']) {
    const r = firewall(both.map((one) => ({ ...one, StatefulRuleOptions: { RuleOrder } })));
    t.equal(r.no, '', RuleOrder);
    t.ok(asks(r, 'tls') && r.allows({ name: 'b.com', by: 'http' }), 'a list drops nothing but what it is for');
    t.notOk(asks(r, 'http') || r.allows({ name: 'b.com' }), RuleOrder);
  }
  const lines = [
    'pass tls any any -> 203.0.113.0/24 443 (tls.sni; content:"a.com"; startswith; endswith; sid:1;)',
    'drop ip any any -> any any (sid:2;)',
  ];
  const at = firewall([suricata(...lines)]);
  t.equal(at.no, '');
  const there = { to: '203.0.113.9', by: 'tls', says: 'a.com' } as const;
  t.ok(at.allows(there));
  t.notOk(
    at.allows({ ...there, says: 'b.com' }) || at.allows({ ...there, by: 'http' }) || at.allows({ name: 'a.com' }),
  );
  t.match(
    firewall([suricata(...lines)], 'cnp').no,
    /names some servers, at some addresses only: a ClusterNetworkPolicy/,
  );
  const any = firewall([suricata('pass http any any -> any 80 (sid:1;)', 'drop ip any any -> any any (sid:2;)')]);
  t.match(any.no, /RulesString line 1: allows every HTTP request, also what names nobody: .* allows less \(80\/tcp\)/);
  t.ok(any.allows({ name: 'a.com', port: 80 }));
  t.notOk(any.allows({ name: 'a.com', port: 80, by: 'tls' }) || any.allows({ name: 'a.com', port: 80, says: null }));
  const bad = firewall([list('DENYLIST', ['a.com'], ['QUIC'])]);
  t.match(bad.no, /TargetTypes must be TLS_SNI, HTTP_HOST, or both: everything is denied/);
  t.notOk(bad.allows({ name: 'b.com' }));
  t.end();
});

/** The engine's meaning for a TLS connection with a name, or a connection without one. */
const label = fc.constantFrom('a', 'b', 'c');
const target = fc
  .tuple(fc.boolean(), fc.array(label, { minLength: 1, maxLength: 2 }))
  .map(([dot, labels]) => `${dot ? '.' : ''}${labels.join('.')}.com`);
const group = fc.oneof(
  fc.record({
    kind: fc.constantFrom('ALLOWLIST', 'DENYLIST', 'REJECTLIST', 'ALERTLIST'),
    types: fc.constantFrom<readonly string[]>(['TLS_SNI'], ['HTTP_HOST'], ['TLS_SNI', 'HTTP_HOST']),
    targets: fc.array(target, { minLength: 1, maxLength: 4 }),
  }),
  fc.record({
    rules: fc.array(
      fc.record({
        action: fc.constantFrom('PASS', 'DROP', 'REJECT', 'ALERT'),
        net: fc.constantFrom('ANY', '203.0.113.0/24', '203.0.113.64/26'),
        protocol: fc.constantFrom('TCP', 'UDP', 'IP'),
        port: fc.constantFrom('ANY', '443', '[80,443]'),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  }),
);
const RANK = { pass: 0, drop: 1, reject: 2, alert: 3 };
type Action = keyof typeof RANK;
interface Conn {
  readonly name: string | undefined;
  readonly by: Kind;
  readonly to: string;
  readonly protocol: number;
  readonly port: number;
}

t.test('random rule groups', (t) => {
  let exact = 0;
  fc.assert(
    fc.property(
      fc.array(group, { minLength: 1, maxLength: 3 }),
      fc.boolean(),
      fc.constantFrom<Target>('cilium', 'cnp', 'calico', 'fqdn'),
      (groups, strict, to) => {
        const model: { action: Action; holds: (c: Conn) => boolean }[] = [];
        let lists = false;
        const json = groups.map((one) => {
          const options = { StatefulRuleOptions: { RuleOrder: strict ? 'STRICT_ORDER' : 'DEFAULT_ACTION_ORDER' } };
          if ('targets' in one) {
            const isJudged = (c: Conn) =>
              c.protocol === 6 && one.types.includes(c.by === 'tls' ? 'TLS_SNI' : c.by === 'http' ? 'HTTP_HOST' : '');
            const listed = (c: Conn) =>
              isJudged(c) &&
              c.name !== undefined &&
              one.targets.some((x) =>
                x.startsWith('.') ? c.name === x.slice(1) || isBelow(c.name!, x.slice(1)) : c.name === x,
              );
            if (one.kind === 'ALLOWLIST') {
              lists = true;
              model.push({ action: 'pass', holds: listed }, { action: 'drop', holds: isJudged });
            } else
              model.push({
                action: one.kind === 'DENYLIST' ? 'drop' : one.kind === 'REJECTLIST' ? 'reject' : 'alert',
                holds: listed,
              });
            return { ...list(one.kind, one.targets, one.types), ...options };
          }
          for (const { action, net, protocol, port } of one.rules)
            model.push({
              action: action.toLowerCase() as Action,
              holds: (c) =>
                (protocol === 'IP' || c.protocol === (protocol === 'TCP' ? 6 : 17)) &&
                (net === 'ANY' ||
                  (c.to.startsWith('203.0.113.') &&
                    (net.endsWith('/24') || (Number(c.to.split('.')[3]) >= 64 && Number(c.to.split('.')[3]) < 128)))) &&
                (port === 'ANY' || c.port === 443 || (port === '[80,443]' && c.port === 80)) &&
                (port === 'ANY' || c.protocol !== 1),
            });
          return {
            ...rules(
              ...one.rules.map((x) =>
                rule(x.action, { Destination: x.net, Protocol: x.protocol, DestinationPort: x.port }),
              ),
            ),
            ...options,
          };
        });
        const ordered = strict ? model : [...model].sort((a, b) => RANK[a.action] - RANK[b.action]);
        const r = firewall(json, to);
        if (r.refused.length === 0) exact++;
        const first = (c: Conn) => ordered.find((one) => one.action !== 'alert' && one.holds(c));
        const passes = (c: Conn) => {
          const found = first(c);
          return found ? found.action === 'pass' : !strict;
        };
        // Most languages do not tell TLS from HTTP.
        const may = (c: Conn) =>
          (to === 'cilium' || c.by === 'other' ? [c.by] : (['tls', 'http'] as const)).some((by) =>
            passes({ ...c, by }),
          );
        for (const name of [undefined, 'a.com', 'z.a.com', 'b.a.com', 'c.com', 'far.org'])
          for (const address of [FAR, '203.0.113.63', '203.0.113.64'])
            for (const [protocol, port, by] of [
              [6, 443, 'tls'],
              [6, 443, 'http'],
              [6, 80, 'http'],
              [6, 81, name === undefined ? 'other' : 'tls'],
              [17, 443, 'other'],
              [17, 54, 'other'],
            ] as const) {
              const c = { name, by, to: address, protocol, port };
              const is = r.allows(c);
              const text = () => `${JSON.stringify(c)}\n${JSON.stringify(json, null, 1)}\n${r.texts.join('')}${r.no}`;
              if (is && !may(c)) throw new Error(`is allowed: ${text()}`);
              for (const says of by === 'other' ? [] : ['far.org', 'z.c.com', null])
                if (r.allows({ ...c, says }) && !may({ ...c, name: says ?? undefined }))
                  throw new Error(`is allowed for ${says}: ${text()}`);
              if (is || !passes(c) || r.refused.length > 0) continue;
              // A list of allowed names closes what it is not for, too.
              if (!lists) throw new Error(`is not allowed: ${text()}`);
              if (first(c) && name !== undefined && protocol === 6 && !strict)
                throw new Error(`is not allowed: ${text()}`);
            }
      },
    ),
    { numRuns: 300 },
  );
  t.ok(exact > 30, `${exact} of them were exact`);
  t.end();
});
