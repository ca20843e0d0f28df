/** The life of a policy of each language: which writes a step makes, and in which order. */
import t from 'tap';
import { isPolicy } from '../../src/dialects/index.js';
import { policyGeneration } from '../../src/edges/generation.js';
import { annotationsIn, enforcedForm, isStaged, type PlainObject, stagedForm } from '../../src/staging/forms.js';
import { bothNames, parsePolicyName } from '../../src/staging/names.js';
import {
  ENFORCED_AT,
  type Moment,
  planOf,
  PREVIOUS,
  presentOf,
  STAGED_AT,
  stampOf,
  type StepName,
  type Write,
} from '../../src/staging/plan.js';

const AUDIT = 'egress-agent.io/enforcement';
const now = new Date('2026-02-03T04:05:06.000Z');
const MOMENT: Moment = { generation: 77, now, namespaceIsStaged: false };

/** One object of every kind: the languages that have one object for both forms. */
const SAME: readonly (readonly [version: string, kind: string, namespaced: boolean])[] = [
  ['networking.k8s.io/v1', 'NetworkPolicy', true],
  ['networking.k8s.aws/v1alpha1', 'ApplicationNetworkPolicy', true],
  ['policy.networking.k8s.io/v1alpha2', 'ClusterNetworkPolicy', false],
  ['networking.k8s.aws/v1alpha1', 'ClusterNetworkPolicy', false],
  ['policy.networking.k8s.io/v1alpha1', 'AdminNetworkPolicy', false],
  ['policy.networking.k8s.io/v1alpha1', 'BaselineAdminNetworkPolicy', false],
  ['cilium.io/v2', 'CiliumNetworkPolicy', true],
  ['cilium.io/v2', 'CiliumClusterwideNetworkPolicy', false],
  ['networking.gke.io/v1alpha1', 'FQDNNetworkPolicy', true],
];
const CALICO: readonly (readonly [staged: string, version: string, kind: string, namespaced: boolean])[] = [
  ['StagedNetworkPolicy', 'crd.projectcalico.org/v1', 'NetworkPolicy', true],
  ['StagedGlobalNetworkPolicy', 'crd.projectcalico.org/v1', 'GlobalNetworkPolicy', false],
];

function made(apiVersion: string, kind: string, namespaced: boolean, more: object = {}): PlainObject {
  const metadata = {
    name: 'web',
    ...(namespaced ? { namespace: 'shop' } : {}),
    resourceVersion: '5',
    uid: 'u',
    labels: { a: 'b' },
  };
  return { apiVersion, kind, metadata, spec: { egress: [] }, status: { seen: 1 }, ...more };
}

/** The objects after the writes of a step, as an API server would have them. */
function after(step: StepName, objects: readonly PlainObject[], moment: Moment = MOMENT): PlainObject[] {
  const key = ({ kind, apiVersion }: PlainObject) => `${String(kind)} ${String(apiVersion)}`;
  const all = new Map(objects.map((o) => [key(o), o]));
  for (const write of planOf(step, presentOf(objects), moment).writes) {
    const { object } = write;
    if (write.verb === 'create') {
      t.notOk(all.has(key(object)), 'what is created was not there');
      t.equal((object.metadata as { uid?: string }).uid, undefined);
    } else t.ok(all.has(key(object)), `what one wants to ${write.verb} is there`);
    if (write.verb === 'delete') all.delete(key(object));
    else if (write.verb === 'annotate') {
      const annotations: Record<string, unknown> = { ...annotationsIn(object), ...write.annotations };
      for (const name of Object.keys(annotations)) if (annotations[name] === null) delete annotations[name];
      all.set(key(object), { ...object, metadata: { ...(object.metadata as object), annotations } });
    } else all.set(key(object), object);
    t.ok(all.size > 0, 'at no time is there neither form');
  }
  return [...all.values()];
}

const raw = (object: PlainObject) => {
  const { namespace, name } = object.metadata as { namespace?: string; name: string };
  const own = { apiVersion: String(object.apiVersion), kind: String(object.kind), name, object, where: {} };
  return namespace === undefined ? own : { ...own, namespace };
};

t.test('one object for both forms: one write of its annotations', async (t) => {
  for (const [version, kind, namespaced] of SAME) {
    const policy = made(version, kind, namespaced);
    t.ok(isPolicy(raw(policy)), kind);
    const [staged] = after('stage', [policy]) as [PlainObject];
    t.equal(annotationsIn(staged)[AUDIT], 'audit');
    t.same(stampOf(staged, STAGED_AT), { ms: now.getTime(), generation: 77 });
    t.equal(policyGeneration(raw(staged)), policyGeneration(raw(policy)), 'the content is the same');
    t.same(planOf('stage', { staged }, MOMENT).writes, [], 'it is staged already');
    const edit = planOf('stage', { staged }, { ...MOMENT, generation: 78 });
    t.equal(edit.writes.length, 1, 'after an edit, the count begins anew');
    const [enforced] = after('enforce', [staged]) as [PlainObject];
    t.same(Object.keys(annotationsIn(enforced)), [ENFORCED_AT]);
    t.same(planOf('enforce', { enforced }, MOMENT).writes, []);
    const [undone] = after('undo', [enforced]) as [PlainObject];
    t.ok(isStaged(undone));
    t.same(annotationsIn(undone), annotationsIn(staged));
    t.throws(() => planOf('undo', { staged: undone }, MOMENT), { message: /nothing to undo/ });
    t.throws(() => planOf('undo', { enforced: policy }, MOMENT), { message: /not enforced by egressctl/ });
  }
});

t.test("Calico's Staged kinds: first what will be, then what was", async (t) => {
  for (const [stagedKind, version, kind, namespaced] of CALICO) {
    const real = made(version, kind, namespaced);
    const staged = made(version, stagedKind, namespaced, {
      spec: { stagedAction: 'Set', egress: [{ action: 'Deny' }] },
    });
    const one = after('stage', [real]);
    t.same(
      one.map((o) => o.kind),
      [stagedKind],
    );
    t.equal(policyGeneration(raw(one[0] as PlainObject)), policyGeneration(raw(real)));
    t.same(
      after('enforce', one).map((o) => [o.kind, o.spec]),
      [[kind, real.spec]],
      'and back',
    );

    const [alone] = after('enforce', [staged]) as [PlainObject];
    t.match(alone, { kind, spec: { egress: [{ action: 'Deny' }] } });
    t.notOk(Object.hasOwn(alone.spec as object, 'stagedAction'));
    t.notOk(Object.hasOwn(alone, 'status'));
    t.same(
      after('undo', [alone]).map((o) => o.kind),
      [stagedKind],
    );

    const both = planOf('enforce', presentOf([real, staged]), MOMENT);
    t.same(
      both.writes.map((w) => [w.verb, w.object.kind]),
      [
        ['replace', kind],
        ['delete', stagedKind],
      ],
    );
    t.match((both.writes[0] as Write).object.metadata, { resourceVersion: '5' }, 'nobody’s change is lost');
    const [replaced] = after('enforce', [real, staged]) as [PlainObject];
    t.same(JSON.parse(String(annotationsIn(replaced)[PREVIOUS])), { spec: real.spec });
    const restored = after('undo', [replaced]);
    t.same(restored.find((o) => o.kind === kind)?.spec, real.spec, 'undo gives back what was replaced');
    t.match(restored.find((o) => o.kind === stagedKind)?.spec, { egress: [{ action: 'Deny' }] });
    t.notOk(restored.some((o) => annotationsIn(o)[PREVIOUS] !== undefined));
    t.throws(() => planOf('undo', presentOf([replaced, staged]), MOMENT), { message: /staged beside it/ });

    const long = { ...real, spec: { egress: [{ name: 'x'.repeat(70_000) }] } };
    t.match(planOf('enforce', presentOf([long, staged]), MOMENT).warnings, [/too long to be kept/]);
    const action = (stagedAction: string) => ({ ...staged, spec: { stagedAction } });
    t.same(
      planOf('enforce', presentOf([real, action('Delete')]), MOMENT).writes.map((w) => [w.verb, w.object.kind]),
      [
        ['delete', kind],
        ['delete', stagedKind],
      ],
    );
    t.throws(() => planOf('enforce', presentOf([action('Ignore')]), MOMENT), { message: /Ignore/ });
  }
  const kubernetes = made('crd.projectcalico.org/v1', 'StagedKubernetesNetworkPolicy', true);
  t.match(after('enforce', [kubernetes]), [{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' }]);
});

t.test('what undo restores is never what a staged object says of itself', async (t) => {
  const [kind, version] = [CALICO[0]?.[0] as string, CALICO[0]?.[1] as string];
  const opens = JSON.stringify({ spec: { egress: [{ action: 'Allow' }] } });
  const plain = made(version, kind, true);
  const hostile = { ...plain, metadata: { ...(plain.metadata as object), annotations: { [PREVIOUS]: opens } } };
  const enforced = after('enforce', [hostile]);
  t.equal(enforced.length, 1);
  t.equal(annotationsIn(enforced[0] as PlainObject)[PREVIOUS], undefined);
  const undone = after('undo', enforced);
  t.same(
    undone.map((o) => [o.kind, (o.spec as { egress: unknown[] }).egress]),
    [['StagedNetworkPolicy', []]],
  );
});

t.test('forms of what is already so are the same object', async (t) => {
  const policy = made('cilium.io/v2', 'CiliumNetworkPolicy', true);
  t.equal(enforcedForm(policy), policy);
  const staged = stagedForm(policy);
  t.equal(stagedForm(staged), staged);
  t.same(enforcedForm(staged), policy);
});

t.test('a namespace that stages all of its policies', async (t) => {
  const staged = stagedForm(made('networking.k8s.io/v1', 'NetworkPolicy', true));
  const moment = { ...MOMENT, namespaceIsStaged: true };
  t.throws(() => planOf('enforce', { staged }, moment), { message: /namespace shop stages all/ });
  t.throws(() => planOf('enforce', { enforced: enforcedForm(staged) }, moment), {
    message: /namespace shop stages all/,
  });
  t.throws(() => planOf('stage', {}, MOMENT), { message: /no such policy/ });
});

t.test('names of policies', async (t) => {
  const names: Record<string, [kind: string, text: string]> = {
    'np/shop/web': ['NetworkPolicy', 'np/shop/web'],
    'NetworkPolicy shop/web': ['NetworkPolicy', 'np/shop/web'],
    'NetworkPolicy/shop/web': ['NetworkPolicy', 'np/shop/web'],
    'calico/shop/default.web': ['NetworkPolicy', 'calico/shop/default.web'],
    'NetworkPolicy.crd.projectcalico.org shop/web': ['NetworkPolicy', 'calico/shop/web'],
    'snp/shop/web': ['StagedNetworkPolicy', 'snp/shop/web'],
    'gnp/all': ['GlobalNetworkPolicy', 'gnp/all'],
    'cilium/shop/web': ['CiliumNetworkPolicy', 'cilium/shop/web'],
    'ccnp/all': ['CiliumClusterwideNetworkPolicy', 'ccnp/all'],
    'ClusterNetworkPolicy.networking.k8s.aws all': ['ClusterNetworkPolicy', 'cnp/all'],
    'fqdn/shop/web': ['FQDNNetworkPolicy', 'fqdn/shop/web'],
  };
  for (const [text, [kind, short]] of Object.entries(names))
    t.match(parsePolicyName(text), { kind, text: short }, text);
  t.same(parsePolicyName('ClusterNetworkPolicy.networking.k8s.aws all').groups, ['networking.k8s.aws']);
  t.same(bothNames(parsePolicyName('calico/shop/web')), ['calico/shop/web', 'snp/shop/web']);
  t.same(bothNames(parsePolicyName('sknp/shop/web')), ['sknp/shop/web', 'np/shop/web']);
  t.same(bothNames(parsePolicyName('fqdn/shop/web')), ['fqdn/shop/web']);
  const wrong: Record<string, RegExp> = {
    '': /no kind in it/,
    'np/web': /names no NetworkPolicy/,
    'np/a/b/c': /names no NetworkPolicy/,
    'gnp/shop/all': /names no GlobalNetworkPolicy/,
    'pod/shop/web': /no kind pod/,
    'np/shop/web#2': /is a rule/,
    'np/shop/../secrets': /names no NetworkPolicy/,
    'np/shop/..': /cannot be a name/,
    'np/shop/we%62': /cannot be a name/,
    'NetworkPolicy.example.com shop/web': /no kind/,
  };
  for (const [text, message] of Object.entries(wrong))
    t.throws(() => parsePolicyName(text), { code: 'USAGE', message }, JSON.stringify(text));
});
