/** What is written from a flow's bytes is what protobufjs makes of the flow's message, byte for byte. */
import fc from '../seeded.js';
import t from 'tap';
import { EVENT_SIZE } from '../../src/flow/event/decode.js';
import { Enricher } from '../../src/flow/names/enrich.js';
import { timestamp, toHubble, toRecord } from '../../src/flow/hubble.js';
import type { Flow } from '../../src/flow/event/types.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import { DEFAULT_RULE, type RuleRef } from '../../src/ir/types.js';
import { parseAddr } from '../../src/net/addr.js';
import { FlowWriter } from '../../src/rpc/flow-writer.js';
import { EGRESS, OBSERVER } from '../../src/proto/load.js';
import { flow, LEAD, pod, rule, service, snapshot } from '../flow/flows.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const KEY = E.flow.offset;
const RULES: readonly RuleRef[] = [
  rule(),
  rule({ index: DEFAULT_RULE, action: 'deny' }),
  rule({ staged: true, action: 'deny', policy: { ...rule().policy, name: 'später', labels: { team: 'ü', a: '' } } }),
  rule({ action: 'deny', policy: { dialect: 'clusternetworkpolicy', kind: 'ClusterNetworkPolicy', name: 'all' } }),
];
const KNOWN = {
  snapshot: snapshot(
    [
      pod('shop', 'web', '10.0.0.1', { workload: { kind: 'Deployment', name: 'web' } }),
      pod('data', 'db', '10.0.0.2', { labels: { größe: 'XL', b: '', a: '1' }, nodeName: '' }),
      pod('data', 'six', 'fd00::2'),
    ],
    [service('shop', 'api', '10.96.0.1'), service('data', 'dns', 'fd00::96')],
    [{ name: 'node-b', labels: {}, ips: ['172.16.0.2'] }],
  ),
  rules: new Map(RULES.map((r, i) => [i + 1, r])),
  endpoints: new Map([
    [1, { pod: 'shop/web', uid: 'uid-shop-web' }],
    [2, { pod: 'gone/away', uid: 'u' }],
    [9, { pod: '', uid: '' }],
  ]),
};

/** Of learned names: short, the root, as long as one can be, and one that is not known any more. */
const NAMES = ['api.example.com', '', ['a', 'b', 'c', 'd'].map((c) => c.repeat(60)).join('.'), undefined];
const names = {
  note: () => {},
  text: (slot: number) => NAMES[slot],
  known: (endpoint: number) => (endpoint === 1 ? ['one.example', 'two.example'] : []),
};

const byte = fc.integer({ min: 0, max: 255 });
const few = (max: number) =>
  fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max }) }, { weight: 1, arbitrary: byte });
const counter = fc.oneof(
  { weight: 30, arbitrary: fc.bigInt(0n, 300n) },
  {
    weight: 30,
    arbitrary: fc.integer({ min: 0, max: 52 }).chain((bits) => fc.bigInt(0n, 2n ** BigInt(bits + 1) - 1n)),
  },
  { weight: 1, arbitrary: fc.bigInt(2n ** 53n - 2n, 2n ** 64n - 1n) },
);
/** On the edges of seconds, of doubles, and anywhere. */
const time = fc.oneof(
  fc
    .tuple(fc.bigInt(0n, 9_000_000n), fc.bigInt(-2n, 2n))
    .map(([s, ns]) => (s * 10n ** 9n + ns < 0n ? 0n : s * 10n ** 9n + ns)),
  counter,
);
const known = [
  '10.0.0.1',
  '10.0.0.2',
  'fd00::2',
  '10.96.0.1',
  'fd00::96',
  '172.16.0.1',
  '172.16.0.2',
  '192.0.2.1',
  '::',
];
const ip = fc.oneof(
  fc.constantFrom(...known).map((a) => {
    const { bytes } = parseAddr(a);
    return Buffer.from(bytes);
  }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }).map((b) => Buffer.from(b)),
);
const mac = fc.oneof(
  fc.constant(Buffer.alloc(6)),
  fc.uint8Array({ minLength: 6, maxLength: 6 }).map((b) => Buffer.from(b)),
);
const port = fc.oneof(fc.integer({ min: 0, max: 0xffff }), fc.constantFrom(0, 127, 128, 0x0800, 0x8000));

const raw = fc
  .record({
    time,
    created: fc.oneof(fc.constant(0n), time),
    rule: fc.bigInt(0n, 5n),
    audit: fc.bigInt(0n, 5n),
    counters: fc.array(counter, { minLength: 5, maxLength: 5 }),
    bytes: fc.tuple(few(5), few(3), few(3), few(24), few(2), byte, few(3), fc.constantFrom(0, 4, 4, 6, 5)),
    protocol: fc.oneof(fc.constantFrom(6, 17, 132, 1, 58), byte),
    reply: few(1),
    endpoint: fc.constantFrom(0, 1, 2, 9, 300, 2 ** 32 - 1),
    ifindex: fc.constantFrom(0, 7, 70_000, 2 ** 32 - 1),
    addresses: fc.tuple(ip, ip, fc.oneof(fc.constant(Buffer.alloc(16)), ip)),
    ports: fc.tuple(port, port, port, port),
    macs: fc.tuple(mac, mac),
    name: fc.tuple(few(3), few(3)),
  })
  .map((r) => {
    const b = Buffer.from(new ArrayBuffer(EVENT_SIZE));
    b.writeBigUInt64LE(r.time, E.time_ns.offset);
    b.writeBigUInt64LE(r.created, E.created_ns.offset);
    b.writeBigUInt64LE(r.rule, E.rule.offset);
    b.writeBigUInt64LE(r.audit, E.audit_rule.offset);
    const counters = ['packets_out', 'bytes_out', 'packets_in', 'bytes_in', 'drops'] as const;
    for (const [i, name] of counters.entries()) b.writeBigUInt64LE(r.counters[i] ?? 0n, E[name].offset);
    const bytes = ['type', 'verdict', 'audit_verdict', 'reason', 'hook', 'tcp_flags', 'flow_flags', 'family'] as const;
    for (const [i, name] of bytes.entries()) b[E[name].offset] = r.bytes[i] as number;
    b[KEY + K.protocol.offset] = r.protocol;
    b[E.is_reply.offset] = r.reply;
    b.writeUInt32LE(r.endpoint, KEY + K.endpoint.offset);
    b.writeUInt32LE(r.ifindex, E.ifindex.offset);
    b.set(r.addresses[0], KEY + K.local.offset);
    b.set(r.addresses[1], KEY + K.remote.offset);
    b.set(r.addresses[2], E.service.offset);
    b.writeUInt16BE(r.ports[0], KEY + K.local_port.offset);
    b.writeUInt16BE(r.ports[1], KEY + K.remote_port.offset);
    b.writeUInt16BE(r.ports[2], E.service_port.offset);
    b.writeUInt16LE(r.ports[3], E.ethertype.offset);
    b.set(r.macs[0], E.mac_src.offset);
    b.set(r.macs[1], E.mac_dst.offset);
    b.writeUInt32LE(r.name[0], E.name.offset);
    b.writeUInt32LE(r.name[1], E.name_incarnation.offset);
    return b;
  });

function record(f: Flow): Buffer {
  return EGRESS['GetFlows']!.responseSerialize({ record: toRecord(f), node_name: 'node-a', time: timestamp(f.timeNs) });
}

function hubble(f: Flow): Buffer {
  return OBSERVER['GetFlows']!.responseSerialize({ flow: toHubble(f), node_name: 'node-a', time: timestamp(f.timeNs) });
}

t.test('bytes of any event are those of its message', async (t) => {
  const writer = new FlowWriter('node-a');
  let written = 0;
  let all = 0;
  fc.assert(
    fc.property(
      fc.array(raw, { minLength: 1, maxLength: 8 }),
      fc.bigInt(-5n, LEAD * 2n),
      port,
      (events, lead, first) => {
        const enricher = new Enricher({ nodeName: 'node-a', monoNs: () => 0, wallClock: () => lead, names });
        enricher.update(KNOWN);
        for (const [i, buf] of events.entries()) {
          const f = enricher.enrichRaw({ buf, at: 0 }, first * 2 ** 24 + i);
          // Before anything has asked for what the flow is.
          const made = [writer.record(f), writer.hubble(f)];
          all++;
          if (!made[0]) continue;
          written++;
          if (!made[0].equals(record(f)))
            throw new Error(`record\n${made[0].toString('hex')}\n${record(f).toString('hex')}`);
          if (!made[1]?.equals(hubble(f)))
            throw new Error(`flow\n${made[1]?.toString('hex')}\n${hubble(f).toString('hex')}`);
          if (writer.record(f) !== made[0]) throw new Error('made twice');
        }
      },
    ),
    { numRuns: 1500 },
  );
  t.ok(written > all / 4, `${written} of ${all}`);
});

t.test('what was written stays, whatever is written after it', async (t) => {
  const writer = new FlowWriter('node-a');
  const enricher = new Enricher({ nodeName: 'node-a', monoNs: () => 0, wallClock: () => LEAD });
  enricher.update(KNOWN);
  const events = fc.sample(raw, { numRuns: 3000, seed: 1 });
  const flows = events.map((buf, i) => enricher.enrichRaw({ buf, at: 0 }, i));
  const first = flows.map((f) => writer.record(f));
  const copies = first.map((b) => b && Buffer.from(b));
  for (const f of flows) writer.hubble(f);
  t.same(first.filter((b, i) => b && !b.equals(copies[i] as Buffer)).length, 0);
  t.ok(first.filter((b) => b).length > 500);
});

t.test('names that change are those of the flow', async (t) => {
  const writer = new FlowWriter('node-a');
  const enricher = new Enricher({ nodeName: 'node-a', monoNs: () => 0, wallClock: () => LEAD });
  const [buf] = fc.sample(
    raw.filter(
      (b) => b[E.family.offset] === 4 && b[KEY + K.protocol.offset] === 6 && b.readUInt32LE(E.rule.offset) === 1,
    ),
    { numRuns: 1, seed: 2 },
  ) as [Buffer];
  for (const name of COUNTED) buf.writeBigUInt64LE(1n, E[name].offset);
  buf.set(parseAddr('10.0.0.2').bytes, KEY + K.remote.offset);
  for (let i = 0; i < 5; i++) {
    enricher.update({
      ...KNOWN,
      snapshot: snapshot([pod('data', `db-${i}`, '10.0.0.2', { labels: { n: String(i) } })]),
      rules: new Map([[1, rule({ index: i })]]),
    });
    const f = enricher.enrichRaw({ buf, at: 0 }, i);
    const made = writer.record(f);
    t.ok(made?.equals(record(f)), `${i}`);
    t.match(made?.toString('latin1'), `db-${i}`);
  }
});

t.test('pods and policies with very many labels do not take the memory of the agent', async (t) => {
  const labels = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`key-${i}`, 'v'.repeat(63)]));
  const writer = new FlowWriter('node-a');
  const enricher = new Enricher({ nodeName: 'node-a', monoNs: () => 0, wallClock: () => LEAD });
  enricher.update({
    ...KNOWN,
    snapshot: snapshot([pod('data', 'large', '10.0.0.3', { labels }), pod('data', 'small', '10.0.0.4')]),
    rules: new Map([
      [1, rule()],
      [2, rule({ policy: { ...rule().policy, labels } })],
    ]),
  });
  const [event] = fc.sample(
    raw.filter((b) => b[E.family.offset] === 4 && b[KEY + K.protocol.offset] === 6),
    { numRuns: 1, seed: 2 },
  ) as [Buffer];
  for (const name of COUNTED) event.writeBigUInt64LE(1n, E[name].offset);
  const flowOf = (i: number, remote: string, ruleId: number) => {
    const buf = Buffer.from(event);
    buf.set(parseAddr(remote).bytes, KEY + K.remote.offset);
    buf.writeBigUInt64LE(BigInt(ruleId), E.rule.offset);
    return enricher.enrichRaw({ buf, at: 0 }, i);
  };
  const memory = new Set<ArrayBufferLike>();
  for (let i = 0; i < 300; i++) {
    for (const large of [flowOf(i, '10.0.0.3', 1), flowOf(i, '10.0.0.4', 2)]) {
      const made = [writer.record(large), writer.hubble(large)];
      if (i > 0) continue;
      t.ok((made[0]?.length ?? 0) > 30_000);
      t.ok(made[0]?.equals(record(large)));
      t.ok(made[1]?.equals(hubble(large)));
      t.same([large.recordBytes, large.hubbleBytes], [undefined, undefined], 'made anew for each reader');
      t.ok(writer.record(large)?.equals(record(large)));
    }
    const small = flowOf(i, '10.0.0.4', 1);
    const made = writer.record(small) as Buffer;
    if (i === 0) t.ok(made.equals(record(small)));
    t.equal(writer.record(small), made, 'made once');
    memory.add(made.buffer);
  }
  const kept = [...memory].reduce((sum, { byteLength }) => sum + byteLength, 0);
  t.ok(kept < 300 * 2048, `${kept} bytes for 300 small messages, whatever was written between them`);
});

t.test('what is no event of the kernel’s is left to protobufjs', async (t) => {
  const writer = new FlowWriter('node-a');
  t.equal(writer.record(flow()), undefined);
  t.equal(writer.hubble(flow()), undefined);
});

const COUNTED = ['time_ns', 'created_ns', 'packets_out', 'bytes_out', 'packets_in', 'bytes_in', 'drops'] as const;
