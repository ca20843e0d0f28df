/**
 * Root in a pod without a user namespace makes a veth into the node's namespace, from its own or from one below it, and sends from its
 * first moment on (second-veth.py). The receiver counts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Agent } from './agent.js';
import { ClusterWorld } from './cluster-world.js';
import { egressPolicy } from './policies.js';
import { root, until } from './shell.js';
import { type Pod, servers, World } from './world.js';

const SCRIPT = join(root, 'test/netns/second-veth.py');
const MARK = Buffer.from('escaped!').toString('hex');
let made = 0;

/** One attack. @returns frames sent, frames that arrived, and frames that arrived after the first 250 ms */
async function attack(world: World, pod: Pod, opts: { source?: string; nested?: string } = {}) {
  const [name, port] = [`second${++made}`, String(7000 + made)];
  const sniffer = await world.internet.sniff('to-a');
  const arrived = async () => (await sniffer.frames()).filter((f) => f.includes(MARK)).length;
  const args = ['-B', SCRIPT, name, opts.source ?? pod.ip4, servers.one.ip4, port, '0.5'];
  const run = pod.host.run('python3', [...args, ...(opts.nested === undefined ? [] : [opts.nested])]);
  await until(
    'it is made',
    async () => (await world.node.run('ip', ['link', 'show', name], { check: false })).status === 0,
  );
  await sleep(250);
  const early = await arrived();
  const sent = Number((await run).stdout);
  await sleep(50);
  const all = await arrived();
  await sniffer.close();
  return { name, sent, all, late: all - early, remove: () => world.node.run('ip', ['link', 'del', name]) };
}

t.test('its policy is the pod`s', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const pod = await world.pod('web');
  const free = await attack(world, pod);
  t.ok(free.late > 100, 'without an agent it gets through');
  await free.remove();
  world.write('policy.yaml', [egressPolicy('web', 'web', [])]);
  const agent = await Agent.start(world);
  for (const source of [pod.ip4, '198.51.100.7', pod.ip4, '198.51.100.7', pod.ip4]) {
    const { name, sent, all, late, remove } = await attack(world, pod, { source });
    t.comment(`from ${source}: ${all} of ${sent} arrived`);
    t.equal(late, 0, 'none when it is closed');
    await agent.logged(new RegExp(`attached endpoint=default/web interface=${name} `));
    await remove();
  }
});

t.test('closed at once, whatever becomes of the policies', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const pod = await world.pod('web');
  world.write('policy.yaml', [egressPolicy('web', 'web', [])]);
  const agent = await Agent.start(world, { args: ['--map-size', 'addresses=64'] });
  // No policy is to blame for what nodes have: nothing of this goes in.
  const addresses = Array.from({ length: 200 }, (_, i) => ({ type: 'InternalIP', address: `192.0.2.${i}` }));
  world.write('more.yaml', [{ apiVersion: 'v1', kind: 'Node', metadata: { name: 'other' }, status: { addresses } }]);
  await agent.logged(/policies not applied/);
  const { sent, all, late } = await attack(world, pod);
  t.comment(`${all} of ${sent} arrived`);
  t.equal(late, 0, 'no pass has come through, and it is closed');
  const inside = await world.node.run('ip', ['link', 'add', 'plain0', 'type', 'veth', 'peer', 'name', 'plain1']);
  t.equal(inside.status, 0);
  world.remove('more.yaml');
  await agent.settled();
  const hooks = async (device: string) => (await world.node.run('bpftool', ['net', 'show', 'dev', device])).stdout;
  await until('what is nobody`s is open again', async () => !/from_pod/.test(await hooks('plain0')));
});

/** A namespace that a process in the pod has made. */
async function nested(t: Test, pod: Pod): Promise<ChildProcess> {
  const child = spawn('nsenter', [`--net=/run/netns/${pod.host.netns}`, 'unshare', '--net', 'sleep', '60']);
  t.teardown(() => child.kill('SIGKILL'));
  await sleep(100);
  return child;
}

t.test('from a namespace below the pod`s', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const cluster = await ClusterWorld.create(world);
  const pod = await world.pod('web');
  const uid = '11111111-2222-3333-4444-555555555555';
  (pod.manifest as { metadata: { uid: string } }).metadata.uid = uid;
  cluster.tellCni(pod);
  cluster.tellPod(pod);
  cluster.apply(egressPolicy('web', 'web', []));

  await t.test('whose processes are not seen: closed', async (t) => {
    // As a DaemonSet has it: no process of the node.
    const apart = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', process.execPath];
    const command = ['nsenter', `--net=/run/netns/${world.node.netns}`, ...apart];
    let agent = await cluster.agent({ command });
    await agent.enforced('default/web');
    const { pid } = await nested(t, pod);
    const first = await attack(world, pod, { nested: `/proc/${pid}/ns/net`, source: '198.51.100.7' });
    t.comment(`${first.all} of ${first.sent} arrived`);
    t.equal(first.late, 0);
    await agent.logged(new RegExp(`is closed interface=${first.name} `));
    await agent.kill();
    agent = await cluster.agent({ command });
    await agent.enforced('default/web');
    await agent.logged(new RegExp(`is closed interface=${first.name} `));
    t.pass('and for the next agent');
    await first.remove();
    await agent.kill();
  });

  await t.test('whose processes are in the pod`s cgroup: the pod`s', async (t) => {
    const top = `/sys/fs/cgroup/unified/kubepods-ea${process.pid}`;
    try {
      mkdirSync(join(top, `pod${uid}`), { recursive: true });
    } catch (e) {
      return t.pass(`no cgroup can be made: ${(e as Error).message}`);
    }
    t.teardown(() =>
      until('the cgroup is empty', () => {
        rmdirSync(join(top, `pod${uid}`));
        rmdirSync(top);
        return true;
      }),
    );
    const { pid } = await nested(t, pod);
    writeFileSync(join(top, `pod${uid}`, 'cgroup.procs'), String(pid));
    const agent = await cluster.agent();
    await agent.enforced('default/web');
    const { name, sent, all, late } = await attack(world, pod, { nested: `/proc/${pid}/ns/net` });
    t.comment(`${all} of ${sent} arrived`);
    t.equal(late, 0);
    await agent.logged(new RegExp(`attached endpoint=default/web interface=${name} `));
    await agent.kill();
  });
});
