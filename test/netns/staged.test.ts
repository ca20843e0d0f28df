/**
 * What a pod does before it is attached, so that its own connections look as if others had opened them to it. The judge is
 * what arrives outside, under a policy that denies everything; and what others did open goes on.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Agent } from './agent.js';
import { egressPolicy } from './policies.js';
import { root, until } from './shell.js';
import { nodes, type Pod, servers, World } from './world.js';

const STAGE = join(root, 'test/netns/stage.py');
const { two } = servers;

/** Says hello back to whoever comes, and something more when it is told to. */
const PUSHER = `
import socket, sys
l = socket.create_server(("${two.ip4}", 81)); print("ready", flush=True)
c = l.accept()[0]; c.send(c.recv(100))
for line in sys.stdin: c.send(line.encode()); print("sent", flush=True)
`;

class Stage {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;

  private constructor(pod: Pod, gateway: string) {
    const command = [`--net=/run/netns/${pod.host.netns}`, 'python3', '-B', STAGE, pod.ip4, pod.ip6, gateway];
    this.#child = spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout });
  }

  static async in(world: World, pod: Pod): Promise<Stage> {
    const stage = new Stage(pod, (await world.macs(pod)).macDestination);
    world.onClose(async () => void stage.#child.kill('SIGKILL'));
    return stage;
  }

  async do(...words: (string | number)[]): Promise<void> {
    this.#child.stdin.write(`${words.join(' ')}\n`);
    const [answer] = (await once(this.#lines, 'line')) as [string];
    if (answer !== 'ok') throw new Error(`${words.join(' ')}: ${answer}`);
  }
}

t.test('staged before the attachment', async (t) => {
  const world = await World.create({ tracked: true });
  t.teardown(() => world.close());
  // What is closed is forgotten soon: the test need not wait ten seconds.
  await world.node.run('sysctl', ['-qw', 'net.netfilter.nf_conntrack_tcp_timeout_close=1']);
  for (const addr of [two.ip4, two.ip6]) {
    await world.internet.listen(addr, 80, 'tcp', 'two');
    await world.internet.listen(addr, 53, 'udp', 'two');
  }
  const names = ['udp', 'talk', 'dial', 'raw', 'flip', 'thief', 'server', 'victim'] as const;
  const pods = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await world.pod(name)] as const)),
  ) as Record<(typeof names)[number], Pod>;
  const near = await world.pod('near');
  world.write(
    'policy.yaml',
    names.map((name) => egressPolicy(name, name, [])),
  );
  const on = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await Stage.in(world, pods[name])] as const)),
  ) as Record<(typeof names)[number], Stage>;

  /** What the node tracks, as lines of /proc/net/nf_conntrack. */
  const tracked = async () => (await world.node.run('cat', ['/proc/net/nf_conntrack'])).stdout.split('\n');
  const first = (line: string) => / src=(\S+) dst=(\S+) /.exec(line);
  const opened = async (from: string, to: string, words: string) =>
    (await tracked()).some(
      (l) => first(l)?.[1] === from && first(l)?.[2] === to && words.split(' ').every((w) => l.includes(w)),
    );

  for (const [v, addr] of [
    [4, two.ip4],
    [6, two.ip6],
  ] as const) {
    await on.udp.do('udp', `udp${v}`, addr, 53, 5000);
    await on.talk.do('talk', `talk${v}`, addr, 53, 5001, 'before');
    await on.dial.do('dial', `dial${v}`, addr, 80, 5002);
  }
  // The node forgets a connection: the peer's next segment is the first that it sees, or what the pod sends in its name.
  const inInternet = [`--net=/run/netns/${world.internet.netns}`, 'python3', '-c', PUSHER];
  const pusher = spawn('nsenter', inInternet, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => pusher.kill());
  await once(pusher.stdout, 'data');
  await on.raw.do('dial', 'raw', two.ip4, 81, 5003);
  await on.flip.do('dial', 'flip', two.ip4, 80, 5004);
  await on.raw.do('reset', 'raw');
  await on.flip.do('reset', 'flip');
  await until(
    'the node has forgotten',
    async () =>
      !(await opened(pods.flip.ip4, two.ip4, 'dport=80')) && !(await opened(pods.raw.ip4, two.ip4, 'dport=81')),
  );
  pusher.stdin.write('more\n');
  await on.flip.do('flip', 'flip');
  await until('the node tracks the connection again', () => opened(two.ip4, pods.raw.ip4, 'ESTABLISHED'));
  t.ok(
    await opened(two.ip4, pods.flip.ip4, 'ESTABLISHED ASSURED'),
    'the node was made to believe that the peer opened it',
  );

  // What others opened, and one that somebody else would like to go on with.
  const ours: [string, Awaited<ReturnType<typeof near.host.open>>][] = [];
  for (const addr of [pods.server.ip4, pods.server.ip6]) {
    await pods.server.host.listen(addr, 8080, 'tcp', 'server');
    ours.push([`from outside to ${addr}`, await world.internet.open(addr, 8080)]);
    ours.push([`from a pod to ${addr}`, await near.host.open(addr, 8080)]);
  }
  const [vips, nodePort] = [['10.96.0.10', 'fd00:96::10'], 30080];
  const backends = [pods.server.ip4, pods.server.ip6];
  await world.service({ name: 'server', vips, ports: [{ name: 'web', port: 80, targetPort: 8080 }], backends });
  for (const vip of vips) ours.push([`through the Service ${vip}`, await near.host.open(vip, 80)]);
  for (const [tables, own, to] of [
    ['iptables', nodes.a.ip4, `${pods.server.ip4}:8080`],
    ['ip6tables', nodes.a.ip6, `[${pods.server.ip6}]:8080`],
  ] as const) {
    const rule = ['-p', 'tcp', '-d', own, '--dport', `${nodePort}`, '-j', 'DNAT', '--to-destination', to];
    await world.node.run(tables, ['-w', '-t', 'nat', '-A', 'PREROUTING', ...rule]);
    ours.push([`through a port of the node, ${own}`, await world.internet.open(own, nodePort)]);
  }
  for (const [, connection] of ours) t.equal((await connection.say('before')).result, 'ok');
  await pods.victim.host.listen(pods.victim.ip4, 80, 'tcp', 'victim');
  const victims = await world.internet.open(pods.victim.ip4, 80);
  await victims.say('before');
  await pods.thief.host.ip([`addr add ${pods.victim.ip4}/32 dev lo`]);
  await on.thief.do('repair', 'thief', pods.victim.ip4, 80, '10.0.0.1', victims.port);

  const agent = await Agent.start(world);
  await sleep(300);
  const outside = await world.internet.sniff('to-a');
  /** How many frames with this text came out of the node. */
  const arrived = async (text: string) => {
    const hex = Buffer.from(text).toString('hex');
    return (await outside.frames()).filter((f) => f.startsWith('in ') && f.includes(hex)).length;
  };
  for (const v of [4, 6]) await on.talk.do('talkof', `talk${v}`, `leak-talk${v}`);
  const says: [keyof typeof on, string][] = [
    ['udp', 'udp4'],
    ['udp', 'udp6'],
    ['dial', 'dial4'],
    ['dial', 'dial6'],
    ['raw', 'raw'],
    ['flip', 'flip'],
    ['thief', 'thief'],
  ];
  for (const [where, name] of says) await on[where].do('say', name, `leak-${name}`);
  await sleep(700);
  for (const name of [...says.map(([, name]) => name), 'talk4', 'talk6'])
    t.equal(await arrived(`leak-${name}`), 0, name);
  for (const [name, connection] of ours) t.equal((await connection.say('after')).text, 'after', name);
  t.equal((await victims.say('after')).text, 'after');
  t.match(agent.log, /1 connection without proof.*default\/thief/);
});
