/** egressctl history: the built program, on a cluster with a relay and without, and on the agent of a node. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { dayOf } from '../../src/edges/edge.js';
import { ruleRefOf } from '../../src/edges/wire.js';
import { History } from '../../src/history/history.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { mergedFlows } from '../../src/relay/merge/flows.js';
import { Agents } from '../../src/relay/nodes/agents.js';
import { RelayServer } from '../../src/relay/server.js';
import { feedOf, makeDay, makeEdge, outside, workload } from '../edges/given.js';
import { compiled } from '../netns/shell.js';
import { Api } from '../relay/api.js';
import { quiet, TestAgent, tempDir, until, writeTls } from '../relay/world.js';

t.setTimeout(120_000);
const NS = 'egress-system';
const dir = tempDir(t);
const certs = await makeCertificates(NS, 2);
const agentTls = writeTls(join(dir, 'agent'), certs.agent);
const api = new Api();
await api.listen();
const kubeconfig = join(dir, 'config');
api.writeKubeconfig(kubeconfig);
const data = Object.entries({ 'ca.crt': certs.client.ca, 'tls.crt': certs.client.cert, 'tls.key': certs.client.key });
api.objects.set(`/api/v1/namespaces/${NS}/secrets/egress-client-tls`, {
  metadata: { name: 'egress-client-tls' },
  data: Object.fromEntries(data.map(([key, pem]) => [key, pem.toString('base64')])),
});

const TODAY = dayOf(Date.now());
const rule = {
  ref: ruleRefOf({
    kind: 'NetworkPolicy',
    namespace: 'shop',
    name: 'web',
    text: '',
    index: 1,
    staged: false,
    dialect: 'networkpolicy',
  }),
  generation: 1,
};
const busy = makeEdge({
  source: workload('shop/web'),
  destination: workload('shop/api'),
  port: 8080,
  reason: 'rule',
  rule,
});
const denied = makeEdge({
  source: workload('shop/web'),
  destination: outside('bad.example\u001b[31m', 'name'),
  verdict: 'deny',
});
const other = makeEdge({
  source: outside('192.0.2.9'),
  destination: workload('db/db', 'StatefulSet'),
  inbound: true,
  protocol: 1,
  port: 2048,
});
const feed = (ledger: number) => ({
  ...feedOf([
    { edge: busy, days: [makeDay(TODAY - 2, { connections: 10, bytes: 5000 }), makeDay(TODAY, { connections: 20 })] },
    { edge: denied, days: [makeDay(TODAY - 20, { drops: 3 })] },
    { edge: other, days: [makeDay(TODAY)] },
  ]),
  ledger,
});
const nodes = await Promise.all(
  ['node-a', 'node-b'].map((name, n) => new TestAgent(name, { edges: feed(n + 1) }).listen(agentTls)),
);
for (const { name, port } of nodes) api.pod(NS, `agent-${name}`, { node: name, agent: true, target: port });

const agents = new Agents(() => certs.relay);
agents.set(nodes.map(({ name, address }) => ({ id: name, name, address })));
const history = await History.start({
  ...{ place: { file: ':memory:' }, sources: agents, log: quiet, retryMs: 50, flowsMs: 3_600_000 },
  follow: (signal) => mergedFlows(agents, { follow: true }, signal, { holdBackMs: 50 }),
});
const relay = new RelayServer({ agents, version: '0', tls: true, log: quiet, history });
const { port } = await relay.listenTls('127.0.0.1:0', writeTls(join(dir, 'relay'), certs.relay), {});
t.teardown(async () => {
  await relay.close();
  await history.close();
  for (const { server } of nodes) await server.close();
  api.close();
});
await until('both ledgers', async () => (await (await history.store()).ledgers()).length === 2);

async function ctl(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const program = join(compiled, 'src/cli/main.js');
  const child = spawn(process.execPath, [program, ...args, '--kubeconfig', kubeconfig], {
    env: { ...process.env, HOME: dir, TZ: 'UTC' },
  });
  const text = { out: '', err: '' };
  child.stdout.on('data', (d) => (text.out += d));
  child.stderr.on('data', (d) => (text.err += d));
  const [code] = (await once(child, 'close')) as [number];
  return { code, ...text };
}

t.test('without a relay: the agents together', async (t) => {
  const { code, out, err } = await ctl('history');
  t.equal(code, 0, err);
  const lines = out.trim().split('\n');
  t.match(lines[0], /^ *SOURCE +DESTINATION +PORT +VERDICT +RULE +LAST SEEN +DAYS +CONNECTIONS *$/);
  t.match(
    lines[1],
    /shop\/web +shop\/api +8080\/tcp +allow +np\/shop\/web#1 .* 2 +60 *$/m,
    'the most connections first',
  );
  t.equal(lines.length, 4);
  t.match(out, /192\.0\.2\.9 +db\/db +8:0\/icmp/);
  t.match(out, /bad\.example\\u001b/, 'no escape sequences');
  for (const command of ['status', 'flows']) {
    const none = await ctl('history', command);
    t.equal(none.code, 1);
    t.match(none.err, /there is no relay to ask/);
  }
});

t.test('with a relay: its history', async (t) => {
  api.pod(NS, 'relay-x', { node: 'node-a', relay: true, target: port as number });
  const web = JSON.parse((await ctl('history', '--workload', 'shop/web', '-o', 'json')).out);
  t.match(web, {
    overflow: 0,
    more: false,
    edges: [
      {
        destination: { name: 'api' },
        rule: 'np/shop/web#1',
        connections: 60,
        days: [{ connections: 20, hours: [1] }, { connections: 40 }],
      },
      { verdict: 'deny', drops: 6, days: [{}] },
    ],
  });
  t.equal(web.edges.length, 2);
  t.match(
    (await ctl('history', '--since', '5d', '--verdict', 'deny')).out,
    /^nothing was seen; there are records since 2026-01-01/,
  );
  t.match((await ctl('history', '-n', 'db', '-o', 'wide')).out, /FIRST SEEN +BYTES +DROPS +STAGED +SERVICE +ADDRESS/);
  const limited = await ctl('history', '--limit', '1');
  t.match(limited.err, /2 more edges; see --limit/);
  t.match((await ctl('history', 'status')).out, /^place +memory\ndays +3, since .*\nedges +3\n/);
  t.match(JSON.parse((await ctl('history', 'status', '-o', 'json')).out), { place: 'memory', rows_lost: '0' });
  nodes[0]?.publish(Date.now() - 100_000);
  await until('a flow', async () => /^\d{4}-\d\d-\d\d \d\d:/.test((await ctl('history', 'flows')).out));
  t.match(JSON.parse((await ctl('history', 'flows', '-o', 'json')).out.split('\n')[0] as string), { flow: {} });
  t.equal((await ctl('history', '--workload', 'nonsense')).code, 2);
  t.equal((await ctl('history', '--limit', '0')).code, 2);
  t.match(await ctl('history', 'flows', '--workload', 'shop/web'), { code: 2, err: /flows has no option --workload/ });
  t.match(await ctl('history', '--limit', '1', 'status'), { code: 2, err: /status has no option --limit/ });
  t.match(await ctl('history', 'flows', '-n', 'nobody'), { code: 0, out: /^$/, err: /no flow of the history/ });

  api.pod(NS, 'relay-x', { node: 'node-a', relay: true, target: 'refused' });
  const fallen = await ctl('history', '--workload', 'shop/web');
  t.match(fallen.err, /the relay .*refused; the agents are asked/);
  t.match(fallen.out, /shop\/api/);
});
