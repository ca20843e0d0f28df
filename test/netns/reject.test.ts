/** --deny-response=reject: applications fail at once instead of waiting. */
import t from 'tap';
import { Agent } from './agent.js';
import { ethernet, ipv4, tcp } from './frames.js';
import { DROP_WAIT } from './host.js';
import { egressPolicy, toServer } from './policies.js';
import { servers, World } from './world.js';

t.test('denied packets are answered', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const pods = [await world.pod('web'), await world.pod('bridged', { labels: { app: 'web' }, style: 'bridge' })];
  world.write('policy.yaml', [egressPolicy('web', 'web', [toServer('one', 'tcp/80')])]);
  for (const addr of [servers.one.ip4, servers.one.ip6]) await world.internet.listen(addr, 80, 'tcp', 'one');
  const agent = await Agent.start(world, { deny: 'reject' });

  for (const pod of pods) {
    for (const family of ['ip4', 'ip6'] as const) {
      await t.test(`${pod.name}, ${family}`, async (t) => {
        const to = servers.two[family];
        t.equal((await pod.host.request(to, 80)).result, 'refused', 'TCP: a RST');
        t.match(
          (await pod.host.request(to, 53, { proto: 'udp' })).result,
          /unreachable|prohibited|refused/,
          'UDP: an ICMP error',
        );
        const ping = await pod.host.request(to, 0, { proto: 'icmp' });
        t.match(
          ping,
          family === 'ip4' ? { type: 3, code: 13 } : { type: 1, code: 1 },
          'ICMP: administratively prohibited',
        );
        t.equal((await pod.host.request(servers.one[family], 80)).result, 'ok', 'what is allowed passes');
      });
    }
  }

  await t.test('an open connection is reset when it is denied', async (t) => {
    const connection = await (pods[0] as (typeof pods)[0]).host.open(servers.one.ip4, 80);
    t.equal((await connection.say()).result, 'ok');
    await agent.apply('policy.yaml', [egressPolicy('web', 'web', [])]);
    t.equal((await connection.say('more')).result, 'reset');
  });

  await t.test('no answer to a RST or to an ICMP error', async (t) => {
    const pod = pods[0] as (typeof pods)[0];
    const seen = await pod.host.sniff();
    const { macSource, macDestination } = await world.macs(pod);
    const frame = ethernet(
      { macSource, macDestination },
      0x0800,
      ipv4({ src: pod.ip4, dst: servers.two.ip4, protocol: 6 }, tcp(7, 7, 4)),
    );
    await pod.host.call('frames', { frames: [frame] });
    t.equal(
      (await pod.host.request(servers.two.ip4, 9, { timeout: DROP_WAIT })).result,
      'refused',
      'a later SYN is answered',
    );
    const answers = (await seen.frames()).filter((f) => f.startsWith('in ') && f.slice(3 + 68, 3 + 76) === '00070007');
    t.same(answers, []);
    await seen.close();
  });
});
