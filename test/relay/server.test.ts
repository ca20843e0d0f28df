/** The relay as its callers see it: the built program and the server, over real sockets. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Client, type ClientReadableStream, credentials } from '@grpc/grpc-js';
import t from 'tap';
import { KubeClient } from '../../src/kube/client/client.js';
import { Agents } from '../../src/relay/nodes/agents.js';
import { followAgents } from '../../src/relay/nodes/discovery.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { RELAY_SERVER_NAME } from '../../src/relay/nodes/names.js';
import { RelayServer } from '../../src/relay/server.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import type { GetFlowsResponse } from '../../src/proto/messages.js';
import { PEER } from '../../src/proto/load.js';
import { compiled } from '../netns/shell.js';
import { Api } from './api.js';
import { quiet, TestAgent, tempDir, until, writeTls } from './world.js';

t.setTimeout(120_000);
const certs = await makeCertificates('egress-system', 2);
const dir = tempDir(t);
const AGENT_TLS = writeTls(join(dir, 'agent'), certs.agent);
const RELAY_TLS = writeTls(join(dir, 'relay'), certs.relay);
const MAIN = join(compiled, 'src/relay/main.js');

type Test = { teardown(f: () => unknown): void };

async function start(t: Test, name: string): Promise<TestAgent> {
  const agent = await new TestAgent(name).listen(AGENT_TLS);
  t.teardown(() => agent.server.close());
  return agent;
}

async function relayOf(t: Test, agents: Agents): Promise<AgentClient> {
  const flows = { holdBackMs: 100, retryMs: 50 };
  const relay = new RelayServer({ agents, version: '1.2.3', tls: true, log: quiet, flows });
  const listener = await relay.listenTls('127.0.0.1:0', RELAY_TLS, { clientCertificates: 'off' });
  const address = `127.0.0.1:${listener.port}`;
  const client = new AgentClient({ address, name: 'relay', tls: certs.client, serverName: RELAY_SERVER_NAME });
  t.teardown(async () => {
    client.close();
    agents.close();
    await relay.close();
  });
  return client;
}

t.test('Observer and egress.v1 for the cluster', async (t) => {
  const [a, b] = [await start(t, 'node-a'), await start(t, 'node-b')];
  const agents = new Agents(() => certs.relay);
  const places = [a, b].map((x) => ({ id: x.name, name: x.name, address: x.address }));
  agents.set([...places, { id: 'x', name: 'node-x', address: '127.0.0.1:1' }]);
  const client = await relayOf(t, agents);
  const uuids = Array.from({ length: 30 }, (_, ms) => (ms % 3 ? a : b).publish(ms));

  const got: GetFlowsResponse[] = [];
  for await (const r of client.getFlows({ number: 7 })) got.push(r);
  const flows = got.filter((r) => r.flow);
  t.same(
    flows.map((r) => r.flow?.uuid),
    uuids.slice(-7),
  );
  t.same([...new Set(flows.map((r) => r.node_name))].sort(), ['node-a', 'node-b'], 'each with its node');
  t.match(
    got.find((r) => r.node_status),
    { node_status: { state_change: 'NODE_UNAVAILABLE', node_names: ['node-x'], message: /ECONNREFUSED/ } },
  );
  for await (const { flow } of client.getFlows({ number: 1, field_mask: { paths: ['uuid', 'source.pod_name'] } }))
    if (flow) t.same(flow, { uuid: uuids.at(-1), source: { pod_name: 'web-1' } }, 'the field mask');
  for await (const { record } of client.getRecords({ number: 1 }))
    if (record) t.match(record, { flow: { uuid: uuids.at(-1) }, event: 'verdict' }, 'whole records');
  await t.rejects(
    (async () => {
      for await (const _ of client.getFlows({ first: true, follow: true }));
    })(),
    { code: 'USAGE' },
  );

  t.match(await client.serverStatus(), {
    num_flows: '30',
    seen_flows: '30',
    num_connected_nodes: { value: 2 },
    num_unavailable_nodes: { value: 1 },
    unavailable_nodes: ['node-x'],
    version: 'egress-relay v1.2.3',
  });
  const { nodes } = await client.nodes();
  t.match(nodes, [
    { name: 'node-a', state: 'NODE_CONNECTED', num_flows: '20', tls: { enabled: true }, address: a.address },
    { name: 'node-b', state: 'NODE_CONNECTED', num_flows: '10' },
    { name: 'node-x', state: 'NODE_UNAVAILABLE' },
  ]);
  const status = await client.clusterStatus();
  t.match(status.nodes, [
    { name: 'node-a', status: { node_name: 'node-a' } },
    { name: 'node-b', status: { node_name: 'node-b' } },
    { name: 'node-x', state: 'NODE_UNAVAILABLE', message: /node-x .*ECONNREFUSED/ },
  ]);
  t.equal(status.nodes?.[2]?.status, undefined);
  t.match((await client.policies()).policies, [{ name: 'web', state: 'refused' }], 'refused by one is refused');
  t.match(JSON.parse((await client.explain({ from: 'shop/node-b-pod', to: '10.0.0.1', port: 443 })).json), {
    summary: 'says node-b',
  });
  const ofNode = client.explain({ from: '@node/node-b', to: '10.0.0.1', port: 443 });
  await t.rejects(ofNode, { code: 'USAGE', message: /there is no pod @node on node-b/ }, 'that node is asked');
  await t.rejects(client.explain({ from: '@node/nobody', to: '10.0.0.1' }), {
    code: 'USAGE',
    message: /no node nobody/,
  });
  const learned = await client.names({});
  t.match(learned.names, [
    { node_name: 'node-a', name: 'node-a.example.com', pod: 'shop/node-a-pod' },
    { node_name: 'node-b', name: 'node-b.example.com' },
  ]);
  t.same(learned.unavailable_nodes, ['node-x']);
  t.notOk(learned.more);
  t.match(await client.names({ limit: 1 }), { names: { length: 1 }, more: true });
  const ofPod = await client.names({ pod: 'shop/node-b-pod' });
  t.same(
    ofPod.names?.map((n) => n.pod),
    ['shop/node-b-pod'],
    'a node without the pod has nothing to say',
  );
  t.same(ofPod.unavailable_nodes, ['node-x'], 'and is not missing');
  await t.rejects(client.names({ pod: 'shop/nobody' }), { code: 'USAGE' });
  await t.rejects(client.explain({ from: 'shop/nobody', to: '10.0.0.1' }), { code: 'USAGE', message: /node-x/ });
  t.notOk((await client.namespaces()).namespaces, 'nothing within the last hour');
  // Flows here are counted from a moment of 2023.
  a.publish(Date.now() - 1_700_000_100_000);
  b.publish(Date.now() - 1_700_000_100_000);
  t.same((await client.namespaces()).namespaces, [{ namespace: 'shop' }], 'once, though both nodes saw it');
  await t.rejects(client.status(), { code: 'AGENT', message: /ClusterStatus/ });
});

t.test('agents found through the API', async (t) => {
  const [a, b] = [await start(t, 'node-a'), await start(t, 'node-b')];
  const api = new Api();
  await api.listen();
  const kube = new KubeClient(api.config);
  const namespace = 'egress-system';
  // Of one address each, as the pods of a cluster are: there is one port here for each address.
  api.pod(namespace, 'agent-a', { node: 'node-a', agent: true });
  api.pod(namespace, 'other', { node: 'node-z' });
  api.pod(namespace, 'agent-w', { node: 'node-w', agent: true, phase: 'Pending', ip: '' });
  const agents = new Agents(() => certs.relay);
  const discovery = followAgents(agents, { client: kube, namespace, port: a.port, log: quiet });
  t.teardown(() => {
    discovery.close();
    kube.close();
    api.close();
  });
  const client = await relayOf(t, agents);
  await until('the first is found', () => agents.list().length === 1);
  const seen: string[] = [];
  const stop = new AbortController();
  const reading = (async () => {
    for await (const r of client.getFlows({ follow: true }, stop.signal)) {
      if (r.flow) seen.push(r.flow.uuid ?? '');
      if (r.node_status) seen.push(`${r.node_status.state_change} ${r.node_status.node_names.join(' ')}`);
    }
  })();
  await until('connected', () => seen.includes('NODE_CONNECTED node-a'));
  t.notOk(
    seen.some((s) => /node-[wz]/.test(s)),
    'no other pods',
  );
  const uuid = a.publish(1);
  await until('a flow', () => seen.includes(uuid));
  api.remove(namespace, 'agent-a');
  await until('gone', () => seen.includes('NODE_GONE node-a'));
  api.pod(namespace, 'agent-a2', { node: 'node-a', agent: true });
  await until('its successor', () => seen.filter((s) => s === 'NODE_CONNECTED node-a').length === 2);
  t.ok(b.port > 0);
  stop.abort();
  await reading;
});

t.test('the program', async (t) => {
  const [a, b] = [await start(t, 'node-a'), await start(t, 'node-b')];
  const run = (...args: string[]): ChildProcess & { said: string } => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    const out = Object.assign(child, { said: '' });
    child.stderr.on('data', (d) => (out.said += d));
    return out;
  };
  const list = `${a.address},${b.address}`;
  for (const [what, args, said] of [
    ['in the clear to everyone', ['--agents', list, '--listen', ':0'], /needs TLS/],
    ['a cluster without TLS', ['--listen', '127.0.0.1:0'], /speak TLS/],
    ['agents elsewhere without TLS', ['--agents', '10.0.0.1:4245', '--listen', '127.0.0.1:0'], /needs TLS/],
    ['no address', ['--agents', 'x', '--listen', '127.0.0.1:0'], /no address/],
  ] as const) {
    const bad = run(...args);
    const [code] = await once(bad, 'close');
    t.equal(code, 2, what);
    t.match(bad.said, said);
  }
  const port = 20_000 + (process.pid % 20_000);
  const tls = ['--tls-dir', RELAY_TLS];
  const relay = run('--agents', list, ...tls, '--listen', `127.0.0.1:${port}`, '--client-ca', 'on');
  t.teardown(() => relay.kill('SIGKILL'));
  await until('it listens', () => /listening/.test(relay.said), 20_000);
  const uuids = [a.publish(1), b.publish(2), a.publish(3)];
  const as = (files: typeof certs.client) =>
    new AgentClient({ address: `127.0.0.1:${port}`, name: 'relay', tls: files, serverName: RELAY_SERVER_NAME });
  const [client, stranger] = [as(certs.client), as((await makeCertificates('egress-system', 2)).client)];
  const got: (string | undefined)[] = [];
  for await (const r of client.getFlows({ number: 3 })) got.push(r.flow?.uuid);
  t.same(got, uuids);
  t.match((await client.nodes()).nodes, [{ name: 'node-a' }, { name: 'node-b' }], 'names, not addresses');
  await t.rejects(stranger.serverStatus(), { code: 'AGENT' }, "another CA's client is refused");

  relay.kill('SIGTERM');
  const [code] = await once(relay, 'close');
  t.equal(code, 0, 'ends when told to');
  client.close();
  stranger.close();

  const open = run('--agents', list, ...tls, '--listen', `127.0.0.1:${port}`, '--plaintext');
  t.teardown(() => open.kill('SIGKILL'));
  await until('it listens in the clear', () => /listening/.test(open.said), 20_000);
  const ui = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  t.teardown(() => ui.close());
  const notify = PEER.Notify as NonNullable<(typeof PEER)['Notify']>;
  const names = new Set<string>();
  const peers = ui.makeServerStreamRequest(
    notify.path,
    notify.requestSerialize,
    notify.responseDeserialize,
    {},
  ) as ClientReadableStream<{ address: string; type: string }>;
  peers.on('error', () => {});
  peers.on('data', (p: { address: string }) => names.add(p.address));
  await until('the peers', () => names.size === 2);
  t.same([...names].sort(), [a.address, b.address].sort());
  peers.cancel();
});
