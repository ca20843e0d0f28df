/** A set that does not fit is its pods' affair alone; and an agent that has lost its key takes over what stands in the maps. */
import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { cidr } from '../bench/worlds.js';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { egressPolicy, toHosts, toServer } from './policies.js';
import { until } from './shell.js';
import { servers, World } from './world.js';

const ARGS = ['--map-size', 'destinations4=300'];

t.test('refused sets and lost keys', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const [big, small] = [await world.pod('big'), await world.pod('small')];
  for (const which of ['one', 'two'] as const) await world.internet.listen(servers[which].ip4, 80, 'tcp', which);
  world.write('big.yaml', [egressPolicy('big', 'big', [toServer('one')])]);
  world.write('small.yaml', [egressPolicy('small', 'small', [toServer('one')])]);
  let agent = await Agent.start(world, { args: ARGS });
  const key = join(agent.runDir, 'ids.key');
  const reached = async (pod: typeof big, which: 'one' | 'two') =>
    (await pod.host.request(servers[which].ip4, 80, { timeout: DROP_WAIT })).result;

  await t.test('what does not fit holds nothing else back', async (t) => {
    const list = Array.from({ length: 500 }, (_, n) => cidr(n).slice(0, -3));
    world.write('big.yaml', [egressPolicy('big', 'big', [toServer('two'), toHosts(list)])]);
    await agent.settled();
    await agent.apply('small.yaml', [egressPolicy('small', 'small', [toServer('two')])]);
    t.equal(await reached(small, 'two'), 'ok', "another pod's change is in force");
    t.equal(await reached(small, 'one'), 'timeout');
    t.equal(await reached(big, 'one'), 'ok', 'its own last set stays');
    t.equal(await reached(big, 'two'), 'timeout');
    const client = new AgentClient(join(agent.runDir, 'agent.sock'));
    t.teardown(() => client.close());
    const status = await client.status();
    t.notOk(status.failing_since);
    const told = status.problems?.filter((p) => p.object === 'Pod default/big').map((p) => p.text);
    t.match(told, [/its policy set is refused: np\/default\/big: map destinations4 holds 300 entries/]);
    const policies = status.problems?.filter((p) => p.object?.startsWith('NetworkPolicy ')).map((p) => p.text);
    t.match(policies, [/NetworkPolicy default\/big: its state now is not in force for Pod default\/big: /]);
    await agent.apply('big.yaml', [egressPolicy('big', 'big', [toServer('two')])]);
    t.equal(await reached(big, 'two'), 'ok', 'what fits is in force at once');
  });

  await small.host.listen('0.0.0.0', 8080, 'tcp', 'small');
  for (const lost of ['the key', 'the key and the journal']) {
    await t.test(`restarted without ${lost}`, async (t) => {
      t.equal(statSync(key).mode & 0o777, 0o600);
      const inbound = await world.internet.open(small.ip4, 8080);
      t.equal((await inbound.say('before')).text, 'before');
      const bad = await small.host.load(servers.one.ip4, 80, { timeout: 0.05 });
      await until('packets are dropped', async () => ((await bad.results()).timeout ?? 0) > 5);
      await agent.kill();
      rmSync(key);
      if (lost !== 'the key') rmSync(join(agent.runDir, 'journal'), { recursive: true });
      agent = await Agent.start(world, { args: ARGS });
      t.match(agent.log, /ids are made with a new key/);
      t.equal((await inbound.say('after')).text, 'after', 'what was opened to the pod is answered');
      t.equal(await reached(small, 'two'), 'ok');
      t.equal(await reached(big, 'two'), 'ok');
      await until('it goes on', async () => ((await bad.results()).timeout ?? 0) > 20);
      t.same(Object.keys(await bad.stop()), ['timeout'], 'nothing passed meanwhile');
    });
  }
});
