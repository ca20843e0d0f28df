/**
 * Everything that is read from outside, at random: bytes of the ring and of netlink, manifests of any shape. Nothing
 * throws but what is meant to; what a mangled manifest means, it means to all engines. FUZZ_SEED, FUZZ_DECODES.
 */
import t from 'tap';
import { parseAttrs, parseError, parseMessages, type NlMessage } from '../../agent/netlink/nlmsg.js';
import { parseAddress, parseDefaultRoute, parseLink } from '../../agent/netlink/netlink.js';
import { toIr } from '../../src/dialects/index.js';
import { AgentError } from '../../src/errors.js';
import { decodeEvent } from '../../src/flow/event/decode.js';
import { writeFlowEnd } from '../../src/flow/event/flow-end.js';
import type { FlowEvent } from '../../src/flow/event/types.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { formatBytes16 } from '../../src/net/addr.js';
import { comparable, Evaluate, Simulate } from '../engines/engine.js';
import { readCases } from '../engines/cases.js';
import { snapshotOf } from '../policy/world.js';
import { caseText } from './case-text.js';
import { type Random, seeded } from './random.js';
import { randomPacket, randomWorld } from './worlds.js';

const ROUNDS = Number(process.env.FUZZ_DECODES ?? 20_000);
const random = seeded();
const WHO = `FUZZ_SEED=${random.seed}`;

/** Any bytes, with many zeros, ones and IPv4-mapped prefixes among them. */
function bytes(r: Random, length: number): Buffer {
  const b = Buffer.alloc(length);
  if (r.chance(5)) return b.fill(255);
  for (let i = 0; i < length; i++) if (r.chance(60)) b[i] = r.chance(20) ? r.pick([1, 2, 4, 6, 255]) : r.below(256);
  return b;
}

const mapped = Buffer.from('00000000000000000000ffff', 'hex');
/** Text of an address, from its bytes. */
const text = (b: Buffer) => formatBytes16(b, b.subarray(0, 12).equals(mapped) ? 4 : 6);

/** What is wrong with the end that is made of a flow's table entry. */
function endOf(key: Buffer, value: Buffer, now: number): string {
  const K = STRUCTS.ea_flow_key.fields;
  const V = STRUCTS.ea_flow.fields;
  if (random.chance(50)) mapped.copy(key, K.local.offset);
  const out = Buffer.alloc(STRUCTS.ea_event.size, 0xff);
  writeFlowEnd(out, key, value, now);
  const end = decodeEvent(out, 0);
  for (const [name, value] of Object.entries(end)) {
    if (value === undefined || (typeof value === 'number' && !(value >= 0))) return `end: ${name} is ${value}`;
  }
  const v4 = mapped.equals(key.subarray(K.local.offset, K.local.offset + 12));
  const u64 = (name: keyof typeof V) => Number(value.readBigUInt64LE(V[name].offset));
  const sum = (name: 'packets_out' | 'bytes_out' | 'packets_in' | 'bytes_in') =>
    Number(
      BigInt.asUintN(64, value.readBigUInt64LE(V[name].offset) + value.readBigUInt64LE(V[`shared_${name}`].offset)),
    );
  const flags = value[V.flags.offset] as number;
  const expected: Partial<FlowEvent> = {
    timeNs: now,
    type: 'end',
    hook: 'from-pod',
    rule: u64('rule'),
    auditRule: u64('audit_rule'),
    endpoint: key.readUInt32LE(K.endpoint.offset),
    ifindex: 0,
    family: v4 ? 4 : 6,
    local: text(key.subarray(K.local.offset, K.local.offset + 16)),
    remote: text(key.subarray(K.remote.offset, K.remote.offset + 16)),
    localPort: key.readUInt16BE(K.local_port.offset),
    remotePort: key.readUInt16BE(K.remote_port.offset),
    protocol: key[K.protocol.offset] as number,
    inbound: (flags & ENUMS.ea_flow_flags.EA_FLOW_INBOUND) !== 0,
    postDnat: (flags & ENUMS.ea_flow_flags.EA_FLOW_POST_DNAT) !== 0,
    isReply: false,
    service: '',
    servicePort: 0,
    tcpFlags: value[V.tcp_flags.offset] as number,
    packetsOut: sum('packets_out'),
    bytesOut: sum('bytes_out'),
    packetsIn: sum('packets_in'),
    bytesIn: sum('bytes_in'),
    createdNs: u64('created_ns'),
    length: 0,
    ethertype: v4 ? 0x0800 : 0x86dd,
    macSource: '',
    macDestination: '',
  };
  const differs = Object.entries(expected).find(([name, value]) => end[name as keyof FlowEvent] !== value);
  if (differs) return `end: ${differs[0]} is ${end[differs[0] as keyof FlowEvent]}, not ${differs[1]}`;
  const drops = u64('drops') - u64('drops_reported');
  return Math.abs(end.drops - Math.max(drops, 0)) > Math.abs(drops) / 2 ** 50
    ? `end: ${end.drops} drops, not ${drops}`
    : '';
}

t.test(`events and flows of any bytes, ${WHO}`, async (t) => {
  const E = STRUCTS.ea_event;
  const K = STRUCTS.ea_flow_key.fields;
  let wrong = '';
  for (let n = 0; n < ROUNDS && !wrong; n++) {
    // Records lie side by side in the ring: what is next to one must not be read.
    const ring = bytes(random, E.size * 3);
    const at = E.size;
    const local = at + E.fields.flow.offset + K.local.offset;
    if (random.chance(50)) mapped.copy(ring, local);
    const event = decodeEvent(ring, at);
    const alone = decodeEvent(Buffer.from(ring.subarray(at, at + E.size)), 0);
    if (JSON.stringify(event) !== JSON.stringify(alone)) wrong = 'reads beyond its record';
    const expected = event.family === 0 ? '' : text(ring.subarray(local, local + 16));
    if (event.local !== expected) wrong = `local ${event.local}, not ${expected}`;
    const time = ring.readBigUInt64LE(at + E.fields.time_ns.offset);
    if (time <= Number.MAX_SAFE_INTEGER && BigInt(event.timeNs) !== time) wrong = `time ${event.timeNs}, not ${time}`;
    if (event.set !== Number(ring.readBigUInt64LE(at + E.fields.set.offset) & ((1n << 53n) - 1n))) wrong = 'set';
    for (const [name, value] of Object.entries(event)) {
      if (value === undefined || (typeof value === 'number' && !(value >= 0))) wrong = `${name} is ${value}`;
    }
    wrong ||= endOf(bytes(random, STRUCTS.ea_flow_key.size), bytes(random, STRUCTS.ea_flow.size), n);
    if (wrong) t.comment(ring.subarray(at, at + E.size).toString('hex'));
  }
  t.equal(wrong, '');
});

t.test(`netlink messages of any bytes, ${WHO}`, async (t) => {
  const readAll = (m: NlMessage) => {
    parseLink(m);
    parseAddress(m);
    parseDefaultRoute(m);
    parseError(m);
    parseAttrs(m.body, random.below(40));
  };
  let messages = 0;
  for (let n = 0; n < ROUNDS; n++) {
    const b = bytes(random, random.below(200));
    // Most with a length that can be true, so that what is inside is read.
    if (b.length >= 16 && random.chance(80)) b.writeUInt32LE(16 + random.below(b.length - 15), 0);
    try {
      for (const m of parseMessages(b)) {
        readAll(m);
        messages++;
      }
    } catch (e) {
      if (e instanceof AgentError && e.code === 'INTERNAL') continue;
      t.comment(b.toString('hex'));
      throw e;
    }
  }
  t.ok(messages > ROUNDS / 8, `${messages} messages`);
});

const JUNK: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  65536,
  1.5,
  1e308,
  '',
  '*',
  '80',
  'a'.repeat(300),
  '10.0.0.0/33',
  '010.0.0.1',
  '::/0',
  'TCP',
  'Egress',
  'In',
  '__proto__',
  [],
  [null],
  [[]],
  {},
  { x: {} },
  { matchLabels: { a: 1 } },
];

/** The value with one place of it changed: junk instead, gone, doubled, or under another name. */
function mangle(r: Random, value: unknown): unknown {
  if (Array.isArray(value) && value.length > 0 && r.chance(85)) {
    const at = r.below(value.length);
    if (r.chance(10)) return value.toSpliced(at, 1);
    if (r.chance(10)) return [...value, value[at]];
    return value.with(at, mangle(r, value[at]));
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && r.chance(90)) {
    const entries = Object.entries(value);
    if (entries.length === 0) return r.pick(JUNK);
    const [key, inner] = r.pick(entries);
    if (r.chance(8)) return Object.fromEntries(entries.filter(([k]) => k !== key));
    if (r.chance(4)) return { ...value, [`${key}x`]: inner };
    return { ...value, [key]: mangle(r, inner) };
  }
  return r.pick(JUNK);
}

t.test(`manifests of any shape, ${WHO}`, async (t) => {
  const [reference, image] = [new Evaluate(), new Simulate()];
  const cases = readCases();
  let refused = 0;
  let judged = 0;
  for (let n = 0; n < ROUNDS / 20; n++) {
    const world = randomWorld(random);
    // All objects of a world, and its policies as they were written.
    const text = caseText('x', { ...world, snapshot: random.pick([world.snapshot, random.pick(cases).snapshot]) }, []);
    const objects = [
      ...text
        .split('\n')
        .filter((line) => line.startsWith('  {'))
        .map((line) => JSON.parse(line) as unknown),
      ...world.snapshot.policies.map((p) => p.object),
    ];
    const mangled = objects.map((o) => (random.chance(30) ? mangle(random, o) : o));
    let manifest = mangled.map((o) => `---\n${JSON.stringify(o, null, random.chance(20) ? 1 : 0)}\n`).join('');
    // And now and then one that is no YAML any more.
    if (random.chance(20)) {
      const at = random.below(manifest.length);
      manifest =
        manifest.slice(0, at) +
        random.pick(['\t', '{', '"', '\0', '\n---\n', '&a *a', '\ud800']) +
        manifest.slice(at + random.below(4));
    }
    try {
      const snapshot = snapshotOf(manifest);
      const { ir, problems } = toIr(snapshot);
      refused += problems.length + snapshot.problems.length > 0 ? 1 : 0;
      if (snapshot.pods.size === 0) continue;
      for (const engine of [reference, image]) engine.use({ ir, snapshot });
      for (let k = 0; k < 8; k++) {
        const packet = randomPacket(random, snapshot);
        const pod = snapshot.pods.get(packet.from);
        // Engines that know local endpoints only have nothing to say of these.
        if (pod?.hostNetwork || pod?.ended) continue;
        judged++;
        const [a, b] = [reference, image].map((e) => JSON.stringify(comparable(e.judge(packet), packet)));
        if (a === b) continue;
        t.comment(JSON.stringify(packet), a, b, manifest);
        t.fail(`${WHO}: the engines disagree about a mangled manifest`);
        return;
      }
    } catch (e) {
      t.comment(manifest);
      throw e;
    }
  }
  t.ok(refused > ROUNDS / 100, `${refused} with problems`);
  t.ok(judged > ROUNDS / 8, `${judged} packets judged`);
});
