/** The relay as a program, which exports the flows of two nodes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { compiled } from '../netns/shell.js';
import { TestAgent, writeTls } from '../relay/world.js';
import { Receiver, until } from './given.js';

t.test('a relay that exports', async (t) => {
  const dir = t.testdir();
  const certs = await makeCertificates('egress-system', 2);
  const [agentTls, relayTls] = [writeTls(join(dir, 'agent'), certs.agent), writeTls(join(dir, 'relay'), certs.relay)];
  const agents = [await new TestAgent('node-a').listen(agentTls), await new TestAgent('node-b').listen(agentTls)];
  t.teardown(() => Promise.all(agents.map((agent) => agent.server.close())));
  const receiver = await Receiver.start();
  t.teardown(() => receiver.close());
  const file = join(dir, 'flows.jsonl');
  const run = (...exports: string[]) => {
    const args = ['--agents', agents.map((a) => a.address).join(), '--tls-dir', relayTls, '--listen', '127.0.0.1:0'];
    const main = join(compiled, 'src/relay/main.js');
    const child = spawn(process.execPath, [main, ...args, ...exports.flatMap((url) => ['--export', url])], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const out = Object.assign(child, { said: '' });
    child.stderr.on('data', (d) => (out.said += d));
    t.teardown(() => child.kill('SIGKILL'));
    return out;
  };
  const relay = run(`jsonl://${file}`, `otlp+http://127.0.0.1:${receiver.port}`);
  await until('it exports', () => relay.said.includes('exporting flows'));
  // Its streams are open when the agents have readers.
  await until('its streams are open', () => agents.every((agent) => agent.hub.isRead));
  const uuids = [0, 1, 2, 3, 4, 5].map((ms) => agents[ms % 2]?.publish(ms));
  const lines = () =>
    (existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : []).map((l) => JSON.parse(l));
  await until('all are in the file', () => lines().length === 6);
  t.same(
    lines().map((l) => l.flow.uuid),
    uuids,
    'in order of time',
  );
  await until('the collector has them', () => receiver.records.length === 6);
  const nodes = new Set(receiver.records.map((r) => r.resource['k8s.node.name']));
  t.same([...nodes].sort(), ['node-a', 'node-b'], 'a resource for each node');
  relay.kill('SIGTERM');
  t.equal((await once(relay, 'close'))[0], 0);
  const bad = run('syslog+unix:///dev/log');
  t.equal((await once(bad, 'close'))[0], 2);
  t.match(bad.said, /only agents write to unix sockets/);
});
