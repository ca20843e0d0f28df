import { existsSync, symlinkSync } from 'node:fs';
import t from 'tap';
import { Claims } from '../../agent/endpoints/binding/claims.js';
import { type Link, withNetlink } from '../../agent/netlink/netlink.js';
import { netnsAt } from '../../agent/netlink/netns.js';
import { runtimeNamespaces, StartingVeths } from '../../agent/endpoints/starting.js';
import { Bed, pod, sh } from '../netns/attach-bed.js';

const bed = new Bed();
t.teardown(() => bed.close());
const path = (name: string) => `/run/netns/${bed.ns(name)}`;
const claim = (name: string, ns: string, uid?: string) => ({ namespace: 'test', name, uid, netns: path(ns) });

bed.addNs('a');
bed.addNs('b');

t.test('a claim, its pod, and others', async (t) => {
  const claims = new Claims();
  t.equal(claims.add(claim('web', 'a', 'uid-web'))?.id, netnsAt(path('a'))?.id);
  t.match(claims.find(pod('web')), { ns: netnsAt(path('a')), sure: true });
  t.equal(claims.find(pod('web', { uid: 'other' })), undefined, 'another pod of the name');
  t.equal(claims.find(pod('web', { namespace: 'elsewhere' })), undefined);
  t.equal(claims.find(pod('api')), undefined);
  claims.add(claim('api', 'b'));
  t.match(claims.find(pod('api', { uid: 'any' })), { ns: netnsAt(path('b')), sure: false }, 'without a UID: by name');
  claims.add(claim('web', 'b', 'uid-web'));
  t.match(claims.find(pod('web')), { ns: netnsAt(path('b')) }, 'its sandbox was made anew: the last word counts');
});

t.test('no namespace, no claim', async (t) => {
  const claims = new Claims();
  for (const netns of ['/nonexistent', '/etc/passwd', '/proc/self', '']) {
    const { namespace, name, uid } = claim('x', 'a');
    t.equal(claims.add({ namespace, name, uid, netns }), undefined, netns);
  }
  t.equal(claims.size, 0);
});

t.test('/var/run is /run', async (t) => {
  if (!existsSync('/var/run/netns')) symlinkSync('/run', '/var/run');
  const claims = new Claims();
  claims.add({ ...claim('web', 'a'), netns: `/var${path('a')}` });
  t.equal(claims.find(pod('web'))?.ns.id, netnsAt(path('a'))?.id);
  claims.remove(claim('web', 'a'));
  t.equal(claims.size, 0, 'removed by its other name');
});

t.test('what ends: by name and namespace, with the namespace, and unheard', async (t) => {
  const claims = new Claims();
  claims.add(claim('web', 'a', 'one'));
  claims.add(claim('web', 'b', 'two'));
  claims.remove(claim('web', 'a'));
  t.match(claims.find(pod('web', { uid: 'two' })), { ns: netnsAt(path('b')) }, 'the end of the one before is late');
  claims.remove({ namespace: 'test', name: 'web', netns: '' });
  t.equal(claims.size, 1, 'an empty namespace says nothing of one that is there');
  claims.remove(claim('web', 'b'));
  t.equal(claims.size, 0);

  bed.addNs('c');
  claims.add(claim('web', 'c'));
  claims.add(claim('lost', 'c'));
  bed.delNs('c');
  t.equal(claims.find(pod('web')), undefined, 'its namespace has gone');
  claims.remove({ namespace: 'test', name: 'lost', netns: '' });
  t.equal(claims.size, 0, 'the runtime took the namespace away before it said so');

  for (let n = 0; n < 5; n++) {
    bed.addNs('d');
    claims.add(claim(`p${n}`, 'd'));
    bed.delNs('d');
  }
  t.equal(claims.size, 1, 'ends that were never told do not add up');
});

t.test('the same path, another namespace', async (t) => {
  const claims = new Claims();
  bed.addNs('e');
  // A process keeps the old one alive, so that its inode is not used again.
  const [pid = ''] = sh(`nsenter --net=${path('e')} sleep 60 >/dev/null 2>&1 & echo $!`).split('\n');
  t.teardown(() => process.kill(Number(pid)));
  claims.add(claim('web', 'e'));
  bed.delNs('e');
  bed.addNs('e');
  t.equal(claims.find(pod('web')), undefined);
});

const first = (...runtimes: number[]) => ({ runtimes: () => new Set(runtimes), hooked: () => new Set<number>() });

t.test('interfaces that come while the agent runs', async (t) => {
  const link = (ifindex: number) => ({ ifindex, name: `veth${ifindex}`, netnsid: 1 }) as Link;
  const all = (...numbers: number[]) => new Map([[1, numbers.map(link)]]);
  const of = (veths: StartingVeths, there: Map<number, Link[]>, ...taken: number[]) =>
    veths.unclaimed(there, new Set(taken), first(7)).map((l) => l.ifindex);
  const veths = new StartingVeths();
  t.same(of(veths, all(1, 2)), [], 'what was there before it');
  t.same(of(veths, all(1, 2, 3)), [3]);
  t.same(of(veths, all(1, 2, 3, 4), 3), [4], 'one has found its pod');
  t.same(of(veths, all(1, 2, 3, 4)), [4], 'whose pod has gone: no stranger');
  t.same(of(veths, all(4)), [4]);
  t.same(of(veths, all(1, 4)), [1, 4], 'an index that went and came is another interface');
  t.same(of(veths, new Map()), []);
});

t.test('interfaces of pods that started just before the agent', async (t) => {
  const link = (ifindex: number, netnsid: number) => ({ ifindex, name: `veth${ifindex}`, netnsid }) as Link;
  const there = new Map([1, 2, 3].map((n) => [n, [link(n * 10, n)]]));
  const veths = new StartingVeths();
  t.same(
    veths.unclaimed(there, new Set([30]), first(2, 3)).map((l) => l.ifindex),
    [20],
    'of a namespace that a runtime made, and not bound',
  );
});

t.test('namespaces that container runtimes made', async (t) => {
  const names = ['cni-0b3c1d2e-1111-2222-3333-444455556666', '9f3c1d2e-1111-2222-3333-444455556666'];
  for (const [i, name] of names.entries()) {
    sh(`ip netns add ${name}`);
    t.teardown(() => sh(`ip netns del ${name}`));
    sh(`ip link add eaw-rt${i} type veth peer name eth0 netns ${name}`);
    t.teardown(() => sh(`ip link del eaw-rt${i} 2>/dev/null || true`));
  }
  const ids = withNetlink(undefined, (nl) => runtimeNamespaces(nl));
  const links = withNetlink(undefined, (nl) => nl.links());
  for (const i of [0, 1]) {
    const { netnsid } = links.find((l) => l.name === `eaw-rt${i}`) as Link;
    t.ok(netnsid !== undefined && ids.has(netnsid), `${names[i]}`);
  }
  bed.veth('a', 'eth0', ['10.98.60.2/24']);
  const other = withNetlink(undefined, (nl) => nl.links()).find(
    (l) => l.name.startsWith('eaw') && !/rt\d$/.test(l.name),
  );
  if (other?.netnsid !== undefined) t.notOk(ids.has(other.netnsid), 'others are not');
});
