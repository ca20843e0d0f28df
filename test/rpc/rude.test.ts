/** Callers who break the protocol, or are told good-bye, and stay: they are shown out, others are not. */
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import t from 'tap';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { AGENT_SERVER_NAME } from '../../src/rpc/transport/tls.js';
import { frame, GREETING, TYPE } from '../proof/h2.js';
import { TestAgent, tempDir, until, writeTls } from '../relay/world.js';

t.setTimeout(120_000);

/** What the library takes without a word, and waits for ever. */
const RUDE: Readonly<Record<string, Buffer>> = {
  'data on the connection itself': frame(TYPE.data, 0, 0, Buffer.alloc(3)),
  'a frame that is too large': frame(TYPE.data, 0, 1, Buffer.alloc(10), 0xffffff),
  'a good-bye, and no end': frame(TYPE.goaway, 0, 0, Buffer.alloc(8)),
  'no call at all': Buffer.alloc(0),
};

t.test('who breaks the protocol and stays has to go', async (t) => {
  const certs = await makeCertificates('egress-system', 2);
  const dir = tempDir(t);
  const agent = new TestAgent('node-a');
  t.teardown(() => agent.server.close());
  const path = join(dir, 'agent.sock');
  await agent.server.listen(path);
  await agent.listen(writeTls(join(dir, 'tls'), certs.agent));
  const tls = { host: '127.0.0.1', port: agent.port, ...certs.client, servername: AGENT_SERVER_NAME };
  const dials: [string, () => Socket][] = [
    ['unix', () => connect(path)],
    ['tls', () => connectTls({ ...tls, ALPNProtocols: ['h2'] })],
  ];

  const follower = new AgentClient(path);
  const stop = new AbortController();
  t.teardown(() => follower.close());
  let told = 0;
  const following = (async () => {
    for await (const { record } of follower.getRecords({ follow: true, number: 1 }, stop.signal))
      told += record ? 1 : 0;
  })();
  agent.publish(1);
  await until('it is heard', () => told === 1);

  const gone = dials.flatMap(([where, dial]) =>
    Object.entries(RUDE).flatMap(([what, bytes]) =>
      [true, false].map(async (reads) => {
        const socket = dial().on('error', () => {});
        t.teardown(() => socket.destroy());
        socket.write(Buffer.concat([GREETING, bytes]));
        if (reads) socket.resume();
        // Who does not read hears of the end when it writes: bytes that mean nothing any more.
        else setInterval(() => socket.writable && socket.write(Buffer.alloc(1)), 500).unref();
        await until(`${where}: ${what}, ${reads ? 'reading' : 'not reading'}: gone`, () => socket.closed, 40_000);
      }),
    ),
  );
  await Promise.all(gone);
  agent.publish(2);
  await until('who follows is none the worse', () => told === 2);
  stop.abort();
  await following;
});
