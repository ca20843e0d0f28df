/** Policies by DNS name: a real resolver outside, pods that ask it, and what arrives at servers. */
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { answerForMany, Asker, many, Resolver } from './resolver.js';
import { cnpNames } from './policies.js';
import { servers, World } from './world.js';
import { compiled, run, until } from './shell.js';
import { join } from 'node:path';

const dns = servers.two;
const zone = [
  ...Array.from({ length: 200 }, (_, i) => `n${i}.good.test. 60 IN A ${many.ip4}.${i}`),
  ...Array.from({ length: 200 }, (_, i) => `n${i}.good.test. 60 IN AAAA ${many.ip6}:${i + 1}`),
  `other.test. IN A ${many.ip4}.250`,
  `first.good.test. IN A ${many.ip4}.240`,
  ...Array.from({ length: 40 }, (_, i) => `p${i}.good.test. 60 IN A ${many.ip4}.${200 + i}`),
];

t.setTimeout(600_000);
t.test('names', { timeout: 600_000 }, async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  await answerForMany(world);
  await Resolver.authority(world, [dns.ip4, dns.ip6], zone);
  const web = await world.pod('web');
  const port = await world.internet.listen('::', 80, 'tcp', 'outside');
  world.write('policy.yaml', [cnpNames('web', 'web', ['*.good.test'], [dns.ip4, dns.ip6])]);
  const args = ['--dns-servers', dns.ip4, '--dns-servers', dns.ip6, '--name-seed', 'off'];
  let agent = await Agent.start(world, { args });
  const asker = new Asker(world, web, [`nameserver ${dns.ip4}`, 'options timeout:2 attempts:2']);
  const refused = async (address: string) =>
    (await web.host.request(address, 80, { timeout: DROP_WAIT })).result === 'timeout';
  const ctl = async (...args: string[]) =>
    (
      await run(process.execPath, [
        join(compiled, 'src/cli/main.js'),
        '--socket',
        join(agent.runDir, 'agent.sock'),
        ...args,
      ])
    ).stdout;

  await t.test('an address is denied before its name was asked for', async (t) => {
    t.ok(await refused(`${many.ip4}.0`));
    t.ok(await refused(`${many.ip6}:1`));
    t.equal(await port.count(), 0, 'nothing arrived');
  });

  await t.test('a lookup and a connect at once', async (t) => {
    const results: Record<string, number> = {};
    for (let i = 0; i < 200; i++) {
      const { result } = await asker.probe.call('fetch', { name: `n${i}.good.test`, port: 80, every: true });
      results[result] = (results[result] ?? 0) + 1;
      if ((results['gaierror'] ?? 0) > 3) break;
    }
    t.same(results, { ok: 200 }, 'with every address, of both families');
    t.equal(await port.count(), 400, 'all of it arrived');
  });

  await t.test('other names', async (t) => {
    const before = await port.count();
    const reply = await asker.probe.call('fetch', { name: 'other.test', port: 80, timeout: DROP_WAIT });
    t.match(reply, { result: 'timeout', address: `${many.ip4}.250` }, 'can be asked for, and are denied');
    t.ok(await refused(`${many.ip4}.241`), 'an address without a name');
    t.equal(await port.count(), before);
  });

  await t.test('what is told', async (t) => {
    const listed = await ctl('names', '--pod', 'default/web', '--name', 'n7.good.test', '-o', 'wide');
    t.match(listed, /n7\.good\.test/);
    t.match(listed, `${many.ip4}.7`);
    t.match(listed, `${many.ip6}:8`);
    await until('flows have the name', async () =>
      /n7\.good\.test/.test(await ctl('flows', '--to-ip', `${many.ip4}.7`, '-o', 'json')),
    );
  });

  await t.test('the first act of a pod', async (t) => {
    const before = await port.count();
    const results: string[] = [];
    for (let i = 0; i < 6; i++) {
      const pod = await world.pod(`young-${i}`, { labels: { app: 'web' } });
      await agent.enforced(`default/young-${i}`);
      const young = new Asker(world, pod, [`nameserver ${dns.ip4}`, 'options timeout:2 attempts:2']);
      results.push((await young.probe.call('fetch', { name: `p${i}.good.test`, port: 80 })).result);
      await young.probe.close();
      await world.removePod(pod);
    }
    t.same(
      results,
      results.map(() => 'ok'),
    );
    t.equal(await port.count(), before + 6);
  });

  await t.test('without an agent, and after it is back', async (t) => {
    const open = await web.host.open(`${many.ip4}.3`, 80);
    await agent.kill();
    const before = await port.count();
    for (let i = 10; i < 30; i++)
      t.equal((await asker.probe.call('fetch', { name: `p${i}.good.test`, port: 80 })).result, 'ok', `p${i}, new`);
    t.equal((await web.host.request(`${many.ip4}.9`, 80)).result, 'ok', 'known from before');
    t.equal((await open.say('still')).text, 'still', 'open from before');
    t.ok(await refused(`${many.ip4}.239`), 'nobody asked for it');
    t.equal(await port.count(), before + 22);
    const load = await web.host.load(`${many.ip4}.5`, 80, { timeout: 3 });
    agent = await Agent.start(world, { args });
    for (const address of [`${many.ip4}.9`, `${many.ip6}:9`, `${many.ip4}.220`])
      t.equal((await web.host.request(address, 80)).result, 'ok', `${address}: names are kept`);
    t.ok(await refused(`${many.ip4}.239`));
    t.same(Object.keys(await load.stop()), ['ok']);
    t.match(await ctl('names', '--name', 'p20.good.test'), /p20\.good\.test/);
  });
});
