/** A change of policy is in force on the next packet of an open connection, in both directions. */
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { egressPolicy, toServer } from './policies.js';
import { servers, World } from './world.js';

t.test('open connections', async (t) => {
  const world = await World.create({ masquerade: true });
  t.teardown(() => world.close());
  const { ip4, ip6 } = servers.one;
  for (const addr of [ip4, ip6]) {
    await world.internet.listen(addr, 80, 'tcp', 'one');
    await world.internet.listen(addr, 53, 'udp', 'one');
  }
  const pod = await world.pod('web');
  const allow = egressPolicy('web', 'web', [toServer('one')]);
  const deny = egressPolicy('web', 'web', [toServer('two')]);
  world.write('policy.yaml', [allow]);
  const agent = await Agent.start(world);

  for (const [proto, addr, port] of [
    ['tcp', ip4, 80],
    ['tcp', ip6, 80],
    ['udp', ip4, 53],
    ['udp', ip6, 53],
  ] as const) {
    await t.test(`${proto} ${addr}: allow, deny, allow`, async (t) => {
      const connection = await pod.host.open(addr, port, { proto });
      t.equal((await connection.say('one')).text, 'one', 'says something while it is allowed');
      await agent.apply('policy.yaml', [deny]);
      t.equal((await connection.say('two', DROP_WAIT)).result, 'timeout', 'the next packet is dropped');
      const changed = await agent.flow(
        (f) => f.type === 'changed' && f.verdict === 'deny' && f.local.port === connection.port,
      );
      t.equal(changed.remote.ip, addr, 'and the change is told');
      await agent.apply('policy.yaml', [allow]);
      const reply = await connection.say('three');
      t.equal(reply.result, 'ok', 'the connection goes on when it is allowed again');
      t.match(reply.text ?? (await connection.say('')).text, /two|three/);
      await connection.close();
    });
  }

  await t.test('a denied connection attempt succeeds once it is allowed, without a new start', async (t) => {
    await agent.apply('policy.yaml', [deny]);
    const attempt = pod.host.request(ip4, 80, { timeout: 10 });
    await agent.flow(
      (f) => f.verdict === 'deny' && f.type === 'verdict' && f.remote.ip === ip4 && f.flags.includes('SYN'),
    );
    await agent.apply('policy.yaml', [allow]);
    t.equal((await attempt).result, 'ok', 'the repeated SYN passes');
  });

  await t.test('the end of a connection is told with its counters', async (t) => {
    const connection = await pod.host.open(ip4, 80);
    await connection.say('a'.repeat(1000));
    await connection.close();
    const end = await agent.flow((f) => f.type === 'end' && f.local.port === connection.port);
    t.ok(end.packetsOut >= 4 && end.packetsIn >= 3, `${end.packetsOut} packets out, ${end.packetsIn} in`);
    t.ok(end.bytesOut > 1000 && end.bytesIn > 1000, `${end.bytesOut} bytes out, ${end.bytesIn} in`);
  });

  await t.test('a new policy beside the first', async (t) => {
    await agent.apply('more.yaml', [egressPolicy('more', 'web', [toServer('two', 'tcp/80')])]);
    await world.internet.listen(servers.two.ip4, 80, 'tcp', 'two');
    t.equal((await pod.host.request(servers.two.ip4, 80)).result, 'ok', 'adds what it allows');
    world.remove('more.yaml');
    await agent.settled();
    t.equal(
      (await pod.host.request(servers.two.ip4, 80, { timeout: DROP_WAIT })).result,
      'timeout',
      'and takes it along',
    );
  });

  await t.test('a file that turns unreadable keeps its last good state', async (t) => {
    world.write('policy.yaml', 'kind: NetworkPolicy\n  metadata: [broken');
    await agent.logged(/policy\.yaml/);
    t.equal((await pod.host.request(ip4, 80)).result, 'ok', 'what was allowed passes');
    t.equal(
      (await pod.host.request(servers.two.ip4, 80, { timeout: DROP_WAIT })).result,
      'timeout',
      'the rest does not',
    );
    await agent.apply('policy.yaml', [deny]);
    t.equal((await pod.host.request(ip4, 80, { timeout: DROP_WAIT })).result, 'timeout', 'until it is mended');
  });
});
