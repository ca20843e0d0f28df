import t from 'tap';
import { DialectRegistry, toIr } from '../../src/dialects/index.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { judgeOf, namespace, packet, pod, policy, problemsOf, show, snapshotOf } from './world.js';

const WORLD =
  namespace('default', { env: 'prod' }) +
  pod('default/web', ['10.1.0.1', 'fd00:1::1'], { app: 'web' }) +
  pod('default/db', '10.1.0.2', { app: 'db' }) +
  pod('other/db', '10.1.0.3', { app: 'db' });

const VERSIONS: Record<string, string> = {
  ClusterNetworkPolicy: 'policy.networking.k8s.io/v1alpha2',
  AdminNetworkPolicy: 'policy.networking.k8s.io/v1alpha1',
  BaselineAdminNetworkPolicy: 'policy.networking.k8s.io/v1alpha1',
};

function object(spec: unknown, kind = 'ClusterNetworkPolicy', apiVersion = VERSIONS[kind], name = 'p'): string {
  return `---\n${JSON.stringify({ apiVersion, kind, metadata: { name }, spec })}\n`;
}

const HEAD = { tier: 'Admin', priority: 10, subject: { namespaces: { matchLabels: { env: 'prod' } } } };
const EVERYWHERE = [{ networks: ['0.0.0.0/0', '::/0'] }];
const NEAR = [{ networks: ['192.0.2.0/24'] }];
/** Below the policy in question: without it, everything of the world would be accepted. */
const BELOW = object(
  { ...HEAD, priority: 1000, egress: [{ action: 'Accept', to: EVERYWHERE }] },
  undefined,
  undefined,
  'zz',
);

/** What default/web may reach near, what far; what default/db and other/db may reach near. */
function verdicts(text: string): string {
  const judge = judgeOf(WORLD + text + BELOW);
  return [
    judge('default/web', '192.0.2.1:80/tcp'),
    judge('default/web', '8.8.8.8:80/tcp'),
    judge('other/db', '192.0.2.1:80/tcp'),
  ].join(' ');
}

const near = (action: string, more = {}) => ({ action, to: NEAR, ...more });
const spec = (...egress: unknown[]) => ({ ...HEAD, egress });
/** The verdicts of a policy with one such rule. */
const rule = (entry: unknown) => verdicts(object(spec(entry)));

const NOTHING = 'allow [cnp/zz#0] allow [cnp/zz#0] allow';
const DENIES_ALL = 'deny [cnp/p#0] deny [cnp/p#0] allow';

t.test('rules that can be read', async (t) => {
  t.equal(rule(near('Accept')), 'allow [cnp/p#0] allow [cnp/zz#0] allow');
  t.equal(rule(near('Deny')), 'deny [cnp/p#0] allow [cnp/zz#0] allow');
  t.equal(rule(near('Pass')), 'allow allow [cnp/zz#0] allow', 'goes past the rest of the tier');
  t.same(problemsOf(WORLD + object(spec(near('Accept'), near('Deny'), near('Pass')))), []);
});

t.test('a rule that cannot be read closes: Accept matches nothing, Deny and Pass deny everything', async (t) => {
  const broken: Record<string, object> = {
    'no peers': { to: [] },
    'an empty peer': { to: [{}] },
    'an unknown peer': { to: [{ galaxies: {} }] },
    'a peer that says two things': { to: [{ namespaces: {}, networks: ['192.0.2.0/24'] }] },
    'null is absence': { to: [{ namespaces: null }] },
    'one good peer, one broken': { to: [...NEAR, {}] },
    'peers that are no list': { to: NEAR[0] },
    'no CIDR': { to: [{ networks: ['192.0.2.0'] }] },
    'no networks': { to: [{ networks: [] }] },
    'IPv4 as IPv6': { to: [{ networks: ['::ffff:192.0.2.0/120'] }] },
    'a selector with a wrong operator': { to: [{ namespaces: { matchExpressions: [{ key: 'a', operator: 'Is' }] } }] },
    'a selector without values': { to: [{ nodes: { matchExpressions: [{ key: 'a', operator: 'In' }] } }] },
    'pods without a podSelector': { to: [{ pods: { namespaceSelector: {} } }] },
    'no protocols': { protocols: [] },
    'an empty protocol': { protocols: [{}] },
    'an unknown protocol': { protocols: [{ icmp: {} }] },
    'two protocols in one': { protocols: [{ tcp: { destinationPort: { number: 1 } }, destinationNamedPort: 'a' }] },
    'a protocol without a port': { protocols: [{ tcp: {} }] },
    'an empty port': { protocols: [{ tcp: { destinationPort: {} } }] },
    'number and range': { protocols: [{ tcp: { destinationPort: { number: 1, range: { start: 1, end: 2 } } } }] },
    'port 0': { protocols: [{ tcp: { destinationPort: { number: 0 } } }] },
    'port 65536': { protocols: [{ udp: { destinationPort: { number: 65536 } } }] },
    'a range of one port': { protocols: [{ sctp: { destinationPort: { range: { start: 80, end: 80 } } } }] },
    'a range backwards': { protocols: [{ tcp: { destinationPort: { range: { start: 81, end: 80 } } } }] },
    'a range without an end': { protocols: [{ tcp: { destinationPort: { range: { start: 80 } } } }] },
    'a named port of a network': { protocols: [{ destinationNamedPort: 'http' }] },
    'a named port without a name': { to: [{ namespaces: {} }], protocols: [{ destinationNamedPort: '' }] },
    'protocols and ports': {
      protocols: [{ tcp: { destinationPort: { number: 80 } } }],
      ports: [{ portNumber: { port: 80 } }],
    },
    'an unknown field': { except: [] },
    'a name that is no text': { name: 5 },
  };
  for (const [why, more] of Object.entries(broken)) {
    t.equal(rule(near('Accept', more)), NOTHING, `Accept, ${why}`);
    t.equal(rule(near('Deny', more)), DENIES_ALL, `Deny, ${why}`);
    t.equal(rule(near('Pass', more)), DENIES_ALL, `Pass, ${why}`);
    const said = problemsOf(WORLD + object(spec(near('Accept', more))));
    t.ok(
      said.length > 0 &&
        said.every((p) => /^error .*spec\.egress\[0\].*until then spec\.egress\[0\] accepts nothing$/.test(p)),
      why,
    );
    const denied = problemsOf(WORLD + object(spec(near('Pass', more))));
    t.ok(
      denied.every((p) => /until then spec\.egress\[0\] denies everything to the pods that it selects$/.test(p)),
      why,
    );
  }
  t.equal(rule(near('Allow')), NOTHING, 'the older word is no reason to deny');
  for (const action of ['accept', 'Drop', '', 5, undefined])
    t.equal(rule(near(action as string)), DENIES_ALL, `${action}`);
  for (const entry of ['text', 5, [], true]) t.equal(rule(entry), DENIES_ALL, JSON.stringify(entry));
  t.equal(
    verdicts(object(spec(near('Accept', { to: [{}] }), near('Deny')))),
    'deny [cnp/p#1] allow [cnp/zz#0] allow',
    'the other rules hold',
  );
});

t.test('domain names: in Accept rules, of two labels or more', async (t) => {
  const names = (action: string, ...domainNames: string[]) => near(action, { to: [{ domainNames }] });
  t.equal(rule(names('Accept', 'example.com', '*.example.com')), NOTHING, 'no address was learned');
  t.equal(rule(near('Accept', { to: [...NEAR, { domainNames: ['com'] }] })), NOTHING, 'the whole rule');
  t.equal(rule(names('Deny', 'example.com')), DENIES_ALL);
  const said = (entry: object) =>
    problemsOf(WORLD + object(spec(entry))).map((p) => p.replace(/^(\w+) .*cnp\/p: |.*Policy p: /, ''));
  t.same(said(names('Accept', 'example.com', '*.x.example.com.')), []);
  t.match(said(names('Accept', ...Array(26).fill('a.b'))), [/domainNames: has 26 items: clusters take 25 at most/]);
  t.match(said(near('Accept', { to: [{ domainNames: ['a.b'] }], protocols: [{ destinationNamedPort: 'http' }] })), [
    /cannot be combined with networks, nodes or domainNames/,
  ]);
  t.match(said(names('Pass', 'example.com')), [/domainNames: may stand in Accept rules only .* denies everything/]);
  for (const wrong of ['*', 'com', 'a.*.com', '*x.com', '-a.com', 'a..com', 'a b.com', '']) {
    t.match(said(names('Accept', wrong)), [/domainNames\[0\]: .* is not a domain name/], wrong);
  }
});

t.test('a policy of which it is not known where it belongs is held to what it denies', async (t) => {
  const egress = [near('Accept'), near('Pass'), { action: 'Deny', to: [{ networks: ['8.8.0.0/16'] }] }];
  /** What comes before it accepts everything. */
  const before = object(
    { ...HEAD, priority: 0, egress: [{ action: 'Accept', to: EVERYWHERE }] },
    undefined,
    undefined,
    'before',
  );
  const broken: Record<string, [object, string]> = {
    'no tier': [{ tier: undefined }, 'allow'],
    'no such tier': [{ tier: 'Default' }, 'allow'],
    'no priority': [{ priority: undefined }, 'allow'],
    'priority -1': [{ priority: -1 }, 'allow'],
    'priority 1001': [{ priority: 1001 }, 'allow'],
    'priority 1.5': [{ priority: 1.5 }, 'allow'],
    'priority as text': [{ priority: '5' }, 'allow'],
    'an unknown field': [{ selector: 'all()' }, 'allow'],
    'no subject': [{ subject: undefined }, 'deny [cnp/p#1]'],
    'an empty subject': [{ subject: {} }, 'deny [cnp/p#1]'],
    'two subjects': [{ subject: { namespaces: {}, pods: { podSelector: {} } } }, 'deny [cnp/p#1]'],
    'an unknown subject': [{ subject: { nodes: {} } }, 'deny [cnp/p#1]'],
    'a subject that is no map': [{ subject: 'all' }, 'deny [cnp/p#1]'],
    'a subject with a wrong label': [{ subject: { namespaces: { matchLabels: { 'a/b/c': 'x' } } } }, 'deny [cnp/p#1]'],
  };
  for (const [why, [more, others]] of Object.entries(broken)) {
    const text = object({ ...HEAD, egress, ...more });
    t.equal(verdicts(before + text), `deny [cnp/p#1] deny [cnp/p#2] ${others}`, why);
    t.equal(judgeOf(WORLD + text)('default/web', '9.9.9.9:1/udp'), 'allow', `${why}: what no rule is about`);
    t.match(problemsOf(WORLD + text)[0], /until then it accepts nothing, and denies what it denies or passes/, why);
  }
});

t.test('rules that cannot be found deny everything', async (t) => {
  const all = 'deny [cnp/p#default] deny [cnp/p#default]';
  t.equal(verdicts(object('nonsense')), `${all} deny [cnp/p#default]`, 'to every pod');
  t.equal(verdicts(object({ ...HEAD, egress: {} })), `${all} allow`, 'to the pods that are selected');
  t.equal(verdicts(object({ ...HEAD, egres: [near('Deny')] })), `${all} allow`, 'a misspelt egress');
  t.match(problemsOf(WORLD + object({ ...HEAD, egress: {} })), [/it denies everything to the pods that it selects$/]);
  t.match(problemsOf(WORLD + object('nonsense')), [/it denies everything to every pod$/]);
});

t.test('what does not concern egress has no effect', async (t) => {
  for (const more of [
    {},
    { egress: [] },
    { egress: null },
    { ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }] },
  ])
    t.equal(verdicts(object({ ...HEAD, ...more })), NOTHING, JSON.stringify(more));
  t.equal(verdicts(object(undefined)), NOTHING);
  t.equal(verdicts(object({ ...HEAD, tier: 'x' })), NOTHING, 'wrong, but without rules');
  t.equal(
    verdicts(object({ ...spec(near('Deny')), ingress: [{ action: 'Reject' }] })),
    'deny [cnp/p#0] allow [cnp/zz#0] allow',
    'a fault of ingress does not touch egress',
  );
  t.match(problemsOf(WORLD + object(undefined)), [/^warning .*spec: is missing/]);
});

t.test('warnings', async (t) => {
  const warned = (text: string) => problemsOf(WORLD + text).map((p) => p.replace(/^(\w+) .*?Policy \w+: /, '$1 '));
  t.match(warned(object(spec(near('Deny')), undefined, 'policy.networking.k8s.io/v2')), [
    /^warning apiVersion: .*read as .*\/v1 /,
  ]);
  t.match(warned(object(spec(near('Deny', { to: [{ networks: ['10.1.2.3/8'] }] })))), [
    /^warning .*read as 10.0.0.0\/8/,
  ]);
  const many = <T>(n: number, item: T) => Array.from({ length: n }, () => item);
  t.same(warned(object(spec(...many(25, near('Deny', { to: many(25, NEAR[0]) }))))), []);
  t.match(warned(object(spec(...many(26, near('Deny'))))), [/^warning spec.egress: has 26 rules: clusters take 25/]);
  t.match(warned(object(spec(near('Deny', { to: many(26, NEAR[0]) })))), [
    /^warning spec.egress\[0\].to: has 26 items/,
  ]);
  t.match(
    warned(object(spec(near('Deny', { to: [{ namespaces: {} }], protocols: [{ destinationNamedPort: 'HTTP_1' }] })))),
    [/^warning spec.egress\[0\].protocols\[0\].destinationNamedPort: no container can have/],
  );
  const older = object(spec(near('Deny', { ports: [{ portNumber: { protocol: 'TCP', port: 80 } }] })));
  t.match(warned(older), [/^warning spec.egress\[0\].ports: is the older form of protocols/]);
  const judge = judgeOf(WORLD + older);
  t.same(
    [79, 80, 81].map((port) => judge('default/web', `192.0.2.1:${port}/tcp`)),
    ['allow', 'deny [cnp/p#0]', 'allow'],
    'and is enforced',
  );
});

t.test('the shapes before it have their own words', async (t) => {
  const { tier: _, ...head } = HEAD;
  const anp = (entry: object) =>
    object({ ...head, subject: { namespaces: {} }, egress: [entry] }, 'AdminNetworkPolicy');
  const banp = (entry: object, name = 'default') =>
    object({ subject: { namespaces: {} }, egress: [entry] }, 'BaselineAdminNetworkPolicy', undefined, name);
  const web = (text: string, target = '192.0.2.1:80/tcp') => judgeOf(WORLD + text)('default/web', target);
  t.equal(web(anp(near('Allow'))), 'allow [anp/p#0]');
  t.equal(web(anp(near('Accept'))), 'allow', 'not a word of it: accepts nothing');
  t.match(problemsOf(WORLD + anp(near('Accept'))), [/action: must be one of Allow, Deny, Pass.* accepts nothing$/]);
  t.equal(web(banp(near('Deny'))), 'deny [banp/default#0]');
  t.equal(web(banp(near('Pass')), '8.8.8.8:1/udp'), 'deny [banp/default#0]', 'a Baseline has no Pass');
  t.match(problemsOf(WORLD + banp(near('Deny'), 'mine')), [
    /^warning .*metadata.name: a cluster takes the name default only/,
  ]);
  t.equal(web(anp(near('Deny', { to: [{ namespaces: {}, networks: [] }] })), '8.8.8.8:1/udp'), 'deny [anp/p#0]');
  for (const ports of [
    [],
    [{}],
    [{ portNumber: { protocol: 'ICMP', port: 1 } }],
    [{ portNumber: { port: 1 }, namedPort: 'a' }],
    [{ namedPort: 'http' }],
    [{ portRange: { start: 2, end: 1 } }],
  ]) {
    t.equal(web(anp(near('Deny', { ports })), '8.8.8.8:1/udp'), 'deny [anp/p#0]', JSON.stringify(ports));
    t.equal(web(anp(near('Allow', { ports })) + banp({ action: 'Deny', to: EVERYWHERE })), 'deny [banp/default#0]');
  }
  t.equal(
    web(anp(near('Deny', { to: [{ pods: { podSelector: {} } }] })), '8.8.8.8:1/udp'),
    'deny [anp/p#0]',
    'before v1alpha2 a namespaceSelector has to be there',
  );
  const aws = (more: object) => object({ ...HEAD, ...more }, 'ClusterNetworkPolicy', 'networking.k8s.aws/v1alpha1');
  t.equal(
    web(aws({ egress: [near('Deny', { to: [{ nodes: {} }] })] }), '8.8.8.8:1/udp'),
    'deny [cnp/p#0]',
    'AWS has no nodes',
  );
  t.equal(web(aws({ tier: undefined, egress: [near('Deny')] })), 'deny [cnp/p#0]');
  const article = (more: object) => object(more, 'ClusterNetworkPolicy', 'networking.x-k8s.io/v1alpha1');
  const block = (cidr: string, except?: string[]) => ({ action: 'Deny', to: [{ ipBlock: { cidr, except } }] });
  t.equal(web(article({ policyTypes: ['Ingress'], egress: [block('0.0.0.0/0')] })), 'allow');
  t.match(problemsOf(WORLD + article({ policyTypes: ['Ingress'], egress: [block('0.0.0.0/0')] })), [
    /^warning .*has no effect/,
  ]);
  t.equal(
    web(article({ policyTypes: ['egress'], egress: [block('192.0.2.0/24')] })),
    'deny [cnp/p#0]',
    'unreadable types close',
  );
  t.equal(web(article({ egress: [block('192.0.2.0/24', ['192.0.3.0/24'])] }), '8.8.8.8:1/udp'), 'deny [cnp/p#0]');
  t.equal(
    web(article({ egress: [{ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] }] }), '8.8.8.8:1/udp'),
    'deny [cnp/p#0]',
    'no action',
  );
  t.same(problemsOf(WORLD + article({ egress: [block('192.0.2.0/24')] })), []);
});

t.test('one name in several groups: several policies', async (t) => {
  const text =
    object(spec(near('Deny'))) +
    object(
      spec({ action: 'Deny', to: [{ networks: ['8.8.8.0/24'] }] }),
      'ClusterNetworkPolicy',
      'networking.k8s.aws/v1alpha1',
    );
  t.equal(verdicts(text), 'deny [cnp/p#0] deny [cnp/p#0] allow');
  t.same(problemsOf(WORLD + text), []);
  const { ir } = toIr(snapshotOf(WORLD + text));
  t.same(
    ir.tiers.map((tier) => [tier.name, tier.policies.map((p) => p.ref.dialect)]),
    [['kube-admin', ['aws-clusternetworkpolicy', 'clusternetworkpolicy']]],
  );
});

t.test('rules carry their names, policies their labels', async (t) => {
  const text = `---\n${JSON.stringify({ apiVersion: VERSIONS.ClusterNetworkPolicy, kind: 'ClusterNetworkPolicy', metadata: { name: 'p', labels: { team: 'net' } }, spec: spec(near('Deny', { name: 'near' })) })}\n`;
  const [found] = toIr(snapshotOf(WORLD + text)).ir.tiers[0]?.policies ?? [];
  t.match(found, {
    ref: { labels: { team: 'net' } },
    rules: [{ ref: { name: 'near', index: 0, tier: 'kube-admin' } }],
  });
  t.throws(() => Object.assign(found as object, { staged: true }), TypeError, 'frozen');
});

t.test('the last good state of a policy stays in force', async (t) => {
  const registry = new DialectRegistry();
  const at = (text: string) => {
    const snapshot = snapshotOf(WORLD + text);
    const { ir } = registry.toIr(snapshot);
    return show(ir, evaluate(ir, snapshot, packet('default/web', '192.0.2.1:80/tcp')));
  };
  t.equal(
    at(object(spec(near('Accept'))) + policy('default/np', { podSelector: {}, policyTypes: ['Egress'] })),
    'allow [cnp/p#0]',
  );
  t.equal(at(object(spec(near('Deny', { to: [{}] })))), 'allow [cnp/p#0]', 'broken: as before');
  t.equal(at(object(spec(near('Deny')))), 'deny [cnp/p#0]', 'mended');
  t.equal(at(''), 'allow', 'gone');
});
