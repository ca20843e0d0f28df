/** A real agent that exports its flows to a file and to a collector, is asked for its counters, and ends. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { Agent } from '../netns/agent.js';
import { DROP_WAIT } from '../netns/host.js';
import { egressPolicy, toServer } from '../netns/policies.js';
import { compiled } from '../netns/shell.js';
import { servers, World } from '../netns/world.js';
import { type Received, until } from './given.js';

/** A receiver in the node's network namespace, where the agent is. */
function receiver(world: World): Received[] {
  const script = `
    const { Receiver } = await import('${compiled}/test/export/given.js');
    const receiver = await Receiver.start(4318);
    receiver.answer = (records) => {
      for (const r of records) process.stdout.write(JSON.stringify({ ...r, timeNs: String(r.timeNs) }) + '\\n');
      return {};
    };`;
  const inNode = [`--net=/run/netns/${world.node.netns}`, process.execPath, '--input-type=module', '-e', script];
  const child = spawn('nsenter', inNode, { stdio: ['ignore', 'pipe', 'inherit'] });
  world.onClose(async () => {
    child.kill();
  });
  const records: Received[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => records.push(JSON.parse(line)));
  return records;
}

t.test('an agent that exports', async (t) => {
  const world = await World.create({ masquerade: true });
  t.teardown(() => world.close());
  const web = await world.pod('web');
  for (const addr of [servers.one.ip4, servers.two.ip4]) await world.internet.listen(addr, 443, 'tcp', 'one');
  world.write('policy.yaml', [egressPolicy('web', 'web', [toServer('one', 'tcp/443')])]);
  const records = receiver(world);
  const file = join(world.dir, 'flows.jsonl');
  const agent = await Agent.start(world, {
    args: [
      '--export',
      `jsonl://${file}`,
      '--export',
      'otlp+http://127.0.0.1:4318?filter=--verdict DENIED&header.x-secret=abc',
      '--export',
      'syslog+tcp://127.0.0.1:9',
    ],
  });
  await web.host.request(servers.one.ip4, 443);
  await web.host.request(servers.two.ip4, 443, { timeout: DROP_WAIT });
  const lines = () =>
    (existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : []).map((l) => JSON.parse(l));
  const toTwo = (l: { flow?: { IP?: { destination?: string } } }) => l.flow?.IP?.destination === servers.two.ip4;
  await until('the file has both', () => lines().some(toTwo) && lines().some((l) => l.verdict === 'allow'));
  t.match(lines().find(toTwo), {
    verdict: 'deny',
    rule: { kind: 'NetworkPolicy', namespace: 'default', name: 'web' },
    flow: { source: { namespace: 'default', pod_name: 'web' }, l4: { TCP: { destination_port: 443 } } },
  });
  await until('the collector has it', () => records.length > 0);
  t.match(records[0], {
    severityText: 'WARN',
    attributes: {
      'egress.verdict': 'deny',
      'destination.address': servers.two.ip4,
      'k8s.namespace.name': 'default',
      'k8s.pod.name': 'web',
    },
  });
  t.ok(
    records.every((r) => r.attributes['egress.verdict'] !== 'allow'),
    'filtered',
  );
  const client = new AgentClient(join(agent.runDir, 'agent.sock'));
  const { exports = [] } = await client.status();
  client.close();
  t.match(
    exports.map((e) => e.target),
    [`jsonl://${file}`, 'otlp+http://127.0.0.1:4318', 'syslog+tcp://127.0.0.1:9'],
  );
  t.ok(Number(exports[0]?.exported) >= 2);
  t.ok(exports[2]?.failing_since !== undefined && /ECONNREFUSED/.test(exports[2].last_error ?? ''));
  t.notMatch(JSON.stringify(exports) + agent.log, /abc/);

  await t.test('its end writes the last flows', async (t) => {
    await web.host.request(servers.one.ip4, 443);
    const start = Date.now();
    await agent.stop();
    t.ok(Date.now() - start < 8000, 'whatever is not reachable');
    const asked = lines().filter((l) => l.flow?.IP?.destination === servers.one.ip4 && l.event === 'verdict');
    t.ok(asked.length >= 2, `${asked.length}`);
    t.match(agent.log, /flows were not exported before the end .*flows=\d+/);
  });

  await t.test('what is wrong is told before anything is begun', (t) => {
    const main = join(compiled, 'agent/main.js');
    const args = ['run', '--run-dir', join(world.dir, 'other'), '--export', 'otlp+http://127.0.0.1:4318?sample=x'];
    const { status, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
    t.equal(status, 2);
    t.match(stderr, /sample: is not valid: for example sample=1\/100/);
    t.notOk(existsSync(join(world.dir, 'other')));
    t.end();
  });
});
