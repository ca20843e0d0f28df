/** The compiled plugin against the agent's server, over a real socket: what a container runtime sees. */
import { statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { GateRequest } from '../../agent/gate/protocol.js';
import { type GateHandler, GateServer } from '../../agent/gate/server.js';
import { AgentError } from '../../src/errors.js';
import { makeLogger } from '../../src/log.js';
import { until } from '../netns/shell.js';
import { PREV_RESULT, plugin, temporaryDirectory } from './plugin.js';

t.setTimeout(120_000);
const quiet = makeLogger('error', () => undefined);
const dir = temporaryDirectory(t);
let sockets = 0;
const newPath = () => join(dir, `${++sockets}.sock`);

/** What the handler was told, and how it answers. */
class Handler implements GateHandler {
  readonly added: GateRequest[] = [];
  readonly deleted: GateRequest[] = [];
  aborted = 0;
  answer: (signal: AbortSignal) => Promise<void> = async () => undefined;

  add(request: GateRequest, signal: AbortSignal): Promise<void> {
    this.added.push(request);
    signal.addEventListener('abort', () => this.aborted++);
    return this.answer(signal);
  }

  del(request: GateRequest): void {
    this.deleted.push(request);
  }
}

async function served(t: Test, path = newPath()) {
  const handler = new Handler();
  const server = new GateServer(handler, quiet);
  await server.listen(path);
  t.teardown(() => server.close());
  return { path, handler, server };
}

/** The CNI error object on standard output. */
function errorOf(stdout: string): { cniVersion: string; code: number; msg: string; details: string } {
  return JSON.parse(stdout);
}

t.test('ADD: the previous result, once the policy is in force', async (t) => {
  const { path, handler, server } = await served(t);
  const run = await plugin(path);
  t.equal(run.status, 0);
  t.equal(run.stdout, `${JSON.stringify(PREV_RESULT)}\n`);
  t.equal(run.stderr, '');
  t.same(handler.added, [
    {
      command: 'ADD',
      container: 'c0ffee',
      netns: '/var/run/netns/cni-1',
      ifname: 'eth0',
      pod: { namespace: 'shop', name: 'web', uid: '11111111-2222-3333-4444-555555555555' },
      ips: ['10.202.0.7'],
      mac: '02:00:00:00:00:aa',
    },
  ]);
  t.same(server.stats, { held: 1, passed: 1, refused: 0, timedOut: 0 });
  t.equal(server.pending, 0);
});

t.test('ADD: the previous result is not touched, whatever it looks like', async (t) => {
  const { path } = await served(t);
  const prev = '{ "ips" :[],\t"odd\\u0041": [1e400, -0.10, "\\ud83d\\ude00ü"],\n "big":12345678901234567890 }';
  const run = await plugin(path, { input: `{"socket":"${path}", "prevResult" : ${prev} , "cniVersion":"1.1.0"}` });
  t.equal(run.stdout, `${prev}\n`);
  const large = 'x'.repeat(900_000);
  const big = await plugin(path, { conf: { prevResult: { large } } });
  t.equal(big.stdout, `${JSON.stringify({ large })}\n`, 'larger than a pipe and a socket buffer');
});

t.test('ADD: refused', async (t) => {
  const { path, handler, server } = await served(t);
  handler.answer = async () => {
    throw new AgentError('POLICY', 'the policy "a\\b"\nis broken: ü', { hint: 'correct it' });
  };
  const closed = await plugin(path);
  t.equal(closed.status, 1);
  const error = errorOf(closed.stdout);
  t.match(error, { cniVersion: '0.4.0', code: 11, msg: /the policy "a\\b" is broken: ü — correct it$/ });
  t.match(error.details, /tried again/);
  const open = await plugin(path, { conf: { whenAgentDown: 'open' } });
  t.equal(open.status, 0);
  t.same(JSON.parse(open.stdout), PREV_RESULT);
  t.match(open.stderr, /^egress-gate: .*is broken.*c0ffee of network pods starts all the same\n$/);
  handler.answer = () => {
    throw new Error('a secret of the agent');
  };
  t.match(errorOf((await plugin(path)).stdout).msg, /a fault of the agent/);
  handler.answer = async () => {
    throw new AgentError('POLICY', 'ü'.repeat(5000));
  };
  const long = errorOf((await plugin(path)).stdout).msg;
  t.match(long, /ü+$/, 'cut between characters');
  t.ok(Buffer.byteLength(long) < 1200);
  t.equal(server.stats.refused, 4);
});

t.test('ADD: slow', async (t) => {
  const { path, handler, server } = await served(t);
  handler.answer = () => sleep(400);
  const run = await plugin(path);
  t.equal(run.status, 0);
  t.ok(run.ms >= 390, `held for ${run.ms} ms`);

  handler.answer = () => new Promise(() => undefined);
  const late = await plugin(path, { conf: { timeoutSeconds: 0.5 } });
  t.equal(late.status, 1);
  t.ok(late.ms >= 490 && late.ms < 5000, `${late.ms} ms`);
  t.match(errorOf(late.stdout), { code: 11, msg: /has not answered in time/ });
  await until('the server notices', () => server.stats.timedOut === 1);
  t.equal(handler.aborted, 2, 'the signal aborts at the end of each connection');
  t.equal(server.pending, 0, 'a handler that goes on does not count');

  const open = await plugin(path, { conf: { timeoutSeconds: 0.5, whenAgentDown: 'open' } });
  t.equal(open.status, 0);
  t.match(open.stderr, /has not answered in time/);
});

t.test('the agent is down', async (t) => {
  const path = newPath();
  const closed = await plugin(path, { conf: { timeoutSeconds: 0.6, cniVersion: '1.0.0' } });
  t.equal(closed.status, 1);
  t.ok(closed.ms >= 590 && closed.ms < 5000, `${closed.ms} ms`);
  t.match(errorOf(closed.stdout), {
    cniVersion: '1.0.0',
    code: 11,
    msg: /no agent answers on .*No such file/,
    details: /whenAgentDown/,
  });
  const open = await plugin(path, { conf: { whenAgentDown: 'open' } });
  t.equal(open.status, 0);
  t.ok(open.ms >= 900 && open.ms < 6000, `about a second, not the ten of the limit: ${open.ms} ms`);
  t.same(JSON.parse(open.stdout), PREV_RESULT);
  writeFileSync(path, 'no socket');
  t.match(errorOf((await plugin(path, { conf: { timeoutSeconds: 0.2 } })).stdout).msg, /refused/);
});

t.test('the agent comes while a pod waits', async (t) => {
  const path = newPath();
  const run = plugin(path, { conf: { timeoutSeconds: 20 } });
  await sleep(400);
  const { handler } = await served(t, path);
  t.equal((await run).status, 0);
  t.equal(handler.added.length, 1);
});

t.test('the agent goes while a pod waits, and another takes over', async (t) => {
  const first = await served(t);
  first.handler.answer = () => new Promise(() => undefined);
  const run = plugin(first.path, { conf: { timeoutSeconds: 20 } });
  await until('it is held', () => first.server.pending === 1);
  await first.server.close();
  await sleep(300);
  const second = await served(t, first.path);
  t.equal((await run).status, 0);
  t.equal(second.handler.added.length, 1);

  const alone = await served(t);
  alone.handler.answer = () => new Promise(() => undefined);
  const closed = plugin(alone.path, { conf: { timeoutSeconds: 1 } });
  const open = plugin(alone.path, { conf: { timeoutSeconds: 20, whenAgentDown: 'open' } });
  await until('they are held', () => alone.server.pending === 2);
  await alone.server.close();
  t.equal((await closed).status, 1);
  const passed = await open;
  t.equal(passed.status, 0);
  t.ok(passed.ms < 10_000);
});

t.test('DEL tells the agent, and never fails', async (t) => {
  const { path, handler } = await served(t);
  const run = await plugin(path, { command: 'DEL' });
  t.equal(run.status, 0);
  t.equal(run.stdout, '');
  t.match(handler.deleted, [{ command: 'DEL', container: 'c0ffee', ips: ['10.202.0.7'] }]);
  const bare = await plugin(path, {
    command: 'DEL',
    conf: { prevResult: undefined },
    env: { CNI_NETNS: undefined, CNI_ARGS: undefined },
  });
  t.equal(bare.status, 0);
  t.match(handler.deleted[1], { netns: '', ips: [] });
  handler.del = () => {
    throw new Error('no');
  };
  t.equal((await plugin(path, { command: 'DEL' })).status, 0);
  const down = await plugin(newPath(), { command: 'DEL' });
  t.equal(down.status, 0);
  for (const input of ['', '{', '[]', 'x'.repeat(2_000_000)]) {
    t.equal((await plugin(path, { command: 'DEL', input })).status, 0);
  }
});

t.test('CHECK, VERSION, STATUS, GC', async (t) => {
  const path = newPath();
  t.match(await plugin(path, { command: 'CHECK' }), { status: 0, stdout: '' });
  const alone = await plugin(path, { command: 'CHECK', conf: { prevResult: undefined } });
  t.equal(alone.status, 1);
  t.equal(errorOf(alone.stdout).code, 7);
  const version = await plugin(path, { command: 'VERSION', input: '{"cniVersion":"1.0.0"}' });
  t.equal(version.status, 0);
  const { cniVersion, supportedVersions } = JSON.parse(version.stdout);
  t.equal(cniVersion, '1.0.0');
  for (const v of ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']) t.ok(supportedVersions.includes(v), v);
  t.equal(JSON.parse((await plugin(path, { command: 'VERSION', input: '' })).stdout).cniVersion, '1.1.0');
  for (const command of ['STATUS', 'GC']) t.match(await plugin(path, { command }), { status: 0, stdout: '' });
  for (const command of ['', 'add', 'SOMETHING']) {
    const run = await plugin(path, { command });
    t.equal(run.status, 1);
    t.equal(errorOf(run.stdout).code, 4);
  }
});

t.test('what cannot be understood is an error with its code', async (t) => {
  const { path, handler } = await served(t);
  const rows: [string, Parameters<typeof plugin>[1], number][] = [
    ['no input', { input: '' }, 6],
    ['half of it', { input: '{"cniVersion":"1.0.0","prevResult":{' }, 6],
    ['something behind it', { input: '{"prevResult":{}} x' }, 6],
    ['too deep', { input: `{"a":${'['.repeat(100_000)}` }, 6],
    ['more than 1 MiB', { conf: { large: 'x'.repeat(1 << 20) } }, 5],
    ['no previous result', { conf: { prevResult: undefined } }, 7],
    ['null is none', { conf: { prevResult: null } }, 7],
    ['a list is none', { conf: { prevResult: [] } }, 7],
    ['a relative socket', { conf: { socket: 'gate.sock' } }, 7],
    ['a socket with NUL', { conf: { socket: '/a\0b' } }, 7],
    ['a long socket', { conf: { socket: `/${'x'.repeat(107)}` } }, 7],
    ['no number', { conf: { timeoutSeconds: '10' } }, 7],
    ['no time', { conf: { timeoutSeconds: 0 } }, 7],
    ['too much time', { conf: { timeoutSeconds: 601 } }, 7],
    ['neither open nor closed', { conf: { whenAgentDown: 'ajar' } }, 7],
    ['no container', { env: { CNI_CONTAINERID: undefined } }, 4],
    ['no namespace', { env: { CNI_NETNS: '' } }, 4],
    ['two lines', { env: { CNI_ARGS: 'a=b\ncontainer other' } }, 4],
    ['a long line', { env: { CNI_ARGS: 'x'.repeat(5000) } }, 4],
  ];
  for (const [name, call, code] of rows) {
    const run = await plugin(path, call);
    t.equal(run.status, 1, name);
    t.equal(errorOf(run.stdout).code, code, name);
    t.equal(run.stderr, '', name);
  }
  t.equal(handler.added.length, 0);
});

t.test('the socket: its mode, leftovers, and who lives there', async (t) => {
  const { path, server } = await served(t);
  t.equal(statSync(path).mode & 0o777, 0o600);
  await t.rejects(new GateServer(new Handler(), quiet).listen(path), { code: 'AGENT' });
  t.equal((await plugin(path)).status, 0, 'the first one goes on');
  await server.close();
  await server.close();
  writeFileSync(path, 'a leftover');
  await served(t, path);
  t.equal((await plugin(path)).status, 0);
  await t.rejects(new GateServer(new Handler(), quiet).listen('/nowhere/at/all.sock'), { code: 'AGENT' });
});

t.test('what comes over the socket is bounded', async (t) => {
  const { path, handler } = await served(t);
  const say = (bytes: string | Buffer): Promise<string> =>
    new Promise((resolve) => {
      let text = '';
      const socket = connect(path, () => socket.write(bytes));
      socket.on('data', (chunk) => {
        text += chunk.toString();
      });
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(text));
    });
  t.match(await say('GET / HTTP/1.1\r\n\r\n\n\n'), /^NO .*begins with neither/);
  t.match(await say(Buffer.alloc(30_000, 'x')), /^NO .*head is longer/);
  t.match(await say('EGRESS-GATE/1 ADD\nconf-bytes 99999999\n\n'), /^NO .*conf-bytes/);
  const begun = Date.now();
  t.match(await say('EGRESS-GATE/1 ADD\n'), /^NO .*has not come within/, 'half a request');
  t.ok(Date.now() - begun < 10_000);
  t.equal(handler.added.length, 0);

  const many = Array.from({ length: 300 }, () => connect(path).on('error', () => undefined));
  let turnedAway = 0;
  for (const socket of many) socket.on('close', () => turnedAway++).resume();
  await until('44 are turned away', () => turnedAway === 44);
  for (const socket of many) socket.destroy();
  t.equal((await plugin(path)).status, 0, 'there is room again');
});

t.test('fifty pods at once', async (t) => {
  const { path, handler, server } = await served(t);
  handler.answer = () => sleep(200);
  const runs = await Promise.all(Array.from({ length: 50 }, () => plugin(path, { conf: { timeoutSeconds: 30 } })));
  t.ok(runs.every((r) => r.status === 0));
  t.same(server.stats, { held: 50, passed: 50, refused: 0, timedOut: 0 });
});
