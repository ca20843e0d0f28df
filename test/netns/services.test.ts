/**
 * Service addresses, translated by iptables rules as kube-proxy writes them: the pod's policy means the backends, which
 * are known only after the translation when some are allowed and some are not.
 */
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT, type Host } from './host.js';
import { egressPolicy, ports, toApp } from './policies.js';
import { World } from './world.js';

/** So many that each of four backends, chosen at random, is met in all but one of some 100,000 runs. */
const ROUNDS = 48;

/** Who answered how often, in ROUNDS requests side by side. */
async function tally(client: Host, vip: string, port: number): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  const replies = await Promise.all(
    Array.from({ length: ROUNDS }, () => client.request(vip, port, { timeout: DROP_WAIT * 2 })),
  );
  for (const reply of replies) {
    const key = reply.server ?? reply.result;
    found[key] = (found[key] ?? 0) + 1;
  }
  return found;
}

for (const masquerade of [false, true]) {
  t.test(masquerade ? 'masqueraded' : 'source kept', async (t) => {
    const world = await World.create();
    t.teardown(() => world.close());
    const client = await world.pod('client');
    const good = {
      near: await world.pod('good-near', { labels: { app: 'good' } }),
      far: await world.pod('good-far', { labels: { app: 'good' }, node: 'b' }),
    };
    const bad = {
      near: await world.pod('bad-near', { labels: { app: 'bad' } }),
      far: await world.pod('bad-far', { labels: { app: 'bad' }, node: 'b' }),
    };
    for (const pod of [good.near, good.far, bad.near, bad.far]) await pod.host.listen('::', 8080, 'tcp', pod.name);

    const service = (name: string, last: number, backends: readonly (typeof client)[]) =>
      world.service({
        name,
        vips: [`10.96.0.${last}`, `fd00:96::${last}`],
        ports: [{ name: 'http', port: 80, targetPort: 8080 }],
        backends: backends.flatMap((b) => [b.ip4, b.ip6]),
        masquerade,
      });
    await service('all', 1, [good.near, good.far]);
    await service('none', 2, [bad.near, bad.far]);
    await service('some', 3, [good.near, good.far, bad.near, bad.far]);
    await service('empty', 4, []);
    world.write('policy.yaml', [egressPolicy('client', 'client', [toApp('good', 'tcp/8080')])]);
    const agent = await Agent.start(world);

    for (const [family, vip] of [
      ['IPv4', (n: number) => `10.96.0.${n}`],
      ['IPv6', (n: number) => `fd00:96::${n}`],
    ] as const) {
      await t.test(`${family}: all backends allowed`, async (t) => {
        const found = await tally(client.host, vip(1), 80);
        t.equal((found['good-near'] ?? 0) + (found['good-far'] ?? 0), ROUNDS, JSON.stringify(found));
      });
      await t.test(`${family}: no backend allowed`, async (t) => {
        t.same(await tally(client.host, vip(2), 80), { timeout: ROUNDS });
        const flow = await agent.flow((f) => f.verdict === 'deny' && f.remote.ip === vip(2));
        t.equal(flow.service, 'default/none', 'the drop names the Service');
      });
      await t.test(`${family}: some backends allowed`, async (t) => {
        const found = await tally(client.host, vip(3), 80);
        t.same(Object.keys(found).sort(), ['good-far', 'good-near', 'timeout'], JSON.stringify(found));
        for (const pod of [bad.near, bad.far]) {
          const ip = family === 'IPv4' ? pod.ip4 : pod.ip6;
          const flow = await agent.flow((f) => f.verdict === 'deny' && f.remote.ip === ip);
          t.match(
            flow,
            { service: 'default/some', local: { pod: 'default/client' } },
            `the drop towards ${pod.name} names the client`,
          );
        }
      });
      await t.test(`${family}: the Service's port is not the backend's`, async (t) => {
        await agent.apply('policy.yaml', [egressPolicy('client', 'client', [toApp('good', 'tcp/80')])]);
        t.same(await tally(client.host, vip(1), 80), { timeout: ROUNDS });
        await agent.apply('policy.yaml', [egressPolicy('client', 'client', [toApp('good', 'tcp/8080')])]);
      });
      await t.test(
        `${family}: an open connection to one of some backends is cut when its backend is denied`,
        async (t) => {
          const connection = await openTo('good-near', client.host, vip(3));
          await agent.apply('policy.yaml', [egressPolicy('client', 'client', [toApp('bad', 'tcp/8080')])]);
          t.equal((await connection.say('more', DROP_WAIT)).result, 'timeout');
          await agent.apply('policy.yaml', [egressPolicy('client', 'client', [toApp('good', 'tcp/8080')])]);
          t.equal((await connection.say('')).result, 'ok', 'and goes on when it is allowed');
          await connection.close();
        },
      );
    }

    await t.test('a Service without backends: nothing is behind it, so nothing allows it', async (t) => {
      const reply = await client.host.request('10.96.0.4', 80, { timeout: DROP_WAIT });
      t.equal(reply.result, 'timeout', 'dropped ahead of the rejection that kube-proxy would send');
    });

    await t.test('any destination, by the port of the backends', async (t) => {
      await agent.apply('policy.yaml', [egressPolicy('client', 'client', [{ ports: ports('tcp/8080') }])]);
      const found = await tally(client.host, '10.96.0.3', 80);
      t.equal(found.timeout, undefined, JSON.stringify(found));
    });
  });
}

/** Opens connections until one lands on the backend with this name; closes the others. */
async function openTo(backend: string, client: Host, vip: string) {
  for (;;) {
    const connection = await client.open(vip, 80, { timeout: DROP_WAIT }).catch(() => undefined);
    if (!connection) continue;
    if ((await connection.say('who')).server === backend) return connection;
    await connection.close();
  }
}
