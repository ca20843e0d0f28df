/** The socket's place and permissions: who may use it, what stood there before, where it may stand. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { BaseServer } from '../../src/rpc/transport/base.js';
import { TestAgent, until } from '../relay/world.js';

const NOBODY = 65534;
const dir = mkdtempSync(join(tmpdir(), 'egress-agent-socket-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

async function answer(path: string): Promise<string> {
  const client = new AgentClient(path);
  try {
    return (await client.status()).version;
  } finally {
    client.close();
  }
}

/** What another user's connect comes to. */
function asNobody(path: string): string {
  const script = `require('net').connect(${JSON.stringify(path)}).on('connect',function(){console.log('in');this.destroy()}).on('error',(e)=>console.log(e.code))`;
  return spawnSync(process.execPath, ['-e', script], {
    uid: NOBODY,
    gid: NOBODY,
    cwd: '/',
    encoding: 'utf8',
  }).stdout.trim();
}

t.test('other users are refused, by the socket itself', async (t) => {
  const agent = new TestAgent('node-a');
  t.teardown(() => agent.server.close());
  const open = join(dir, 'open');
  mkdirSync(open);
  // Only the socket's own mode is left to keep them out.
  for (const d of [dir, open]) chmodSync(d, 0o755);
  const path = join(open, 'agent.sock');
  await agent.server.listen(path);
  t.equal(lstatSync(path).mode & 0o777, 0o660);
  t.equal(asNobody(path), 'EACCES');
  t.equal(await answer(path), '1.2.3');
});

t.test('what stood there', async (t) => {
  const path = join(dir, 'agent.sock');
  const other = join(dir, 'precious');
  for (const put of [
    () => symlinkSync(other, path),
    () => symlinkSync('/nowhere/at/all', path),
    () => writeFileSync(path, 'a file'),
  ]) {
    writeFileSync(other, 'kept');
    put();
    const agent = new TestAgent('node-a');
    await agent.server.listen(path);
    t.ok(lstatSync(path).isSocket(), 'a socket of its own');
    t.equal(readFileSync(other, 'utf8'), 'kept', 'not what the link points to');
    t.equal(await answer(path), '1.2.3');
    await agent.server.close();
    t.throws(() => lstatSync(path), { code: 'ENOENT' });
  }
  mkdirSync(path);
  await t.rejects(BaseServer.refuseIfServed(path), { code: 'AGENT', message: /is a directory/ });
});

t.test('no place for it: where everybody may write', async (t) => {
  const shared = join(dir, 'shared');
  mkdirSync(shared);
  chmodSync(shared, 0o777);
  const path = join(shared, 'agent.sock');
  await t.rejects(BaseServer.refuseIfServed(path), { code: 'AGENT', message: /everybody may write/ });
  chmodSync(shared, 0o1777);
  await BaseServer.refuseIfServed(path);
  chmodSync(shared, 0o750);
  await BaseServer.refuseIfServed(path);
});

t.test('a crowd that says nothing is not in the way', async (t) => {
  const agent = new TestAgent('node-a');
  t.teardown(() => agent.server.close());
  const path = join(dir, 'crowd.sock');
  await agent.server.listen(path);
  const crowd: Socket[] = [];
  t.teardown(() => {
    for (const s of crowd) s.destroy();
  });
  for (let i = 0; i < 1200; i++) {
    const socket = connect(path).on('error', () => {});
    crowd.push(socket);
    await new Promise((resolve) => socket.once('connect', resolve).once('error', resolve));
    // Who goes hears the end of it.
    socket.resume();
  }
  await until('the first have gone', () => crowd.filter((s) => s.closed).length >= 600);
  t.equal(await answer(path), '1.2.3');
});
