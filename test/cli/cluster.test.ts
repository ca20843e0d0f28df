/** egressctl on a cluster: the built program, an API that finds agents and forwards ports, agents over mutual TLS. */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import t from 'tap';
import { DEFAULT_SOCKET, isClusterMeant } from '../../src/cli/common/target.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import type { TlsFiles } from '../../src/rpc/transport/tls.js';
import { compiled } from '../netns/shell.js';
import { Api } from '../relay/api.js';
import { TestAgent, tempDir, until, writeTls } from '../relay/world.js';

// Dozens of processes are started: on a busy machine that takes its time.
t.setTimeout(240_000);
const CTL = join(compiled, 'src/cli/main.js');
const NS = 'egress-system';
const dir = tempDir(t);
const certs = await makeCertificates(NS, 2);
const agentTls = writeTls(join(dir, 'agent'), certs.agent);
const api = new Api();
await api.listen();
const kubeconfig = join(dir, 'config');
api.writeKubeconfig(kubeconfig);

const secretPath = `/api/v1/namespaces/${NS}/secrets/egress-client-tls`;
function secret(files: TlsFiles): void {
  const data = { 'ca.crt': files.ca, 'tls.crt': files.cert, 'tls.key': files.key };
  const text = Object.entries(data).map(([key, pem]) => [key, pem.toString('base64')]);
  api.objects.set(secretPath, { metadata: { name: 'egress-client-tls' }, data: Object.fromEntries(text) });
}
secret(certs.client);

const [a, b] = [new TestAgent('node-a'), new TestAgent('node-b', { pods: ['shop/web'] })];
await a.listen(agentTls);
await b.listen(agentTls);
api.pod(NS, 'agent-a', { node: 'node-a', agent: true, target: a.port });
api.pod(NS, 'agent-b', { node: 'node-b', agent: true, target: b.port });
api.pod('shop', 'web', { node: 'node-b' });
const uuids = Array.from({ length: 40 }, (_, ms) => (ms % 3 ? a : b).publish(ms));
t.teardown(async () => {
  await a.server.close();
  await b.server.close();
  api.close();
});

type Child = ChildProcessByStdio<null, Readable, Readable>;
interface Ended {
  code: number | null;
  out: string;
  err: string;
}

function start(args: readonly string[], env: Record<string, string> = {}, program = CTL): Child {
  return spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: ownEnv(env) });
}

function ownEnv(env: Record<string, string>): NodeJS.ProcessEnv {
  const { EGRESS_AGENT_SOCKET: _, KUBECONFIG: __, ...clean } = process.env;
  return { ...clean, HOME: dir, TZ: 'UTC', ...env };
}

async function ended(child: Child): Promise<Ended> {
  const text = { out: '', err: '' };
  child.stdout.on('data', (d) => (text.out += d));
  child.stderr.on('data', (d) => (text.err += d));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...text };
}

const ctl = (...args: string[]) => ended(start([...args, '--kubeconfig', kubeconfig]));
const uuidsOf = (out: string) =>
  out
    .split('\n')
    .filter((l) => l !== '')
    .map((l) => (JSON.parse(l) as { flow?: { uuid: string } }).flow?.uuid);

/** While `run` runs, a third node has an agent that cannot be reached. */
async function withBroken<A>(opts: Parameters<Api['pod']>[2], run: () => Promise<A>): Promise<A> {
  api.pod(NS, 'agent-x', { node: 'node-x', agent: true, ...opts });
  try {
    return await run();
  } finally {
    api.remove(NS, 'agent-x');
    api.targets.delete(`${NS}/agent-x`);
  }
}

t.test('flows of all nodes, in order', async (t) => {
  const last = await ctl('flows', '--last', '6', '-o', 'json');
  t.equal(last.err, '');
  t.equal(last.code, 0);
  t.same(uuidsOf(last.out), uuids.slice(-6));
  t.same(uuidsOf((await ctl('flows', '--all', '-A', '-o', 'jsonpb')).out), uuids);
  t.same(uuidsOf((await ctl('flows', '--first', '3', '-n', 'shop', '-o', 'json')).out), uuids.slice(0, 3));
  const one = await ctl('flows', '--all', '--node', 'node-b', '-o', 'json');
  t.same(
    uuidsOf(one.out),
    uuids.filter((u) => u.startsWith('node-b')),
    'of one node',
  );
  const nowhere = await ctl('flows', '--node', 'node-z');
  t.equal(nowhere.code, 2);
  t.match(nowhere.err, /no agent on a node node-z/);
  t.equal((await ctl('flows', '--all', '--source-ip', 'x')).code, 2);
});

t.test('a node that cannot be reached is named, and the rest goes on', async (t) => {
  const started = Date.now();
  const refused = await withBroken({ target: 'connection refused in pod' }, () => ctl('flows', '--all', '-o', 'json'));
  t.equal(refused.code, 0);
  t.same(uuidsOf(refused.out), uuids);
  t.match(
    refused.err,
    /^egressctl: node-x \(pod egress-system\/agent-x\) cannot be reached: nothing listens on its port 4245; .*certificates/m,
  );
  t.ok(Date.now() - started < 25_000, 'and is not waited for');
  const noPort = await withBroken({}, () => ctl('flows', '--last', '1', '-o', 'json'));
  t.match(noPort.err, /node-x \(pod egress-system\/agent-x\) cannot be reached: .*404/, 'the API server says no');
  t.same(uuidsOf(noPort.out), uuids.slice(-1));
  const pending = await withBroken({ phase: 'Pending', ip: '' }, () => ctl('flows', '--last', '1', '-o', 'json'));
  t.match(pending.err, /node-x: its agent, pod egress-system\/agent-x, is Pending/);
  t.equal(pending.code, 0);
  const status = await withBroken({ target: 'refused' }, () => ctl('status'));
  t.equal(status.code, 0);
  t.match(status.out, /^ *node-x +unreachable/m);
  t.match(status.err, /node-x .* cannot be reached: refused/);
});

t.test('status, explain, version', async (t) => {
  const { code, out, err } = await ctl('status');
  t.equal(code, 0, err);
  const [head = '', first = '', second = ''] = out.split('\n');
  t.match(head, /^ *NODE +STATE +VERSION +POLICIES +PODS +HOOKS +FLOWS\/S +LOST/);
  t.match(first, /^ *node-a +connected +1\.2\.3 +3 +1\/1 +1\/1 +1\.5 +3/);
  t.match(second, /^ *node-b /);
  t.match((await ctl('status', '--node', 'node-b')).out, /^Agent: +egress-agent 1\.2\.3 on node-b/);
  t.match(JSON.parse((await ctl('status', '-o', 'json')).out), {
    nodes: [
      { name: 'node-a', status: { node_name: 'node-a' } },
      { name: 'node-b', state: 'NODE_CONNECTED' },
    ],
  });
  const explained = await ctl('explain', '--from', 'shop/web', '--to', '10.0.0.1:443', '-o', 'json');
  t.equal(explained.code, 0, explained.err);
  t.match(JSON.parse(explained.out), { summary: 'says node-b' }, 'the node that runs the pod');
  t.equal((await ctl('explain', '--from', 'shop/web', '--to', '10.0.0.1:80', '-o', 'json')).code, 3);
  const nobody = await ctl('explain', '--from', 'shop/nobody', '--to', '10.0.0.1:80');
  t.equal(nobody.code, 2);
  t.match(nobody.err, /no pod shop\/nobody/);
  t.match((await ctl('version')).out, /^egressctl .*\nnode-a 1\.2\.3\nnode-b 1\.2\.3\n$/);
});

t.test('following: as they come, a new agent is found, Ctrl-C ends it', async (t) => {
  const child = start(['flows', '-f', '--last', '2', '-o', 'json', '--kubeconfig', kubeconfig]);
  const result = { out: '' };
  child.stdout.on('data', (d) => (result.out += d));
  const lines = () => result.out.split('\n').length - 1;
  await until('the past', () => lines() === 2, 30_000);
  const next = [a.publish(1000), b.publish(1001)];
  await until('what comes', () => lines() === 4, 20_000);
  t.same(uuidsOf(result.out), [...uuids.slice(-2), ...next]);
  child.kill('SIGINT');
  t.same(await once(child, 'close'), [130, null]);
});

/** A socket on which nobody listens any more, as a process leaves it that is killed. */
const DEAD = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;

/** In a mount namespace with an empty /run: whatever agent this machine has, or had, is not there. */
function startAlone(before: string, args: readonly string[], env: Record<string, string>): Child {
  const script = `mount -t tmpfs none /run && mkdir /run/egress-agent && { ${before}; } && exec "$@"`;
  return spawn('unshare', ['-m', 'sh', '-c', script, 'sh', process.execPath, CTL, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: ownEnv(env),
  });
}

t.test('when a cluster is meant', async (t) => {
  const env = { KUBECONFIG: kubeconfig };
  const last = ['flows', '--last', '1', '-o', 'json'];
  const byEnv = await ended(startAlone('true', last, env));
  t.equal(byEnv.code, 0, `no agent here, but a kubeconfig: ${byEnv.err}`);
  const kill = `${process.execPath} -e "$DEAD" ${DEFAULT_SOCKET} || test -S ${DEFAULT_SOCKET}`;
  const dead = await ended(startAlone(kill, last, { ...env, DEAD }));
  t.equal(dead.code, 0, `an agent was here, and is no more: ${dead.err}`);
  t.same(uuidsOf(dead.out), uuidsOf(byEnv.out));
  const socket = await ended(start(['--socket', join(dir, 'none.sock'), 'flows'], env));
  t.equal(socket.code, 1);
  t.match(socket.err, /no agent is running/, 'a socket that is named is meant');
  const plugin = join(dir, 'kubectl-egress');
  symlinkSync(CTL, plugin);
  const named = await ended(start(['status'], {}, plugin));
  t.match(named.err, /no way to the API server/, 'as kubectl egress it asks for a cluster');
});

t.test('an agent is here where somebody answers', async (t) => {
  process.env.KUBECONFIG = kubeconfig;
  t.teardown(() => delete process.env.KUBECONFIG);
  const meant = (path: string) => isClusterMeant({}, undefined, path);
  const path = join(dir, 'agent.sock');
  t.ok(await meant(path), 'no socket');
  spawnSync(process.execPath, ['-e', DEAD, path]);
  t.ok(existsSync(path) && (await meant(path)), 'a dead one');
  rmSync(path);
  const server = createServer().listen(path);
  await once(server, 'listening');
  t.notOk(await meant(path), 'one that listens');
  server.close();
  t.ok(await meant(dir), 'what is no socket');
  t.notOk(await isClusterMeant({}, path, path), 'one that is named');
});

t.test('what is missing is said', async (t) => {
  const failed = async (said: RegExp, run: Promise<Ended>, code = 1) => {
    const { code: got, err } = await run;
    t.equal(got, code, err);
    t.match(err, said);
  };
  await failed(/no context "x"/, ctl('status', '--context', 'x'), 2);
  await failed(
    /Secret elsewhere\/egress-client-tls.* is not there/,
    ctl('status', '--namespace-of-agents', 'elsewhere'),
  );
  api.forbidden.add(secretPath);
  await failed(/may not be read/, ctl('status'));
  api.forbidden.delete(secretPath);
  secret((await makeCertificates(NS, 2)).client);
  await failed(/no node can be reached/, ctl('flows'));
  await failed(/no node can be reached/, ctl('status'));
  await failed(/no node can be reached/, ctl('flows', '-f'));
  secret(certs.client);
  const gone = join(dir, 'gone');
  await failed(/no such kubeconfig/, ended(start(['status', '--kubeconfig', gone])), 2);
  for (const name of ['agent-a', 'agent-b']) api.remove(NS, name);
  await failed(/no agents in namespace egress-system/, ctl('status'));
});
