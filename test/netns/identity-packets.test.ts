/**
 * Root in a pod that is denied everything changes its addresses, its links and its namespaces, to become nobody or somebody else. What
 * the receiver's capture shows is what counts; then the same for the agent that comes next.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Agent } from './agent.js';
import { ClusterWorld } from './cluster-world.js';
import { type Ends, ethernet, ipv4, udp } from './frames.js';
import { DROP_WAIT, Host } from './host.js';
import { egressPolicy, toServer } from './policies.js';
import { until } from './shell.js';
import { nodes, type Pod, servers, World } from './world.js';

const MARK = Buffer.from('who am I');
const policies = [egressPolicy('mallory', 'mallory', []), egressPolicy('victim', 'victim', [toServer('one')])];

interface Place {
  readonly world: World;
  readonly mallory: Pod;
  readonly victim: Pod;
  /** Of mallory's interface, as it was made. */
  readonly ends: Ends;
  start(): Promise<Agent>;
  enforce(agent: Agent): Promise<void>;
}

/** Nothing tells whose a namespace is but its addresses. */
async function byAddress(world: World): Promise<Place> {
  const own = async (name: string) => world.pod(name, { host: await Host.create(`${world.prefix}-${name}`) });
  const [mallory, victim] = [await own('mallory'), await own('victim')];
  return {
    ...{ world, mallory, victim, ends: await world.macs(mallory) },
    start: () => Agent.start(world),
    enforce: (agent) => agent.apply('policy.yaml', policies),
  };
}

/** libcni's cache does. */
async function byCniCache(world: World): Promise<Place> {
  const cluster = await ClusterWorld.create(world);
  const [mallory, victim] = [await world.pod('mallory'), await world.pod('victim')];
  for (const pod of [mallory, victim]) {
    cluster.tellCni(pod);
    cluster.tellPod(pod);
  }
  return {
    ...{ world, mallory, victim, ends: await world.macs(mallory) },
    start: () => cluster.agent(),
    enforce: async (agent) => {
      cluster.apply(...policies);
      await until('policies are in force', async () => (await agent.status()).endpoints.length === 2);
      for (const { metadata } of policies as { metadata: { name: string } }[])
        await until(`${metadata.name} is in force`, () => agent.enforces(metadata.name));
    },
  };
}

let port = 20_000;

/** What comes out of what the pod's frames say to be from, by the MAC that it was made with and the one that it has. */
async function escaped(
  { world, mallory, victim, ends }: Omit<Place, 'start' | 'enforce'>,
  host: Host,
  device: string,
): Promise<string[]> {
  const own = JSON.parse((await host.run('ip', ['-j', 'link', 'show', device])).stdout) as { address: string }[];
  const macs = new Set([ends.macSource, own[0]?.address ?? '']);
  const sources = { own: mallory.ip4, neighbour: victim.ip4, node: nodes.a.ip4, stranger: '198.51.100.7' };
  const marked = ++port;
  const sniffer = await world.internet.sniff('to-a');
  const frames = Object.values(sources).flatMap((src) =>
    [...macs].map((macSource) =>
      ethernet(
        { ...ends, macSource },
        0x0800,
        ipv4({ src, dst: servers.one.ip4, protocol: 17 }, udp(4000, marked, MARK)),
      ),
    ),
  );
  for (let i = 0; i < 3; i++) await host.call('frames', { frames, device });
  await sleep(150);
  const arrived = (await sniffer.frames()).filter((f) => f.includes(MARK.toString('hex')));
  await sniffer.close();
  const hex = (ip: string) => Buffer.from(ip.split('.').map(Number)).toString('hex');
  return Object.entries(sources)
    .filter(([, ip]) => arrived.some((f) => f.includes(`${hex(ip)}${hex(servers.one.ip4)}`)))
    .map(([who]) => who);
}

for (const [told, make] of Object.entries({ address: byAddress, 'CNI cache': byCniCache })) {
  t.test(`told by ${told}`, async (t) => {
    const world = await World.create();
    t.teardown(() => world.close());
    await world.internet.listen(servers.one.ip4, 80, 'tcp', 'one');
    const place = await make(world);
    const { mallory, victim } = place;
    const nest = await Host.create(`${world.prefix}-nest`);
    t.teardown(() => nest.close());
    let agent = await place.start();
    t.ok((await escaped(place, mallory.host, 'eth0')).includes('own'), 'before there is a policy its packets arrive');
    await place.enforce(agent);

    const attack = (what: string, host: Host, device: string, act: () => Promise<unknown>) =>
      t.test(what, async (t: Test) => {
        await act();
        t.same(await escaped(place, host, device), [], 'at once');
        await sleep(200);
        t.same(await escaped(place, host, device), [], 'when the agent has heard of it');
        await agent.kill();
        agent = await place.start();
        await agent.enforced('default/victim');
        t.same(await escaped(place, host, device), [], 'with the next agent');
        t.ok((await agent.status()).endpoints.includes('default/mallory'), 'which has it bound');
        t.equal((await victim.host.request(servers.one.ip4, 80)).result, 'ok', 'the neighbour goes on');
        const denied = await victim.host.request(servers.two.ip4, 80, { timeout: DROP_WAIT });
        t.equal(denied.result, 'timeout', 'by its own policy');
      });

    t.same(await escaped(place, mallory.host, 'eth0'), [], 'and then none');
    await attack('no addresses', mallory.host, 'eth0', () => mallory.host.ip(['addr flush dev eth0']));
    await attack("a neighbour's address", mallory.host, 'eth0', () =>
      mallory.host.ip([`addr add ${victim.ip4}/32 dev eth0`]),
    );
    await attack('another name and MAC', mallory.host, 'net9', () =>
      mallory.host.ip(['link set eth0 down', 'link set eth0 name net9 address 02:00:00:00:00:99', 'link set net9 up']),
    );
    await attack('moved into a namespace below', nest, 'net9', async () => {
      await mallory.host.ip([`link set net9 netns ${nest.netns}`]);
      await nest.ip([`addr add ${victim.ip4}/32 dev net9`, 'link set net9 up']);
    });
    await agent.stop();
  });
}

t.test('no address from its first moment on', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const cluster = await ClusterWorld.create(world);
  cluster.apply(...policies);
  const victim = await world.pod('victim');
  cluster.tellPod(victim);
  const agent = await cluster.agent();
  await agent.enforced('default/victim');
  const mallory = await world.podNamespace('mallory');
  t.teardown(() => mallory.host.close());
  const ends = await world.macs(mallory);
  await mallory.host.ip(['addr flush dev eth0']);
  const place = { world, mallory, victim, ends };
  const { status, ...starting } = mallory.manifest as { status: object };
  cluster.tellPod({ ...mallory, manifest: { ...starting, status: { phase: 'Pending' } } });
  await agent.logged(new RegExp(`is closed interface=${mallory.device} `));
  t.same(await escaped(place, mallory.host, 'eth0'), [], 'while it is waited for');
  cluster.tellPod({ ...mallory, manifest: { ...starting, status } });
  await agent.logged(/Pod default\/mallory: .*owns/);
  t.same(await escaped(place, mallory.host, 'eth0'), [], 'and when its status tells an address that nobody has');
});

t.test('two pods that claim one namespace: nothing leaves it, until one of them has gone', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  await world.internet.listen(servers.one.ip4, 80, 'tcp', 'one');
  const pod = await world.pod('web');
  let agent = await Agent.start(world);
  await agent.enforced('default/web');
  t.equal((await pod.host.request(servers.one.ip4, 80)).result, 'ok', 'no policy selects it');
  const manifest = pod.manifest as { metadata: object; status: object };
  const status = { ...manifest.status, podIP: '10.244.1.77', podIPs: [{ ip: '10.244.1.77' }] };
  const other = { ...manifest, metadata: { ...manifest.metadata, name: 'twin', uid: 'twin' }, status };
  for (const when of ['now', 'with the next agent']) {
    await agent.apply('twin.yaml', [other]);
    await agent.logged(/Pod default\/web: .*claimed by Pod default\/twin too/);
    t.equal((await pod.host.request(servers.one.ip4, 80, { timeout: DROP_WAIT })).result, 'timeout', when);
    await agent.flow((f) => f.verdict === 'deny' && f.rule?.text === 'conflict/pod#default');
    await agent.kill();
    agent = await Agent.start(world);
  }
  world.remove('twin.yaml');
  await agent.settled();
  await agent.enforced('default/web');
  t.equal((await pod.host.request(servers.one.ip4, 80)).result, 'ok');
});
