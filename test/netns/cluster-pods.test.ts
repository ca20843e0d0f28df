/**
 * Pods as CNIs wire them, bound as in a cluster: by their namespace's addresses or by the gate's word, never by an annotation. What
 * comes and goes leaves nothing behind.
 */
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Attacher } from '../../agent/hooks/attach.js';
import { NETNS_ANNOTATION } from '../../agent/endpoints/binding/binder.js';
import { EndpointResolver, type PodBinding } from '../../agent/endpoints/resolver.js';
import { withNetlink } from '../../agent/netlink/netlink.js';
import { NetworkEvents } from '../../agent/netlink/network-events.js';
import { formatProblem } from '../../src/errors.js';
import type { Pod } from '../../src/identity/snapshot.js';
import { Bed, enterNode, OK, pod, program, sh, snapshot, succeeds } from './attach-bed.js';
import { until } from './shell.js';

/** A node of its own: other tests' interfaces are no strangers here, and its hooks are nobody else's. */
const leave = enterNode();
const bed = new Bed();
t.teardown(() => {
  bed.close();
  leave();
});
const resolver = () =>
  new EndpointResolver({ nodeName: 'node', annotations: false, unassigned: false, starting: true, uplinks: [] });
const local = (name: string, ips: string[] = [], more: Partial<Pod> = {}) =>
  pod(name, { nodeName: 'node', ips, ...more });
const path = (ns: string) => `/run/netns/${bed.ns(ns)}`;
const claimOf = (p: Pod, ns: string, uid: string | undefined = p.uid) => ({
  ...{ namespace: p.namespace, name: p.name },
  uid,
  netns: path(ns),
});

function mac(ns: string, dev = 'eth0'): string {
  return sh(`ip -n ${bed.ns(ns)} -o link show ${dev}`).match(/link\/ether (\S+)/)?.[1] as string;
}

/** Binds one pod, and expects it to be all there is to say. */
function boundAlone(t: Test, p: Pod): PodBinding[] {
  const { pods, problems, unbound, starting } = resolver().resolve(snapshot(p));
  t.same(problems.map(formatProblem), []);
  t.same([...unbound], []);
  t.same(starting, [], 'what was there before is no stranger');
  return [...pods];
}

t.test('ptp: a /32 on each side, a route through the gateway', async (t) => {
  bed.addNs('ptp');
  const veth = bed.veth('ptp', 'eth0', ['10.98.41.2/32', 'fd98:41::2/128'], ['10.98.41.1/32']);
  bed.in('ptp', 'ip route add 10.98.41.1 dev eth0 scope link');
  bed.in('ptp', 'ip route add default via 10.98.41.1 dev eth0');
  sh(`ip route add 10.98.41.2/32 dev ${veth.ifname} scope link`);
  t.ok(bed.pings('ptp', '10.98.41.1'));
  const ips = ['10.98.41.2', 'fd98:41::2'];
  t.match(boundAlone(t, local('ptp', ips)), [{ ...veth, mac: mac('ptp'), ips, podIfname: 'eth0' }]);
  t.match(boundAlone(t, local('ptp', ['fd98:41::2'])), [veth], 'by its IPv6 address alone');
});

t.test('bridge: the host side has no address of its own', async (t) => {
  const bridge = `eb${process.pid}`;
  const gateway = '0a:58:0a:62:2a:01';
  sh(
    `ip link add ${bridge} address ${gateway} type bridge && ip addr add 10.98.42.1/24 dev ${bridge} && ip link set ${bridge} up`,
  );
  t.teardown(() => void succeeds(`ip link del ${bridge}`));
  const veths = ['br1', 'br2'].map((ns, n) => {
    bed.addNs(ns);
    const veth = bed.veth(ns, 'eth0', [`10.98.42.${n + 2}/24`]);
    sh(`ip link set ${veth.ifname} master ${bridge}`);
    return veth;
  });
  await sleep(50);
  const two = [local('br1', ['10.98.42.2']), local('br2', ['10.98.42.3'])];
  const { pods, problems } = resolver().resolve(snapshot(...two));
  t.same(problems, []);
  t.match(pods, [
    { ...veths[0], key: 'test/br1', mac: mac('br1'), gateway },
    { ...veths[1], key: 'test/br2', mac: mac('br2'), gateway },
  ]);
});

t.test('Calico: 169.254.1.1 answered by proxy_arp, a host route to the pod', async (t) => {
  bed.addNs('cali');
  const veth = bed.veth('cali', 'eth0', ['10.98.43.2/32']);
  sh(`sysctl -qw net.ipv4.conf.${veth.ifname}.proxy_arp=1`);
  sh(`ip link set ${veth.ifname} address ee:ee:ee:ee:ee:ee`);
  sh(`ip route add 10.98.43.2/32 dev ${veth.ifname} scope link`);
  bed.in('cali', 'ip route add 169.254.1.1 dev eth0 scope link');
  bed.in('cali', 'ip route add default via 169.254.1.1 dev eth0');
  // A tunnel's device, of the pod's own, is nobody's veth.
  bed.in('cali', 'ip link add inner type veth peer name inner2');
  t.match(boundAlone(t, local('cali', ['10.98.43.2'])), [{ ...veth, mac: mac('cali'), ips: ['10.98.43.2'] }]);
});

t.test('AWS: a route in the main table, rules to others', async (t) => {
  bed.addNs('aws');
  const veth = bed.veth('aws', 'eth0', ['10.98.44.2/32']);
  sh(`ip route add 10.98.44.2/32 dev ${veth.ifname} scope link`);
  sh('ip rule add to 10.98.44.2/32 lookup main priority 512');
  sh(`ip rule add from 10.98.44.2/32 lookup 2044 priority 1536 && ip route add blackhole default table 2044`);
  t.teardown(() => {
    for (const priority of [512, 1536]) succeeds(`ip rule del priority ${priority}`);
    succeeds('ip route flush table 2044');
  });
  bed.in('aws', 'ip route add 169.254.1.1 dev eth0 scope link');
  bed.in('aws', 'ip route add default via 169.254.1.1 dev eth0');
  bed.in('aws', `ip neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent`);
  t.match(boundAlone(t, local('aws', ['10.98.44.2'])), [{ ...veth, mac: mac('aws'), ips: ['10.98.44.2'] }]);
});

t.test('two interfaces: both, each with its own addresses', async (t) => {
  bed.addNs('multi');
  const one = bed.veth('multi', 'eth0', ['10.98.45.2/24']);
  const two = bed.veth('multi', 'net1', ['10.98.46.2/24', 'fd98:46::2/64']);
  t.match(boundAlone(t, local('multi', ['10.98.45.2'])), [
    { ...one, podIfname: 'eth0', ips: ['10.98.45.2'], mac: mac('multi') },
    { ...two, podIfname: 'net1', ips: ['10.98.46.2', 'fd98:46::2'], mac: mac('multi', 'net1') },
  ]);
});

t.test('what is no local pod, and annotations, are not heeded', async (t) => {
  const annotations = { [NETNS_ANNOTATION]: bed.ns('ptp') };
  const r = resolver();
  const { pods, problems, waiting } = r.resolve(
    snapshot(
      pod('nowhere', { ips: ['10.98.41.2'] }),
      pod('elsewhere', { nodeName: 'other', ips: ['10.98.41.2'] }),
      local('host', ['10.98.41.2'], { hostNetwork: true }),
      local('sly', [], { annotations }),
    ),
  );
  t.same(pods, []);
  t.same(problems, [], 'one that is starting is no fault');
  t.same(
    waiting.map((p) => p.name),
    ['sly'],
  );
  const lost = r.resolve(snapshot(local('lost', ['10.98.99.99'])));
  t.match(lost.problems.map(formatProblem), [/Pod test\/lost: .*owns 10.98.99.99/], 'one that has an address is');
  const ending = r.resolve(snapshot(local('lost', ['10.98.99.99'], { terminating: true })));
  t.same(ending.problems, [], 'on its way out');
  t.ok(ending.unbound.has('uid-lost'), 'but its hooks are to stay');
});

t.test('a claim binds a pod before it has an address', async (t) => {
  bed.addNs('early');
  const r = resolver();
  const early = local('early');
  t.match(r.resolve(snapshot(early)).waiting, [{ name: 'early' }]);
  const veth = bed.veth('early', 'eth0', ['10.98.47.2/24']);
  t.match(r.resolve(snapshot(early)).starting, [veth], 'its interface is a stranger');
  t.ok(r.claims.add(claimOf(early, 'early')));
  const claimed = r.resolve(snapshot(early));
  t.match(claimed.pods, [{ ...veth, key: 'test/early', uid: 'uid-early', ips: ['10.98.47.2'] }]);
  t.same([claimed.starting, claimed.waiting, [...claimed.unbound]], [[], [], []]);
  const known = r.resolve(snapshot(local('early', ['10.98.47.2'])));
  t.equal(known.pods[0]?.id, claimed.pods[0]?.id, 'its address comes: the same endpoint');
  r.claims.remove(claimOf(early, 'early'));
  t.match(r.resolve(snapshot(local('early', ['10.98.47.2']))).pods, [veth], 'found by its address from then on');
});

t.test('a new pod of an old name: another endpoint, on the same interface or another', async (t) => {
  bed.addNs('name');
  const first = bed.veth('name', 'eth0', ['10.98.48.2/24']);
  const r = resolver();
  const bind = (p: Pod) => r.resolve(snapshot(p)).pods;
  const [one] = bind(local('name', ['10.98.48.2'], { uid: 'one' }));
  t.match(one, { ...first, uid: 'one' });
  const [same] = bind(local('name', ['10.98.48.2'], { uid: 'two' }));
  t.match(same, { ...first, uid: 'two' });
  t.not(same?.id, one?.id, 'the same interface');
  // Its successor's namespace is there while the old one still is: a claim says which.
  bed.addNs('name2');
  const second = bed.veth('name2', 'eth0', ['10.98.48.3/24']);
  const three = local('name', [], { uid: 'three' });
  r.claims.add(claimOf(three, 'name2'));
  t.match(bind(local('name', ['10.98.48.2'], { uid: 'two' })), [first], 'the old one keeps its own');
  t.match(bind(three), [{ ...second, uid: 'three' }]);
  bed.delNs('name');
  t.match(bind(local('name', ['10.98.48.3'], { uid: 'three' })), [{ ...second, uid: 'three' }]);
  bed.delNs('name2');
  // The kernel takes a namespace apart a little later; until then its interface is the pod's.
  const last = local('name', ['10.98.48.3'], { uid: 'three' });
  await until('the pod is unbound', () => bind(last).length === 0);
  t.equal(r.claims.size, 0);
});

t.test('starting: strangers are told until they are known, and those before the agent never', async (t) => {
  const r = resolver();
  t.same(r.resolve(snapshot()).starting, []);
  bed.addNs('stranger');
  const veth = bed.veth('stranger', 'eth0', ['10.98.49.2/24']);
  const seen = r.resolve(snapshot());
  t.match(seen.starting, [{ ...veth, kind: 'pod', ips: [], mac: '', key: `(starting)/${veth.ifname}` }]);
  t.same(seen.all, [], 'no endpoint of a pod');
  t.same(r.resolve(snapshot()).starting, seen.starting, 'the same each time');
  const known = r.resolve(snapshot(local('stranger', ['10.98.49.2'])));
  t.match(known.pods, [veth]);
  t.same(known.starting, []);
  t.not(known.pods[0]?.id, seen.starting[0]?.id);
  t.same(r.resolve(snapshot()).starting, [], 'its pod has gone, the interface will');
});

t.test('without news from the network and with the same pods: the last answer', async (t) => {
  const r = resolver();
  const s = snapshot(local('ptp', ['10.98.41.2']));
  const first = r.resolve(s);
  t.equal(r.resolve(s, false), first);
  const elsewhere = snapshot(local('ptp', ['10.98.41.2']), pod('far', { nodeName: 'other' }));
  elsewhere.pods = new Map([...s.pods, ...[...elsewhere.pods].filter(([key]) => key === 'test/far')]);
  t.equal(r.resolve(elsewhere, false), first, 'a pod of another node');
  t.not(r.resolve(snapshot(local('ptp', ['10.98.41.2'], { labels: { a: 'b' } })), false), first);
});

t.test('50 pods that come and go within some 100 ms leave nothing behind', async (t) => {
  const attacher = new Attacher({ pinDir: bed.pinDir });
  t.teardown(() => attacher.detachAll());
  const ok = program(OK);
  const programs = { fromPod: ok, toPod: ok, uplink: ok, uplinkIn: ok };
  const r = resolver();
  let current = snapshot();
  let bound = 0;
  let startings = 0;
  let failures: string[] = [];
  // What the reconciler does with its hooks.
  const pass = () => {
    const bindings = r.resolve(current);
    bound += bindings.pods.length;
    startings += bindings.starting.length;
    const all = [...bindings.all, ...bindings.starting];
    attacher.detachStale({ ...bindings, all });
    attacher.attachAll(bindings, programs, { prepare: () => () => undefined });
    for (const s of bindings.starting) {
      try {
        attacher.attachStarting(s, programs);
      } catch (e) {
        // It may have gone since it was listed.
        if ((e as { errno?: string }).errno !== 'ENODEV') failures.push((e as Error).message);
      }
    }
    failures = [...failures, ...bindings.problems.map(formatProblem)];
    return bindings;
  };
  const heard = () => {
    attacher.check();
    pass();
  };
  const events = new NetworkEvents(heard, { settleMillis: 1 });
  t.teardown(() => events.close());
  pass();
  const hooks = attacher.attached();
  const files = () => readdirSync('/proc/self/fd').length;
  const links = () => withNetlink(undefined, (nl) => nl.links().length);
  const [filesBefore, linksBefore] = [files(), links()];
  const lives: number[] = [];
  for (let n = 0; n < 50; n++) {
    const start = performance.now();
    const p = local(`churn${n % 3}`, [], { uid: `uid-${n}` });
    const ns = bed.ns('churn');
    current = snapshot(p);
    sh(`ip netns add ${ns} && ip link add ch${process.pid} type veth peer name eth0 netns ${ns}`);
    sh(`ip -n ${ns} addr add 10.98.50.2/24 dev eth0`);
    if (n % 2 === 0) r.claims.add(claimOf(p, 'churn', n % 4 === 0 ? p.uid : undefined));
    pass();
    if (n % 3 === 0) current = snapshot({ ...p, ips: ['10.98.50.2'] });
    pass();
    // Now and then the API server says it first, or nobody says DEL.
    if (n % 5 === 0) current = snapshot();
    sh(`ip netns del ${ns}`);
    if (n % 5 !== 1) r.claims.remove({ ...claimOf(p, 'churn'), netns: n % 7 === 0 ? '' : path('churn') });
    current = snapshot();
    lives.push(performance.now() - start);
    // The next one's interface has the same name.
    await until('the interface is gone', () => !succeeds(`ip link show ch${process.pid}`));
  }
  attacher.check();
  const end = pass();
  t.comment(
    `${bound} times bound, ${startings} times starting, a life took ${Math.round(lives.sort((a, b) => a - b)[25] as number)} ms`,
  );
  t.ok(bound >= 25, 'they were bound');
  t.ok(startings > 0, 'or seen as strangers');
  t.same(failures, []);
  t.same([end.pods, end.starting, end.waiting, [...end.unbound]], [[], [], [], []]);
  t.same(attacher.attached(), hooks, 'no hooks');
  t.ok(r.claims.size <= 1, 'no claims but the last that nobody ended');
  r.claims.add(claimOf(local('last'), 'ptp'));
  t.equal(r.claims.size, 1);
  t.equal(links(), linksBefore, 'no interfaces: nothing holds their namespaces');
  t.equal(files(), filesBefore, 'no file descriptors');
});
