/**
 * Whose an interface is, against root in a pod: whatever it does to its own addresses, links and namespaces, it stays bound, keeps its own
 * policy and no other's; also for an agent that comes later.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Bindings, EndpointResolver, type ResolverOptions } from '../../agent/endpoints/resolver.js';
import { formatProblem } from '../../src/errors.js';
import type { Pod } from '../../src/identity/snapshot.js';
import { Bed, enterNode, pod, sh, snapshot } from './attach-bed.js';
import { cniResult } from './cni-result.js';
import { until } from './shell.js';

const leave = enterNode();
const bed = new Bed();
t.teardown(() => {
  bed.close();
  leave();
});
const path = (ns: string) => `/run/netns/${bed.ns(ns)}`;
let subnet = 100;

/** What tells a pod's namespace, beside the gate. */
type Told = 'address' | 'cni' | 'cgroup';

/** A node's agents, one after the other, with what a container runtime and kubelet leave there. */
class Node {
  readonly dir = mkdtempSync(join(tmpdir(), 'ea-identity-'));
  #resolver: EndpointResolver | undefined;
  #pids = 1000;

  constructor(
    t: Test,
    readonly told: Told,
    readonly more: Partial<ResolverOptions> = {},
  ) {
    t.teardown(() => rmSync(this.dir, { recursive: true }));
    for (const sub of ['cni/results', 'proc']) mkdirSync(join(this.dir, sub), { recursive: true });
  }

  get agent(): EndpointResolver {
    this.#resolver ??= new EndpointResolver({
      ...{ nodeName: 'node', annotations: false, unassigned: false, starting: true, uplinks: [] },
      ...{ cniCacheDir: join(this.dir, 'cni'), procDir: join(this.dir, 'proc'), statePath: join(this.dir, 'bound') },
      ...this.more,
    });
    return this.#resolver;
  }

  /** The next agent; `forgetful`: without what this one wrote down. */
  restart(forgetful = false): void {
    this.#resolver = undefined;
    if (forgetful) rmSync(join(this.dir, 'bound'), { force: true });
  }

  see(...pods: Pod[]): Bindings {
    return this.agent.resolve(snapshot(...pods));
  }

  /** A sandbox: its namespace and its interface; its evidence. */
  sandbox(name: string, uid = uuid(name)): { pod: Pod; ifindex: number; ifname: string; ip: string } {
    bed.addNs(name);
    const net = ++subnet;
    const ip = `10.98.${net}.2`;
    const veth = bed.veth(name, 'eth0', [`${ip}/24`]);
    this.tell(name, uid, [`${ip}/24`]);
    return { pod: pod(name, { nodeName: 'node', uid, ips: [ip] }), ip, ...veth };
  }

  tell(name: string, uid: string, ips: string[], ns = name): void {
    if (this.told === 'cni') {
      const text = JSON.stringify(cniResult({ namespace: 'test', name, uid, netns: path(ns), ips }));
      writeFileSync(join(this.dir, 'cni/results', `net-${name}-eth0`), text);
    }
    if (this.told === 'cgroup') this.process(ns, uid);
  }

  /** A process of a pod in a namespace. */
  process(ns: string, uid: string): void {
    const dir = join(this.dir, 'proc', String(++this.#pids));
    mkdirSync(join(dir, 'ns'), { recursive: true });
    symlinkSync(path(ns), join(dir, 'ns/net'));
    writeFileSync(join(dir, 'cgroup'), `0::/kubepods/pod${uid}/c\n`);
    const rest = Array.from({ length: 40 }, (_, i) => (i === 19 ? this.#pids : 0)).join(' ');
    writeFileSync(join(dir, 'stat'), `1 (sh) ${rest}\n`);
  }

  untell(name: string): void {
    unlinkSync(join(this.dir, 'cni/results', `net-${name}-eth0`));
  }
}

function uuid(name: string): string {
  const hex = Buffer.from(name.padEnd(6, '.')).toString('hex').slice(0, 12);
  return `11111111-2222-3333-4444-${hex}`;
}

const shown = (b: Bindings) => b.pods.map((p) => ({ key: p.key, ifindex: p.ifindex, ips: p.ips }));
const nothingElse = (t: Test, b: Bindings) =>
  t.same([b.problems.map(formatProblem), [...b.unbound], b.closed, b.starting], [[], [], [], []], 'and nothing else');

for (const told of ['address', 'cni', 'cgroup'] as const) {
  t.test(`told by ${told}: own addresses, a neighbour's, names, MACs`, async (t) => {
    const node = new Node(t, told);
    const [mallory, victim] = [node.sandbox(`m${told}`), node.sandbox(`v${told}`)];
    const both = [
      { key: `test/m${told}`, ifindex: mallory.ifindex, ips: [mallory.ip] },
      { key: `test/v${told}`, ifindex: victim.ifindex, ips: [victim.ip] },
    ];
    const first = node.see(mallory.pod, victim.pod);
    t.same(shown(first), both);
    const holds = (what: string) => {
      for (const when of ['now', 'for the next agent']) {
        const seen = node.see(mallory.pod, victim.pod);
        t.same(shown(seen), both, `${what}: ${when}`);
        t.same(
          seen.pods.map((p) => [p.id, p.mac]),
          first.pods.map((p) => [p.id, p.mac]),
          'the same endpoints, and their MACs',
        );
        nothingElse(t, seen);
        node.restart();
      }
    };
    const inside = (command: string) => sh(`ip -n ${bed.ns(`m${told}`)} ${command}`);
    inside('addr flush dev eth0');
    holds('without an address');
    inside(`addr add ${victim.ip}/24 dev eth0`);
    holds("with a neighbour's");
    sh(`ip -n ${bed.ns(`v${told}`)} addr flush dev eth0`);
    holds('which that has lost');
    inside('link set eth0 down');
    inside('link set eth0 name net7 address 02:00:00:00:00:77');
    inside('link set net7 up');
    holds('by another name, with another MAC');
    if (told === 'address') return;
    node.restart(true);
    t.same(shown(node.see(mallory.pod, victim.pod)), both, 'for an agent that nothing was written down for');
  });
}

t.test('only addresses tell, and nothing was written down: hooks stay, and nobody gets another`s', async (t) => {
  const node = new Node(t, 'address');
  const [mallory, victim] = [node.sandbox('ma'), node.sandbox('va')];
  node.see(mallory.pod, victim.pod);
  bed.in('ma', 'ip addr flush dev eth0');
  node.restart(true);
  node.more.hooked = () => new Set([mallory.ifindex, victim.ifindex]);
  const seen = node.see(mallory.pod, victim.pod);
  t.match(seen.pods, [{ key: 'test/va', ifindex: victim.ifindex }]);
  t.same([...seen.unbound], [mallory.pod.uid], 'its hooks are to stay');
  t.match(seen.starting, [{ ifindex: mallory.ifindex }], 'or to close');

  bed.in('ma', `ip addr add ${victim.ip}/24 dev eth0`);
  node.restart(true);
  const both = node.see(mallory.pod, victim.pod);
  t.same(both.pods, [], 'two have the address: neither is the pod');
  t.same(new Set(both.closed.map((c) => c.ifindex)), new Set([mallory.ifindex, victim.ifindex]));
  t.match(both.closed, [{ key: /^\(conflict\)\// }, { key: /^\(conflict\)\// }]);
  t.match(both.problems.map(formatProblem).join('\n'), /Pod test\/va: .*owned by several namespaces, which are closed/);
});

t.test('an address that was taken before the pod that it is given to came', async (t) => {
  const node = new Node(t, 'address');
  const mallory = node.sandbox('mb');
  node.see(mallory.pod);
  bed.in('mb', 'ip addr add 10.98.99.7/24 dev eth0');
  const victim = pod('vb', { nodeName: 'node', ips: ['10.98.99.7'] });
  const alone = node.see(mallory.pod, victim);
  t.match(alone.pods, [{ key: 'test/mb', ips: [mallory.ip] }], 'it is not taken for that');
  t.same([...alone.unbound], ['uid-vb']);
  bed.addNs('vb');
  const veth = bed.veth('vb', 'eth0', ['10.98.99.7/24']);
  const seen = node.see(mallory.pod, victim);
  t.match(seen.pods, [{ key: 'test/mb' }, { key: 'test/vb', ...veth }]);
  nothingElse(t, seen);
});

t.test('an address that is removed before anybody knows the pod: closed while it runs', async (t) => {
  const node = new Node(t, 'address');
  node.see();
  const mallory = node.sandbox('mc');
  bed.in('mc', 'ip addr flush dev eth0');
  const early = node.see({ ...mallory.pod, ips: [] });
  t.match([early.starting, early.waiting], [[{ ifindex: mallory.ifindex }], [{ name: 'mc' }]]);
  const late = node.see(mallory.pod);
  t.match(
    [late.starting, late.waiting],
    [[{ ifindex: mallory.ifindex }], [{ name: 'mc' }]],
    'its status tells an address',
  );
  const end = node.see({ ...mallory.pod, terminating: true });
  t.match([end.starting, end.waiting], [[{ ifindex: mallory.ifindex }], [{ name: 'mc' }]], 'it is on its way out');
});

for (const told of ['address', 'cni', 'cgroup'] as const) {
  t.test(`told by ${told}: the interface moved into a namespace of its own, deleted, made anew`, async (t) => {
    const node = new Node(t, told);
    const mallory = node.sandbox(`n${told}`);
    const first = node.see(mallory.pod).pods;
    const inner = `i${told}`;
    bed.addNs(inner);
    bed.in(`n${told}`, `ip link set eth0 netns ${bed.ns(inner)}`);
    sh(`ip -n ${bed.ns(inner)} addr add 10.98.77.1/24 dev eth0 && ip -n ${bed.ns(inner)} link set eth0 up`);
    const holds = (what: string, ifindices: number[]) => {
      for (const when of ['now', 'for the next agent']) {
        const seen = node.see(mallory.pod);
        t.same(seen.pods.map((p) => p.ifindex).sort(), ifindices.sort(), `${what}: ${when}`);
        t.ok(
          seen.pods.every((p) => p.uid === mallory.pod.uid && p.ips.join() === mallory.ip),
          'with the addresses of its status',
        );
        nothingElse(t, seen);
        node.restart();
      }
    };
    holds('moved', [mallory.ifindex]);
    t.same(
      node.see(mallory.pod).pods.map((p) => p.id),
      first.map((p) => p.id),
    );
    // A further one, beside the first, and one into its old namespace.
    const second = bed.veth(inner, 'second', ['10.98.78.1/24']);
    const third = bed.veth(`n${told}`, 'third', [`${mallory.ip}/24`]);
    holds('more of them', [mallory.ifindex, second.ifindex, third.ifindex]);
    for (const [ns, dev] of [
      [inner, 'eth0'],
      [inner, 'second'],
      [`n${told}`, 'third'],
    ] as const)
      sh(`ip -n ${bed.ns(ns)} link del ${dev}`);
    t.same([...node.see(mallory.pod).unbound], [mallory.pod.uid], 'none is left');
    const anew = bed.veth(`n${told}`, 'eth0', ['10.98.79.1/24']);
    holds('made anew, with another address', [anew.ifindex]);
  });
}

t.test('a veth from a namespace below the pod`s', async (t) => {
  const node = new Node(t, 'cgroup');
  const mallory = node.sandbox('md');
  node.see(mallory.pod);
  // As a process in the pod makes it: no file, only a process in it. Ours needs a name; a runtime's tells nothing.
  const hidden = '01234567-89ab-cdef-0123-456789abcdef';
  sh(`ip netns add ${hidden}`);
  t.teardown(() => sh(`ip netns del ${hidden}`));
  sh(`ip link add hid${process.pid} type veth peer name x netns ${hidden}`);
  const stranger = node.see(mallory.pod);
  t.match(
    stranger.starting,
    [{ ifname: `hid${process.pid}`, key: `(starting)/hid${process.pid}` }],
    'nobody tells whose it is',
  );
  t.same([...stranger.nodes], [], 'nor that it is the node`s');
  const dir = join(node.dir, 'proc/5000');
  mkdirSync(join(dir, 'ns'), { recursive: true });
  symlinkSync(`/run/netns/${hidden}`, join(dir, 'ns/net'));
  writeFileSync(join(dir, 'cgroup'), `0::/kubepods/pod${mallory.pod.uid}/c\n`);
  writeFileSync(join(dir, 'stat'), `1 (sh) ${Array.from({ length: 40 }, () => 9).join(' ')}\n`);
  const seen = node.see(mallory.pod);
  t.same(
    seen.pods.map((p) => [p.ifname, p.uid, p.ips]),
    [
      [mallory.ifname, mallory.pod.uid, [mallory.ip]],
      [`hid${process.pid}`, mallory.pod.uid, [mallory.ip]],
    ],
    'a process of the pod is in it',
  );
  nothingElse(t, seen);
  // One of the node's administrator.
  bed.addNs('admin');
  const admin = bed.veth('admin', 'x', []);
  const other = node.see(mallory.pod);
  t.match(other.starting, [admin]);
  t.same([...other.nodes], [admin.ifindex]);
  const lenient = new Node(t, 'address', { unknownInterfaces: 'open' });
  lenient.see();
  sh(`ip link add hie${process.pid} type veth peer name y netns ${hidden}`);
  const all = lenient.see();
  t.ok(all.starting.some((s) => s.ifname === `hie${process.pid}`));
  t.ok(
    all.starting.every((s) => all.nodes.has(s.ifindex)),
    'where that is wanted, every unknown one counts as the node`s',
  );
});

t.test('two pods, one namespace, both by firm evidence: closed, by name, until one has gone', async (t) => {
  const node = new Node(t, 'cni');
  const one = node.sandbox('me');
  t.match(node.see(one.pod).pods, [{ key: 'test/me' }]);
  const two = pod('mf', { nodeName: 'node', uid: uuid('mf'), ips: ['10.98.98.98'] });
  node.tell('mf', two.uid, [], 'me');
  for (const when of ['now', 'for the next agent']) {
    const seen = node.see(one.pod, two);
    t.same(seen.pods, [], when);
    t.match(seen.closed, [{ ifindex: one.ifindex, key: `(conflict)/${one.ifname}` }]);
    t.match(seen.problems.map(formatProblem), [
      /Pod test\/me: .*claimed by Pod test\/mf too/,
      /Pod test\/mf: .*claimed by Pod test\/me too/,
    ]);
    node.restart();
  }
  node.untell('mf');
  t.match(node.see(one.pod).pods, [{ key: 'test/me', ifindex: one.ifindex }]);
});

t.test('firmer evidence moves a pod that only its address had bound', async (t) => {
  const node = new Node(t, 'cni');
  const [mallory, victim] = [node.sandbox('mg'), node.sandbox('vg')];
  node.untell('mg');
  node.untell('vg');
  // Before anybody is known: the neighbour's address alone.
  sh(`ip -n ${bed.ns('mg')} addr flush dev eth0 && ip -n ${bed.ns('vg')} addr flush dev eth0`);
  sh(`ip -n ${bed.ns('mg')} addr add ${victim.ip}/24 dev eth0`);
  t.match(node.see(victim.pod).pods, [{ key: 'test/vg', ifindex: mallory.ifindex }], 'nothing else tells');
  node.tell('vg', victim.pod.uid, [`${victim.ip}/24`]);
  node.tell('mg', mallory.pod.uid, [`${mallory.ip}/24`]);
  const seen = node.see(mallory.pod, victim.pod);
  t.same(shown(seen), [
    { key: 'test/mg', ifindex: mallory.ifindex, ips: [mallory.ip] },
    { key: 'test/vg', ifindex: victim.ifindex, ips: [victim.ip] },
  ]);
  nothingElse(t, seen);
});

t.test('further interfaces: what their maker says, else the pod`s own addresses; never a neighbour`s', async (t) => {
  const node = new Node(t, 'cni');
  const [web, victim] = [node.sandbox('mh'), node.sandbox('vh')];
  const net1 = bed.veth('mh', 'net1', [`${victim.ip}/24`, '10.97.1.1/24']);
  const facts = cniResult({
    ...{ namespace: 'test', name: 'mh', uid: web.pod.uid, netns: path('mh') },
    ifname: 'net1',
    ips: ['10.97.1.1/24'],
  });
  writeFileSync(join(node.dir, 'cni/results/net-mh-net1'), JSON.stringify(facts));
  const net2 = bed.veth('mh', 'net2', [`${victim.ip}/24`]);
  const ipsOf = (b: Bindings, ifindex: number) => b.pods.find((p) => p.ifindex === ifindex)?.ips;
  const seen = node.see(web.pod, victim.pod);
  t.same(ipsOf(seen, web.ifindex), [web.ip]);
  t.same(ipsOf(seen, net1.ifindex), ['10.97.1.1']);
  t.same(ipsOf(seen, net2.ifindex), [web.ip], 'made by nobody who is known');
  // Where no runtime keeps a cache, what it came with counts.
  const plain = new Node(t, 'address');
  const alone = plain.see(web.pod, victim.pod);
  t.same(ipsOf(alone, net1.ifindex), ['10.97.1.1'], 'but no neighbour`s');
  t.same(ipsOf(alone, net2.ifindex), [web.ip]);
});

t.test('a pod that is no more, and its interface that still is: closed', async (t) => {
  const node = new Node(t, 'cni');
  const web = node.sandbox('mi');
  node.see(web.pod);
  for (const when of ['now', 'for the next agent']) {
    const seen = node.see();
    t.match(seen.closed, [{ ifindex: web.ifindex, key: `(orphaned)/${web.ifname}` }], when);
    t.same([seen.pods, seen.starting, [...seen.unbound]], [[], [], []]);
    node.restart();
  }
  bed.delNs('mi');
  await until('it has gone', () => node.see().closed.length === 0);
});

t.test('without a cluster nobody claims what is no pod`s', async (t) => {
  const node = new Node(t, 'address', { starting: false, unassigned: true });
  const web = node.sandbox('mj');
  node.see(web.pod);
  const seen = node.see();
  t.same([seen.pods, seen.closed, seen.starting], [[], [], []], 'a manifest that is removed is no longer enforced');
});
