/** FQDNNetworkPolicy: what it selects is isolated, and reaches the names that it allows. */
import t from 'tap';
import { toIr } from '../../src/dialects/index.js';
import { seeded } from '../fuzz/random.js';
import { mangled } from './cilium-random.js';
import { judgeOf, namespace, pod, policy, problemsOf, snapshotOf } from './world.js';

const WORLD =
  namespace('default') + pod('default/web', '10.1.0.1', { app: 'web' }) + pod('default/db', '10.1.0.2', { app: 'db' });
const WEB = { podSelector: { matchLabels: { app: 'web' } } };

function fqdn(version: string, spec: unknown): string {
  const metadata = { namespace: 'default', name: 'f' };
  return `---\n${JSON.stringify({ apiVersion: `networking.gke.io/${version}`, kind: 'FQDNNetworkPolicy', metadata, spec })}\n`;
}
const told = (version: string, spec: unknown) => problemsOf(WORLD + fqdn(version, spec)).join('\n');
const OUT = '203.0.113.1:443/tcp';

t.test('both shapes, told apart by version', async (t) => {
  const gke = {
    ...WEB,
    egress: [{ matches: [{ name: 'a.example' }, { pattern: '*.b.example' }], ports: [{ protocol: 'TCP', port: 443 }] }],
  };
  const addOn = {
    ...WEB,
    policyTypes: ['Egress'],
    egress: [{ to: [{ fqdns: ['a.example'] }], ports: [{ port: 443 }] }],
  };
  for (const version of ['v1alpha1', 'v1']) {
    t.equal(told(version, gke), '');
    t.match(told(version, addOn), 'spec.egress[0].to: is not a field');
  }
  for (const version of ['v1alpha2', 'v1alpha3']) {
    t.equal(told(version, addOn), '');
    t.match(told(version, gke), 'spec.egress[0].matches: is not a field');
  }
  t.match(told('v7', gke), 'apiVersion: networking.gke.io/v7 is not known');
  for (const [version, spec] of [
    ['v1', gke],
    ['v1alpha3', addOn],
    ['v7', gke],
  ] as const) {
    const judge = judgeOf(WORLD + fqdn(version, spec));
    t.equal(judge('default/web', OUT), 'deny [fqdn/default/f#default]', version);
    t.equal(judge('default/web', '192.168.0.1:1/tcp'), 'allow [fqdn/*#node]');
    t.equal(judge('default/db', OUT), 'allow');
  }
});

t.test('all that is wrong is named', async (t) => {
  const rule = (entry: unknown) => told('v1alpha1', { ...WEB, egress: [entry] });
  t.match(rule({ matches: [{}] }), 'matches[0]: names nothing');
  t.match(rule({}), 'matches: names nothing');
  t.match(rule({ matches: [{ name: 'a', pattern: '*' }] }), 'matches[0]: has a name and a pattern');
  t.match(rule({ matches: [{ name: 'a b' }] }), 'matches[0].name: "a b" is not a name');
  t.match(rule({ matches: [{ pattern: 'a b' }] }), 'matches[0].pattern: "a b" is not a pattern');
  t.match(rule({ matches: [{ name: 'a' }], ports: [{ port: 0 }] }), 'ports[0].port: 0 is not a port');
  t.match(rule({ match: [] }), 'spec.egress[0].match: is not a field');
  const more = told('v1alpha3', {
    ...WEB,
    egress: [{ to: [{ fqdns: ['..'] }], ports: [{ port: 'https', endPort: 70000 }] }],
  });
  t.match(more, 'to[0].fqdns[0]: ".." is not a name');
  t.match(more, 'ports[0].endPort: 70000 is not a port');
  t.match(more, 'ports[0].port: is a port name');
  const addOn = (entry: unknown) => told('v1alpha3', { ...WEB, egress: [entry] });
  t.match(addOn({ to: [{ fqdns: ['*.a'] }] }), 'to[0].fqdns[0]: "*.a" is not a name');
  t.match(addOn({ ports: [{ port: 1 }] }), 'spec.egress[0].to: names nothing');
  t.match(addOn({ to: [{ fqdns: ['a'] }], ports: [{ port: 9, endPort: 8 }] }), 'endPort: 8 needs a smaller port');
});

t.test('what cannot be read closes; what is about ingress leaves egress alone', async (t) => {
  for (const spec of [7, { podSelector: 7 }, { podSelector: { matchLabels: { 'a b': 'c' } }, egress: [] }]) {
    t.equal(
      judgeOf(WORLD + fqdn('v1', spec))('default/db', OUT),
      'deny [fqdn/default/f#default]',
      JSON.stringify(spec),
    );
    t.match(told('v1', spec), 'isolates every pod of namespace default and allows nothing');
  }
  t.equal(judgeOf(WORLD + fqdn('v1alpha3', { ...WEB, ingress: [] }))('default/web', OUT), 'allow');
  t.equal(
    judgeOf(WORLD + fqdn('v1alpha3', { ...WEB, policyTypes: 7 }))('default/web', OUT),
    'deny [fqdn/default/f#default]',
  );
  const np = policy('default/np', { policyTypes: ['Egress'], podSelector: {}, egress: [{ ports: [{ port: 443 }] }] });
  t.equal(
    judgeOf(WORLD + np + fqdn('v1', { ...WEB, egress: [] }))('default/web', OUT),
    'allow [np/default/np#0]',
    'they unite',
  );
  t.match(told('v1', { egress: [] }), 'every pod of the namespace is selected');
});

const random = seeded();
t.test(`mangled objects never throw, FUZZ_SEED=${random.seed}`, async (t) => {
  for (let n = 0; n < 1000; n++) {
    const gke = random.chance(50);
    const rule = gke
      ? { matches: [{ name: 'a' }, { pattern: '*.b' }], ports: [{ protocol: 'TCP', port: 1 }] }
      : { to: [{ fqdns: ['a', 'b'] }], ports: [{ protocol: 'UDP', port: 1, endPort: 2 }] };
    const whole = {
      apiVersion: `networking.gke.io/${gke ? 'v1' : 'v1alpha3'}`,
      kind: 'FQDNNetworkPolicy',
      metadata: { namespace: 'default', name: 'f' },
      spec: { ...WEB, ...(gke ? {} : { policyTypes: ['Egress'] }), egress: [rule] },
    };
    const object = mangled(random, whole);
    try {
      toIr(snapshotOf(`${WORLD}---\n${JSON.stringify(object)}\n`));
    } catch (e) {
      t.fail(`FUZZ_SEED=${random.seed} ${JSON.stringify(object)}: ${(e as Error).stack}`);
      return;
    }
  }
  t.pass();
});
