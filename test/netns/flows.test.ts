/** What the agent tells: each verdict with the rule behind it, both sides by name, drops counted and not repeated. */
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { egressPolicy, toApp, toServer } from './policies.js';
import { servers, World } from './world.js';

t.test('flows', async (t) => {
  const world = await World.create({ masquerade: true });
  t.teardown(() => world.close());
  const web = await world.pod('web');
  const api = await world.pod('api');
  await api.host.listen('::', 8080, 'tcp', 'api');
  for (const addr of [servers.one.ip4, servers.one.ip6]) await world.internet.listen(addr, 443, 'tcp', 'one');
  world.write('policy.yaml', [
    egressPolicy('web', 'web', [toApp('api', 'tcp/8080'), toServer('one', 'tcp/443')]),
    egressPolicy('other', 'api', []),
  ]);
  const agent = await Agent.start(world);

  await t.test('an allowed connection names policy and rule', async (t) => {
    await web.host.request(servers.one.ip4, 443);
    const flow = await agent.flow(
      (f) => f.type === 'verdict' && f.remote.ip === servers.one.ip4 && f.remote.port === 443,
    );
    t.match(flow, {
      verdict: 'allow',
      reason: 'rule',
      rule: { kind: 'NetworkPolicy', policy: 'default/web', index: 1 },
      local: { pod: 'default/web', ip: web.ip4, labels: { app: 'web' } },
      protocol: 'tcp',
    });
  });

  await t.test('both sides by name', async (t) => {
    await web.host.request(api.ip6, 8080);
    const flow = await agent.flow((f) => f.type === 'verdict' && f.remote.ip === api.ip6 && f.verdict === 'allow');
    t.match(flow, { rule: { index: 0 }, remote: { pod: 'default/api', labels: { app: 'api' } } });
  });

  await t.test('a drop names the policies that isolate the pod', async (t) => {
    await web.host.request(servers.two.ip4, 443, { timeout: DROP_WAIT });
    const flow = await agent.flow((f) => f.type === 'verdict' && f.remote.ip === servers.two.ip4);
    t.match(flow, { verdict: 'deny', local: { pod: 'default/web' } });
  });

  await t.test('repeated drops of one flow are counted, not repeated', async (t) => {
    const connection = await web.host.open(servers.two.ip4, 99, { proto: 'udp' });
    for (let i = 0; i < 500; i++) await connection.say('again', 0.002);
    await new Promise((resolve) => setTimeout(resolve, 1100)); // a second must pass before the next event is due
    await connection.say('last', 0.002);
    const told = await agent.flow((f) => f.type === 'drop' && f.local.port === connection.port && f.drops > 1);
    t.ok(told.drops >= 100, `${told.drops} in one event`);
    const events = agent.flows.filter((f) => f.local.port === connection.port && f.verdict === 'deny');
    t.ok(events.length <= 6, `${events.length} events for 501 packets`);
  });

  await t.test('a flow ends with its counters, opened by name', async (t) => {
    const connection = await web.host.open(servers.one.ip6, 443);
    await connection.say('x'.repeat(20000));
    await connection.close({ reset: true });
    const end = await agent.flow((f) => f.type === 'end' && f.local.port === connection.port);
    t.ok(end.bytesOut > 20000 && end.bytesIn > 20000, `${end.bytesOut} out, ${end.bytesIn} in`);
    t.match(end.rule, { policy: 'default/web', index: 1 });
  });

  await t.test('a pod without policies', async (t) => {
    const free = await world.pod('free');
    await agent.settled();
    await free.host.request(servers.one.ip4, 443);
    t.match(await agent.flow((f) => f.local.pod === 'default/free'), { verdict: 'allow', reason: 'no-policy' });
  });
});
