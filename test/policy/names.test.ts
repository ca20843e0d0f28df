/** Names: each language's own to canonical patterns, and what they become in the IR. */
import t from 'tap';
import { calicoDomain, ciliumPattern, domainName, exactName, gkePattern } from '../../src/dialects/base/names.js';
import type { Fault } from '../../src/dialects/base/dialect.js';
import { toIr } from '../../src/dialects/index.js';
import { leaves } from '../../src/tools/packets.js';
import { isPattern, matchesName } from '../../src/names/pattern.js';
import { seeded } from '../fuzz/random.js';
import { problemsOf, snapshotOf } from './world.js';

const READERS = { exactName, ciliumPattern, gkePattern, domainName, calicoDomain };
type Language = keyof typeof READERS;

/** The canonical pattern, or the message of the first error. */
function read(language: Language, text: string): string {
  const faults: Fault[] = [];
  const pattern = READERS[language](text, 'field', (f) => faults.push(f));
  const error = faults.find((f) => f.severity === 'error');
  return error ? error.message : (pattern as string);
}

const is = (what: string, text: string) => `${JSON.stringify(text)} is not a ${what}`;

t.test('canonical patterns', async (t) => {
  const rows: [Language, string, string | undefined][] = [
    ['exactName', 'Api.Stripe.COM.', 'api.stripe.com'],
    ['exactName', '_sip._tcp.example', '_sip._tcp.example'],
    ['exactName', 'localhost', 'localhost'],
    ['exactName', '*.x', undefined],
    ['exactName', '', undefined],
    ['exactName', '.', undefined],
    ['exactName', 'a..b', undefined],
    ['exactName', '.a', undefined],
    ['exactName', 'a b', undefined],
    ['exactName', 'ä.de', undefined],
    ['ciliumPattern', '*', '***'],
    ['ciliumPattern', '**.', '***'],
    ['ciliumPattern', '****', '***'],
    ['ciliumPattern', '*.X.com.', '*.x.com'],
    ['ciliumPattern', '**.x.com', '**.x.com'],
    ['ciliumPattern', '****.x.com', '**.x.com'],
    ['ciliumPattern', '**x.com', '*x.com'],
    ['ciliumPattern', 'a.**.x', 'a.*.x'],
    ['ciliumPattern', '**.**.x', '**.*.x'],
    ['ciliumPattern', 'sub***.x', 'sub*.x'],
    ['ciliumPattern', '*a*b*.x', '*a*b*.x'],
    ['ciliumPattern', 'x.com', 'x.com'],
    ['ciliumPattern', '', undefined],
    ['ciliumPattern', '*..x', undefined],
    ['ciliumPattern', '.*', undefined],
    ['ciliumPattern', 'a/b', undefined],
    ['gkePattern', '*', '***'],
    ['gkePattern', '*.x.com', '*.x.com'],
    ['gkePattern', '**.x.com', '*.x.com'],
    ['gkePattern', 'a**.x.com', 'a*.x.com'],
    ['domainName', 'Kubernetes.io', 'kubernetes.io'],
    ['domainName', '*.kubernetes.io.', '**.kubernetes.io'],
    ['domainName', 'a_b.c', 'a_b.c'],
    ['domainName', 'io', undefined],
    ['domainName', '*.io', undefined],
    ['domainName', '*', undefined],
    ['domainName', '**.a.b', undefined],
    ['domainName', '*a.b', undefined],
    ['domainName', 'a.*.b', undefined],
    ['domainName', '_a.b', undefined],
    ['domainName', '[.b', undefined],
    ['domainName', 'a-.b', undefined],
    ['calicoDomain', 'Example.com', 'example.com'],
    ['calicoDomain', '*.example.com', '**.example.com'],
    ['calicoDomain', 'update.*.example.com', 'update.**.example.com'],
    ['calicoDomain', '*.*.com', undefined],
    ['calicoDomain', 'www.*', undefined],
    ['calicoDomain', '*', undefined],
    ['calicoDomain', 'www*.example.com', undefined],
    ['calicoDomain', '**.example.com', undefined],
    ['calicoDomain', 'a..b', undefined],
  ];
  const what = {
    exactName: 'name',
    ciliumPattern: 'pattern of names',
    gkePattern: 'pattern of names',
    domainName: 'domain name',
    calicoDomain: 'domain name',
  };
  for (const [language, text, pattern] of rows)
    t.equal(read(language, text), pattern ?? is(what[language], text), `${language} ${text}`);
});

t.test('each wildcard as its own engine has it', async (t) => {
  const rows: [Language, string, string[], string[]][] = [
    ['ciliumPattern', '*.x.com', ['a.x.com'], ['x.com', 'a.b.x.com', 'ax.com']],
    ['ciliumPattern', '**.x.com', ['a.x.com', 'a.b.x.com'], ['x.com', 'ax.com']],
    ['ciliumPattern', '*x.com', ['x.com', 'evilx.com'], ['a.x.com', 'a.evilx.com']],
    ['ciliumPattern', 'sub*.x.com', ['sub.x.com', 'sub-1.x.com'], ['sub.a.x.com', 'x.com', 'asub.x.com']],
    ['ciliumPattern', '*', ['', 'com', 'a.b.c'], []],
    ['gkePattern', '**.x.com', ['a.x.com'], ['a.b.x.com', 'x.com']],
    ['domainName', '*.x.com', ['a.x.com', 'a.b.x.com'], ['x.com', 'evilx.com']],
    ['calicoDomain', '*.x.com', ['a.x.com', 'a.b.x.com'], ['x.com']],
    ['calicoDomain', 'a.*.com', ['a.b.com', 'a.b.c.com'], ['a.com', 'b.a.c.com']],
    ['exactName', 'x.com', ['x.com'], ['a.x.com', 'x.com.a']],
  ];
  for (const [language, text, met, missed] of rows) {
    const pattern = read(language, text);
    for (const name of met) t.ok(matchesName(pattern, name), `${language} ${text}: ${name || 'the root'}`);
    for (const name of missed) t.notOk(matchesName(pattern, name), `${language} ${text}: not ${name}`);
  }
});

t.test('what is too long', async (t) => {
  const faults: Fault[] = [];
  const long = `${'a'.repeat(64)}.x`;
  t.equal(
    exactName(long, 'f', (f) => faults.push(f)),
    long,
  );
  t.match(faults, [
    { severity: 'warning', message: /label of more than 63 characters: no name has, it matches nothing/ },
  ]);
  const huge = 'a.'.repeat(1 << 20);
  for (const language of Object.keys(READERS) as Language[])
    t.match(read(language, huge), /^"a\.a\..*"… is not a /, language);
});

const random = seeded();
t.test(`whatever the text: a canonical pattern or an error, FUZZ_SEED=${random.seed}`, async (t) => {
  const parts = ['a', 'B', '-', '_', '.', '*', '**', '1', 'x.', '*.', ' ', 'é', 'a'.repeat(60)];
  for (let n = 0; n < 5000; n++) {
    const text = Array.from({ length: random.below(9) }, () => random.pick(parts)).join('');
    for (const language of Object.keys(READERS) as Language[]) {
      const faults: Fault[] = [];
      const pattern = READERS[language](text, 'f', (f) => faults.push(f));
      const wrong = faults.some((f) => f.severity === 'error');
      if (wrong === (pattern === undefined) && (pattern === undefined || isPattern(pattern))) continue;
      t.fail(`FUZZ_SEED=${random.seed} ${language} ${JSON.stringify(text)}: ${pattern} ${JSON.stringify(faults)}`);
      return;
    }
  }
  t.pass();
});

interface Read {
  /** `peers/names/ports/queries` of each rule. */
  readonly rules: string[];
  readonly problems: string[];
}

/** The rules of a policy, in short: the patterns, `outside` if pods and nodes are excluded, ports and queries. */
function rulesOf(...objects: object[]): Read {
  const text = objects.map((o) => `---\n${JSON.stringify(o)}\n`).join('');
  const { ir } = toIr(snapshotOf(text));
  const rules = ir.tiers.flatMap((tier) => tier.policies.flatMap((p) => p.rules));
  const short = rules
    .filter((rule) => rule.ref.index >= 0)
    .map(({ action, peers, ports, queries }) => {
      const places = peers?.map((peer) => {
        const parts = leaves([peer]).map((leaf) =>
          leaf.kind === 'names' ? `${leaf.aliases ? 'alias' : 'name'}:${leaf.patterns.join('|')}` : leaf.kind,
        );
        return parts.join('+');
      });
      const at = ports?.map((p) => `${p.protocol}:${p.named ?? p.ports?.map((r) => r.join('-')).join('|') ?? '*'}`);
      const asked = queries ? ` asks ${queries.join('|')}` : '';
      return `${action} ${places?.join(', ') ?? 'anywhere'} on ${at?.join(' ') ?? 'any'}${asked}`;
    });
  return { rules: short, problems: problemsOf(text) };
}

const at = (apiVersion: string, kind: string, spec: object, more: object = {}) => ({
  apiVersion,
  kind,
  metadata: { namespace: 'default', name: 'p', ...more },
  spec,
});
const cilium = (egress: object[]) => at('cilium.io/v2', 'CiliumNetworkPolicy', { endpointSelector: {}, egress });
const ANY53 = [{ port: '53', protocol: 'ANY' }];
const OUT = 'pods+nodes+own-node';

t.test('Cilium', async (t) => {
  const names = [{ matchName: 'Api.Example.com' }, { matchPattern: '**.x' }];
  t.same(rulesOf(cilium([{ toFQDNs: names, toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }] }])), {
    rules: [`allow name:api.example.com|**.x+${OUT} on 6:443-443`],
    problems: [],
  });
  t.same(rulesOf(cilium([{ toFQDNs: names }])).rules, [`allow name:api.example.com|**.x+${OUT} on any`]);
  t.same(rulesOf(cilium([{ toFQDNs: [] }])).rules, ['allow  on any'], 'an empty list selects nothing');
  const dns = (rules: object, ports = ANY53, more: object = {}) =>
    rulesOf(cilium([{ ...more, toPorts: [{ ports, rules }] }]));
  t.same(dns({ dns: names }), {
    rules: ['allow anywhere on 6:53-53 17:53-53 asks api.example.com|**.x'],
    problems: [],
  });
  t.same(dns({ dns: [] }).rules, ['allow anywhere on 6:53-53 17:53-53 asks ']);
  t.same(dns({ dns: [{ matchPattern: '*' }] }, [{ port: 'dns', protocol: 'UDP' }]).rules, [
    'allow anywhere on 17:dns asks ***',
  ]);
  const empty = dns({ dns: [{}, { matchName: 'a' }] });
  t.same(empty.rules, ['allow anywhere on 6:53-53 17:53-53 asks a']);
  t.match(empty.problems, [/^warning .*rules\.dns\[0\]: names nothing: no query matches it/]);
  t.same(dns({}).rules, ['allow anywhere on 6:53-53 17:53-53 132:53-53'], 'no rules at all');
  const several = [
    { ports: [{ port: '80', protocol: 'TCP' }] },
    { ports: ANY53, rules: { dns: [{ matchName: 'a' }] } },
    { ports: [{ port: '81', protocol: 'TCP' }] },
    { ports: ANY53, rules: { dns: [{ matchName: 'b' }] } },
  ];
  t.same(
    rulesOf(cilium([{ toEndpoints: [{}], toPorts: several }])).rules,
    ['allow pods on 6:80-80 6:81-81', 'allow pods on 6:53-53 17:53-53 asks a', 'allow pods on 6:53-53 17:53-53 asks b'],
    'each item of toPorts for itself',
  );
});

t.test('ClusterNetworkPolicy, and its older shapes', async (t) => {
  const to = [{ domainNames: ['*.example.com', 'a.b.'] }, { networks: ['9.9.9.9/32'] }];
  const subject = { namespaces: {} };
  const head = { tier: 'Admin', priority: 1, subject };
  const rules = ['allow name:**.example.com|a.b, cidr on any'];
  const CNP = 'ClusterNetworkPolicy';
  const accept = [{ action: 'Accept', to }];
  t.same(rulesOf(at('policy.networking.k8s.io/v1alpha2', CNP, { ...head, egress: accept })), { rules, problems: [] });
  t.same(rulesOf(at('networking.k8s.aws/v1alpha1', CNP, { ...head, egress: accept })), { rules, problems: [] });
  const anp = { priority: 1, subject, egress: [{ action: 'Allow', to }] };
  const read = rulesOf(at('policy.networking.k8s.io/v1alpha1', 'AdminNetworkPolicy', anp));
  t.same(read, { rules, problems: [] });
  const pass = (group: string) => rulesOf(at(group, CNP, { ...head, egress: [{ action: 'Pass', to }] })).rules;
  t.same(pass('networking.k8s.aws/v1alpha1'), [rules[0]?.replace('allow', 'pass')], "AWS' extension");
  t.same(pass('policy.networking.k8s.io/v1alpha2'), ['deny anywhere on any']);
});

t.test('Calico', async (t) => {
  const calico = (rule: object, ...sets: object[]) =>
    rulesOf(at('projectcalico.org/v3', 'NetworkPolicy', { types: ['Egress'], egress: [rule] }), ...sets);
  const domains = ['*.x.com', 'y.com'];
  t.same(calico({ action: 'Allow', protocol: 'TCP', destination: { domains, ports: [443] } }), {
    rules: [`allow alias:**.x.com|y.com+${OUT} on 6:443-443`],
    problems: [],
  });
  t.same(calico({ action: 'Allow', ipVersion: 4, destination: { domains } }).rules, [
    `allow alias:**.x.com|y.com+${OUT}+cidr on any`,
  ]);
  const set = (kind: string, spec: object) => at('projectcalico.org/v3', kind, spec, { labels: { role: 'out' } });
  const both = [
    set('NetworkSet', { nets: ['9.9.9.9'], allowedEgressDomains: ['*.x.com'] }),
    set('GlobalNetworkSet', { allowedEgressDomains: ['y.com'] }),
  ];
  const selected = { selector: "role == 'out'" };
  t.same(calico({ action: 'Allow', destination: selected }, ...both).rules, [
    `allow pods, cidr, alias:**.x.com+${OUT} on any`,
  ]);
  const wide = { ...selected, namespaceSelector: 'global()' };
  t.same(calico({ action: 'Allow', destination: wide }, ...both).rules, [`allow pods, alias:y.com+${OUT} on any`]);
  t.same(calico({ action: 'Deny', destination: selected }, ...both).rules, ['deny pods, cidr on any']);
  t.same(calico({ action: 'Pass', destination: selected }, ...both).rules, ['pass pods, cidr on any']);
  const but = { action: 'Allow', destination: { notSelector: "role == 'out'" } };
  t.same(
    rulesOf(at('projectcalico.org/v3', 'GlobalNetworkPolicy', { types: ['Egress'], egress: [but] }), ...both).rules,
    ['allow cidr+cidr+pods on any'],
    'domains exclude nothing',
  );
  t.same(
    calico({ action: 'Allow', protocol: 'TCP', destination: { ...selected, ports: [80, 'http'] } }, ...both).rules,
    [`allow pods, cidr, alias:**.x.com+${OUT} on 6:80-80 6:http`],
  );
});

t.test('GKE and the add-on', async (t) => {
  const gke = (rule: object) =>
    rulesOf(at('networking.gke.io/v1', 'FQDNNetworkPolicy', { podSelector: {}, egress: [rule] }));
  const matches = [{ name: 'a.com' }, { pattern: '*.b.com' }];
  const names = `name:a.com|*.b.com+${OUT}`;
  t.same(gke({ matches }), { rules: [`allow ${names} on any`], problems: [] });
  const ports = [{ protocol: 'TCP', port: 443 }, { port: 80 }, { protocol: 'ALL', port: 53 }, { protocol: 'UDP' }];
  t.same(gke({ matches, ports }).rules, [`allow ${names} on 6:443-443 6:80-80 6:53-53 17:53-53 17:*`]);
  const addOn = at('networking.gke.io/v1alpha3', 'FQDNNetworkPolicy', {
    podSelector: {},
    egress: [{ to: [{ fqdns: ['a.com'] }, { fqdns: ['b.com'] }], ports: [{ port: 1, endPort: 9, protocol: 'SCTP' }] }],
  });
  t.same(rulesOf(addOn), { rules: ['allow name:a.com|b.com on 132:1-9'], problems: [] });
});

t.test('EKS', async (t) => {
  const anp = (rule: object) =>
    rulesOf(at('networking.k8s.aws/v1alpha1', 'ApplicationNetworkPolicy', { podSelector: {}, egress: [rule] }));
  const to = [{ domainNames: ['*.a.com'] }, { podSelector: {} }, { ipBlock: { cidr: '9.9.9.9/32' } }];
  t.same(anp({ to, ports: [{ port: 443 }] }), {
    rules: ['allow name:**.a.com, pods, cidr on 6:443-443'],
    problems: [],
  });
  const mixed = anp({ to, ports: [{ port: 443 }, { port: 'http' }] });
  t.match(mixed.problems, [/^warning .*ports: a port name means nothing beside domainNames/]);
  t.match(anp({ to: [{ domainNames: ['a.b'], podSelector: {} }] }), {
    rules: ['allow  on '],
    problems: [/^error .*to\[0\]: has domainNames and something else/],
  });
});
