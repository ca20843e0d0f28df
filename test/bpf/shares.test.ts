/** Who may write into the ring of events while it fills. */
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { RingReader } from '../../agent/events/ring.js';
import { Shares } from '../../agent/events/shares.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { toIr } from '../../src/dialects/index.js';
import { Kernel, loadForTest } from '../engines/engine.js';
import { frame } from '../engines/packets.js';
import { pod, policy, snapshotOf } from '../policy/world.js';

const SYN = 2;
const RING = 1 << 20;
/** Of one event with its header. */
const EVENT = STRUCTS.ea_event.size + 8;
const PODS = { 'default/web': '10.244.0.1', 'default/db': '10.244.0.2', 'default/log': '10.244.0.3' } as const;

const kernel = new Kernel(loadForTest({ flows: 65536, events: RING }));
t.teardown(() => kernel.close());
const map = (name: string) => kernel.programs.maps[name] as BpfMap;
const [ring, shares] = [new RingReader(map('events'), map('counters')), new Shares(map('event_shares'))];
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

const pods = Object.entries(PODS).map(([name, ip]) => pod(name, [ip], { app: name.slice(8) }));
const egress = [{ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] }];
const logging = `---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: { name: log, namespace: default }
spec: { order: 1, selector: "app == 'log'", types: [Egress], egress: [{ action: Log }, { action: Allow }] }
`;
const snapshot = snapshotOf(
  pods.join('') + policy('default/p', { podSelector: {}, policyTypes: ['Egress'], egress }) + logging,
);
kernel.use({ snapshot, ir: toIr(snapshot).ir });

const ctx = Buffer.alloc(192);
ctx.writeUInt32LE(1, 40);
let port = 0;

/** New flows of a pod: how many events were told, and how many lost. */
function flows(name: keyof typeof PODS, count: number): { told: number; lost: number } {
  const { fromPod } = kernel.programs.programs;
  const before = { lost: sum(ring.lost()), told: told() };
  for (let i = 0; i < count; i++) {
    const to = i % 2 === 0 ? '192.0.2.1' : '198.51.100.1';
    port++;
    const sport = 1024 + (port % 60_000);
    fromPod.testRun(
      frame({ to, protocol: 6, port: 80 + Math.floor(port / 60_000) }, { src: PODS[name], sport, tcpFlags: SYN }),
      { ctx },
    );
  }
  return { told: told() - before.told, lost: sum(ring.lost()) - before.lost };
}

function told(): number {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(ENUMS.ea_counter.EA_COUNT_EVENTS);
  return sum(
    map('counters')
      .lookupPerCpu(key)
      .map((v) => Number(v.readBigUInt64LE(0))),
  );
}

t.test('a pod that floods has its share of a ring that fills, and the others have theirs', async (t) => {
  kernel.become('default/web');
  t.same(flows('default/web', 1000), { told: 1000, lost: 0 }, 'with room nobody is limited');
  const flood = flows('default/web', 12_000);
  t.equal(flood.told + flood.lost, 12_000, 'each event is told or counted');
  t.ok(flood.lost > 5000, `${flood.lost} are lost`);
  t.ok((1000 + flood.told) * EVENT < RING, 'though the ring is not full');
  t.same([...shares.takeNew().values()], [flood.lost], 'and it is known whose they were');
  kernel.become('default/db');
  t.same(flows('default/db', 50), { told: 50, lost: 0 }, 'a neighbour loses none');
  t.equal(shares.takeNew().size, 0);
  ring.records(() => undefined);
  kernel.become('default/web');
  t.same(flows('default/web', 500), { told: 500, lost: 0 }, 'once it is read everybody goes on');
});

t.test('events of Log rules go with those of their flows', async (t) => {
  ring.records(() => undefined);
  kernel.become('default/log');
  t.same(flows('default/log', 500), { told: 1000, lost: 0 }, 'two each');
  const flood = flows('default/log', 6000);
  t.equal(flood.told + flood.lost, 12_000);
  t.ok((1000 + flood.told) * EVENT < RING, 'they do not fill the ring either');
  t.same([...shares.takeNew().values()], [flood.lost]);
  kernel.become('default/db');
  t.same(flows('default/db', 50), { told: 50, lost: 0 });
});

t.test('what an entry showed before', async (t) => {
  const events = map('event_shares');
  const [key, value] = [Buffer.alloc(4), Buffer.alloc(STRUCTS.ea_share.size)];
  key.writeUInt32LE(77);
  const show = (lost: number) => {
    value.writeBigUInt64LE(BigInt(lost), STRUCTS.ea_share.fields.lost.offset);
    events.update(key, value);
  };
  show(10);
  const fresh = new Shares(events);
  t.equal(fresh.lost(77), 0, 'what was lost before it began is not its own');
  show(14);
  t.equal(fresh.takeNew().get(77), 4);
  t.equal(fresh.takeNew().size, 0);
  show(3);
  t.equal(fresh.takeNew().get(77), 3, 'the kernel forgot it, and it came again');
  t.equal(fresh.lost(77), 7);
});
