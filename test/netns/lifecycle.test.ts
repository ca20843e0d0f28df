/** The agent comes, dies, comes back and leaves; pods come and go; other owners of tc stay as they are. */
import { existsSync, readdirSync } from 'node:fs';
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { egressPolicy, toServer } from './policies.js';
import { until } from './shell.js';
import { servers, World } from './world.js';

const policy = egressPolicy('web', 'web', [toServer('one')]);

for (const mode of ['tcx', 'tc'] as const) {
  t.test(`attached by ${mode}`, async (t) => {
    const world = await World.create({ tracked: true });
    t.teardown(() => world.close());
    const pod = await world.pod('web');
    for (const which of ['one', 'two'] as const) await world.internet.listen(servers[which].ip4, 80, 'tcp', which);
    world.write('policy.yaml', [policy]);

    // Another owner: a qdisc that others' filters hang on, and a filter in it that lets everything pass.
    const traces = async () => ({
      filters: (await world.node.run('tc', ['filter', 'show', 'dev', pod.device, 'ingress'])).stdout,
      qdiscs: (await world.node.run('tc', ['qdisc', 'show'])).stdout,
      links: (await world.node.run('bpftool', ['net', 'show'])).stdout.replace(/\(\d+\)/g, ''),
    });
    await world.node.run('tc', ['qdisc', 'add', 'dev', pod.device, 'clsact']);
    const foreign = ['pref', '7', 'protocol', 'all', 'bpf', 'bytecode', '1,6 0 0 0'];
    await world.node.run('tc', ['filter', 'add', 'dev', pod.device, 'egress', ...foreign]);
    const before = await traces();
    const foreignBefore = (await world.node.run('tc', ['filter', 'show', 'dev', pod.device, 'egress'])).stdout;

    let agent = await Agent.start(world, { mode });

    await t.test('killed and restarted under traffic', async (t) => {
      const good = await pod.host.load(servers.one.ip4, 80, { timeout: 3 });
      const bad = await pod.host.load(servers.two.ip4, 80, { timeout: 0.05 });
      const open = await pod.host.open(servers.one.ip4, 80);
      const going = (n: number) =>
        until('traffic goes on', async () => ((await good.results()).ok ?? 0) > n && ((await good.results()).ok ?? 0));
      let done = await going(10);
      for (let round = 0; round < 3; round++) {
        await agent.kill();
        done = await going(done + 20);
        agent = await Agent.start(world, { mode });
        done = await going(done + 20);
        t.equal((await open.say(`round ${round}`)).text, `round ${round}`, 'an open connection goes on');
      }
      const [allowed, denied] = [await good.stop(), await bad.stop()];
      t.same(Object.keys(allowed), ['ok'], `allowed: ${JSON.stringify(allowed)}`);
      t.same(Object.keys(denied), ['timeout'], `denied: ${JSON.stringify(denied)}`);
    });

    await t.test('another version, with maps of another shape', async (t) => {
      await pod.host.listen('0.0.0.0', 8080, 'tcp', 'pod');
      const inbound = await world.internet.open(pod.ip4, 8080);
      t.equal((await inbound.say('before')).text, 'before');
      const good = await pod.host.load(servers.one.ip4, 80, { timeout: 3 });
      const bad = await pod.host.load(servers.two.ip4, 80, { timeout: 0.05 });
      for (const flows of [4096, 262144]) {
        await agent.stop();
        agent = await Agent.start(world, { mode, args: ['--map-size', `flows=${flows}`] });
        t.equal((await inbound.say(`${flows}`)).text, `${flows}`, 'what was opened to the pod is answered');
      }
      const [allowed, denied] = [await good.stop(), await bad.stop()];
      t.same(Object.keys(allowed), ['ok'], `allowed: ${JSON.stringify(allowed)}`);
      t.same(Object.keys(denied), ['timeout'], `denied: ${JSON.stringify(denied)}`);
    });

    await t.test('SIGTERM leaves enforcement in place', async (t) => {
      t.equal(await agent.stop(), 0, 'ends cleanly');
      t.equal((await pod.host.request(servers.one.ip4, 80)).result, 'ok');
      t.equal((await pod.host.request(servers.two.ip4, 80, { timeout: DROP_WAIT })).result, 'timeout');
    });

    await t.test('a policy that changed while no agent ran', async (t) => {
      world.write('policy.yaml', [egressPolicy('web', 'web', [toServer('two')])]);
      agent = await Agent.start(world, { mode });
      t.equal((await pod.host.request(servers.two.ip4, 80)).result, 'ok');
      t.equal((await pod.host.request(servers.one.ip4, 80, { timeout: DROP_WAIT })).result, 'timeout');
      await agent.apply('policy.yaml', [policy]);
    });

    await t.test('a hook that someone removed comes back', async (t) => {
      if (mode === 'tc') {
        await world.node.run('tc', ['qdisc', 'del', 'dev', pod.device, 'clsact']);
        await until(
          'it is enforced again',
          async () => (await pod.host.request(servers.two.ip4, 80, { timeout: 0.2 })).result === 'timeout',
        );
        await world.node.run('tc', ['filter', 'add', 'dev', pod.device, 'egress', ...foreign]);
      }
      t.equal((await pod.host.request(servers.two.ip4, 80, { timeout: DROP_WAIT })).result, 'timeout');
      t.equal((await pod.host.request(servers.one.ip4, 80)).result, 'ok');
    });

    await t.test('a pod whose namespace appears after its manifest, and goes', async (t) => {
      const late = await world.podNamespace('late', { labels: { app: 'web' } });
      const name = `${late.host.netns}-late`;
      const manifest = JSON.stringify(late.manifest).replace(`"${late.host.netns}"`, `"${name}"`);
      world.write('late.yaml', manifest);
      await agent.settled();
      t.equal((await late.host.request(servers.two.ip4, 80)).result, 'ok', 'not bound yet');
      await world.mountNetns(late.host.netns, name);
      await agent.enforced('default/late');
      t.equal(
        (await late.host.request(servers.two.ip4, 80, { timeout: DROP_WAIT })).result,
        'timeout',
        'bound: denied',
      );
      t.equal((await late.host.request(servers.one.ip4, 80)).result, 'ok', 'bound: allowed');
      await world.unmountNetns(name);
      await late.host.close();
      world.remove('late.yaml');
      await agent.settled();
      await until('its hooks are forgotten', async () => !(await agent.status()).endpoints.includes('default/late'));
      t.equal((await pod.host.request(servers.one.ip4, 80)).result, 'ok', 'the others go on');
    });

    await t.test('detach leaves nothing', async (t) => {
      t.equal(await agent.stop(), 0);
      await agent.detach();
      const after = await traces();
      t.same(after, before, 'qdiscs, filters and links as they were');
      t.equal(
        (await world.node.run('tc', ['filter', 'show', 'dev', pod.device, 'egress'])).stdout,
        foreignBefore,
        "the other owner's filter",
      );
      t.notOk(existsSync(world.pinDir), 'no pins');
      t.same(existsSync(agent.runDir) ? readdirSync(agent.runDir) : [], [], 'no socket, no state');
      t.equal((await pod.host.request(servers.two.ip4, 80)).result, 'ok', 'nothing is enforced');
    });
  });
}
