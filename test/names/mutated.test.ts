/** DNS messages that are made at random and then damaged: the kernel learns what a strict parser reads, nothing else. */
import fc from '../seeded.js';
import t from 'tap';
import { readMessage, taughtBy } from '../../src/names/message.js';
import { DnsBed, line } from './bed.js';
import { addressBytes, be16, encodeMessage, svcb, TYPES, type WireMessage, type WireRecord } from './wire.js';

/** More of them: RUNS=100000. */
const numRuns = Number(process.env.RUNS ?? 3000);

const bed = new DnsBed();
t.teardown(() => bed.close());

/** Few names, so that records often belong together. */
const name = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom('a.example', 'A.example', 'a.example', 'B.example', 'b.example', 'x.a.example', ''),
  },
  {
    weight: 1,
    arbitrary: fc
      .array(
        fc.string({
          unit: fc.nat(255).map((n) => String.fromCharCode(n === 46 ? 45 : n)),
          minLength: 1,
          maxLength: 63,
        }),
        {
          maxLength: 4,
        },
      )
      .map((labels) => labels.join('.')),
  },
);
const ttl = fc.constantFrom(0, 1, 60, 300, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff);
const v4 = fc.nat(20).map((n) => addressBytes(`192.0.2.${n}`));
const v6 = fc.constantFrom('2001:db8::1', '2001:db8::2', '::ffff:192.0.2.1', '::').map(addressBytes);
const hints = fc
  .tuple(
    fc.nat(2),
    fc.constantFrom('', 'a.example'),
    fc.array(v4, { maxLength: 3 }),
    fc.array(v6, { maxLength: 2 }),
    fc.boolean(),
  )
  .map(([priority, target, four, six, more]) =>
    svcb(priority, target, [
      ...(more ? [[1, Buffer.from('\x02h2')] as const] : []),
      ...(four.length > 0 ? [[4, Buffer.concat(four)] as const] : []),
      ...(six.length > 0 ? [[6, Buffer.concat(six)] as const] : []),
    ]),
  );
const data = fc.oneof(
  { weight: 4, arbitrary: v4.map((bytes) => [TYPES.A, bytes] as const) },
  { weight: 2, arbitrary: v6.map((bytes) => [TYPES.AAAA, bytes] as const) },
  { weight: 4, arbitrary: name.map((target) => [TYPES.CNAME, { name: target }] as const) },
  { weight: 1, arbitrary: hints.map((bytes) => [TYPES.HTTPS, bytes] as const) },
  { weight: 1, arbitrary: hints.map((bytes) => [TYPES.SVCB, bytes] as const) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 20 }).map((b) => [TYPES.TXT, Buffer.from(b)] as const) },
);
const klass = fc.constantFrom(1, 1, 1, 1, 1, 1, 1, 3);
const record: fc.Arbitrary<WireRecord> = fc
  .tuple(fc.oneof(fc.constantFrom('a.example', 'b.example'), name), data, ttl, klass)
  .map(([owner, [type, data], ttl, klass]) => ({ owner, type, class: klass, ttl, data }));
const records = (max: number) => fc.array(record, { maxLength: max, size: 'max' });
const flags = fc.constantFrom(0x8180, 0x8180, 0x8180, 0x8180, 0x8580, 0x8380, 0x8183, 0x0100);
const message: fc.Arbitrary<WireMessage> = fc.record({
  id: fc.nat(3),
  flags,
  questions: fc
    .tuple(fc.oneof(fc.constant('a.example'), name), fc.constantFrom(1, 28, 65))
    .map(([name, type]) => [{ name, type }]),
  answers: records(9),
  authority: records(2),
  additional: records(2),
  compress: fc.boolean(),
});

/** Damages a message: bytes that are changed, cut, doubled, and pointers. */
const wound = fc.tuple(
  fc.constantFrom('byte', 'word', 'pointer', 'cut', 'insert', 'remove', 'count'),
  fc.nat(),
  fc.nat(),
);
const damage = fc.oneof(fc.constant([]), fc.tuple(wound), fc.array(wound, { minLength: 2, maxLength: 4 }));
type Damage = readonly (readonly [string, number, number])[];

function damaged(bytes: Buffer, how: Damage): Buffer {
  let out: Buffer = Buffer.from(bytes);
  for (const [what, where, value] of how) {
    if (out.length < 14) return out;
    const at = 12 + (where % (out.length - 12));
    if (what === 'byte') out[at] = value & 255;
    else if (what === 'word') out.writeUInt16BE(value & 0xffff, Math.min(at, out.length - 2));
    else if (what === 'pointer') out.writeUInt16BE(0xc000 | (value % out.length), Math.min(at, out.length - 2));
    else if (what === 'cut') out = out.subarray(0, at);
    else if (what === 'insert') out = Buffer.concat([out.subarray(0, at), be16(value & 0xffff), out.subarray(at)]);
    else if (what === 'remove') out = Buffer.concat([out.subarray(0, at), out.subarray(at + 1 + (value % 4))]);
    else out.writeUInt16BE(value % 12, 4 + 2 * (where % 4));
  }
  return out;
}

/** Of one name and address, the TTL of the last record counts: as the kernel does it. */
function expected(bytes: Buffer): string[] {
  const read = readMessage(bytes);
  const last = new Map((read ? taughtBy(read) : []).map((a) => [`${a.name} ${a.address} ${a.alias}`, line(a)]));
  return [...last.values()].sort();
}

let learned = 0;
t.test('messages', async (t) => {
  fc.assert(
    fc.property(message, damage, (message, how) => {
      const bytes = damaged(encodeMessage(message), how).subarray(0, 3000);
      const question = readMessage(bytes)?.question ?? { ...message.questions?.[0], class: 1 };
      bed.forget();
      bed.exchange({ ...message, questions: [question as { name: string; type: number; class: number }] }, bytes);
      const want = expected(bytes);
      learned += want.length;
      t.same(bed.learned(), want);
      if (JSON.stringify(bed.learned()) !== JSON.stringify(want)) throw new Error(bytes.toString('hex'));
    }),
    { numRuns },
  );
  t.ok(learned > numRuns / 5, `${learned} addresses were learned`);
});
