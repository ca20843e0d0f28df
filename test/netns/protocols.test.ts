/** Real packets of each protocol and both families, from routed and bridged pods, through tcx links and clsact filters. */
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT, type Proto } from './host.js';
import { egressPolicy, toServer } from './policies.js';
import { servers, World } from './world.js';

const policy = egressPolicy('web', 'web', [toServer('one', 'tcp/80', 'udp/53', 'sctp/99'), toServer('two')]);

for (const mode of ['tcx', 'tc'] as const) {
  t.test(`attached by ${mode}`, async (t) => {
    const world = await World.create();
    t.teardown(() => world.close());
    for (const { ip4, ip6 } of Object.values(servers)) {
      for (const addr of [ip4, ip6]) {
        for (const [proto, port] of [
          ['tcp', 80],
          ['tcp', 81],
          ['udp', 53],
          ['udp', 54],
          ['sctp', 99],
          ['sctp', 98],
        ] as const) {
          await world.internet.listen(addr, port, proto, `${addr} ${port}`.replace(' ', '|'));
        }
      }
    }
    const pods = {
      routed: await world.pod('routed', { labels: { app: 'web' } }),
      bridged: await world.pod('bridged', { labels: { app: 'web' }, style: 'bridge' }),
      free: await world.pod('free'),
    };
    world.write('policy.yaml', [policy]);
    const agent = await Agent.start(world, { mode });

    for (const pod of [pods.routed, pods.bridged]) {
      for (const family of ['ip4', 'ip6'] as const) {
        t.test(`${pod.name} pod, ${family}`, async (t) => {
          const [one, two] = [servers.one[family], servers.two[family]];
          const rows: readonly [string, number, Proto, boolean][] = [
            [one, 80, 'tcp', true],
            [one, 81, 'tcp', false],
            [one, 53, 'udp', true],
            [one, 54, 'udp', false],
            [one, 99, 'sctp', true],
            [one, 98, 'sctp', false],
            [one, 0, 'icmp', false],
            [two, 81, 'tcp', true],
            [two, 54, 'udp', true],
            [two, 98, 'sctp', true],
            [two, 0, 'icmp', true],
          ];
          await Promise.all(
            rows.map(async ([dst, port, proto, allowed], i) => {
              const timeout = allowed ? 5 : DROP_WAIT;
              const reply = await pod.host.request(dst, port, { proto, timeout, sport: 41000 + i });
              t.equal(
                reply.result,
                allowed ? 'ok' : 'timeout',
                `${proto} ${dst}:${port} ${allowed ? 'passes' : 'is dropped'}`,
              );
            }),
          );
        });
      }
    }
    await t.test('a pod that no policy selects', async (t) => {
      for (const family of ['ip4', 'ip6'] as const) {
        t.equal((await pods.free.host.request(servers.one[family], 81)).result, 'ok', family);
      }
    });
    await t.test('neighbours are found: the pod forgets its gateway and asks again', async (t) => {
      await pods.routed.host.run('ip', ['neigh', 'flush', 'dev', 'eth0']);
      t.equal((await pods.routed.host.request(servers.one.ip4, 80)).result, 'ok');
      t.equal((await pods.routed.host.request(servers.one.ip6, 80)).result, 'ok');
    });
    await t.test('nothing was lost on the way to the reader', async (t) => {
      t.equal((await agent.status()).lost, 0);
    });
  });
}
