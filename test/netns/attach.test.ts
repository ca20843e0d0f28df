import { existsSync, readdirSync } from 'node:fs';
import t from 'tap';
import { Attacher } from '../../agent/hooks/attach.js';
import { EndpointResolver } from '../../agent/endpoints/resolver.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import * as tcx from '../../agent/hooks/tcx.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { Bed, DROP, NEXT, OK, pod, program, sh, snapshot, succeeds } from './attach-bed.js';

const bed = new Bed();
t.teardown(() => bed.close());
bed.addNs('a');
const host = ['10.99.1.1/24', 'fd99:1::1/64'];
const dev = bed.veth('a', 'eth0', ['10.99.1.2/24', 'fd99:1::2/64'], host);
const { ifindex, ifname } = dev;
const next = program(NEXT);
const ok = program(OK);
const drop = program(DROP);
const reaches = () => bed.pings('a', '10.99.1.1');
const filters = (direction: string) => sh(`tc filter show dev ${ifname} ${direction} 2>/dev/null || true`);
const clsact = () => sh(`tc qdisc show dev ${ifname}`).includes('clsact');
const modes = tcx.probeTcx() ? (['tcx', 'tc'] as const) : (['tc'] as const);

t.ok(reaches(), 'the bed works');

for (const mode of modes) {
  t.test(`${mode}: attach, replace, detach`, async (t) => {
    const a = new Attacher({ mode, pinDir: bed.pinDir });
    t.equal(a.mode, mode);
    a.attach(dev, 'ingress', drop);
    t.notOk(reaches(), 'ingress sees what the pod sends');
    a.attach(dev, 'ingress', next);
    t.ok(reaches(), 'the program was replaced');
    a.attach(dev, 'egress', drop);
    t.notOk(reaches(), 'egress sees what is delivered');
    t.same(a.attached(), [ifindex]);
    t.equal(filters('ingress').includes('egress-agent/ingress'), mode === 'tc');
    t.equal(existsSync(`${bed.pinDir}/links/${ifindex}-ingress`), mode === 'tcx');
    t.same(
      a.check().map((s) => s.state),
      ['ok', 'ok'],
    );
    a.detach(ifindex);
    t.ok(reaches());
    t.equal(filters('ingress') + filters('egress'), '');
    t.notOk(clsact(), 'the clsact that we made is gone');
    t.same(
      readdirSync(bed.pinDir).flatMap((dir) => readdirSync(`${bed.pinDir}/${dir}`)),
      [],
      'no pin and no mark is left',
    );
    t.same(tcx.queryPrograms(ifindex, 'ingress'), []);
  });

  t.test(`${mode}: the next agent takes over`, async (t) => {
    const first = new Attacher({ mode, pinDir: bed.pinDir });
    first.attach(dev, 'ingress', drop);
    const second = new Attacher({ mode, pinDir: bed.pinDir });
    t.ok(second.has(ifindex, 'ingress'));
    t.notOk(second.has(ifindex, 'egress'));
    t.same(second.attached(), [ifindex]);
    second.attach(dev, 'ingress', next);
    t.ok(reaches(), 'replaced, not added');
    if (mode === 'tcx') t.equal(tcx.queryPrograms(ifindex, 'ingress').length, 1);
    else t.equal(filters('ingress').match(/egress-agent/g)?.length, 1);
    new Attacher({ mode, pinDir: bed.pinDir }).detachAll();
    t.notOk(clsact());
    t.same(tcx.queryPrograms(ifindex, 'ingress'), []);
    t.same(readdirSync(bed.pinDir), [], 'no directory is left');
  });

  t.test(`${mode}: others' filters and qdisc stay`, async (t) => {
    sh(`tc qdisc add dev ${ifname} clsact`);
    sh(`tc filter add dev ${ifname} ingress prio 1 handle 1 bpf bytecode '1,6 0 0 0'`);
    // The very priority and handle that we would take.
    sh(`tc filter add dev ${ifname} ingress prio 234 handle 0xea00 bpf bytecode '1,6 0 0 1'`);
    sh(`tc filter add dev ${ifname} egress prio 5 bpf bytecode '1,6 0 0 0'`);
    const before = filters('ingress') + filters('egress');
    const a = new Attacher({ mode, pinDir: bed.pinDir });
    a.attach(dev, 'ingress', next);
    a.attach(dev, 'egress', next);
    t.ok(reaches());
    a.attach(dev, 'ingress', drop);
    t.notOk(reaches(), 'ours runs among them');
    const [state] = a.check();
    t.equal(state?.ahead.length, mode === 'tc' ? 1 : 0, 'what runs before ours is told');
    a.detachAll();
    t.equal(filters('ingress') + filters('egress'), before, 'all as it was');
    t.ok(clsact(), 'the clsact of another stays');
    sh(`tc filter del dev ${ifname} ingress && tc filter del dev ${ifname} egress`);
    const b = new Attacher({ mode, pinDir: bed.pinDir });
    b.attach(dev, 'ingress', next);
    b.detachAll();
    t.ok(clsact(), 'also an empty one');
    sh(`tc qdisc del dev ${ifname} clsact`);
  });

  t.test(`${mode}: a filter of another in our clsact keeps it`, async (t) => {
    const a = new Attacher({ mode: 'tc', pinDir: bed.pinDir });
    a.attach(dev, 'ingress', next);
    sh(`tc filter add dev ${ifname} egress prio 5 bpf bytecode '1,6 0 0 0'`);
    a.detachAll();
    t.match(filters('egress'), /pref 5 bpf/);
    t.ok(clsact());
    sh(`tc qdisc del dev ${ifname} clsact`);
  });

  t.test(`${mode}: what others remove is put back`, async (t) => {
    const a = new Attacher({ mode, pinDir: bed.pinDir });
    a.attach(dev, 'ingress', drop);
    a.attach(dev, 'egress', next);
    if (mode === 'tcx') {
      const fd = tcx.openPinned(`${bed.pinDir}/links/${ifindex}-ingress`) as number;
      tcx.detachLink(fd);
      sys.close(fd);
    } else {
      sh(`tc filter del dev ${ifname} ingress`);
    }
    t.ok(reaches(), 'unguarded');
    t.same(
      a.check().map((s) => `${s.direction} ${s.state}`),
      ['ingress restored', 'egress ok'],
    );
    t.notOk(reaches(), 'guarded again');
    if (mode === 'tcx') sh(`rm ${bed.pinDir}/links/${ifindex}-ingress`);
    else sh(`tc qdisc del dev ${ifname} clsact`);
    t.ok(reaches());
    t.ok(a.check().some((s) => s.state === 'restored'));
    t.notOk(reaches());
    a.detachAll();
    t.notOk(clsact());
    t.ok(reaches());
  });

  t.test(`${mode}: a device that goes takes its hooks along`, async (t) => {
    const other = bed.veth('a', 'eth7', []);
    const a = new Attacher({ mode, pinDir: bed.pinDir });
    a.attach(other, 'ingress', next);
    a.attach(dev, 'ingress', next);
    sh(`ip link del ${other.ifname}`);
    t.same(
      a.check().map((s) => s.state),
      ['gone', 'ok'],
    );
    t.same(a.attached(), [ifindex]);
    t.throws(() => a.attach(other, 'ingress', next), { code: 'KERNEL', message: /ENODEV|device/i });
    a.detachAll();
    t.same(readdirSync(bed.pinDir), []);
  });

  t.test(`${mode}: without a pin directory`, async (t) => {
    const a = new Attacher({ mode });
    a.attach(dev, 'ingress', drop);
    a.attach(dev, 'ingress', drop);
    t.notOk(reaches());
    t.same(
      a.check().map((s) => s.state),
      ['ok'],
    );
    a.detachAll();
    t.ok(reaches());
    t.notOk(clsact());
  });
}

t.test('tcx: ahead of the others, who still run', { skip: modes.length < 2 && 'this kernel has no tcx' }, async (t) => {
  const theirs = tcx.createLink(drop.fd, ifindex, 'ingress');
  const a = new Attacher({ mode: 'auto', pinDir: bed.pinDir });
  t.equal(a.mode, 'tcx');
  a.attach(dev, 'ingress', next);
  t.notOk(reaches(), 'theirs drops after ours passed');
  t.same(tcx.queryPrograms(ifindex, 'ingress'), [tcx.programId(next.fd), tcx.programId(drop.fd)]);
  const later = tcx.createLink(ok.fd, ifindex, 'ingress');
  t.same(a.check()[0]?.ahead, [`tcx program ${tcx.programId(ok.fd)}`], 'one that came before us since is told');
  a.detachAll();
  t.equal(tcx.queryPrograms(ifindex, 'ingress').length, 2, 'theirs stay');
  sys.close(theirs);
  sys.close(later);
});

t.test('a change of mode replaces, in both directions', { skip: modes.length < 2 && 'no tcx' }, async (t) => {
  new Attacher({ mode: 'tc', pinDir: bed.pinDir }).attach(dev, 'ingress', drop);
  new Attacher({ mode: 'tcx', pinDir: bed.pinDir }).attach(dev, 'ingress', next);
  t.ok(reaches(), 'the filter is gone');
  t.notOk(clsact());
  const a = new Attacher({ mode: 'tc', pinDir: bed.pinDir });
  a.attach(dev, 'ingress', next);
  t.same(tcx.queryPrograms(ifindex, 'ingress'), [], 'the link is gone');
  a.detachAll();
});

t.test("tc: another's ingress qdisc is in the way", async (t) => {
  sh(`tc qdisc add dev ${ifname} ingress`);
  const a = new Attacher({ mode: 'tc' });
  t.throws(() => a.attach(dev, 'egress', next), { code: 'KERNEL', message: /another owner's ingress qdisc/ });
  a.detachAll();
  t.match(sh(`tc qdisc show dev ${ifname}`), /ingress/);
  t.ok(succeeds(`tc qdisc del dev ${ifname} ingress`));
});

t.test('pods: bound, attached, seeded in between, detached when they go', async (t) => {
  const resolver = new EndpointResolver({ nodeName: 'node', uplinks: [] });
  const programs = { fromPod: next, toPod: ok, uplink: next, uplinkIn: next };
  const web = (uid: string) => pod('web', { uid, ips: ['10.99.1.2'] });
  const a = new Attacher({ pinDir: bed.pinDir });
  const seeded: string[] = [];
  const seed = (p: EndpointBinding) => {
    if (seeded.length === 0) t.notOk(a.has(p.ifindex, 'ingress'), 'and nothing is judged yet');
    seeded.push(p.uid);
  };
  const seeding = {
    prepare: (all: readonly EndpointBinding[]) => {
      for (const p of all) t.ok(a.has(p.ifindex, 'egress'), 'delivery is hooked before anything is looked at');
      return seed;
    },
  };
  const bindings = resolver.resolve(snapshot(web('one')));
  t.same(a.attachAll(bindings, programs, seeding), []);
  t.same(seeded, ['one']);
  t.ok(a.has(ifindex, 'ingress') && a.has(ifindex, 'egress'));
  a.attachAll(bindings, programs, seeding);
  t.same(seeded, ['one'], 'once');
  new Attacher({ pinDir: bed.pinDir }).attachAll(bindings, programs, seeding);
  t.same(seeded, ['one'], 'the next agent finds the flows in the maps');
  a.attachAll(resolver.resolve(snapshot(web('two'))), programs, seeding);
  t.same(seeded, ['one', 'two'], 'a new pod on the same interface is another endpoint');

  const other = snapshot(pod('web', { uid: 'two', ips: ['10.99.1.99'] }));
  t.same([...resolver.resolve(other).unbound], [], 'what is bound stays bound');
  const lost = new EndpointResolver({ nodeName: 'node', uplinks: [] }).resolve(other);
  t.same([...lost.unbound], ['two']);
  t.same(a.detachStale(lost), [], 'a pod that cannot be found just now keeps its hooks');
  const b = new Attacher({ pinDir: bed.pinDir });
  t.same(b.detachStale(lost), [], 'also those of an earlier agent');
  t.same(b.detachStale(resolver.resolve(snapshot())), [ifindex]);
  t.notOk(a.has(ifindex, 'ingress') || a.has(ifindex, 'egress'));
  const gone = { ...bindings, pods: bindings.pods.map((p) => ({ ...p, ifindex: 999999 })) };
  t.match(b.attachAll(gone, programs, seeding), [{ where: { object: 'Pod test/web' }, message: /device|ENODEV/i }]);
  b.detachAll();
});
