/** What answers a connection that was opened to the pod passes, whatever the pod's own egress policy says. */
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { egressPolicy } from './policies.js';
import { servers, World } from './world.js';

t.test('a pod that may open nothing', async (t) => {
  const world = await World.create({ tracked: true });
  t.teardown(() => world.close());
  const pod = await world.pod('server');
  const bridged = await world.pod('bridged', { labels: { app: 'server' }, style: 'bridge' });
  const near = await world.pod('near');
  const far = await world.pod('far', { node: 'b' });
  for (const p of [pod, bridged]) {
    for (const addr of [p.ip4, p.ip6]) {
      await p.host.listen(addr, 80, 'tcp', p.name);
      await p.host.listen(addr, 53, 'udp', p.name);
      await p.host.listen(addr, 99, 'sctp', p.name);
    }
  }
  await world.internet.listen(servers.one.ip4, 80, 'tcp', 'one');
  world.write('policy.yaml', [egressPolicy('nothing', 'server', [])]);

  const before = [
    await near.host.open(pod.ip4, 80),
    await far.host.open(pod.ip6, 80),
    await far.host.open(bridged.ip4, 80),
  ];
  for (const connection of before) t.equal((await connection.say('before')).result, 'ok');
  let agent = await Agent.start(world);

  await t.test('connections opened before the agent came', async (t) => {
    for (const connection of before) t.equal((await connection.say('after')).text, 'after');
  });

  for (const [name, client] of Object.entries({
    near: near.host,
    far: far.host,
    internet: world.internet,
    node: world.node,
  })) {
    await t.test(`opened from ${name}`, async (t) => {
      for (const p of [pod, bridged]) {
        for (const addr of [p.ip4, p.ip6]) {
          t.equal((await client.request(addr, 80)).result, 'ok', `tcp ${addr}`);
          t.equal((await client.request(addr, 53, { proto: 'udp' })).result, 'ok', `udp ${addr}`);
          t.equal((await client.request(addr, 99, { proto: 'sctp', sport: 50001 })).result, 'ok', `sctp ${addr}`);
          t.equal((await client.request(addr, 0, { proto: 'icmp' })).result, 'ok', `icmp ${addr}`);
        }
        t.equal((await client.request(p.ip4, 81)).result, 'refused', 'a RST passes too');
      }
    });
  }

  await t.test('what the pod opens is dropped', async (t) => {
    for (const p of [pod, bridged]) {
      t.equal((await p.host.request(servers.one.ip4, 80, { timeout: DROP_WAIT })).result, 'timeout', 'to the internet');
      t.equal((await p.host.request(near.ip4, 0, { proto: 'icmp', timeout: DROP_WAIT })).result, 'timeout', 'to a pod');
      t.equal((await p.host.request('10.0.0.10', 0, { proto: 'icmp' })).result, 'ok', 'but not to its own node');
    }
  });

  await t.test('a client port that was used inbound opens nothing outbound', async (t) => {
    const connection = await near.host.open(pod.ip4, 80);
    await connection.say();
    const reply = await pod.host.request(near.ip4, connection.port, { timeout: DROP_WAIT });
    t.equal(reply.result, 'timeout');
    t.equal((await connection.say('still')).text, 'still');
    await connection.close();
  });

  await t.test('they outlive the agent', async (t) => {
    const connection = await near.host.open(pod.ip4, 80);
    await agent.kill();
    t.equal((await connection.say('dead')).text, 'dead', 'while it is dead');
    agent = await Agent.start(world);
    t.equal((await connection.say('back')).text, 'back', 'and when the next one has taken over');
    for (const old of before) t.equal((await old.say('old')).text, 'old', 'also the oldest');
  });
});
