/** A cluster's source over real HTTP: complete views only, and what is away, forbidden, new or gone. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Snapshot } from '../../src/identity/snapshot.js';
import {
  bed,
  CILIUM,
  CLOSED,
  ENDPOINTS,
  NAMESPACES,
  namespace,
  PODS,
  POLICIES,
  pod,
  policy,
  SERVICES,
  SLICES,
  seen,
  synced,
} from './source-bed.js';
import { until } from './viewer.js';

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

t.test('a policy language comes and goes', async (t) => {
  const b = await bed(t);
  const { server, source } = b;
  t.same((await synced(b)).problems, []);
  server.addCrd(CILIUM);
  server.put('cilium.io/v2 CiliumNetworkPolicy', policy('a/one', {}));
  server.put('cilium.io/v2 CiliumNetworkPolicy', policy('a/two', { endpointSelector: {} }));
  const s = await seen(b, (n) => n.policies.length === 2);
  t.same(s.policies.map((p) => `${p.apiVersion} ${p.kind} ${p.namespace}/${p.name}`).sort(), [
    'cilium.io/v2 CiliumNetworkPolicy a/one',
    'cilium.io/v2 CiliumNetworkPolicy a/two',
  ]);
  t.match(
    source.kinds().find((k) => k.kind === 'cilium.io/v2 CiliumNetworkPolicy'),
    { objects: 2, synced: true },
  );
  server.delete('cilium.io/v2 CiliumNetworkPolicy', 'a/two');
  await seen(b, (n) => n.policies.length === 1);
  t.ok(b.log.some((l) => /a kind is served now.*CiliumNetworkPolicy/.test(l)));
});

t.test('a kind that is gone is forgotten', async (t) => {
  // Believed at the second look only: in 10 s. Here its group is gone from discovery.
  const b = await bed(t, undefined, { discoveryMs: 50 });
  const { server, source } = b;
  server.addCrd(CILIUM);
  server.put('cilium.io/v2 CiliumNetworkPolicy', policy('a/one', {}));
  await synced(b);
  await seen(b, (n) => n.policies.length === 1);
  server.removeCrd(CILIUM);
  await until(() => !source.kinds().some((k) => k.kind.startsWith('cilium.io')), 30_000);
  t.ok(source.synced);
  await seen(b, (n) => n.policies.length === 0);
});

t.test('a language that may not be read does not stop the rest', async (t) => {
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
