/** What explain says of selectors and peers, negated ones above all. */
import t from 'tap';
import { toIr } from '../../src/dialects/index.js';
import { describeRule, describeWorkload, saysOf } from '../../src/explain/describe.js';
import { explain } from '../../src/explain/explain.js';
import type { LabelExpr, Peer } from '../../src/ir/peers.js';
import { packet, pod, snapshotOf } from './world.js';

const ALL: LabelExpr = { op: 'true' };
const is = (key: string, ...values: string[]): LabelExpr => ({ op: 'in', key, values });
const isNot = (key: string, ...values: string[]): LabelExpr => ({ op: 'notin', key, values });
const has = (key: string): LabelExpr => ({ op: 'exists', key });
const no = (key: string): LabelExpr => ({ op: 'notexists', key });
const not = (of: LabelExpr): LabelExpr => ({ op: 'not', of });
const and = (...of: LabelExpr[]): LabelExpr => ({ op: 'and', of });
const or = (...of: LabelExpr[]): LabelExpr => ({ op: 'or', of });

t.test('selectors', async (t) => {
  const rows: [LabelExpr, string][] = [
    [ALL, 'every pod'],
    [is('app', 'web'), 'pods with app=web'],
    [and(is('app', 'web'), is('tier', 'a', 'b'), has('x')), 'pods with app=web,tier in (a,b),x'],
    [isNot('app', 'web'), 'pods whose label app is missing or not web'],
    [isNot('app', 'a', 'b'), 'pods whose label app is missing or none of a, b'],
    [no('legacy'), 'pods without label legacy'],
    [and(no('legacy'), is('app', 'web')), 'pods with app=web and without label legacy'],
    [not(is('app', 'web')), 'pods whose label app is missing or not web'],
    [not(not(is('app', 'web'))), 'pods with app=web'],
    [not(and(is('a', 'b'), has('c'))), 'pods whose label a is missing or not b or without label c'],
    [and(or(is('a', 'b'), no('c')), has('d')), 'pods with d and (with a=b or without label c)'],
    [or(and(is('a', 'b'), no('c')), has('d')), 'pods (with a=b and without label c) or with d'],
    [not(ALL), 'pods of no kind'],
    [or(), 'pods of no kind'],
    [isNot('@namespace', 'data'), 'pods whose namespace is not data'],
    [is('@namespace', 'data', 'lab'), 'pods whose namespace is data or lab'],
    [isNot('@ns/team', 'data'), "pods whose namespace's label team is missing or not data"],
    [no('@ns/team'), "pods whose namespace's label team is missing"],
    [has('@ns/team'), "pods whose namespace's label team is set"],
    [isNot('@serviceaccount', 'x', 'y'), 'pods whose service account is none of x, y'],
    [{ op: 'contains', key: 'app', value: 'e' }, 'pods whose label app contains e'],
    [not({ op: 'starts', key: 'app', value: 'e' }), 'pods whose label app is missing or does not start with e'],
    [not({ op: 'ends', key: '@name', value: 'e' }), 'pods whose name does not end with e'],
  ];
  for (const [pods, text] of rows)
    t.equal(describeWorkload({ namespaces: { names: ['shop'] }, pods }), `${text} in namespace shop`);
  t.equal(
    describeWorkload({ namespaces: { labels: isNot('team', 'a') }, pods: ALL }),
    'every pod in namespaces whose label team is missing or not a',
  );
});

t.test('peers', async (t) => {
  const pods: Peer = { kind: 'pods', namespaces: { labels: ALL }, pods: ALL };
  const nodes: Peer = { kind: 'nodes', labels: ALL };
  const own: Peer = { kind: 'own-node' };
  const block: Peer = { kind: 'cidr', cidr: '10.0.0.0/8', except: [] };
  const outside: Peer = { kind: 'not', of: { kind: 'some', of: [pods, nodes, own] } };
  const but: Peer = { kind: 'not', of: pods };
  const rows: [Peer[], string, string, string][] = [
    [[block], '10.0.0.0/8', 'is in 10.0.0.0/8', 'is not in 10.0.0.0/8'],
    [[but], 'anywhere except every pod in every namespace', 'is not a pod', 'is a pod'],
    [[outside], 'outside of the cluster', 'is outside of the cluster', 'is not outside of the cluster'],
    [
      [{ kind: 'all', of: [block, outside] }],
      '10.0.0.0/8 and outside of the cluster',
      'is in 10.0.0.0/8 and outside of the cluster',
      'is not in 10.0.0.0/8 and outside of the cluster',
    ],
    [
      [{ kind: 'all', of: [nodes, { kind: 'not', of: own }] }],
      "every node except the pod's own node",
      "is a node except the pod's own node",
      "is not a node except the pod's own node",
    ],
    [
      [block, but],
      '10.0.0.0/8 or anywhere except every pod in every namespace',
      'is in 10.0.0.0/8 or is not a pod',
      'is not in 10.0.0.0/8, and is a pod',
    ],
  ];
  const ref = {
    policy: { dialect: 'test', kind: 'Test', name: 'p' },
    ...({ index: 0, tier: 't', staged: false, action: 'allow' } as const),
  };
  for (const [peers, text, yes, never] of rows) {
    t.equal(describeRule({ ref, action: 'allow', peers, ports: null }), `allow to ${text} on every port`);
    t.equal(saysOf(peers, true), yes);
    t.equal(saysOf(peers, false), never);
  }
});

t.test('in an explanation', async (t) => {
  const text = `${pod('shop/web', ['10.0.0.1'], { app: 'web' })}---
{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: c}, spec: {endpointSelector: {matchExpressions: [{key: old, operator: DoesNotExist}]}, egress: [{toEndpoints: [{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: NotIn, values: [data]}]}]}, {toCIDR: [192.0.2.0/24]}]}}
`;
  const snapshot = snapshotOf(text);
  const { tiers = [] } =
    explain(toIr(snapshot).ir, snapshot, packet('shop/web', '203.0.113.9:80/tcp')).targets[0] ?? {};
  const policies = tiers.flatMap((tier) => tier.policies);
  t.match(
    policies.map((p) => p.why),
    ['selects the sender: pods without label old in namespace shop'],
  );
  t.match(
    policies.flatMap((p) => p.rules.map((r) => r.why)),
    [
      '203.0.113.9 is not a pod whose namespace is not data',
      '203.0.113.9 is not in 192.0.2.0/24 and outside of the cluster',
    ],
  );
});
