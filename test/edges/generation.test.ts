import t from 'tap';
import { policyGeneration } from '../../src/edges/generation.js';
import type { RawPolicy } from '../../src/identity/snapshot.js';

const spec = { podSelector: { matchLabels: { app: 'web', tier: 'front' } }, policyTypes: ['Egress'], egress: [] };

function raw(apiVersion: string, kind: string, spec: unknown, metadata: object = {}): RawPolicy {
  const object = { apiVersion, kind, metadata: { name: 'web', namespace: 'shop', ...metadata }, spec };
  return { apiVersion, kind, namespace: 'shop', name: 'web', object, where: {} };
}

const np = (content: unknown, metadata?: object) => raw('networking.k8s.io/v1', 'NetworkPolicy', content, metadata);

t.test('the same content has the same generation', async (t) => {
  const generation = policyGeneration(np(spec));
  t.ok(Number.isSafeInteger(generation) && generation > 0);
  const turned = { egress: [], policyTypes: ['Egress'], podSelector: { matchLabels: { tier: 'front', app: 'web' } } };
  t.equal(policyGeneration(np(turned)), generation, 'whatever the order of its keys');
  t.equal(policyGeneration(np({ ...spec, ingress: null })), generation, 'null is absent');
  t.equal(policyGeneration(raw('extensions/v1beta1', 'NetworkPolicy', spec)), generation);
  const annotations = { 'egress-agent.io/enforcement': 'audit' };
  t.equal(policyGeneration(np(spec, { annotations, generation: 7, resourceVersion: '9' })), generation);
});

t.test('another content has another', async (t) => {
  const generation = policyGeneration(np(spec));
  t.not(policyGeneration(np({ ...spec, egress: [{}] })), generation);
  t.not(policyGeneration({ ...np(spec), name: 'api' }), generation);
  t.not(policyGeneration({ ...np(spec), namespace: 'pay' }), generation);
  t.not(policyGeneration(raw('projectcalico.org/v3', 'NetworkPolicy', spec)), generation, "Calico's is another kind");
  const specs = { ...np(spec), object: { spec, specs: [spec] } };
  t.not(policyGeneration(specs), generation);
});

t.test("a Staged kind of Calico's has the generation of what it becomes", async (t) => {
  const pairs = [
    ['projectcalico.org/v3', 'StagedNetworkPolicy', 'projectcalico.org/v3', 'NetworkPolicy'],
    ['crd.projectcalico.org/v1', 'StagedGlobalNetworkPolicy', 'projectcalico.org/v3', 'GlobalNetworkPolicy'],
    ['projectcalico.org/v3', 'StagedKubernetesNetworkPolicy', 'networking.k8s.io/v1', 'NetworkPolicy'],
  ] as const;
  for (const [stagedVersion, staged, version, kind] of pairs)
    t.equal(
      policyGeneration(raw(stagedVersion, staged, { ...spec, stagedAction: 'Set' })),
      policyGeneration(raw(version, kind, spec)),
      staged,
    );
});

t.test('a content without an end is not numbered, and stops nobody', async (t) => {
  let deep: unknown = {};
  for (let i = 0; i < 100_000; i++) deep = { deep };
  t.equal(policyGeneration(np(deep)), 0);
});
