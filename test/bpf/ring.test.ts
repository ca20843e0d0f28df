import t from 'tap';
import { BpfMap, MapType } from '../../agent/kernel/libbpf/map.js';
import { RingReader } from '../../agent/events/ring.js';
import type { FlowEvent } from '../../src/flow/event/types.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';
import { emitter, ring } from './emitter.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const RING = 64 * 1024;
/** Of one record with its header. */
const RECORD = STRUCTS.ea_event.size + 8;

/** Bytes of struct ea_event with the given 64-bit number as time. */
function event(time: number): Buffer {
  const b = Buffer.alloc(STRUCTS.ea_event.size);
  b.writeBigUInt64LE(BigInt(time), E.time_ns.offset);
  b[E.type.offset] = ENUMS.ea_event_type.EA_EVENT_VERDICT;
  return b;
}

function counters(): BpfMap {
  return BpfMap.create({
    name: 'ea_counters',
    type: MapType.PERCPU_ARRAY,
    keySize: 4,
    valueSize: 8,
    maxEntries: ENUMS.ea_counter.EA_COUNT_MAX,
    cpus: 64,
  });
}

function times(reader: RingReader, max?: number): number[] {
  const out: number[] = [];
  reader.drain((e) => out.push(e.timeNs), max);
  return out;
}

t.test('events come out once, in order, across many turns of the ring', async (t) => {
  const events = ring(RING);
  const program = emitter(events, STRUCTS.ea_event.size);
  const reader = new RingReader(events, counters());
  t.same(times(reader), [], 'empty at first');
  let sent = 0;
  let got = 0;
  let ordered = true;
  for (let turn = 0; turn < 20; turn++) {
    const burst = 1 + ((turn * 97) % 300);
    for (let i = 0; i < burst; i++) {
      const { retval } = program.testRun(event(sent));
      if (retval !== 0) t.fail(`lost at ${sent}: ${retval}`);
      sent++;
    }
    for (const time of times(reader)) if (time !== got++) ordered = false;
  }
  t.ok(sent * RECORD > 5 * RING, 'the ring has turned');
  t.equal(got, sent);
  t.ok(ordered);
  t.same(times(reader), []);
});

t.test('max, a reader that throws, and the next reader', async (t) => {
  const events = ring(RING);
  const program = emitter(events, STRUCTS.ea_event.size);
  const reader = new RingReader(events, counters());
  for (let i = 0; i < 10; i++) program.testRun(event(i));
  t.same(times(reader, 3), [0, 1, 2]);
  t.throws(
    () =>
      reader.drain((e) => {
        if (e.timeNs === 4) throw new Error('no');
      }),
    /no/,
  );
  t.same(times(reader, 1), [5], 'goes on behind the event that was refused');
  const next = new RingReader(events, counters());
  t.same(times(next), [6, 7, 8, 9], 'another reader goes on where the first one stopped');
});

t.test('a full ring loses new events, and takes some again after a drain', async (t) => {
  const events = ring(RING);
  const program = emitter(events, STRUCTS.ea_event.size);
  const reader = new RingReader(events, counters());
  const room = Math.floor(RING / RECORD);
  let kept = 0;
  for (let i = 0; i < room + 10; i++) if (program.testRun(event(i)).retval === 0) kept++;
  t.ok(kept === room || kept === room - 1, `${kept} of ${room}`);
  t.equal(times(reader).length, kept);
  t.equal(program.testRun(event(1)).retval, 0);
  t.same(times(reader), [1]);
});

t.test('room is made while a long drain goes on', async (t) => {
  const events = ring(RING);
  const program = emitter(events, STRUCTS.ea_event.size);
  const reader = new RingReader(events, counters());
  while (program.testRun(event(7)).retval === 0);
  let n = 0;
  let fits = false;
  reader.drain(() => {
    if (++n === 100) fits = program.testRun(event(8)).retval === 0;
  });
  t.ok(fits);
});

t.test('records of another size are counted and passed over', async (t) => {
  const events = ring(RING);
  const reader = new RingReader(events, counters());
  emitter(events, 64).testRun(Buffer.alloc(64));
  emitter(events, STRUCTS.ea_event.size).testRun(event(5));
  t.same(times(reader), [5]);
  t.equal(reader.unreadable, 1);
});

t.test('losses by CPU', async (t) => {
  const map = counters();
  const slots = Buffer.alloc(8 * 64);
  slots.writeBigUInt64LE(3n, 0);
  slots.writeBigUInt64LE(4n, 8);
  const key = Buffer.alloc(4);
  key.writeUInt32LE(ENUMS.ea_counter.EA_COUNT_EVENTS_LOST);
  map.update(key, slots);
  t.same(new RingReader(ring(RING), map).lost().slice(0, 2), [3, 4]);
});

t.test('every field of an event arrives', async (t) => {
  const events = ring(RING);
  const program = emitter(events, STRUCTS.ea_event.size);
  const reader = new RingReader(events, counters());
  const b = Buffer.alloc(STRUCTS.ea_event.size);
  const key = E.flow.offset;
  const big = 2 ** 53 - 1;
  const u64 = { time_ns: big, rule: big, audit_rule: 12, packets_out: 2 ** 33 + 1, bytes_out: 2, packets_in: 3 };
  const more = { bytes_in: 2 ** 40, drops: 5, created_ns: 6 };
  for (const [name, value] of Object.entries({ ...u64, ...more })) {
    b.writeBigUInt64LE(BigInt(value), E[name as keyof typeof E].offset);
  }
  b.writeBigUInt64LE((1n << 63n) | (1n << 62n) | BigInt(big), E.set.offset);
  b.set(parseAddr('10.1.2.3').bytes, key + K.local.offset);
  b.set(parseAddr('192.0.2.255').bytes, key + K.remote.offset);
  b.writeUInt16BE(40000, key + K.local_port.offset);
  b.writeUInt16BE(443, key + K.remote_port.offset);
  b.writeUInt32LE(0xffffffff, key + K.endpoint.offset);
  b[key + K.protocol.offset] = 6;
  b.set(parseAddr('2001:db8::1').bytes, E.service.offset);
  b.writeUInt16BE(8443, E.service_port.offset);
  b.writeUInt32LE(17, E.ifindex.offset);
  b.writeUInt32LE(1500, E.length.offset);
  b[E.type.offset] = ENUMS.ea_event_type.EA_EVENT_CHANGED;
  b[E.verdict.offset] = ENUMS.ea_verdict.EA_VERDICT_DENY;
  b[E.audit_verdict.offset] = ENUMS.ea_verdict.EA_VERDICT_ALLOW;
  b[E.reason.offset] = ENUMS.ea_reason.EA_REASON_SPOOFED_ADDRESS;
  b[E.hook.offset] = ENUMS.ea_hook.EA_HOOK_UPLINK;
  b[E.tcp_flags.offset] = 0x12;
  b[E.flow_flags.offset] = ENUMS.ea_flow_flags.EA_FLOW_INBOUND | ENUMS.ea_flow_flags.EA_FLOW_POST_DNAT;
  b[E.family.offset] = 4;
  b.set([2, 0, 0, 0, 0xab, 1], E.mac_src.offset);
  b.writeUInt16LE(0x86dd, E.ethertype.offset);
  b[E.is_reply.offset] = 1;
  program.testRun(b);
  let got: FlowEvent | undefined;
  reader.drain((e) => {
    got = e;
  });
  t.same(got, {
    timeNs: big,
    type: 'changed',
    verdict: 'deny',
    auditVerdict: 'allow',
    reason: 'spoofed-address',
    hook: 'uplink',
    rule: big,
    auditRule: 12,
    set: big,
    endpoint: 0xffffffff,
    ifindex: 17,
    family: 4,
    local: '10.1.2.3',
    remote: '192.0.2.255',
    localPort: 40000,
    remotePort: 443,
    protocol: 6,
    inbound: true,
    postDnat: true,
    isReply: true,
    service: '2001:db8::1',
    servicePort: 8443,
    tcpFlags: 0x12,
    packetsOut: 2 ** 33 + 1,
    bytesOut: 2,
    packetsIn: 3,
    bytesIn: 2 ** 40,
    drops: 5,
    createdNs: 6,
    length: 1500,
    ethertype: 0x86dd,
    macSource: '02:00:00:00:ab:01',
    macDestination: '',
    name: 0,
    nameIncarnation: 0,
  } satisfies FlowEvent);
});
