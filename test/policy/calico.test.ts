/** What is wrong with a Calico object, and what is in force meanwhile. */
import t, { type Test } from 'tap';
import { judgeOf, namespace, pod, policy, problemsOf } from './world.js';

const WORLD =
  namespace('default') +
  namespace('other', { env: 'prod' }) +
  pod('default/web', '10.1.0.1', { app: 'web' }) +
  pod('default/db', '10.1.0.2', { app: 'db' }) +
  pod('other/web', '10.1.0.3', { app: 'web' });

function object(kind: string, name: string, spec: unknown, more: object = {}): string {
  const apiVersion = 'projectcalico.org/v3';
  const space =
    kind.startsWith('Global') || kind.startsWith('StagedGlobal') || kind === 'Tier' ? {} : { namespace: 'default' };
  return `---\n${JSON.stringify({ apiVersion, kind, metadata: { ...space, name }, spec, ...more })}\n`;
}

const np = (spec: object) => object('NetworkPolicy', 'p', { selector: "app == 'web'", types: ['Egress'], ...spec });
/** A policy with one rule. */
const one = (rule: object) => np({ egress: [rule] });
/** What a rule does to a packet once it is closed, and the first problem. */
function closed(t: Test, rule: object, verdict: string, field: string, message: RegExp) {
  const text = WORLD + one(rule);
  t.equal(judgeOf(text)('default/web', '10.1.0.2:80/tcp'), verdict, JSON.stringify(rule));
  const problems = problemsOf(text);
  t.ok(
    problems.some((p) => p.startsWith('error') && p.includes(field) && message.test(p)),
    `${field}: ${problems.join(' | ')}`,
  );
}

const ALLOWS = 'allow [calico/default/p#0]';
const DENIES = 'deny [calico/default/p#0]';
const NOTHING = 'deny [calico/default/p#default]';

t.test('an Allow that cannot be enforced allows nothing', async (t) => {
  t.equal(judgeOf(WORLD + one({ action: 'Allow' }))('default/web', '10.1.0.2:80/tcp'), ALLOWS);
  const allow = (more: object, field: string, message: RegExp) =>
    closed(t, { action: 'Allow', ...more }, NOTHING, `spec.egress[0].${field}`, message);
  allow({ destination: { domains: ['x.*.*.example'] } }, 'destination.domains[0]', /is not a domain name/);
  allow({ destination: { domains: ['x.example'], selector: 'all()' } }, 'destination.selector', /beside domains/);
  allow({ destination: { domains: ['x.example'], notNets: ['9.9.9.9'] } }, 'destination.notNets', /beside domains/);
  allow({ destination: { domains: ['x.example'], services: { name: 's' } } }, 'destination.services', /beside domains/);
  allow(
    { protocol: 'TCP', destination: { domains: ['x.example'], ports: [1, 'http'] } },
    'destination.ports[1]',
    /is a port name/,
  );
  allow({ source: { domains: ['x.example'] } }, 'source.domains', /no meaning in a source/);
  allow({ source: { nets: ['10.0.0.0/8'] } }, 'source.nets', /not enforced/);
  allow({ protocol: 'TCP', source: { ports: [80] } }, 'source.ports', /not enforced/);
  allow({ source: { services: { name: 's' } } }, 'source.services', /no meaning/);
  allow({ destination: { services: {} } }, 'destination.services.name', /is missing/);
  allow({ destination: { services: { name: 's' }, nets: ['10.0.0.0/8'] } }, 'destination.nets', /beside services/);
  allow(
    { destination: { serviceAccounts: { selector: 'team = x' } } },
    'destination.serviceAccounts.selector',
    /character 6/,
  );
  allow({ destination: { selector: 'app = web' } }, 'destination.selector', /character 5/);
  allow({ destination: { selector: 'global()' } }, 'destination.selector', /no meaning here/);
  allow(
    { destination: { namespaceSelector: "global() || env == 'x'" } },
    'destination.namespaceSelector',
    /cannot be combined/,
  );
  allow({ destination: { nets: ['10.0.0.0/33'] } }, 'destination.nets[0]', /not a CIDR/);
  allow({ destination: { ports: [80] } }, 'destination.ports', /needs a protocol/);
  allow({ protocol: 'ICMP', destination: { ports: [80] } }, 'destination.ports', /needs a protocol/);
  allow({ protocol: 'TCP', destination: { ports: ['90:80'] } }, 'destination.ports[0]', /not a port/);
  allow({ protocol: 'TCP', destination: { ports: [65536] } }, 'destination.ports[0]', /not a port/);
  allow(
    { protocol: 'TCP', destination: { ports: ['http'], notPorts: [80] } },
    'destination.notPorts',
    /beside port names/,
  );
  allow({ protocol: 'GRE' }, 'protocol', /not a protocol.*47/);
  allow({ protocol: 0 }, 'protocol', /not a protocol/);
  allow({ protocol: 'ICMP', ipVersion: 6 }, 'protocol', /ipVersion/);
  allow({ icmp: { type: 8 } }, 'icmp', /needs the protocol/);
  allow({ notICMP: { type: 8 } }, 'notICMP', /needs the protocol/);
  allow({ protocol: 'ICMP', icmp: { code: 0 } }, 'icmp.code', /without a type/);
  allow({ protocol: 'ICMP', icmp: { type: 255 } }, 'icmp.type', /not a type/);
  allow({ destinatoin: {} }, 'destinatoin', /not a field/);
  allow({ ipVersion: 5 }, 'ipVersion', /must be one of/);
});

t.test('a Deny or a Pass that cannot be enforced denies everything', async (t) => {
  const bad = { destination: { domains: ['x.example'] } };
  closed(t, { action: 'Deny', ...bad }, DENIES, 'domains', /denies everything/);
  closed(t, { action: 'Pass', ...bad }, DENIES, 'domains', /denies everything/);
  closed(t, { action: 'Log', ...bad }, NOTHING, 'domains', /logs nothing/);
  closed(t, { action: 'Reject' }, DENIES, 'action', /must be one of/);
  closed(t, { action: 'allow' }, NOTHING, 'action', /must be one of/);
  t.same(problemsOf(WORLD + one({ action: 'Deny', destination: { services: { name: 's' } } })), []);
});

t.test('a policy of which it is not sure whom it is for', async (t) => {
  const egress = [
    { action: 'Deny', destination: { nets: ['10.1.0.3'] } },
    { action: 'Pass', destination: { nets: ['10.1.0.1'] } },
    { action: 'Allow' },
  ];
  for (const [spec, field] of [
    [{ selector: 'app' }, 'spec.selector'],
    [{ selector: 7 }, 'spec.selector'],
    [{ serviceAccountSelector: 'team' }, 'spec.serviceAccountSelector'],
    [{ selecter: 'all()' }, 'spec.selecter'],
    [{ tier: 'none' }, 'spec.tier'],
    [{ order: 'first' }, 'spec.order'],
    [{ namespaceSelector: 'all()' }, 'spec.namespaceSelector'],
  ] as const) {
    const text = WORLD + np({ egress, ...spec });
    const judge = judgeOf(text);
    t.equal(judge('default/db', '10.1.0.3:80/tcp'), DENIES, field);
    t.equal(judge('default/db', '10.1.0.1:80/tcp'), 'deny [calico/default/p#1]', field);
    t.equal(judge('default/db', '10.9.0.1:80/tcp'), NOTHING, field);
    t.equal(judge('other/web', '10.9.0.1:80/tcp'), 'allow', 'another namespace');
    const found = problemsOf(text).filter((p) => p.startsWith('error'));
    t.ok(
      found.length === 1 && found[0]?.includes(field) && /isolates every pod of namespace default/.test(found[0]),
      found.join(),
    );
  }
  const text = WORLD + object('Tier', 'none', { order: 'x' }) + np({ egress, tier: 'none' });
  t.match(problemsOf(text), [/Tier none.*must be a number|tier none cannot be read/s, /./]);
});

t.test('labels of service accounts that nobody has described', async (t) => {
  const text = WORLD + np({ egress: [{ action: 'Allow' }], serviceAccountSelector: "team == 'x'" });
  t.match(problemsOf(text), [
    /^warning .*spec.serviceAccountSelector.*label team of service accounts, of which none is known/,
  ]);
  t.equal(judgeOf(text)('default/db', '10.9.0.1:80/tcp'), 'allow', 'it selects none');
});

t.test('types and their default', async (t) => {
  const verdict = (spec: object, apiVersion = 'projectcalico.org/v3') =>
    judgeOf(WORLD + object('NetworkPolicy', 'p', spec, { apiVersion }))('default/web', '8.8.8.8:1/tcp');
  t.equal(verdict({}), 'allow', 'no egress rules: Ingress');
  t.equal(verdict({ ingress: [{ action: 'Deny' }] }), 'allow');
  t.equal(verdict({ egress: [] }), 'allow', 'an empty list has no rules');
  t.equal(verdict({ egress: [{ action: 'Log' }] }), NOTHING, 'Log alone: the default of the tier');
  t.equal(verdict({ egress: [{ action: 'Pass' }] }), 'allow', 'to the next tier, of which there is none');
  t.equal(verdict({ types: ['Egress'] }), NOTHING);
  t.equal(verdict({ types: ['Ingress'], egress: [{ action: 'Deny' }] }), 'allow');
  t.equal(verdict({}, 'crd.projectcalico.org/v1'), NOTHING, 'as stored: both');
  t.equal(verdict({ egress: {} }), NOTHING, 'not a list');
});

t.test('what is not for pods, or not computed', async (t) => {
  const gnp = (more: object) => WORLD + object('GlobalNetworkPolicy', 'g', { egress: [{ action: 'Deny' }], ...more });
  const to = (text: string) => judgeOf(text)('default/web', '8.8.8.8:1/tcp');
  t.equal(to(gnp({ doNotTrack: true, applyOnForward: true })), 'allow');
  t.match(problemsOf(gnp({ preDNAT: true })), [/^error .*spec.preDNAT.*host endpoints/s]);
  t.equal(to(gnp({ applyOnForward: true })), 'deny [gnp/g#0]');
  t.match(problemsOf(gnp({ applyOnForward: true })), [/^warning .*applyOnForward/s]);
  const staged = WORLD + object('StagedNetworkPolicy', 'p', { stagedAction: 'Delete' });
  t.match(problemsOf(staged), [/^error .*spec.stagedAction.*not computed/s]);
  t.equal(to(staged), 'allow');
  const knp = WORLD + object('StagedKubernetesNetworkPolicy', 'p', { stagedAction: 'Delete' });
  t.match(problemsOf(knp), [/^error .*spec.stagedAction.*not computed/s]);
  const wrong = WORLD + object('StagedKubernetesNetworkPolicy', 'p', { stagedAction: 'Other', podSelecter: {} });
  t.equal(problemsOf(wrong).filter((p) => p.startsWith('error')).length, 2);
});

t.test('tiers and network sets', async (t) => {
  t.match(problemsOf(WORLD + object('Tier', 'default', { order: 5 })), [/^error .*spec.order.*always has 1000000/s]);
  t.match(problemsOf(WORLD + object('Tier', 'kube-admin', { order: 1000, defaultAction: 'Deny' })), [
    /spec.defaultAction.*Pass/s,
  ]);
  const set = (spec: object) =>
    object('GlobalNetworkSet', 's', spec, { metadata: { name: 's', labels: { role: 'x' } } });
  const rule = (action: string) =>
    one({ action, destination: { selector: "role == 'x'", namespaceSelector: 'global()' } });
  const to = (text: string) => judgeOf(WORLD + text)('default/web', '10.9.0.1:80/tcp');
  t.equal(to(set({ nets: ['10.9.0.0/16'] }) + rule('Allow')), ALLOWS);
  t.equal(to(set({ nets: ['10.9.0.0/16', '10.9/16'] }) + rule('Allow')), NOTHING, 'a set that cannot be read');
  t.equal(to(set({ nets: ['10.9/16'] }) + rule('Deny')), DENIES);
  t.same(problemsOf(WORLD + set({ allowedEgressDomains: ['x.example'] })), []);
  const wrong = set({ nets: ['10.9.0.0/16'], allowedEgressDomains: ['x.*'] });
  t.match(problemsOf(WORLD + wrong), [
    /^error .*allowedEgressDomains\[0\]: "x\.\*" is not a domain name.* allow nothing/s,
  ]);
  t.equal(to(wrong + rule('Allow')), NOTHING, 'domains count where it allows');
  t.equal(to(wrong + rule('Deny')), DENIES, 'and nowhere else');
  t.equal(to(wrong + rule('Pass')), 'allow', 'and nowhere else');
  const spaced = object('NetworkSet', 's', { nets: ['10.9.0.0/16'] });
  const deny = object('GlobalNetworkPolicy', 'g', {
    egress: [{ action: 'Deny', destination: { namespaceSelector: "env == 'x'" } }],
  });
  t.equal(to(spaced + deny), 'deny [gnp/g#0]', 'not known: denied');
  t.match(problemsOf(WORLD + spaced + deny), [/^warning .*labels of its namespace.*denied/s]);
  t.equal(to(spaced + deny.replace('Deny', 'Allow')), 'deny [gnp/g#default]', 'not known: not allowed');
});

t.test('beside a NetworkPolicy of the same name', async (t) => {
  const both =
    WORLD +
    np({ egress: [{ action: 'Allow', destination: { nets: ['8.8.8.8'] } }] }) +
    policy('default/p', { podSelector: {}, policyTypes: ['Egress'], egress: [{ ports: [{ port: 80 }] }] });
  const judge = judgeOf(both);
  t.equal(judge('default/web', '8.8.8.8:443/tcp'), ALLOWS);
  t.equal(judge('default/web', '9.9.9.9:80/tcp'), 'allow [np/default/p#0]');
  t.equal(judge('default/web', '9.9.9.9:443/tcp'), 'deny [np/default/p#default]');
});
