/** What a pod sends to its own address never leaves it, in no language; what it sends to its own Service does. */
import t from 'tap';
import { toIr } from '../../src/dialects/index.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { explain } from '../../src/explain/explain.js';
import { outcomeOf } from '../../src/ir/outcome.js';
import { diff } from '../../src/tools/diff.js';
import { lint } from '../../src/tools/lint/index.js';
import { rangeContains } from '../../src/tools/ranges.js';
import { completed } from '../../src/tools/world.js';
import { bench } from '../cli/tool.js';
import { packet, pod, policy, show, snapshotOf } from '../policy/world.js';

t.setTimeout(120_000);

const CLUSTER = `${pod('shop/web', ['10.0.0.1', 'fd00::1'], { app: 'web' })}${pod('shop/db', ['10.0.0.2'], {})}---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: web}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: shop, name: web, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: "", port: 80, protocol: TCP}], endpoints: [{addresses: [10.0.0.1]}]}
`;
const cnp = (tier: string, action: string) =>
  `---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: n}, spec: {tier: ${tier}, priority: 1, subject: {namespaces: {}}, egress: [{action: ${action}, to: [{namespaces: {}}]}]}}\n`;
const anp = (kind: string, priority: string) =>
  `---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: ${kind}, metadata: {name: default}, spec: {${priority}subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}]}]}}\n`;
const calico =
  '---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: g}, spec: {types: [Egress], egress: [{action: Deny}]}}\n';
const np = policy('shop/all', { podSelector: {}, policyTypes: ['Egress'] });

const DENYING: [string, string, string][] = [
  ['ClusterNetworkPolicy', cnp('Admin', 'Deny'), 'cnp/n#0'],
  ['ClusterNetworkPolicy Baseline', cnp('Baseline', 'Deny'), 'cnp/n#0'],
  ['AdminNetworkPolicy', anp('AdminNetworkPolicy', 'priority: 1, '), 'anp/default#0'],
  ['BaselineAdminNetworkPolicy', anp('BaselineAdminNetworkPolicy', ''), 'banp/default#0'],
  ['Calico', calico, 'gnp/g#0'],
];

const world = (text: string) => {
  const snapshot = snapshotOf(CLUSTER + text);
  return { snapshot, ir: toIr(snapshot).ir };
};

for (const [name, text, rule] of DENYING) {
  t.test(name, async (t) => {
    const { ir, snapshot } = world(text);
    const becomes = (to: string) => show(ir, outcomeOf(ir, snapshot, packet('shop/web', to)));
    t.equal(becomes('10.0.0.1:80/tcp'), 'allow');
    t.equal(becomes('fd00::1:80/tcp'.replace('fd00::1', '[fd00::1]')), 'allow');
    t.equal(becomes('10.96.0.1:80/tcp'), `deny [${rule}]`, 'its own Service');
    t.equal(becomes('10.0.0.2:80/tcp'), `deny [${rule}]`, 'somebody else');
    t.equal(show(ir, evaluate(ir, snapshot, packet('shop/web', '10.0.0.1:80/tcp'))), `deny [${rule}]`, 'at the hook');
    const explained = explain(ir, snapshot, packet('shop/web', '10.0.0.1:80/tcp'));
    t.match(explained.summary, /allowed, what is sent to an own address stays inside/);
    t.equal(explained.targets[0]?.verdict.verdict, 'allow');
    t.equal(explain(ir, snapshot, packet('shop/web', '10.96.0.1:80/tcp')).verdict.verdict, 'deny');
    const { changes } = diff(...completed(world(''), { ir, snapshot }));
    const toOwn = changes.filter(
      ({ senders, to }) =>
        senders.length === 1 && to.kind === 'addresses' && to.ranges.some((r) => rangeContains(r, '10.0.0.1')),
    );
    t.same(
      toOwn.filter(({ senders }) => senders[0] === 'shop/web'),
      [],
    );
    t.ok(changes.some(({ senders, to }) => senders.includes('shop/web') && to.kind === 'service'));
  });
}

t.test('the languages that say it themselves name their rule', async (t) => {
  const { ir, snapshot } = world(np + cnp('Admin', 'Deny'));
  t.equal(show(ir, outcomeOf(ir, snapshot, packet('shop/web', '10.0.0.1:80/tcp'))), 'allow [np/*#node]');
  t.equal(
    explain(ir, snapshot, packet('shop/web', '10.0.0.1:80/tcp')).summary.split(': ').pop(),
    'allowed by np/*#node',
  );
});

t.test('a rule about the one pod that it selects is never met, but where a Service leads back to it', async (t) => {
  const one = (app: string) =>
    `---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: n}, spec: {tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: ${app}}}}}, egress: [{action: Deny, to: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: ${app}}}}}]}]}}\n`;
  const found = (text: string) => lint(world(text)).map((f) => f.message);
  t.match(found(pod('shop/one', ['10.0.0.9'], { app: 'one' }) + one('one')), [/matches no packet of the pods/]);
  t.same(found(one('web')), []);
});

t.test('test', async (t) => {
  const { ctl, write } = bench(t);
  write('all.yaml', CLUSTER + cnp('Admin', 'Deny'));
  write(
    'table.yaml',
    `manifests: all.yaml\ntests:\n- "shop/web → 10.0.0.1:80: allow"\n- "shop/web → svc/shop/web: deny [cnp/n#0]"\n- "shop/web → shop/db:80: deny"\n`,
  );
  t.match(ctl('test', 'table.yaml'), { code: 0, out: /3 hold/ });
});
