/** While nothing can be applied, a pod under a policy that nobody judges yet is closed; the others go on as they were. */
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { egressPolicy, toServer } from './policies.js';
import { until } from './shell.js';
import { servers, World } from './world.js';

/** Rows that the map has no room for, though they are few enough for a namespace. */
const services = [
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'crowd', name: 's' },
    spec: { clusterIP: '10.96.7.1', ports: Array.from({ length: 9 }, (_, n) => ({ name: `p${n}`, port: 80 + n })) },
  },
  {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { namespace: 'crowd', name: 's', labels: { 'kubernetes.io/service-name': 's' } },
    addressType: 'IPv4',
    ports: Array.from({ length: 9 }, (_, n) => ({ name: `p${n}`, port: 80, protocol: 'TCP' })),
    endpoints: [{ addresses: [servers.one.ip4] }],
  },
];

for (const mode of ['tcx', 'tc'] as const) {
  t.test(`passes that fail, ${mode}`, async (t) => {
    const world = await World.create();
    t.teardown(() => world.close());
    for (const which of ['one', 'two'] as const) await world.internet.listen(servers[which].ip4, 80, 'tcp', which);
    const opts = { mode, args: ['--map-size', 'services=4'] };
    const [early, free] = [await world.pod('early'), await world.pod('free')];
    const reached = async (pod: typeof early, which: 'one' | 'two') =>
      (await pod.host.request(servers[which].ip4, 80, { timeout: DROP_WAIT })).result;
    const only = (app: string) => egressPolicy(app, app, [toServer('one')]);
    world.write('policies.yaml', [only('early'), only('late')]);
    let agent = await Agent.start(world, opts);
    t.same([await reached(early, 'one'), await reached(early, 'two')], ['ok', 'timeout']);

    await t.test('a pod that comes meanwhile', async (t) => {
      world.write('services.yaml', services);
      await agent.logged(/map services holds 4 entries/);
      const late = await world.pod('late');
      const other = await world.pod('other');
      // Both are closed when they appear; this one is open when it is known whose it is, and by then the other is known too.
      await until('a pod without a policy is open', async () => (await reached(other, 'two')) === 'ok');
      t.same([await reached(late, 'one'), await reached(late, 'two')], ['timeout', 'timeout'], 'reaches nothing');
      t.same([await reached(early, 'one'), await reached(early, 'two')], ['ok', 'timeout'], 'the last policy stays');
      t.equal(await reached(free, 'two'), 'ok', 'no policy, no door');
      await agent.apply('services.yaml', []);
      // Its node did not answer it either: it asks again after a second.
      await until('a pod that was closed is judged', async () => (await reached(late, 'one')) === 'ok');
      t.equal(await reached(late, 'two'), 'timeout');
      t.equal(await reached(other, 'two'), 'ok');
    });

    await t.test('an agent that begins with it', async (t) => {
      await agent.stop();
      await agent.detach();
      t.equal(await reached(early, 'two'), 'ok', 'nobody judges');
      world.write('services.yaml', services);
      agent = await Agent.start(world, { ...opts, source: ['--manifests', world.manifests] });
      await agent.logged(/a pod is closed until its policies can be applied.*default\/early/);
      t.equal(await reached(early, 'one'), 'timeout');
      t.equal(await reached(free, 'two'), 'ok');
      await agent.apply('services.yaml', []);
      await until('a pod that was closed is judged', async () => (await reached(early, 'one')) === 'ok');
      t.equal(await reached(early, 'two'), 'timeout');
    });
  });
}
