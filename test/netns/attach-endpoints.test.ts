import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { NETNS_ANNOTATION } from '../../agent/endpoints/binding/binder.js';
import { EndpointResolver, type ResolverOptions } from '../../agent/endpoints/resolver.js';
import { type Address, IFF_UP, type Link } from '../../agent/netlink/netlink.js';
import { NetnsWatcher } from '../../agent/endpoints/watcher.js';
import { type NetworkEvent, NetworkEvents } from '../../agent/netlink/network-events.js';
import { dnsCacheAddresses, findUplinks } from '../../agent/endpoints/uplinks.js';
import { formatProblem } from '../../src/errors.js';
import { Bed, enterNode, pod, sh, snapshot } from './attach-bed.js';
import { until } from './shell.js';

// A node of its own: what other tests have on this machine has the same addresses.
const leave = enterNode();
const bed = new Bed();
t.teardown(() => {
  bed.close();
  leave();
});
const resolver = (opts: Partial<ResolverOptions> = {}) => new EndpointResolver({ nodeName: 'node', ...opts });

bed.addNs('a');
const a = bed.veth('a', 'eth0', ['10.98.1.2/24', 'fd98:1::2/64'], ['10.98.1.1/24', 'fd98:1::1/64']);
const mac = sh(`ip -n ${bed.ns('a')} -o link show eth0`).match(/link\/ether (\S+)/)?.[1];
const annotated = (name: string, ns: string, more = {}) =>
  pod(name, { annotations: { [NETNS_ANNOTATION]: bed.ns(ns) }, ...more });

t.test('by annotation: a name, a path', async (t) => {
  const ips = ['10.98.1.2', 'fd98:1::2'];
  const { pods, problems, unbound } = resolver().resolve(snapshot(annotated('a', 'a', { ips })));
  t.same(problems, []);
  t.equal(unbound.size, 0);
  t.match(pods, [{ key: 'test/a', uid: 'uid-a', kind: 'pod', podIfname: 'eth0', mac, ips, l3: false, ...a }]);
  const path = pod('a', { annotations: { [NETNS_ANNOTATION]: `/run/netns/${bed.ns('a')}` } });
  const byPath = resolver().resolve(snapshot(path)).pods;
  t.match(byPath, [{ ...a, id: pods[0]?.id }], 'the same id from another process');
  t.same(byPath[0]?.ips, ips, 'without podIPs the addresses of the interface');
});

t.test('by address, either family', async (t) => {
  for (const ip of ['10.98.1.2', 'fd98:1::2']) {
    const { pods, problems } = resolver().resolve(snapshot(pod('a', { ips: [ip] })));
    t.same(problems, []);
    t.match(pods, [{ ...a, ips: [ip] }]);
  }
});

t.test('by address, through a process alone', async (t) => {
  const child = spawn('nsenter', [`--net=/run/netns/${bed.ns('a')}`, 'sleep', '60']);
  t.teardown(() => child.kill());
  await sleep(100);
  const { pods } = resolver({ runDir: '/nonexistent' }).resolve(snapshot(pod('a', { ips: ['10.98.1.2'] })));
  t.match(pods, [a]);
  t.match(pods[0]?.netns.path, /^\/proc\/[0-9]+\/ns\/net$/);
});

t.test('only local pods with a network of their own', async (t) => {
  const s = snapshot(
    annotated('here', 'a', { nodeName: 'node' }),
    annotated('elsewhere', 'a', { nodeName: 'other' }),
    annotated('host', 'a', { hostNetwork: true }),
    annotated('ended', 'a', { ended: true }),
  );
  const { pods, problems } = resolver().resolve(s);
  t.same(problems, []);
  t.same(
    pods.map((p) => p.key),
    ['test/here'],
  );
});

t.test('what cannot be bound, and why', async (t) => {
  bed.addNs('bare');
  const why = (p: ReturnType<typeof pod>, opts = {}) => {
    const { pods, problems, unbound } = resolver(opts).resolve(snapshot(p));
    t.same(pods, []);
    t.ok(unbound.has(p.uid));
    return problems.map(formatProblem).join();
  };
  t.match(
    why(annotated('p', 'absent')),
    /^Pod test\/p: metadata.annotations\["egress-agent.io\/netns"\]: there is no network namespace at/,
  );
  t.match(why(annotated('p', 'bare')), /no interface in .*-bare is a veth whose other end is here/);
  t.match(why(pod('p', { annotations: { [NETNS_ANNOTATION]: '../x' } })), /neither an absolute path nor a name/);
  t.match(why(pod('p', { annotations: { [NETNS_ANNOTATION]: '/proc/self/ns/net' } })), /own namespace/);
  t.match(why(pod('p', { annotations: { [NETNS_ANNOTATION]: '/etc/passwd' } })), /no network namespace at/);
  t.match(why(pod('p', { ips: ['10.98.77.77'] })), /status.podIP: no network namespace .* owns 10.98.77.77/);
  t.match(why(pod('p')), /has no address/);
  t.match(why(annotated('p', 'a'), { annotations: false }), /has no address/, 'the annotation can be refused');
});

t.test('two pods, one namespace: neither has it, and it is closed', async (t) => {
  const r = resolver();
  t.match(r.resolve(snapshot(annotated('a', 'a'))).pods, [{ key: 'test/a' }]);
  const both = r.resolve(snapshot(annotated('a', 'a'), annotated('b', 'a')));
  t.same(both.pods, []);
  t.match(both.closed, [{ ...a, key: `(conflict)/${a.ifname}`, kind: 'pod', ips: [] }]);
  t.same([...both.unbound], ['uid-a', 'uid-b']);
  t.match(both.problems.map(formatProblem), [
    /Pod test\/a: metadata.annotations.*claimed by Pod test\/b too/,
    /Pod test\/b: metadata.annotations.*claimed by Pod test\/a too/,
  ]);
  const one = r.resolve(snapshot(annotated('b', 'a')));
  t.match([one.pods, one.closed], [[{ ...a, key: 'test/b' }], []], 'the other has gone');
});

t.test('a peer elsewhere with the index of one here is not taken for it', async (t) => {
  // A veth between two other namespaces; its outer end has the index of a device of ours.
  bed.addNs('x');
  bed.addNs('y');
  sh(`ip -n ${bed.ns('x')} link add eth0 type veth peer name out index ${a.ifindex} netns ${bed.ns('y')}`);
  const { pods, problems } = resolver().resolve(snapshot(annotated('x', 'x')));
  t.same(pods, []);
  t.match(problems, [{ message: /no interface/ }]);
});

t.test('several interfaces: all of them', async (t) => {
  bed.addNs('multi');
  const one = bed.veth('multi', 'eth0', ['10.98.2.2/24']);
  const two = bed.veth('multi', 'net1', ['10.98.3.2/24', 'fd98:3::2/64']);
  const r = resolver();
  const p = pod('multi', { ips: ['10.98.2.2'] });
  const { pods } = r.resolve(snapshot(p));
  t.match(pods, [
    { ...one, podIfname: 'eth0', ips: ['10.98.2.2'] },
    { ...two, podIfname: 'net1', ips: ['10.98.3.2', 'fd98:3::2'] },
  ]);
  t.not(pods[0]?.id, pods[1]?.id);
  const three = bed.veth('multi', 'net2', ['10.98.4.2/24']);
  t.match(r.resolve(snapshot(p)).pods, [one, two, { ...three, ips: ['10.98.4.2'] }], 'one that comes later too');
});

t.test('identity: the UID and the interface, not the name', async (t) => {
  bed.addNs('id');
  const first = bed.veth('id', 'eth0', ['10.98.5.2/24']);
  const r = resolver();
  const bind = (uid: string) => r.resolve(snapshot(pod('id', { uid, ips: ['10.98.5.2'] }))).pods[0];
  const one = bind('uid-1');
  t.match(one, first);
  t.equal(bind('uid-1')?.id, one?.id);
  t.not(bind('uid-2')?.id, one?.id, 'a new pod of an old name is another endpoint');
  t.equal(bind('uid-1')?.id, one?.id, 'and the id depends on nothing else');
  bed.delNs('id');
  t.same(r.resolve(snapshot(pod('id', { uid: 'uid-2', ips: ['10.98.5.2'] }))).pods, [], 'gone with its namespace');
  bed.addNs('id');
  const again = bed.veth('id', 'eth0', ['10.98.5.2/24']);
  const anew = bind('uid-2');
  t.match(anew, again);
  t.not(anew?.id, one?.id);
});

t.test('what is settled survives the loss of its name', async (t) => {
  bed.addNs('held');
  const held = bed.veth('held', 'eth0', ['10.98.6.2/24']);
  const child = spawn('nsenter', [`--net=/run/netns/${bed.ns('held')}`, 'sleep', '60']);
  t.teardown(() => child.kill());
  await sleep(100);
  const r = resolver();
  const p = annotated('held', 'held', { ips: ['10.98.6.2'] });
  t.match(r.resolve(snapshot(p)).pods, [held]);
  bed.delNs('held');
  t.match(r.resolve(snapshot(p)).pods, [held], 'a process is still in it');
});

t.test('uplinks and own addresses', async (t) => {
  const { uplinks, ownIps, all } = resolver().resolve(snapshot());
  const route = sh('ip -o route show default').match(/dev (\S+)/)?.[1];
  if (route) t.ok(uplinks.some((u) => u.ifname === route && u.key === `node/${route}` && u.kind === 'uplink'));
  t.same(all, uplinks);
  t.ok(ownIps.includes('10.98.1.1') && ownIps.includes('fd98:1::1'));
  t.notOk(ownIps.includes('127.0.0.1'));
  t.notOk(ownIps.some((ip) => ip.startsWith('fe80')));
  const chosen = resolver({ uplinks: [a.ifname, 'absent0'] }).resolve(snapshot());
  t.match(chosen.uplinks, [{ ...a, l3: false }]);
  t.match(chosen.problems.map(formatProblem), ['uplink absent0: there is no such device']);
  const link = (ifindex: number, kind: string, flags: number): Link => ({
    ...{ ifindex, kind, flags, name: `d${ifindex}`, mac: '', l3: kind === 'ipip' },
    ...{ iflink: undefined, netnsid: undefined },
  });
  const links = [link(1, '', 8), link(2, '', 0), link(3, 'vxlan', IFF_UP), link(4, 'ipip', 0), link(5, 'veth', IFF_UP)];
  t.same(
    findUplinks(links, [1, 2]).uplinks.map((l) => l.ifindex),
    [2, 3],
    'default routes but not loopback; tunnels that are up',
  );
  const cache = { ...link(6, 'dummy', IFF_UP), name: 'nodelocaldns' };
  const at = (ifindex: number, address: string): Address => ({ ifindex, family: 4, address, prefix: 32, scope: 0 });
  const addresses = [at(6, '169.254.20.10'), at(6, '10.96.0.10'), at(2, '10.96.0.11')];
  t.same(dnsCacheAddresses(addresses, [...links, cache]), ['10.96.0.10', '169.254.20.10']);
  t.same(dnsCacheAddresses(addresses, [...links, { ...cache, kind: 'veth' }]), [], 'of this name alone');
  t.same(dnsCacheAddresses(addresses, [...links, { ...cache, name: 'kube-ipvs0' }]), [], 'kube-proxy translates those');
});

t.test('changes are heard of', async (t) => {
  let wake = () => {};
  const seen = new Set<NetworkEvent>();
  const events = new NetworkEvents((kinds) => {
    for (const k of kinds) seen.add(k);
    wake();
  });
  t.teardown(() => events.close());
  const heard = async (kind: NetworkEvent, what: string, command: string) => {
    await sleep(60);
    seen.clear();
    const start = performance.now();
    sh(command);
    while (!seen.has(kind) && performance.now() - start < 2000) {
      await Promise.race([sleep(100), new Promise<void>((resolve) => (wake = resolve))]);
    }
    t.ok(seen.has(kind), what);
  };
  await heard('link', 'a link', `ip link set ${a.ifname} down`);
  await heard('link', 'a link up', `ip link set ${a.ifname} up`);
  await heard('address', 'an address here', `ip addr add 10.98.9.9/32 dev ${a.ifname}`);
  await heard('address', "an address in a pod's namespace", `ip -n ${bed.ns('a')} addr add 10.98.1.77/24 dev eth0`);
  await heard('tc', 'a qdisc', `tc qdisc add dev ${a.ifname} clsact`);
  await heard('route', 'a default route', `ip route add default via 10.98.1.2 dev ${a.ifname} metric 9999`);
  seen.clear();
  sh(`ip route add 10.97.0.0/24 via 10.98.1.2 dev ${a.ifname} && tc qdisc del dev ${a.ifname} clsact`);
  await sleep(100);
  // The device was down before: when its own IPv6 address is found to be nobody else's, that is news too.
  seen.delete('address');
  t.same([...seen], ['tc'], 'another route is nothing');
  events.close();
  seen.clear();
  sh(`ip link set ${a.ifname} down && ip link set ${a.ifname} up`);
  await sleep(60);
  t.equal(seen.size, 0, 'closed');
});

t.test('namespaces that come and go', async (t) => {
  let calls = 0;
  const r = resolver();
  const p = annotated('late', 'late');
  let bound = r.resolve(snapshot(p)).pods.length;
  const watcher = new NetnsWatcher(() => {
    calls++;
    bound = r.resolve(snapshot(p)).pods.length;
  });
  t.teardown(() => watcher.close());
  sh(`ip link add eat${process.pid} type veth peer name eat${process.pid}p`);
  t.teardown(() => sh(`ip link del eat${process.pid} 2>/dev/null || true`));
  bed.addNs('late');
  await sleep(100);
  t.ok(calls > 0, 'it came');
  t.equal(bound, 0, 'without an interface yet');
  bed.veth('late', 'eth0', []);
  t.equal(r.resolve(snapshot(p)).pods.length, 1);
  calls = 0;
  bed.delNs('late');
  await sleep(100);
  t.ok(calls > 0, 'it went');
  // The kernel takes it apart a little later; until then its interface is the pod's.
  await until('it is unbound', () => r.resolve(snapshot(p)).pods.length === 0);
});
