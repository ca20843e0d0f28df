/** Steps through an API: what is written, in which order, and what happens when somebody else writes too. */
import t, { type Test } from 'tap';
import { PolicyApi } from '../../src/staging/live/api.js';
import { annotationsIn, type PlainObject } from '../../src/staging/forms.js';
import { parsePolicyName } from '../../src/staging/names.js';
import { planOf, REASONS, type StepName } from '../../src/staging/plan.js';
import { ObjectsServer } from './objects-server.js';

const NP = '/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/web';
const CALICO = '/apis/crd.projectcalico.org/v1/namespaces/shop/networkpolicies/default.web';
const STAGED = '/apis/crd.projectcalico.org/v1/namespaces/shop/stagednetworkpolicies/default.web';
const now = new Date('2026-02-03T04:05:06.000Z');

async function bed(t: Test) {
  const server = await ObjectsServer.start();
  const api = new PolicyApi(server.client, 'egressctl');
  t.teardown(() => server.stop());
  const step = async (name: StepName, policy: string, { dryRun = false } = {}) => {
    const { present, generation, namespaceIsStaged } = await api.find(parsePolicyName(policy));
    const plan = planOf(name, present, { generation, namespaceIsStaged, now });
    const object = await api.apply(plan, dryRun);
    if (!dryRun && plan.writes.length > 0) await api.note(object, REASONS[name], `${policy} ${plan.says}.`, now);
    return plan;
  };
  return { server, api, step };
}

const annotations = (server: ObjectsServer, path: string) => annotationsIn(server.objects.get(path) as PlainObject);
const web = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { annotations: { team: 'shop' } },
  spec: { egress: [] },
};

t.test('an annotation, with the version that was read', async (t) => {
  const { server, step } = await bed(t);
  server.put(NP, web);
  await step('stage', 'np/shop/web', { dryRun: true });
  t.same(server.writes, [], 'a dry run writes nothing');
  await step('stage', 'np/shop/web');
  t.match(annotations(server, NP), { team: 'shop', 'egress-agent.io/enforcement': 'audit' });
  await step('stage', 'np/shop/web');
  t.same(server.writes, [`PATCH ${NP}`], 'what is so already is not written');
  await step('enforce', 'NetworkPolicy shop/web');
  t.equal(annotations(server, NP)['egress-agent.io/enforcement'], undefined);
  await step('undo', 'np/shop/web');
  t.equal(annotations(server, NP)['egress-agent.io/enforcement'], 'audit');
  t.same(
    server.events.map((e) => e.reason),
    ['Staged', 'Enforced', 'Undone'],
  );
  t.match(server.events[1], {
    metadata: { namespace: 'shop', name: /^web\.[0-9a-f]{16}$/ },
    involvedObject: { kind: 'NetworkPolicy', namespace: 'shop', name: 'web', uid: /^uid-/ },
    source: { component: 'egressctl' },
    message: 'NetworkPolicy shop/web is in force.',
  });
});

t.test('somebody else writes meanwhile', async (t) => {
  const { server, api } = await bed(t);
  server.put(NP, web);
  const name = parsePolicyName('np/shop/web');
  const planned = async () => {
    const { present, generation } = await api.find(name);
    return planOf('stage', present, { generation, namespaceIsStaged: false, now });
  };
  const plan = await planned();
  server.put(NP, { ...web, status: { seen: 1 }, metadata: { annotations: { team: 'pay' } } });
  await api.apply(plan, false);
  t.match(
    annotations(server, NP),
    { team: 'pay', 'egress-agent.io/enforcement': 'audit' },
    'a label or a status is no reason to stop',
  );
  server.put(NP, web);
  const second = await planned();
  server.put(NP, { ...web, spec: { egress: [{}] } });
  await t.rejects(api.apply(second, false), { code: 'AGENT', hint: /changed meanwhile/ }, 'another content is');
  server.put(NP, web);
  const third = await planned();
  server.objects.delete(NP);
  await t.rejects(api.apply(third, false), { code: 'AGENT' });
});

t.test("Calico's Staged kinds, and a second write that fails", async (t) => {
  const { server, step } = await bed(t);
  const policy = (kind: string, order: number) => ({
    apiVersion: 'crd.projectcalico.org/v1',
    kind,
    metadata: {},
    spec: { order },
  });
  server.put(CALICO, policy('NetworkPolicy', 1));
  server.put(STAGED, policy('StagedNetworkPolicy', 2));
  await step('enforce', 'calico/shop/default.web');
  t.same(server.writes, [`PUT ${CALICO}`, `DELETE ${STAGED}`]);
  t.match(server.objects.get(CALICO)?.spec, { order: 2 });
  await step('undo', 'calico/shop/default.web');
  t.match(server.objects.get(CALICO)?.spec, { order: 1 });
  t.match(server.objects.get(STAGED)?.spec, { order: 2 });

  server.refuse = (method) => (method === 'DELETE' ? 403 : undefined);
  await t.rejects(step('enforce', 'snp/shop/default.web'), {
    message: /only half is done/,
    hint: /kubectl delete StagedNetworkPolicy\.crd\.projectcalico\.org default\.web -n shop/,
  });
  t.match(server.objects.get(CALICO)?.spec, { order: 2 }, 'it is in force nevertheless');
  server.refuse = () => undefined;
  await step('enforce', 'snp/shop/default.web');
  t.notOk(server.objects.has(STAGED), 'and the same command goes on');
  await step('undo', 'calico/shop/default.web');
  t.match(server.objects.get(CALICO)?.spec, { order: 1 }, 'what it replaced is known still');
});

t.test('rights, and what is not there', async (t) => {
  const { server, step } = await bed(t);
  await t.rejects(step('stage', 'np/shop/web'), { code: 'USAGE', message: /no np\/shop\/web in the cluster/ });
  await t.rejects(step('stage', 'fqdn/shop/web'), { code: 'USAGE', message: /no kind FQDNNetworkPolicy/ });
  server.put(NP, web);
  server.refuse = () => 403;
  await t.rejects(step('stage', 'np/shop/web'), {
    code: 'AGENT',
    hint: /patch on networkpolicies\.networking\.k8s\.io/,
  });
  server.refuse = () => undefined;
  server.put('/api/v1/namespaces/shop', { metadata: { annotations: { 'egress-agent.io/enforcement': 'audit' } } });
  await t.rejects(step('enforce', 'np/shop/web'), { message: /namespace shop stages all/ });
});
