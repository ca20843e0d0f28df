/** What counts as a policy in status and metrics, and whose problem a problem is. */
import t from 'tap';
import { policyProblems, policyStatus, stagedCount } from '../../agent/serve/status.js';
import type { InForceState } from '../../agent/endpoints/in-force.js';
import { toIr } from '../../src/dialects/index.js';
import { snapshotOf } from '../policy/world.js';

/** Only what the functions read. */
function stateOf(...objects: object[]) {
  const snapshot = snapshotOf(objects.map((o) => `---\n${JSON.stringify(o)}\n`).join(''));
  const { ir, problems } = toIr(snapshot);
  return { snapshot, ir, problems: [...snapshot.problems, ...problems] } as unknown as InForceState;
}

const object = (apiVersion: string, kind: string, name: string, spec: object, namespace?: string) => ({
  apiVersion,
  kind,
  metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
  spec,
});

t.test('what policies refer to is no policy', async (t) => {
  const state = stateOf(
    object('projectcalico.org/v3', 'Tier', 'security', { order: 10 }),
    object('projectcalico.org/v3', 'NetworkSet', 'set', { nets: ['10.0.0.0/8'] }, 'shop'),
    object('crd.projectcalico.org/v1', 'GlobalNetworkSet', 'broken', { nets: ['not a net'] }),
    object('cilium.io/v2', 'CiliumCIDRGroup', 'group', { externalCIDRs: ['10.0.0.0/8'] }),
    object('projectcalico.org/v3', 'GlobalNetworkPolicy', 'gnp', { types: ['Egress'], egress: [{ action: 'Deny' }] }),
    object('cilium.io/v2', 'CiliumNetworkPolicy', 'cilium', { endpointSelector: {}, egress: [{}] }, 'shop'),
  );
  t.same(
    policyStatus(state, state.problems).map((p) => `${p.kind} ${p.name} ${p.state}`),
    ['GlobalNetworkPolicy gnp in-force', 'CiliumNetworkPolicy cilium in-force'],
  );
  t.same(
    policyProblems(state).map((p) => `${p.policy.kind} ${p.policy.name}: ${p.problem.where.field}`),
    ['GlobalNetworkSet broken: spec.nets[0]'],
    'their own problems are told all the same, as Events on them',
  );
});

t.test('staged policies are counted as objects', async (t) => {
  const egress = [{ action: 'Deny' }];
  const state = stateOf(
    object('projectcalico.org/v3', 'StagedNetworkPolicy', 'a', { types: ['Egress'], egress }, 'shop'),
    object('projectcalico.org/v3', 'NetworkPolicy', 'b', { types: ['Egress'], egress }, 'shop'),
    object('networking.k8s.io/v1', 'NetworkPolicy', 'c', { podSelector: {}, egress: [{}] }, 'shop'),
  );
  t.equal(stagedCount(state), 1);
  t.equal(stagedCount(undefined), 0);
});

t.test('kinds of one name in several API groups are told apart', async (t) => {
  const state = stateOf(
    object('networking.k8s.io/v1', 'NetworkPolicy', 'web', { podSelector: {}, egress: [{}] }, 'shop'),
    object('crd.projectcalico.org/v1', 'NetworkPolicy', 'web', { types: ['Egress'], egress: [{}] }, 'shop'),
  );
  t.same(
    policyStatus(state, state.problems).map((p) => `${p.state} ${p.problems[0]?.where.object}`),
    ['in-force undefined', 'refused NetworkPolicy.crd.projectcalico.org shop/web'],
    'the other one is not refused',
  );
  t.same(
    policyProblems(state).map((p) => `${p.policy.apiVersion} ${p.problem.where.field}`),
    ['crd.projectcalico.org/v1 spec.egress[0].action'],
    'and the Event is about the right one',
  );
});
