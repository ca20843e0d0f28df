/** What an editor reads and writes: nothing is lost, nothing is taken out of force, nobody's change is overwritten. */
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import { annotationsIn, type PlainObject } from '../../src/staging/forms.js';
import { PolicyApi } from '../../src/staging/live/api.js';
import { applyEdited, type EditOptions, type Form } from '../../src/staging/live/edited.js';
import { generationOf } from '../../src/staging/live/generation.js';
import { policyOfText, readPolicy } from '../../src/staging/live/text.js';
import { runStep } from '../../src/staging/live/step.js';
import { Evidence } from '../../src/staging/live/evidence.js';
import { parsePolicyName } from '../../src/staging/names.js';
import { ENFORCED_AT, PREVIOUS, STAGED_AT, stampOf } from '../../src/staging/plan.js';
import { ObjectsServer } from './objects-server.js';

const AUDIT = 'egress-agent.io/enforcement';
const NP = '/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/web';
const CALICO = '/apis/crd.projectcalico.org/v1/namespaces/shop/networkpolicies/default.web';
const STAGED = '/apis/crd.projectcalico.org/v1/namespaces/shop/stagednetworkpolicies/default.web';
const GNP = '/apis/crd.projectcalico.org/v1/globalnetworkpolicies/all';
const now = new Date('2026-02-03T04:05:06.000Z');
const policy = (kind: string, spec: object, more: object = {}, apiVersion = 'crd.projectcalico.org/v1') => ({
  apiVersion,
  kind,
  metadata: {},
  spec,
  ...more,
});
const web = (spec: object = { egress: [] }, more: object = {}) =>
  policy('NetworkPolicy', spec, more, 'networking.k8s.io/v1');
const NEW = `# ours
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop, labels: {a: b}}
spec: {podSelector: {}, policyTypes: [Egress]}
`;

async function bed(t: Test) {
  const server = await ObjectsServer.start();
  const api = new PolicyApi(server.client, 'egress-ui');
  t.teardown(() => server.stop());
  const at = (path: string) => server.objects.get(path) as PlainObject & { metadata: Record<string, unknown> };
  return {
    server,
    api,
    at,
    apply: (text: string, as: Form, opts: EditOptions = {}) => applyEdited(text, as, { api }, { now, ...opts }),
    read: (name: string) => readPolicy(parsePolicyName(name), { api }),
    step: (name: 'stage' | 'enforce' | 'undo', of: string) =>
      runStep(name, parsePolicyName(of), { api, evidence: new Evidence([]) }, { days: 0, force: true, now }),
  };
}

t.test('a new policy', async (t) => {
  const { server, apply, at } = await bed(t);
  t.match(await apply(NEW, 'staged', { dryRun: true }), {
    changes: ['create NetworkPolicy shop/web'],
    resourceVersion: undefined,
  });
  t.same([server.checks.length, server.writes.length, server.events.length], [1, 0, 0], 'a dry run writes nothing');
  server.refuse = (_, path) => (path.endsWith('/networkpolicies') ? 422 : undefined);
  await t.rejects(apply(NEW, 'staged'), { code: 'AGENT', hint: /does not take it/ });
  t.same(server.writes, [], 'what the check refuses is not written');
  server.refuse = () => undefined;
  const made = await apply(NEW, 'staged');
  t.equal(made.resourceVersion, at(NP).metadata.resourceVersion);
  t.equal(server.manager, 'egress-ui');
  t.equal(annotationsIn(at(NP))[AUDIT], 'audit');
  t.same(stampOf(at(NP), STAGED_AT), { ms: now.getTime(), generation: generationOf(at(NP)) });
  t.match(at(NP).metadata, { labels: { a: 'b' } });
  t.match(server.events, [
    {
      reason: 'Staged',
      source: { component: 'egress-ui' },
      reportingComponent: 'egress-agent.io/egress-ui',
      involvedObject: { kind: 'NetworkPolicy', name: 'web', uid: /^uid-/ },
      message: 'np/shop/web is staged, as it was written in an editor.',
    },
  ]);
  await t.rejects(apply(NEW, 'staged'), {
    name: 'AgentError',
    message: /there is np\/shop\/web in the cluster already/,
  });

  const other = await apply(NEW.replace('name: web', 'name: api'), 'enforced', { resourceVersion: '' });
  t.match(other.warnings, [/in force at once/]);
  const api = at(NP.replace('web', 'api'));
  t.equal(annotationsIn(api)[AUDIT], undefined);
  t.ok(stampOf(api, ENFORCED_AT));
  server.refuse = (_, path) => (path.endsWith('/events') ? 403 : undefined);
  const unnoted = await apply(NEW.replace('name: web', 'name: db'), 'enforced');
  t.match(unnoted.eventError, /403/);
  t.ok(at(NP.replace('web', 'db')), 'without its Event it is made nevertheless');
});

t.test('what is read and written again is the same, and what others keep in it stays', async (t) => {
  const { server, apply, read, at } = await bed(t);
  const metadata = {
    labels: { team: 'shop', yes: 'on' },
    annotations: { note: 'a: "b" # c', number: '017', [AUDIT]: 'audit' },
    finalizers: ['example.com/f'],
    ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'o', uid: 'u' }],
    managedFields: [{ manager: 'kubectl' }],
    creationTimestamp: '2026-01-01T00:00:00Z',
    generation: 3,
  };
  server.put(NP, { ...web({ podSelector: {}, egress: [{ to: [] }] }), metadata, status: { seen: 1 } });
  const before = await read('np/shop/web');
  t.equal(before.resourceVersion, at(NP).metadata.resourceVersion);
  t.match(before.text, /^apiVersion: networking\.k8s\.io\/v1\nkind: NetworkPolicy\nmetadata:\n {2}annotations:/);
  t.match(before.text, /\n {2}egress:\n {2}- to: \[\]/, 'lists as kubectl has them');
  t.match(before.text, /"?yes"?: "on"/, 'words that kubectl takes for more than text are in quotes');
  t.notMatch(before.text, /status|managedFields/);
  const { status: _, ...stored } = at(NP);
  const { managedFields, ...own } = stored.metadata;
  t.same(parse(before.text), { ...stored, metadata: own });

  await apply(before.text, 'staged');
  t.equal(server.writes.length, 1, 'its count begins, since nobody knows when it was staged');
  const again = await read('np/shop/web');
  t.match(await apply(again.text, 'staged'), { changes: [], resourceVersion: again.resourceVersion });
  t.equal(server.writes.length, 1, 'what is so already is not written');

  const edited = again.text
    .replace(/ {4}note: .*\n/, '')
    .replace('team: shop', 'team: pay')
    .replace('- to: []', '- {}')
    .replace(/ {2}finalizers:\n.*\n/, '')
    .replace(/ {2}creationTimestamp: .*\n/, '  creationTimestamp: "1970-01-01T00:00:00Z"\n')
    .concat('status: {seen: 99}\n');
  const result = await apply(edited, 'staged');
  t.match(result, { changes: ['replace NetworkPolicy shop/web'], warnings: [/finalizers stays as it is/] });
  const after = at(NP);
  t.match(after, { spec: { egress: [{}] }, status: { seen: 1 } });
  t.same(after.metadata.finalizers, metadata.finalizers);
  t.same(after.metadata.ownerReferences, metadata.ownerReferences);
  t.same(after.metadata.managedFields, managedFields);
  t.equal(after.metadata.creationTimestamp, metadata.creationTimestamp);
  t.match(after.metadata.labels, { team: 'pay', yes: 'on' });
  t.notOk(Object.hasOwn(annotationsIn(after), 'note'), 'what the text takes away is gone');
  t.equal(annotationsIn(after).number, '017');
  const bare = await read('np/shop/web');
  await apply(bare.text.replace(/ {2}finalizers:\n.*\n/, '  finalizers: []\n'), 'staged');
  t.same(at(NP).metadata.finalizers, [], 'said so, they go');
});

t.test('somebody else writes meanwhile', async (t) => {
  const { server, api, apply, read } = await bed(t);
  server.put(NP, web({ egress: [] }, { metadata: { annotations: { [AUDIT]: 'audit' } } }));
  const { text, resourceVersion } = await read('np/shop/web');
  const edited = text.replace('egress: []', 'egress: [{}]');
  server.put(NP, web({ egress: [{ ports: [] }] }, { metadata: { annotations: { [AUDIT]: 'audit' } } }));
  await t.rejects(apply(edited, 'staged'), { message: /np\/shop\/web was changed since it was read/ });
  const bare = edited.replace(/ {2}resourceVersion: .*\n/, '');
  await t.rejects(apply(bare, 'staged', { resourceVersion }), { message: /changed since/ }, 'the version by itself');
  await t.rejects(apply(bare, 'staged'), { message: /already/ }, 'without a version');
  t.same(server.writes, []);
  t.match(await apply(bare, 'staged', { resourceVersion: (await read('np/shop/web')).resourceVersion }), {
    changes: ['replace NetworkPolicy shop/web'],
  });

  const fresh = await read('np/shop/web');
  server.refuse = (method) => {
    if (method === 'PUT') server.put(NP, web({ egress: [{ to: [] }] }));
    server.refuse = () => undefined;
    return undefined;
  };
  const late = applyEdited(fresh.text.replace('egress:', 'ingress: []\n  egress:'), 'staged', { api }, { now });
  await t.rejects(late, { code: 'AGENT', hint: /changed meanwhile/ }, 'between the look and the write');
  server.objects.delete(NP);
  await t.rejects(apply(fresh.text, 'staged'), { message: /was deleted since it was read/ });
  server.put(NP, web());
  await t.rejects(apply(fresh.text, 'staged'), { message: /changed since/ }, 'another object of that name');
});

t.test('what is in force is not taken out of force by an edit', async (t) => {
  const { server, apply, read, at, step } = await bed(t);
  server.put(NP, web({ egress: [] }));
  const edit = async () => (await read('np/shop/web')).text.replace('egress: []', 'egress: [{}]');
  await t.rejects(apply(await edit(), 'staged'), {
    code: 'USAGE',
    message: /np\/shop\/web is in force: to stage the edit would take what is in force out of force/,
    hint: /enforce the edit; or stage the policy first/,
  });
  await t.rejects(apply((await edit()).replace('metadata:', `metadata:\n  annotations: {${AUDIT}: audit}`), 'staged'), {
    message: /is in force/,
  });
  t.same(server.writes, []);
  const done = await apply(await edit(), 'enforced');
  t.match(done, { changes: ['replace NetworkPolicy shop/web'], warnings: [/in force at once/] });
  t.match(at(NP).spec, { egress: [{}] });
  const labelled = (await read('np/shop/web')).text.replace('metadata:', 'metadata:\n  labels: {a: b}');
  const stamp = annotationsIn(at(NP))[ENFORCED_AT];
  t.match(await apply(labelled, 'enforced', { now: new Date(9e12) }), { warnings: [] }, 'a label denies nothing');
  t.equal(annotationsIn(at(NP))[ENFORCED_AT], stamp);

  await step('stage', 'np/shop/web');
  const staged = (await read('np/shop/web')).text;
  const counted = annotationsIn(at(NP))[STAGED_AT];
  await apply(staged.replace('a: b', 'c: d'), 'staged', { now: new Date(9e12) });
  t.equal(annotationsIn(at(NP))[STAGED_AT], counted, 'a label is no edit: its count goes on');
  const forged = (await read('np/shop/web')).text
    .replace(/staged-at: .*/, `staged-at: 2020-01-01T00:00:00.000Z ${generationOf(at(NP)) + 1}`)
    .replace('egress:', 'ingress: []\n  egress:');
  await apply(forged, 'staged');
  t.equal(stampOf(at(NP), STAGED_AT)?.ms, now.getTime(), 'since when it is staged is not what a text says');

  const namespace = { metadata: { annotations: { [AUDIT]: 'audit' } } };
  server.put('/api/v1/namespaces/shop', namespace);
  await t.rejects(apply((await read('np/shop/web')).text, 'enforced'), { message: /namespace shop stages all/ });
  server.put(NP, web({ egress: [] }));
  await apply(await edit(), 'staged');
  t.equal(annotationsIn(at(NP))[AUDIT], 'audit', 'where all is staged, nothing is taken out of force');
});

t.test("Calico's two forms", async (t) => {
  const { server, apply, read, at, step } = await bed(t);
  server.put(CALICO, policy('NetworkPolicy', { order: 1 }));
  const text = async (name: string, order: number) =>
    (await read(`${name}/shop/default.web`)).text.replace(/order: .*/, `order: ${order}`);
  const staged = await apply(await text('calico', 2), 'staged');
  t.match(staged, { changes: ['create StagedNetworkPolicy shop/default.web'], warnings: [/stays in force beside it/] });
  t.match(at(CALICO).spec, { order: 1 });
  t.match(at(STAGED), { spec: { order: 2, stagedAction: 'Set' } });
  await t.rejects(apply(await text('calico', 3), 'staged'), {
    message: /another content of calico\/shop\/default\.web is staged already: a StagedNetworkPolicy/,
  });
  await apply(await text('snp', 3), 'staged');
  t.match(at(STAGED).spec, { order: 3 });
  await t.rejects(apply(await text('snp', 3), 'enforced'), {
    message: /in force that snp/,
    hint: /stage the edit, and enforce it then/,
  });
  const direct = await apply(await text('calico', 4), 'enforced');
  t.match(direct.warnings, [/in force at once/, /staged beside it/]);
  t.match(JSON.parse(String(annotationsIn(at(CALICO))[PREVIOUS])), { spec: { order: 1 } });
  server.objects.delete(STAGED);
  await step('undo', 'calico/shop/default.web');
  t.match([at(CALICO).spec, at(STAGED).spec], [{ order: 1 }, { order: 4 }], 'undo gives back what was edited');

  server.objects.delete(CALICO);
  server.writes.length = 0;
  server.refuse = (method) => (method === 'DELETE' ? 403 : undefined);
  await t.rejects(apply(await text('snp', 5), 'enforced'), { message: /^the API server/, hint: /delete on staged/ });
  t.same(server.writes, [], 'both writes are checked before the first');
  server.refuse = () => undefined;
  await apply(await text('snp', 5), 'enforced');
  t.same(server.writes, [`POST ${CALICO.replace('/default.web', '')}`, `DELETE ${STAGED}`]);
  t.match(at(CALICO), { spec: { order: 5 } });
  t.notOk(Object.hasOwn(at(CALICO).spec as object, 'stagedAction'));
  server.put(STAGED, policy('StagedNetworkPolicy', { stagedAction: 'Delete' }));
  await t.rejects(apply((await read('snp/shop/default.web')).text, 'enforced'), { message: /stagedAction is Delete/ });
  const long = policy('NetworkPolicy', { order: 1, selector: 'x'.repeat(70_000) });
  server.objects.delete(STAGED);
  server.put(CALICO, long);
  t.match((await apply(await text('calico', 2), 'enforced')).warnings, [/too long to be kept/, /at once/]);

  server.put(GNP, policy('GlobalNetworkPolicy', { order: 1 }));
  await apply((await read('gnp/all')).text.replace('order: 1', 'order: 2'), 'staged');
  t.match(server.objects.get(GNP.replace('global', 'stagedglobal'))?.spec, { order: 2 });
  t.equal(server.events.at(-1)?.reason, 'Staged');
});

t.test('a policy of Calico that the annotation stages', async (t) => {
  const { server, at, step, apply, read } = await bed(t);
  const metadata = { annotations: { [AUDIT]: 'audit' } };
  server.put(CALICO, policy('NetworkPolicy', { order: 1 }, { metadata }));
  await apply((await read('calico/shop/default.web')).text.replace('order: 1', 'order: 2'), 'staged');
  t.match(at(CALICO).spec, { order: 2 });
  await step('enforce', 'calico/shop/default.web');
  t.equal(annotationsIn(at(CALICO))[AUDIT], undefined);
  t.notOk(server.objects.has(STAGED));
});

t.test('what is no policy', async (t) => {
  const { server, apply, read } = await bed(t);
  const wrong: [text: string, code: string, message: RegExp][] = [
    ['', 'USAGE', /has no objects/],
    ['# nothing\n---\n', 'USAGE', /has no objects/],
    [`${NEW}---\n${NEW}`, 'USAGE', /has 2 objects/],
    ['[1]', 'MANIFEST', /must be a Kubernetes object/],
    ['a: b: c', 'MANIFEST', /^line 1: cannot be parsed as YAML/],
    [`${NEW}spec: {}\n`, 'MANIFEST', /unique/],
    [`${'['.repeat(300)}${']'.repeat(300)}`, 'MANIFEST', /levels deep/],
    [`a: &a [x]\nb: [${'*a, '.repeat(200)}]`, 'MANIFEST', /alias/],
    [`${NEW}# ${'x'.repeat(1 << 20)}`, 'MANIFEST', /bytes, of 1048576 at most/],
    [NEW.replace(/^apiVersion.*\n/m, ''), 'USAGE', /^apiVersion: is missing/],
    [NEW.replace('kind: NetworkPolicy', 'kind: [x]'), 'USAGE', /^kind: is not a text/],
    [NEW.replace('kind: NetworkPolicy', 'kind: Secret'), 'USAGE', /^kind: "Secret" of .* is no policy/],
    [NEW.replace('networking.k8s.io/v1', 'example.com/v1'), 'USAGE', /is no policy/],
    [NEW.replace('networking.k8s.io/v1', 'v1'), 'USAGE', /is no policy/],
    [NEW.replace('kind: NetworkPolicy', `kind: "${'x'.repeat(9000)}"`), 'USAGE', /^.{0,300}$/],
    ['{apiVersion: crd.projectcalico.org/v1, kind: Tier, metadata: {name: x}}', 'USAGE', /is no policy/],
    [NEW.replace('networking.k8s.io/v1', 'networking.k8s.io/v2'), 'USAGE', /^apiVersion: the cluster's is .*\/v1$/],
    [NEW.replace(/metadata: .*/, ''), 'USAGE', /^metadata: is missing/],
    [NEW.replace('name: web, ', ''), 'USAGE', /^metadata\.name: is missing/],
    [NEW.replace('name: web', 'name: ../secrets'), 'USAGE', /^metadata\.name: .* cannot be a name/],
    [NEW.replace('name: web', 'name: 7'), 'USAGE', /^metadata\.name: is not a text/],
    [NEW.replace('namespace: shop, ', ''), 'USAGE', /^metadata\.namespace: is missing/],
    [NEW.replace('namespace: shop', 'namespace: a/b'), 'USAGE', /^metadata\.namespace: .* cannot be a name/],
    [NEW.replace('a: b', 'a: .inf'), 'USAGE', /^a: Infinity is not a number/],
    [
      '{apiVersion: crd.projectcalico.org/v1, kind: GlobalNetworkPolicy, metadata: {name: x, namespace: y}}',
      'USAGE',
      /^metadata\.namespace: a GlobalNetworkPolicy is of the whole cluster/,
    ],
    [
      '{apiVersion: networking.gke.io/v1, kind: FQDNNetworkPolicy, metadata: {name: x, namespace: y}}',
      'USAGE',
      /the cluster has no kind FQDNNetworkPolicy/,
    ],
  ];
  for (const [text, code, message] of wrong)
    await t.rejects(apply(text, 'enforced'), { code, message }, JSON.stringify(text.slice(0, 100)));
  t.same([server.checks, server.writes, server.events], [[], [], []]);
  await t.rejects(read('np/shop/none'), { code: 'USAGE', message: /no np\/shop\/none/ });
  server.put(STAGED, policy('StagedNetworkPolicy', {}));
  await t.rejects(read('calico/shop/default.web'), { message: /no calico/ }, 'the other form is another object');
  const hostile = policyOfText(`${NEW}__proto__: {polluted: 1}\n`).object;
  t.equal((hostile as { polluted?: unknown }).polluted, undefined);
});
