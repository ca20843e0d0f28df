/** Who says where a pod is: cgroups of processes, and libcni's cache. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CgroupEvidence, podOfCgroup } from '../../agent/endpoints/evidence/cgroups.js';
import { CniCacheEvidence } from '../../agent/endpoints/evidence/cni-cache.js';
import { type Netns, netnsAt, ownNetns } from '../../agent/netlink/netns.js';
import { MIRROR_ANNOTATION } from '../../src/identity/snapshot.js';
import { Bed, pod } from '../netns/attach-bed.js';
import { cniResult } from '../netns/cni-result.js';
import { until } from '../netns/shell.js';

const UID = '11111111-2222-3333-4444-555555555555';
const OTHER = '99999999-2222-3333-4444-555555555555';

const bed = new Bed();
t.teardown(() => bed.close());
const path = (name: string) => `/run/netns/${bed.ns(name)}`;
const at = (name: string) => netnsAt(path(name)) as Netns;
for (const name of ['a', 'b', 'c']) bed.addNs(name);

function dirOf(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'ea-evidence-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  return dir;
}

t.test('the pod of a cgroup', async (t) => {
  const dashed = UID.replaceAll('-', '_');
  const hash = '0123456789abcdef0123456789abcdef';
  const is = (path: string, uid: string | undefined) => t.equal(podOfCgroup(`0::${path}\n`), uid, path);
  is(`/kubepods/burstable/pod${UID}/0123abcd`, UID);
  is(`/kubepods/pod${UID}`, UID);
  is(`/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${dashed}.slice/cri-containerd-0123.scope`, UID);
  is(`/kubepods.slice/kubepods-pod${dashed}.slice/crio-0123.scope`, UID);
  is(
    `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod${dashed}.slice/x`,
    UID,
  );
  is(`/docker/0123/kubepods/besteffort/pod${UID}/0123`, UID);
  is(`/kubepods/pod${hash}/0123`, hash);
  is(`/../../kubepods-besteffort-pod${dashed}.slice/cri-containerd-0123.scope`, UID);
  is(`/../pod${UID}/0123`, UID);
  is(`/kubepods/pod${UID}/0123/kubepods/pod${OTHER}/x`, UID);
  is(`/user.slice/pod${UID}`, undefined);
  is(`/pod${UID}/0123/kubepods/pod${OTHER}`, undefined);
  is(`/kubepods/pod${UID}x`, undefined);
  is('/kubepods/podinfo', undefined);
  is('/', undefined);
  t.equal(podOfCgroup(`9:name=systemd:/kubepods/pod${UID}/c\n4:memory:/process_api/x\n0::/\n`), UID, 'version 1');
  t.equal(podOfCgroup(''), undefined);
});

/** A /proc of processes that there are not. */
class Processes {
  constructor(readonly dir: string) {}

  add(pid: number, ns: string, cgroup: string, since: number): void {
    const own = join(this.dir, String(pid));
    mkdirSync(join(own, 'ns'), { recursive: true });
    symlinkSync(ns, join(own, 'ns/net'));
    writeFileSync(join(own, 'cgroup'), `0::${cgroup}\n`);
    const rest = Array.from({ length: 40 }, (_, i) => (i === 19 ? since : 0)).join(' ');
    writeFileSync(join(own, 'stat'), `${pid} (a ) b) ${rest}\n`);
  }
}

t.test('cgroups: the namespace of the sandbox, whatever else is in the cgroup', async (t) => {
  const dir = dirOf(t);
  const proc = new Processes(dir);
  const evidence = new CgroupEvidence(dir);
  const web = pod('web', { uid: UID });
  const leading = new Set<string>();
  const ask = () => {
    evidence.begin({ own: ownNetns(), leadsHere: (ns) => leading.has(ns.id) });
    return evidence.find(web);
  };
  t.equal(ask(), undefined);
  proc.add(10, path('a'), `/kubepods/pod${UID}/pause`, 100);
  proc.add(11, '/proc/self/ns/net', `/kubepods/pod${UID}/host`, 50);
  proc.add(12, path('b'), `/kubepods/pod${OTHER}/pause`, 60);
  mkdirSync(join(dir, '13'));
  t.match(ask(), { ns: { id: at('a').id }, by: 'cgroup', sure: true });
  t.equal(evidence.find(pod('api', { uid: OTHER }))?.ns.id, at('b').id);

  proc.add(14, path('b'), `/kubepods/pod${UID}/c`, 200);
  t.equal(ask()?.ns.id, at('a').id, 'a guest in the namespace of another pod');
  t.equal(evidence.find(pod('api', { uid: OTHER }))?.ns.id, at('b').id, 'which stays the other`s');

  proc.add(15, path('c'), `/kubepods/pod${UID}/c`, 300);
  t.equal(ask()?.ns.id, at('a').id, 'one that a container made is younger');
  leading.add(at('c').id);
  t.equal(ask()?.ns.id, at('c').id, 'a namespace that leads here');
  leading.add(at('a').id);
  t.equal(ask()?.ns.id, at('a').id, 'both do: the older one');
  t.same(
    new Map(evidence.owners().map(({ ns, uid }) => [ns.id, uid])),
    new Map([
      [at('a').id, UID],
      [at('b').id, OTHER],
      [at('c').id, UID],
    ]),
  );
});

/** Where a cgroup can be made: the unified hierarchy, or one of the older kind. */
const hierarchy = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup', '/sys/fs/cgroup/pids', '/sys/fs/cgroup/freezer'].find(
  (dir) => existsSync(join(dir, 'cgroup.procs')),
);

t.test('cgroups: a process in one of kubelet`s', { skip: hierarchy ? false : 'no cgroups here' }, async (t) => {
  const top = join(hierarchy as string, `kubepods-ea${process.pid}`);
  const own = join(top, `pod${UID}`);
  try {
    mkdirSync(own, { recursive: true });
  } catch (e) {
    return t.pass(`no cgroup can be made: ${(e as Error).message}`);
  }
  const child: ChildProcess = spawn('nsenter', [`--net=${path('a')}`, 'sleep', '60']);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await until('the cgroup is empty', () => {
      rmdirSync(own);
      rmdirSync(top);
      return true;
    });
  });
  writeFileSync(join(own, 'cgroup.procs'), String(child.pid));
  const evidence = new CgroupEvidence();
  const ns = await until('it is seen', () => {
    evidence.begin({ own: ownNetns(), leadsHere: () => false });
    const found = evidence.find(pod('web', { uid: UID }))?.ns;
    return found?.id === at('a').id && found;
  });
  t.equal(ns.path, `/proc/${child.pid}/ns/net`);
});

t.test('libcni`s cache', async (t) => {
  const dir = dirOf(t);
  const cache = new CniCacheEvidence(dir);
  const ask = (p = pod('web', { uid: UID })) => {
    cache.begin();
    return cache.find(p);
  };
  t.equal(ask(), undefined, 'no directory');
  t.notOk(cache.hasNicFacts);
  const put = (name: string, result: object) => {
    mkdirSync(join(dir, 'results'), { recursive: true });
    writeFileSync(join(dir, 'results', name), JSON.stringify(result));
  };
  const args = { namespace: 'test', name: 'web', uid: UID, netns: `/var${path('a')}` };
  put('net-1-eth0', cniResult({ ...args, ips: ['10.1.2.3/24', 'fd00::3/64'], mac: '02:00:00:00:00:AA' }));
  put('net-1-net1', cniResult({ ...args, ifname: 'net1', ips: ['10.9.0.1/16'] }));
  put('net-2-eth0', cniResult({ ...args, name: 'api', uid: OTHER, netns: path('b') }));
  const found = ask();
  t.match(found, { ns: { id: at('a').id }, by: 'cni', sure: true });
  t.same(
    found?.nics,
    new Map<string, unknown>([
      ['eth0', { ips: ['10.1.2.3', 'fd00::3'], mac: '02:00:00:00:00:aa' }],
      ['net1', { ips: ['10.9.0.1'] }],
    ]),
  );
  t.ok(cache.hasNicFacts);
  t.equal(ask(pod('web', { uid: OTHER })), undefined, 'another pod of the name');
  t.equal(ask(pod('web', { namespace: 'x', uid: UID })), undefined);
  const mirror = pod('web', { uid: OTHER, annotations: { [MIRROR_ANNOTATION]: UID } });
  t.equal(ask(mirror)?.ns.id, at('a').id, 'the mirror of a static pod');

  put('old', cniResult({ ...args, name: 'plain', uid: undefined, netns: path('c'), version: 'old' }));
  t.match(ask(pod('plain')), { ns: { id: at('c').id }, sure: false }, 'without a UID, and the namespace in its result');
  await until('a later time', () => Date.now() % 50 > 25);
  put('net-3-eth0', cniResult({ ...args, netns: path('c') }));
  t.equal(ask()?.ns.id, at('c').id, 'a sandbox made anew: the last word counts');
  unlinkSync(join(dir, 'results/net-3-eth0'));
  t.equal(ask()?.ns.id, at('a').id);
  put('net-4-eth0', cniResult({ ...args, netns: '/run/netns/gone' }));
  t.equal(ask()?.ns.id, at('a').id, 'of a namespace that has gone');

  for (const [i, text] of [
    '',
    '{',
    '[]',
    '{"kind":"cniCacheV1"}',
    '{"kind":"x"}',
    'null',
    '{"kind":"cniCacheV1","cniArgs":[1,[2]]}',
  ].entries()) {
    writeFileSync(join(dir, `results/junk${i}`), text);
  }
  t.equal(ask()?.ns.id, at('a').id, 'what is no result is none');
  writeFileSync(
    join(dir, 'results/late'),
    JSON.stringify(cniResult({ ...args, name: 'late', netns: path('b') })).slice(0, 90),
  );
  t.equal(ask(pod('late', { uid: UID })), undefined, 'one that is being written');
  put('late', cniResult({ ...args, name: 'late', netns: path('b') }));
  t.equal(ask(pod('late', { uid: UID }))?.ns.id, at('b').id, 'is read when it is whole');
  t.equal(readdirSync(join(dir, 'results')).length, 13, 'nothing is taken away');
});
