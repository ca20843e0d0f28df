/**
 * The agent in a privileged container, pods as other containers: it finds their namespaces by their addresses alone,
 * and uses the object that the build shipped, for there is no clang in its image.
 */
import t from 'tap';
import { Agent } from '../netns/agent.js';
import { DROP_WAIT } from '../netns/host.js';
import { egressPolicy, toApp, toServer } from '../netns/policies.js';
import { compiled, root } from '../netns/shell.js';
import { servers, World } from '../netns/world.js';
import { Container, image, podContainer, RUN } from './podman.js';

t.test('in containers', async (t) => {
  const name = await image();
  const world = await World.create({ masquerade: true });
  t.teardown(() => world.close());
  const pods = [];
  for (const app of ['web', 'api']) {
    const { container, host } = await podContainer(`${world.prefix}-${app}`, name);
    t.teardown(() => container.remove());
    pods.push(await world.pod(app, { host }));
  }
  const [web, api] = pods as [(typeof pods)[0], (typeof pods)[0]];
  await api.host.listen('::', 8080, 'tcp', 'api');
  for (const which of ['one', 'two'] as const) {
    await world.internet.listen(servers[which].ip4, 443, 'tcp', which);
    await world.internet.listen(servers[which].ip6, 443, 'tcp', which);
  }
  world.write('policy.yaml', [egressPolicy('web', 'web', [toServer('one', 'tcp/443'), toApp('api', 'tcp/8080')])]);

  const container = new Container(`${world.prefix}-agent`);
  t.teardown(() => container.remove());
  // As a DaemonSet's pod has it: privileged, the node's network and processes, bpffs, /run/netns, its own directories.
  const mounts = [
    ['/sys/fs/bpf', '/sys/fs/bpf', 'rw,rslave'],
    ['/run/netns', '/run/netns', 'rw,rslave'],
    [world.dir, world.dir, 'rw'],
    [process.execPath, '/usr/local/bin/node', 'ro'],
    [root, root, 'ro'],
    [compiled, compiled, 'ro'],
  ].flatMap(([from, to, mode]) => ['-v', `${from}:${to}:${mode}`]);
  const options = [
    '--name',
    container.name,
    '--privileged',
    '--pid',
    'host',
    '--network',
    `ns:/run/netns/${world.node.netns}`,
  ];
  const agent = await Agent.start(world, {
    command: ['podman', ...RUN, ...options, ...mounts, '-w', root, name, 'node'],
  });

  await t.test('pods are found and judged', async (t) => {
    t.same([...(await agent.status()).endpoints].sort(), ['default/api', 'default/web']);
    for (const family of ['ip4', 'ip6'] as const) {
      t.equal((await web.host.request(servers.one[family], 443)).result, 'ok', `allowed, ${family}`);
      t.equal(
        (await web.host.request(servers.two[family], 443, { timeout: DROP_WAIT })).result,
        'timeout',
        `denied, ${family}`,
      );
      t.equal((await web.host.request(api[family], 8080)).result, 'ok', `pod to pod, ${family}`);
      t.equal(
        (await web.host.request(api[family], 81, { timeout: DROP_WAIT })).result,
        'timeout',
        `another port, ${family}`,
      );
      t.equal((await api.host.request(servers.two[family], 443)).result, 'ok', `no policy, ${family}`);
    }
  });

  await t.test('flows name the pods', async (t) => {
    const denied = await agent.flow((f) => f.verdict === 'deny' && f.remote.ip === servers.two.ip4);
    t.equal(denied.local.pod, 'default/web');
  });

  await t.test('a change of policy', async (t) => {
    await agent.apply('policy.yaml', [egressPolicy('web', 'web', [toServer('two')])]);
    t.equal((await web.host.request(servers.two.ip4, 443)).result, 'ok');
    t.equal((await web.host.request(servers.one.ip4, 443, { timeout: DROP_WAIT })).result, 'timeout');
  });

  await t.test('the container goes, enforcement stays, the next one takes over', async (t) => {
    await container.remove();
    t.equal((await web.host.request(servers.two.ip4, 443)).result, 'ok');
    t.equal((await web.host.request(servers.one.ip4, 443, { timeout: DROP_WAIT })).result, 'timeout');
    const next = await Agent.start(world, {
      command: ['podman', ...RUN, ...options, ...mounts, '-w', root, name, 'node'],
    });
    await next.apply('policy.yaml', []);
    t.equal((await web.host.request(servers.one.ip4, 443)).result, 'ok', 'without policies everything passes');
    await container.remove();
    await next.detach();
  });
});
