/** A cluster's source over real HTTP: complete views only, and what is away, forbidden, new or gone. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { DialectRegistry } from '../../src/dialects/index.js';
import { formatProblem } from '../../src/errors.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { type ClusterOptions, ClusterSource } from '../../src/kube/source.js';
import { makeLogger } from '../../src/log.js';
import { FakeCluster } from './fake-cluster.js';
import { until } from './viewer.js';

const PODS = 'v1 Pod';
const NAMESPACES = 'v1 Namespace';
const POLICIES = 'networking.k8s.io/v1 NetworkPolicy';
const SLICES = 'discovery.k8s.io/v1 EndpointSlice';
const ENDPOINTS = 'v1 Endpoints';
const SERVICES = 'v1 Service';
const CILIUM = 'cilium.io/v2 CiliumNetworkPolicy ciliumnetworkpolicies';

interface Bed {
  readonly server: FakeCluster;
  readonly source: ClusterSource;
  readonly log: string[];
  changes: number;
}

async function bed(t: Test, kinds?: readonly string[], more: Partial<ClusterOptions> = {}, watch = true): Promise<Bed> {
  const server = await new FakeCluster().start(kinds);
  const log: string[] = [];
  const source = new ClusterSource({
    client: server.client(),
    nodeName: 'n1',
    ownNodeIps: () => ['192.168.0.1'],
    log: makeLogger('debug', (line) => log.push(line)),
    ...more,
  });
  const it = { server, source, log, changes: 0 };
  t.teardown(async () => {
    source.close();
    await server.stop();
  });
  if (watch) source.watch(() => it.changes++);
  return it;
}

async function synced(b: Bed): Promise<Snapshot> {
  await until(() => b.source.synced);
  return b.source.load();
}

/** Loads until the snapshot is as wanted. */
async function seen(b: Bed, wanted: (s: Snapshot) => boolean): Promise<Snapshot> {
  let snapshot = b.source.load();
  await until(() => {
    if (b.source.synced) snapshot = b.source.load();
    return wanted(snapshot);
  });
  return snapshot;
}

function pod(key: string, ip: string, more: { labels?: object; meta?: object; status?: object } = {}) {
  const [namespace, name] = key.split('/') as [string, string];
  return {
    metadata: { namespace, name, labels: more.labels ?? {}, ...more.meta },
    spec: { nodeName: 'n1', containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 80 }] }] },
    status: { phase: 'Running', podIP: ip, podIPs: [{ ip }], ...more.status },
  };
}

const namespace = (name: string, more: { meta?: object; status?: object } = {}) => ({
  metadata: { name, labels: { env: 'test' }, ...more.meta },
  status: { phase: 'Active', ...more.status },
});

function policy(key: string, spec: unknown, meta = {}) {
  const [ns, name] = key.split('/') as [string, string];
  return { metadata: { namespace: ns, name, ...meta }, spec };
}

const CLOSED = { podSelector: {}, policyTypes: ['Egress'], egress: [] };

t.test('nothing before everything; then all of it', async (t) => {
  const b = await bed(t, undefined, {}, false);
  const { server, source } = b;
  server.put(NAMESPACES, namespace('shop'));
  server.put(PODS, pod('shop/web', '10.0.0.1', { labels: { app: 'web' } }));
  server.put(PODS, pod('shop/api', '10.0.0.2'));
  server.put('v1 Node', {
    metadata: { name: 'n1' },
    status: { addresses: [{ type: 'InternalIP', address: '192.168.0.1' }] },
  });
  server.put(POLICIES, policy('shop/closed', CLOSED));
  server.put(SERVICES, {
    metadata: { namespace: 'shop', name: 'api' },
    spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }] },
  });
  const slice = (name: string, ip: string) => ({
    metadata: { namespace: 'shop', name, labels: { 'kubernetes.io/service-name': 'api' } },
    addressType: 'IPv4',
    ports: [{ name: '', port: 8080 }],
    endpoints: [{ addresses: [ip] }],
  });
  server.put(SLICES, slice('api-1', '10.0.0.2'));
  server.put(ENDPOINTS, {
    metadata: { namespace: 'shop', name: 'api' },
    subsets: [{ addresses: [{ ip: '10.9.9.9' }], ports: [{ port: 1 }] }],
  });

  t.throws(() => source.load(), { code: 'AGENT', message: /not known yet/ }, 'before it began');
  server.refuse(POLICIES, 500);
  source.watch(() => b.changes++);
  await until(() => source.kinds().filter((k) => k.synced).length === 5);
  await sleep(30);
  t.notOk(source.synced, 'one kind is missing');
  t.equal(b.changes, 0, 'and nobody is told');
  t.throws(() => source.load(), { code: 'AGENT', message: /waiting for networking.k8s.io\/v1 NetworkPolicy \(.*500/ });
  t.match(source.lastError, /500/);
  t.type(source.staleSince, 'number');
  server.refuse(POLICIES, undefined);
  const s = await synced(b);
  t.ok(b.changes > 0, 'told');
  t.same([...s.pods.keys()].sort(), ['shop/api', 'shop/web']);
  t.same(s.pods.get('shop/web')?.labels, { app: 'web' });
  t.same(s.namespaces.get('shop')?.labels, { env: 'test', 'kubernetes.io/metadata.name': 'shop' });
  t.same(s.nodes.get('n1')?.ips, ['192.168.0.1']);
  t.match(s.policies, [{ namespace: 'shop', name: 'closed', kind: 'NetworkPolicy' }]);
  t.same(s.ownNode, { name: 'n1', ips: ['192.168.0.1'] });
  t.same(s.problems, []);
  t.same(s.services.get('shop/api')?.ports[0]?.backends, [{ ip: '10.0.0.2', port: 8080 }]);
  t.notOk(server.seen.includes('GET /api/v1/endpoints'), 'slices are there: Endpoints are not asked for');

  server.put(SLICES, slice('api-2', '10.0.0.3'));
  const two = await seen(b, (n) => n.services.get('shop/api')?.ports[0]?.backends.length === 2);
  t.equal(two.pods, s.pods, 'what did not change is the same map');
  server.delete(SLICES, 'shop/api-1');
  await seen(b, (n) => n.services.get('shop/api')?.ports[0]?.backends[0]?.ip === '10.0.0.3');
  server.delete(PODS, 'shop/api');
  server.delete(POLICIES, 'shop/closed');
  const less = await seen(b, (n) => n.pods.size === 1 && n.policies.length === 0);
  t.equal(s.pods.size, 2, 'a snapshot that was handed out does not change');
  t.equal(less.services.size, 1);
  await until(() => source.staleSince === undefined);
  t.equal(source.lastError, undefined);
});

t.test('where slices are missing, Endpoints tell what stands behind; then slices come', async (t) => {
  const b = await bed(t, [], { discoveryMs: 50 });
  const { server } = b;
  server.put(SERVICES, {
    metadata: { namespace: 'a', name: 's' },
    spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }] },
  });
  const subsets = [{ addresses: [{ ip: '10.0.0.2' }], ports: [{ port: 8080 }] }];
  server.put(ENDPOINTS, { metadata: { namespace: 'a', name: 's' }, subsets });
  const backends = (s: Snapshot) => s.services.get('a/s')?.ports[0]?.backends.map((x) => `${x.ip}:${x.port}`);
  await synced(b);
  await seen(b, (s) => backends(s)?.join() === '10.0.0.2:8080');
  server.serve(`${SLICES} endpointslices`);
  server.put(SLICES, {
    metadata: { namespace: 'a', name: 's', labels: { 'kubernetes.io/service-name': 's' } },
    addressType: 'IPv4',
    ports: [{ name: '', port: 8081 }],
    endpoints: [{ addresses: ['10.0.0.3'] }],
  });
  await seen(b, (s) => backends(s)?.join() === '10.0.0.3:8081');
  t.notOk(
    b.source.kinds().some((k) => k.kind === ENDPOINTS),
    'Endpoints are followed no longer',
  );
});

t.test('what concerns no policy changes nothing', async (t) => {
  const b = await bed(t);
  const { server, source } = b;
  server.put(NAMESPACES, namespace('a'));
  server.put(PODS, pod('a/p', '10.0.0.1'));
  server.put(POLICIES, policy('a/closed', CLOSED));
  await synced(b);
  const before = await seen(b, (s) => s.pods.size === 1 && s.policies.length === 1 && s.namespaces.size === 1);
  const told = b.changes;
  const conditions = [{ type: 'Ready', status: 'False' }];
  const managedFields = [{ manager: 'kubelet', fieldsV1: { 'f:status': {} } }];
  server.put(
    PODS,
    pod('a/p', '10.0.0.1', { status: { conditions }, meta: { managedFields, annotations: { a: 'b' } } }),
  );
  server.put(NAMESPACES, namespace('a', { meta: { annotations: { seen: 'yes' } } }));
  server.put(POLICIES, policy('a/closed', CLOSED, { managedFields, generation: 1 }));
  await until(() => b.changes >= told + 1);
  await sleep(50);
  t.equal(source.load(), before, 'the very same snapshot');
  // One that came and went between two looks.
  server.put(PODS, pod('a/short', '10.0.0.9'));
  server.delete(PODS, 'a/short');
  await sleep(50);
  t.equal(source.load(), before, 'also after what came and went unseen');
  server.put(PODS, pod('a/p', '10.0.0.2'));
  const after = await seen(b, (s) => s !== before);
  t.same(after.pods.get('a/p')?.ips, ['10.0.0.2']);
  t.equal(after.policies, before.policies);
});

t.test('a pod of an old name is another pod', async (t) => {
  const b = await bed(t);
  b.server.put(PODS, pod('a/p', '10.0.0.1', { meta: { uid: 'one' } }));
  await synced(b);
  await seen(b, (s) => s.pods.get('a/p')?.uid === 'one');
  b.server.delete(PODS, 'a/p');
  b.server.put(PODS, pod('a/p', '10.0.0.1', { meta: { uid: 'two' } }));
  await seen(b, (s) => s.pods.get('a/p')?.uid === 'two');
  t.pass();
});

t.test('a policy language that is not understood: told once, with the number; it comes and goes', async (t) => {
  const b = await bed(t);
  const { server, source } = b;
  t.same((await synced(b)).problems, []);
  server.addCrd(CILIUM);
  server.put('cilium.io/v2 CiliumNetworkPolicy', policy('a/one', {}));
  server.put('cilium.io/v2 CiliumNetworkPolicy', policy('a/two', { endpointSelector: {} }));
  const s = await seen(b, (n) => n.problems.length > 0 && /^2 /.test(n.problems[0]?.message ?? ''));
  t.same(s.problems.map(formatProblem), [
    'CiliumNetworkPolicy: 2 objects of kind CiliumNetworkPolicy (cilium.io/v2) are not read and have no effect',
  ]);
  t.equal(s.problems[0]?.severity, 'warning');
  t.same(s.policies, []);
  t.match(
    source.kinds().find((k) => k.kind === 'cilium.io/v2 CiliumNetworkPolicy'),
    { objects: 2, synced: true },
  );
  server.delete('cilium.io/v2 CiliumNetworkPolicy', 'a/two');
  await seen(b, (n) => /^1 /.test(n.problems[0]?.message ?? ''));
  server.delete('cilium.io/v2 CiliumNetworkPolicy', 'a/one');
  await seen(b, (n) => n.problems.length === 0);
  t.ok(b.log.some((l) => /a kind is served now.*CiliumNetworkPolicy/.test(l)));
});

t.test('a kind that is gone is forgotten', async (t) => {
  // Believed at the second look only: in 10 s. Here its group is gone from discovery.
  const b = await bed(t, undefined, { discoveryMs: 50 });
  const { server, source } = b;
  server.addCrd(CILIUM);
  server.put('cilium.io/v2 CiliumNetworkPolicy', policy('a/one', {}));
  await synced(b);
  await seen(b, (n) => n.problems.length === 1);
  server.removeCrd(CILIUM);
  await until(() => !source.kinds().some((k) => k.kind.startsWith('cilium.io')), 30_000);
  t.ok(source.synced);
  await seen(b, (n) => n.problems.length === 0);
});

t.test('a language that is not understood and may not be read does not stop the rest', async (t) => {
  const b = await bed(t);
  const { server, source } = b;
  await synced(b);
  server.serve(CILIUM);
  server.refuse('cilium.io/v2 CiliumNetworkPolicy', 403);
  server.put('apiextensions.k8s.io/v1 CustomResourceDefinition', {
    metadata: { name: 'ciliumnetworkpolicies.cilium.io' },
    spec: { versions: [{ name: 'v2', served: true }] },
    status: { conditions: [{ type: 'Established', status: 'True' }] },
  });
  await until(() => source.kinds().some((k) => k.kind.startsWith('cilium.io') && k.error !== undefined));
  t.ok(source.synced, 'what is enforced is known');
  server.put(PODS, pod('a/p', '10.0.0.1'));
  await seen(b, (s) => s.pods.size === 1);
  t.equal(source.staleSince, undefined, 'and followed');
  t.match(
    source.kinds().find((k) => k.kind.startsWith('cilium.io')),
    { synced: false, error: /403/ },
    'status tells which kind it is',
  );
});

t.test('a CRD that comes while discovery is under way is not overlooked', async (t) => {
  const b = await bed(t);
  const { server, source } = b;
  await synced(b);
  server.slowDiscovery = 300;
  server.addCrd(CILIUM);
  // The first CRD has asked for a discovery; the second comes while that waits for its answer.
  await until(() => server.seen.filter((r) => r === 'GET /apis').length >= 2, 5000);
  await sleep(50);
  server.addCrd('networking.gke.io/v1alpha1 FQDNNetworkPolicy fqdnnetworkpolicies');
  await until(() => source.kinds().some((k) => k.kind.includes('FQDN')), 8000);
  t.ok(source.kinds().some((k) => k.kind.includes('Cilium')));
});

t.test('the API server is away for a while: the view stays, and says since when', async (t) => {
  const b = await bed(t);
  const { server, source } = b;
  server.put(NAMESPACES, namespace('a'));
  server.put(PODS, pod('a/p', '10.0.0.1'));
  server.put(POLICIES, policy('a/closed', CLOSED));
  await synced(b);
  const before = await seen(b, (s) => s.policies.length === 1 && s.pods.size === 1 && s.namespaces.size === 1);
  const start = Date.now();
  await server.hangUp();
  await until(() => source.staleSince !== undefined && source.lastError !== undefined);
  t.ok((source.staleSince as number) >= start - 1 && (source.staleSince as number) <= Date.now());
  t.match(source.lastError, /ECONN|socket|refused|aborted/i);
  t.ok(source.synced, 'what is known is still known');
  t.equal(source.load(), before);
  const since = source.staleSince;
  await sleep(700);
  t.equal(source.staleSince, since, 'since the first failure');
  server.delete(PODS, 'a/p');
  server.put(PODS, pod('a/q', '10.0.0.2'));
  await server.listen();
  const after = await seen(b, (s) => s.pods.has('a/q') && !s.pods.has('a/p'));
  t.equal(after.policies, before.policies);
  await until(() => source.staleSince === undefined, 40_000);
  t.equal(source.lastError, undefined);
  t.ok(source.kinds().every((k) => k.staleSince === undefined && k.error === undefined));
});

t.test('a start without an API server: it is waited for', async (t) => {
  const b = await bed(t, undefined, {}, false);
  await b.server.hangUp();
  b.source.watch(() => b.changes++);
  await until(() => b.source.lastError !== undefined);
  t.notOk(b.source.synced);
  t.throws(() => b.source.load(), { code: 'AGENT', message: /ECONNREFUSED/, hint: /stays in force/ });
  await b.server.listen();
  await until(() => b.source.synced, 20_000);
  t.ok(b.changes > 0);
});

t.test('policies of a namespace that ends hold until its pods are gone', async (t) => {
  const b = await bed(t);
  const { server } = b;
  const registry = new DialectRegistry();
  server.put(NAMESPACES, namespace('a'));
  server.put(PODS, pod('a/p', '10.0.0.1'));
  server.put(POLICIES, policy('a/closed', CLOSED));
  await synced(b);
  const judged = (s: Snapshot) =>
    evaluate(registry.toIr(s).ir, s, { from: 'a/p', to: '203.0.113.1', protocol: 6, port: 443 }).verdict;
  t.equal(
    judged(await seen(b, (s) => s.policies.length === 1 && s.pods.size === 1 && s.namespaces.size === 1)),
    'deny',
  );
  const deletionTimestamp = '2026-01-01T00:00:00Z';
  server.put(NAMESPACES, namespace('a', { meta: { deletionTimestamp }, status: { phase: 'Terminating' } }));
  await seen(b, (s) => s.namespaces.get('a')?.terminating === true);
  registry.toIr(b.source.load());
  server.delete(POLICIES, 'a/closed');
  const gone = await seen(b, (s) => s.policies.length === 0);
  t.equal(judged(gone), 'deny', 'its policy is gone, its pod is not');
  server.put(PODS, pod('a/p', '10.0.0.1', { meta: { deletionTimestamp } }));
  const ending = await seen(b, (s) => s.pods.get('a/p')?.terminating === true);
  t.equal(judged(ending), 'deny', 'it ends');
  server.delete(PODS, 'a/p');
  const { ir } = registry.toIr(await seen(b, (s) => s.pods.size === 0));
  t.same(ir.tiers[0]?.policies, [], 'and then it is lifted');
});

t.test('what is wrong with a policy closes, and names object and field', async (t) => {
  const b = await bed(t);
  const { server } = b;
  server.put(NAMESPACES, namespace('a'));
  server.put(PODS, pod('a/p', '10.0.0.1'));
  await synced(b);
  const to = { to: [{ ipBlock: { cidr: '0.0.0.0/0' } }] };
  const spec = (more: object) => ({ podSelector: {}, policyTypes: ['Egress'], egress: [to], ...more });
  const broken: [name: string, spec: unknown, field: RegExp][] = [
    ['unknown-field', spec({ egress: [{ ...to, tos: [] }] }), /^spec\.egress\[0\]\.tos$/],
    ['misspelt', { podSelector: {}, policyTypes: ['Egress'], egres: [to] }, /^spec\.egres$/],
    [
      'operator',
      spec({ podSelector: { matchExpressions: [{ key: 'x', operator: 'Near', values: ['y'] }] } }),
      /^spec\.podSelector\.matchExpressions\[0\]\.operator$/,
    ],
    ['key', spec({ podSelector: { matchLabels: { 'a b': 'c' } } }), /^spec\.podSelector\.matchLabels/],
    ['block', spec({ egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/33' } }] }] }), /ipBlock\.cidr$/],
    [
      'except',
      spec({ egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } }] }] }),
      /ipBlock\.except\[0\]$/,
    ],
    ['port', spec({ egress: [{ ...to, ports: [{ port: 99999 }] }] }), /ports\[0\]\.port$/],
    ['no-spec', 'what', /^spec$/],
    ['null-peer', spec({ egress: [{ to: [null] }] }), /^spec\.egress\[0\]\.to\[0\]/],
  ];
  for (const [name, text, field] of broken) {
    server.put(POLICIES, policy(`a/${name}`, text));
    const s = await seen(b, (n) => n.policies.length === 1);
    const { ir, problems } = new DialectRegistry().toIr(s);
    const errors = problems.filter((p) => p.severity === 'error');
    t.ok(errors.length > 0, `${name}: told`);
    t.ok(
      errors.some((p) => p.where.object === `NetworkPolicy a/${name}` && field.test(p.where.field ?? '')),
      `${name}: where: ${JSON.stringify(errors.map((p) => p.where))}`,
    );
    const { verdict } = evaluate(ir, s, { from: 'a/p', to: '203.0.113.1', protocol: 6, port: 443 });
    t.equal(verdict, 'deny', `${name}: closed`);
    server.delete(POLICIES, `a/${name}`);
    await seen(b, (n) => n.policies.length === 0);
  }
});

t.test('what was good stays in force while its object is broken', async (t) => {
  const b = await bed(t);
  const { server } = b;
  const registry = new DialectRegistry();
  server.put(PODS, pod('a/p', '10.0.0.1'));
  const open = {
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [{ to: [{ ipBlock: { cidr: '203.0.113.0/24' } }] }],
  };
  server.put(POLICIES, policy('a/np', open));
  await synced(b);
  const judged = (s: Snapshot, to: string) =>
    evaluate(registry.toIr(s).ir, s, { from: 'a/p', to, protocol: 6, port: 443 }).verdict;
  const good = await seen(b, (s) => s.policies.length === 1 && s.pods.size === 1);
  t.same([judged(good, '203.0.113.1'), judged(good, '198.51.100.1')], ['allow', 'deny']);
  server.put(POLICIES, policy('a/np', { ...open, egress: [{ to: [{ ipBlock: { cidr: 'everywhere' } }] }] }));
  const bad = await seen(b, (s) => s !== good);
  t.same([judged(bad, '203.0.113.1'), judged(bad, '198.51.100.1')], ['allow', 'deny']);
  t.match(registry.toIr(bad).problems.map(formatProblem), [/NetworkPolicy a\/np: .*everywhere.*last good version/]);
});

t.test('closed: nothing is asked, nobody is told', async (t) => {
  const b = await bed(t);
  await synced(b);
  await sleep(200);
  b.source.close();
  const { changes } = b;
  const requests = b.server.seen.length;
  b.server.put(PODS, pod('a/p', '10.0.0.1'));
  b.server.addCrd(CILIUM);
  await sleep(800);
  t.equal(b.changes, changes);
  t.equal(b.server.seen.length, requests);
});
