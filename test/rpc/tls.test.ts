/** The agent on TCP: who is let in, who is not, certificates that come late and that change. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { AGENT_SERVER_NAME, parseListen, readTls, type TlsFiles } from '../../src/rpc/transport/tls.js';
import { TestAgent, tempDir, until, writeTls } from '../relay/world.js';

t.setTimeout(120_000);

const version = async (address: string, tls?: TlsFiles, serverName?: string): Promise<string> => {
  const client = new AgentClient({ address, name: 'node-a', tls, ...(serverName ? { serverName } : {}) });
  try {
    return (await client.status(3000)).version;
  } finally {
    client.close();
  }
};

t.test('addresses to listen on', async (t) => {
  t.same(parseListen(':4245'), { host: '::', port: 4245 });
  t.same(parseListen('10.0.0.1:1'), { host: '10.0.0.1', port: 1 });
  t.same(parseListen('[fd00::1]:65535'), { host: 'fd00::1', port: 65535 });
  for (const bad of ['4245', '10.0.0.1', 'example.org:1', '10.0.0.1:65536', 'fd00::1:80', '[10.0.0.1:1', ':'])
    t.throws(() => parseListen(bad), { code: 'USAGE' }, bad);
  const agent = new TestAgent('node-a');
  t.teardown(() => agent.server.close());
  for (const open of [':0', '0.0.0.0:0', '[::]:0', '10.0.0.1:0'])
    await t.rejects(agent.server.listenTls(open), { code: 'USAGE', message: /needs TLS/ }, `${open} in the clear`);
  await agent.listen();
  t.equal(await version(agent.address), '1.2.3', 'to this machine alone: in the clear');
  const second = new TestAgent('node-b');
  t.teardown(() => second.server.close());
  await t.rejects(second.server.listenTls(agent.address), { code: 'AGENT' }, 'an address that is taken');
  const tls = writeTls(tempDir(t), (await makeCertificates('egress-system', 2)).agent);
  await t.rejects(second.server.listenTls(agent.address, tls), { code: 'AGENT' }, 'the same with TLS');
});

t.test('mutual TLS', async (t) => {
  const dir = tempDir(t);
  const [own, other] = [await makeCertificates('egress-system', 2), await makeCertificates('egress-system', 2)];
  const agent = await new TestAgent('node-a').listen(writeTls(join(dir, 'agent'), own.agent));
  t.teardown(() => agent.server.close());
  const refused = { code: 'AGENT', message: /^node-a \(127.0.0.1:\d+\) cannot be reached: / };

  t.equal(await version(agent.address, own.client), '1.2.3', 'the client');
  t.equal(await version(agent.address, own.relay), '1.2.3', 'the relay');
  await t.rejects(version(agent.address), refused, 'in the clear');
  await t.rejects(version(agent.address, own.agent), refused, 'an agent is no client');
  await t.rejects(version(agent.address, { ...other.client, ca: own.client.ca }), refused, "another CA's client");
  await t.rejects(version(agent.address, other.client), refused, 'which would not trust the agent either');
  await t.rejects(
    version(agent.address, own.client, 'egress-relay.egress-system.svc'),
    { code: 'AGENT', message: /altnames/ },
    'a server that has the wrong name',
  );
  t.equal(AGENT_SERVER_NAME, 'egress-agent.egress-system.svc');
});

t.test('a certificate that comes late, is broken, is replaced, goes away', async (t) => {
  const dir = join(tempDir(t), 'late');
  const agent = new TestAgent('node-a');
  t.teardown(() => agent.server.close());
  const listener = await agent.server.listenTls('127.0.0.1:0', dir, { pollMs: 20 });
  t.equal(listener.port, undefined, 'nothing there yet: not listening');
  const [first, second] = [await makeCertificates('egress-system', 2), await makeCertificates('egress-system', 2)];
  writeTls(dir, first.agent);
  await until('it listens', () => listener.port !== undefined);
  const address = `127.0.0.1:${listener.port}`;
  t.equal(await version(address, first.client), '1.2.3');

  const open = new AgentClient({ address, name: 'node-a', tls: first.client });
  t.teardown(() => open.close());
  await open.status();
  writeTls(dir, { ...first.agent, key: second.agent.key });
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(await version(address, first.client), '1.2.3', 'key and certificate that do not fit: the old ones stay');
  writeTls(dir, second.agent);
  await until('the second is taken', () =>
    version(address, second.client).then(
      () => true,
      () => false,
    ),
  );
  await t.rejects(version(address, first.client), { code: 'AGENT' }, 'the first is no longer let in');
  t.equal((await open.status()).version, '1.2.3', 'a connection that is open stays');
  rmSync(dir, { recursive: true });
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(await version(address, second.client), '1.2.3', 'files that go away change nothing');
  t.throws(() => readTls(dir), { code: 'AGENT', message: /cannot read .*ca\.crt/ });
});

t.test('streams over TLS end with the server', async (t) => {
  const dir = tempDir(t);
  const { agent: own, client: theirs } = await makeCertificates('egress-system', 2);
  const agent = await new TestAgent('node-a').listen(writeTls(join(dir, 'agent'), own));
  const client = new AgentClient({ address: agent.address, name: 'node-a', tls: theirs });
  t.teardown(() => client.close());
  const got: string[] = [];
  let opened = false;
  const reading = (async () => {
    for await (const r of client.getRecords({ follow: true }, undefined, () => {
      opened = true;
    }))
      if (r.record) got.push(r.record.flow.uuid ?? '');
  })();
  await until('opened', () => opened);
  const uuid = agent.publish(1);
  await until('the flow', () => got.length === 1);
  t.same(got, [uuid], 'what is seen after the stream was opened is told');
  const started = Date.now();
  await agent.server.close();
  await reading;
  t.ok(Date.now() - started < 3000, 'in time');
  await t.rejects(version(agent.address, theirs), { code: 'AGENT', message: /ECONNREFUSED/ });
});
