/** Pods on different nodes: explain, test, diff and lint say what evaluate() says on each pod's own node. */
import t from 'tap';
import { toIr } from '../../src/dialects/index.js';
import { buildSnapshot } from '../../src/identity/builder.js';
import { parseManifest } from '../../src/identity/files/yaml.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { nodeOf, onNode, viewOf } from '../../src/ir/sender.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Ir, IrPolicy, Rule } from '../../src/ir/types.js';
import { diff } from '../../src/tools/diff.js';
import { lint } from '../../src/tools/lint/index.js';
import { byNode } from '../../src/tools/nodes.js';
import { rangeContains } from '../../src/tools/ranges.js';
import { completed } from '../../src/tools/world.js';
import { bench } from '../cli/tool.js';

t.setTimeout(240_000);
const { ctl, write } = bench(t);

const node = (name: string, ip: string) =>
  `---\n{apiVersion: v1, kind: Node, metadata: {name: ${name}, labels: {pool: ${name}}}, status: {addresses: [{type: InternalIP, address: ${ip}}]}}\n`;
const pod = (name: string, ip: string, on: string) =>
  `---\n{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: ${name}}, spec: {${on && `nodeName: ${on}, `}containers: [{name: c}]}, status: {podIP: ${ip}}}\n`;
const PODS =
  pod('on-a', '10.0.0.1', 'a') +
  pod('on-b', '10.0.0.2', 'b') +
  pod('nowhere', '10.0.0.3', '') +
  pod('on-x', '10.0.0.4', 'x');
const CLUSTER = `${node('a', '192.168.0.1')}${node('b', '192.168.0.2')}${PODS}---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: s}, spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: shop, name: s, labels: {kubernetes.io/service-name: s}}, addressType: IPv4, ports: [{name: "", port: 80, protocol: TCP}], endpoints: [{addresses: [10.0.0.2]}]}
`;
const POLICY = `---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: shop, name: p}, spec: {podSelector: {}, policyTypes: [Egress]}}
`;
write('cluster/all.yaml', CLUSTER);
write('cluster/policy.yaml', POLICY);
write('open/all.yaml', CLUSTER);

function worldOf(text: string) {
  const objects = parseManifest('test.yaml', text).flatMap((d) => d.objects);
  const snapshot = buildSnapshot(objects, { nodeName: '', ownNodeIps: [] });
  return { ir: toIr(snapshot).ir, snapshot };
}

const SENDERS = ['shop/on-a', 'shop/on-b', 'shop/nowhere', 'shop/on-x'];
const PLACES = [
  ['192.168.0.1', 22],
  ['192.168.0.2', 22],
  ['192.168.0.1', 30080],
  ['192.168.0.2', 30080],
  ['10.0.0.2', 80],
] as const;
const world = worldOf(CLUSTER + POLICY);
const reference = (from: string, to: string, port: number) =>
  evaluate(world.ir, viewOf(world.snapshot, from), { from, to, protocol: 6, port }).verdict;

t.test('a node allows its own pods itself, and stands for its node ports', async (t) => {
  const table = SENDERS.map((from) => PLACES.map(([to, port]) => reference(from, to, port)).join(' '));
  t.same(table, [
    'allow deny deny deny deny',
    'deny allow deny allow allow',
    'deny deny deny deny deny',
    'deny deny deny deny deny',
  ]);
});

t.test('explain and test: one question, one answer', async (t) => {
  const rows = SENDERS.flatMap((from) =>
    PLACES.map(([to, port]) => `- "${from} → ${to}:${port}/tcp: ${reference(from, to, port)}"\n`),
  );
  write('table.yaml', `manifests: cluster\ntests:\n${rows.join('')}`);
  t.match(ctl('test', 'table.yaml'), { code: 0, out: /20 hold, 0 do not/ });
  for (const from of SENDERS) {
    for (const [to, port] of PLACES.slice(0, 3)) {
      const r = ctl('explain', '--from', from, '--to', `${to}:${port}`, '--manifests', 'cluster', '-o', 'json');
      t.equal(JSON.parse(r.out).verdict.verdict, reference(from, to, port), `${from} ${to}:${port}`);
    }
  }
  const asked = ['explain', '--from', 'shop/on-a', '--to', '192.168.0.2:22', '--manifests', 'cluster'];
  t.equal(ctl(...asked).code, 3);
  t.equal(ctl(...asked, '--node-name', 'b').code, 0, 'as if it ran there');
});

t.test('diff: of each pod what changes on its node', async (t) => {
  const [open, closed] = completed(worldOf(CLUSTER), world);
  const { changes } = diff(open, closed);
  for (const from of SENDERS) {
    for (const [to, port] of PLACES) {
      const differs = changes.some(
        ({ senders, to: place }) =>
          senders.includes(from) &&
          (place.kind === 'addresses' ? port !== 30080 && place.ranges.some((r) => rangeContains(r, to)) : false),
      );
      if (port !== 30080) t.equal(differs, reference(from, to, port) !== 'allow' && !isOwn(from, to), `${from} ${to}`);
    }
  }
});

function isOwn(from: string, to: string): boolean {
  return world.snapshot.pods.get(from)?.ips.includes(to) ?? false;
}

t.test('diff: a pod that moved is judged where it was, and where it is', async (t) => {
  const moved = worldOf(CLUSTER.replace('name: on-a}, spec: {nodeName: a', 'name: on-a}, spec: {nodeName: b') + POLICY);
  const { changes } = diff(...completed(world, moved));
  const of = changes.filter(({ senders }) => senders.includes('shop/on-a'));
  const at = (ip: string) =>
    of
      .filter(({ to }) => to.kind === 'addresses' && to.ranges.some((r) => rangeContains(r, ip)))
      .map(({ was, is }) => `${was.verdict} → ${is.verdict}`);
  t.same(at('192.168.0.1'), ['allow → deny']);
  t.same(at('192.168.0.2'), ['deny → allow']);
});

t.test('lint: what one node alone reaches is reached', async (t) => {
  const labels = { op: 'in', key: 'pool', values: ['a'] } as const;
  const peers: Peer[] = [{ kind: 'own-node' }, { kind: 'nodes', labels }];
  const ref = { dialect: 'calico', kind: 'GlobalNetworkPolicy', name: 'p' };
  const rules = peers.map(
    (peer, index): Rule => ({
      ref: { policy: ref, index, tier: 't', staged: false, action: 'allow' },
      action: 'allow',
      peers: [peer],
      ports: null,
    }),
  );
  const subject = { namespaces: { labels: { op: 'true' } }, pods: { op: 'true' } } as const;
  const policy: IrPolicy = { ref, subject, rules, staged: false };
  const ir: Ir = { tiers: [{ name: 't', order: 0, policies: [policy], defaultAction: 'pass' }] };
  const nodes = node('a', '192.168.0.1') + node('b', '192.168.0.2');
  const checks = (pods: string) =>
    lint({ ir, snapshot: worldOf(nodes + pods).snapshot }).map((f) => `${f.check} ${f.where.field}`);
  t.same(checks(pod('on-a', '10.0.0.1', 'a')), ['redundant spec.egress[1]'], 'node a is their own');
  t.same(checks(pod('on-b', '10.0.0.1', 'b')), [], 'for others it is not');
  t.same(checks(PODS), []);
  t.same(checks(pod('nowhere', '10.0.0.1', '')), ['no-destination spec.egress[0]'], 'no node is their own');
});

t.test('nodes that nobody knows are one; a pod without a node is on the own one', async (t) => {
  const groups = byNode([world] as const).map(({ worlds, keys }) => [worlds[0].snapshot.ownNode.name, ...keys]);
  t.same(groups, [
    ['a', 'shop/on-a'],
    ['b', 'shop/on-b'],
    ['', 'shop/nowhere', 'shop/on-x'],
  ]);
  const own = { ...world.snapshot, ownNode: { name: 'b', ips: ['172.16.0.1'] } };
  const of = (key: string) => own.pods.get(key) as NonNullable<ReturnType<typeof own.pods.get>>;
  t.equal(nodeOf(own, of('shop/nowhere')), 'b');
  t.equal(onNode(own, 'b'), own, 'with the addresses of its interfaces');
  t.same(viewOf(own, 'shop/on-a').ownNode, { name: 'a', ips: [] });
  t.equal(viewOf(own, 'shop/nobody'), own);
});
