/** Policies for the node itself: what it opens is judged where it leaves, what it answers passes, what it forwards is others'. */
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { nodes, servers, World } from './world.js';

/** A CiliumClusterwideNetworkPolicy for every node. */
function nodePolicy(spec: object): object {
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumClusterwideNetworkPolicy',
    metadata: { name: 'nodes' },
    spec: { nodeSelector: {}, ...spec },
  };
}

const [one, two] = [servers.one, servers.two];
const cidrs = (...addresses: string[]) => addresses.map((a) => `${a}/${a.includes(':') ? 128 : 32}`);
const onlyOne = nodePolicy({ egress: [{ toCIDR: cidrs(one.ip4, one.ip6) }] });
const nothing = nodePolicy({ egress: [{}] });

for (const mode of ['tcx', 'tc'] as const) {
  t.test(`policies for the node, attached by ${mode}`, async (t) => {
    const world = await World.create({ masquerade: true });
    t.teardown(() => world.close());
    for (const addr of [one.ip4, one.ip6, two.ip4, two.ip6]) {
      await world.internet.listen(addr, 80, 'tcp', 'server');
      await world.internet.listen(addr, 53, 'udp', 'server');
    }
    for (const addr of [nodes.a.ip4, nodes.a.ip6]) {
      await world.node.listen(addr, 22, 'tcp', 'node');
      await world.node.listen(addr, 5353, 'udp', 'node');
    }
    const pod = await world.pod('web');
    // Opened to the node before there is an agent, and while no policy governs the node.
    const before = await world.internet.open(nodes.a.ip4, 22);
    const agent = await Agent.start(world, { mode });
    const meanwhile = await world.internet.open(nodes.a.ip6, 22);
    const mine = await world.node.open(two.ip4, 80);
    t.equal((await mine.say('one')).result, 'ok');
    const hooks = async () => (await agent.status()).endpoints.filter((e) => e.startsWith('node/'));
    t.same(await hooks(), [], 'nothing is judged at the uplink without a policy for nodes');

    await agent.apply('nodes.yaml', [onlyOne]);
    await t.test('what the node opens is judged', async (t) => {
      for (const family of ['ip4', 'ip6'] as const) {
        t.equal((await world.node.request(one[family], 80)).result, 'ok');
        t.equal((await world.node.request(one[family], 53, { proto: 'udp' })).result, 'ok');
        t.equal((await world.node.request(two[family], 80, { timeout: DROP_WAIT })).result, 'timeout');
        const udp = await world.node.request(two[family], 53, { proto: 'udp', timeout: DROP_WAIT });
        t.not(udp.result, 'ok');
      }
      const flow = await agent.flow((f) => f.verdict === 'deny' && f.remote.ip === two.ip6 && f.remote.port === 80);
      t.equal(flow.rule?.text, 'ccnp/nodes#default');
      t.equal((await mine.say('two', DROP_WAIT)).result, 'timeout', 'an open connection of its own too');
    });
    await t.test('what the node answers passes', async (t) => {
      t.equal((await before.say('a')).text, 'a', 'a connection opened before there was an agent');
      t.equal((await meanwhile.say('b')).text, 'b', 'one opened before there was a policy');
      for (const family of ['ip4', 'ip6'] as const) {
        t.equal((await world.internet.request(nodes.a[family], 22)).result, 'ok');
        t.equal((await world.internet.request(nodes.a[family], 5353, { proto: 'udp' })).result, 'ok');
        t.equal((await world.internet.request(nodes.a[family], 0, { proto: 'icmp' })).result, 'ok');
      }
    });
    await t.test('what the node forwards for its pods is theirs, under whichever address', async (t) => {
      for (const family of ['ip4', 'ip6'] as const) {
        t.equal((await pod.host.request(two[family], 80)).result, 'ok');
        t.equal((await pod.host.request(two[family], 53, { proto: 'udp' })).result, 'ok');
      }
      t.equal((await world.node.request(pod.ip4, 0, { proto: 'icmp' })).result, 'ok', 'its own pods do not leave it');
    });
    await t.test('an agent that comes back finds the connections open', async (t) => {
      const open = await world.internet.open(nodes.a.ip4, 22);
      await agent.kill();
      t.equal(
        (await world.node.request(two.ip4, 80, { timeout: DROP_WAIT })).result,
        'timeout',
        'nobody is there: it holds',
      );
      const next = await Agent.start(world, { mode });
      t.equal((await open.say('c')).text, 'c');
      t.equal((await before.say('d')).text, 'd');
      t.equal((await world.node.request(two.ip4, 80, { timeout: DROP_WAIT })).result, 'timeout');
      await next.apply('nodes.yaml', [nothing]);
      t.equal((await world.node.request(one.ip4, 80, { timeout: DROP_WAIT })).result, 'timeout');
      t.equal((await open.say('e')).text, 'e');
      await next.apply('nodes.yaml', []);
      t.equal((await world.node.request(two.ip4, 80)).result, 'ok', 'without the policy the node is free');
      t.equal((await open.say('f')).text, 'f');
      const filters = await world.node.run('sh', ['-c', 'tc filter show dev eth0 ingress']);
      t.equal(filters.stdout.trim(), '', 'and nothing is left at what arrives');
      await next.stop();
    });
  });
}
