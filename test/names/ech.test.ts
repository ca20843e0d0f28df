/** What endpoints are given for Encrypted ClientHello: the kernel remembers what a strict reader finds. */
import fc from '../seeded.js';
import t, { type Test } from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import { NAME_DEFAULTS, type NameOptions, nameSettings } from '../../agent/names/settings.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { readMessage } from '../../src/names/message.js';
import { echConfigs } from '../../src/said/ech.js';
import { echAnswer, echConfig, echList } from '../said/make-ech.js';
import { DnsBed, STRANGER, withLength } from './bed.js';
import { later } from './wipe.js';
import { a, addressBytes, cname, encodeMessage, svcb, TYPES, type WireMessage } from './wire.js';

const numRuns = Number(process.env.RUNS ?? 500);

const bed = new DnsBed();
t.teardown(() => bed.close());
const { names, maps } = bed.kernel.programs;
const map = maps.ech_known as BpfMap;
const set = (more: Partial<NameOptions>) => names.configure(nameSettings({ ...NAME_DEFAULTS, ...more }, 128));
set({ ech: 'deny-known' });

const { EA_ECH_CONFIGS } = ENUMS.ea_name_sizes;
const { ea_ech_config: C, ea_name_holding: H } = STRUCTS;

interface Known {
  readonly id: number;
  readonly name: bigint;
  /** Seconds from now. */
  readonly left: number;
}

function entries(): { key: Buffer; value: Buffer }[] {
  const out: { key: Buffer; value: Buffer }[] = [];
  for (const { keys, values, count } of map.batches())
    for (let i = 0; i < count; i++)
      out.push({
        key: Buffer.from(keys.subarray(i * map.keySize, (i + 1) * map.keySize)),
        value: Buffer.from(values.subarray(i * map.valueSize, (i + 1) * map.valueSize)),
      });
  return out;
}

/** What is remembered of all endpoints, as it stands there. */
function known(): Known[] {
  const now = sys.bootSeconds();
  return entries().flatMap(({ value }) =>
    Array.from({ length: EA_ECH_CONFIGS }, (_, i) => {
      const at = i * C.size;
      const life = at + C.fields.life.offset;
      const left = value.readUInt32LE(life) - now;
      return { id: value.readUInt32LE(life + 4), name: value.readBigUInt64LE(at + C.fields.name.offset), left };
    }).filter(({ left }) => left > 0),
  );
}
const ids = () =>
  known()
    .map(({ id }) => id)
    .sort((x, y) => x - y);

/** Seconds for which the pod is closed since something found no room. */
function closedFor(): number {
  const slot = bed.kernel.binding('default/web').ifindex;
  return names.holdings.readUInt32LE(slot * H.size + H.fields.ech_full_s.offset) - sys.bootSeconds();
}

function forget(): void {
  for (const { key } of entries()) map.delete(key);
  const slot = bed.kernel.binding('default/web').ifindex;
  names.holdings.writeUInt32LE(0, slot * H.size + H.fields.ech_full_s.offset);
  later(names);
}

function teach(message: WireMessage): number[] {
  forget();
  bed.exchange(message);
  return ids();
}

const record = (list: Buffer, more: Partial<{ owner: string; type: number; priority: number; ttl: number }> = {}) => ({
  owner: more.owner ?? 'hidden.example',
  type: more.type ?? TYPES.HTTPS,
  ttl: more.ttl ?? 60,
  data: svcb(more.priority ?? 1, '', [
    [1, Buffer.from('\x02h2')],
    [4, addressBytes('192.0.2.1')],
    [5, list],
    [6, addressBytes('2001:db8::1')],
  ]),
});
const https = (...answers: ReturnType<typeof record>[]): WireMessage => ({
  questions: [{ name: 'hidden.example', type: TYPES.HTTPS }],
  answers,
});

t.test('which answers count', async (t) => {
  const list = echList(echConfig({ id: 7 }));
  t.same(teach(https(record(list))), [7]);
  t.match(bed.learned(), ['hidden.example 192.0.2.1 60', 'hidden.example 2001:db8::1 60'], 'beside its hints');
  t.same(teach(https(record(list, { type: TYPES.SVCB }))), [7], 'SVCB');
  t.same(teach(https(record(list, { priority: 0 }))), [], 'in alias mode parameters do not count');
  const alias = [cname('hidden.example', 'edge.example'), record(list, { owner: 'edge.example' })];
  t.same(teach({ ...https(), answers: alias }), [7], 'behind a CNAME');
  const added = { questions: [{ name: 'hidden.example', type: TYPES.HTTPS }], additional: [record(list)] };
  t.same(teach({ ...added, answers: [record(echList(), { priority: 0 })] }), [7], 'added by the resolver');
  const broken = { ...record(list), data: svcb(1, '', [[5, list]]).subarray(0, -1) };
  t.same(teach({ ...added, additional: [broken], answers: [a('hidden.example', '192.0.2.7')] }), [], 'which is broken');
  t.ok(bed.learned().includes('hidden.example 192.0.2.7 60'), 'and nothing else is lost for it');
  t.same(teach(https({ ...record(list), data: broken.data })), [], 'a malformed answer');
  t.same(teach({ ...https(record(list)), flags: 0x8183 }), [], 'an error');
  const plain = { ...https(), answers: [a('hidden.example', '192.0.2.8')] };
  teach(plain);
  bed.exchange({ ...plain, additional: [record(list)] });
  t.same(ids(), [7], 'added to an answer that was given before in this second');
  const c = bed.connect();
  forget();
  const question = { id: 3, questions: [{ name: 'hidden.example', type: TYPES.HTTPS }] };
  c.segment('fromPod', 0, withLength(encodeMessage({ ...question, flags: 0x0100 })));
  const whole = withLength(encodeMessage({ ...https(record(list)), ...question }));
  c.segment('toPod', 0, whole.subarray(0, 60));
  t.same(ids(), []);
  c.segment('toPod', 60, whole.subarray(60));
  t.same(ids(), [7], 'over TCP, in parts');
  forget();
  const port = bed.port();
  bed.receive(encodeMessage(https(record(list))), port);
  t.same(ids(), [], 'nobody asked');
  bed.send(encodeMessage({ ...https(), flags: 0x0100 }), port, STRANGER);
  bed.receive(encodeMessage(https(record(list))), port, STRANGER);
  t.same(ids(), [], 'of somebody else');
  set({ ech: 'allow' });
  t.same(teach(https(record(list))), [], 'only where it is asked for');
  set({ ech: 'deny-known' });
});

t.test('which configurations', async (t) => {
  const good = echConfig({ id: 7 });
  const of = (...configs: Buffer[]) => teach(https(record(echList(...configs))));
  t.same(of(good, echConfig({ id: 0, name: 'b.example' }), echConfig({ id: 255 })), [0, 7, 255]);
  t.same(of(good, good), [7], 'once');
  t.same(of(good, echConfig({ id: 7, name: 'b.example' })), [7, 7], 'two public names');
  t.same(of(good, echConfig({ id: 7, name: 'FRONT.example' })), [7], 'case does not count');
  t.same(of(echConfig({ version: 0xfe0a, id: 1 }), good, echConfig({ version: 0xff00, id: 2 })), [7], 'versions');
  t.same(of(Buffer.from('abcd0000', 'hex'), good), [7], 'an empty one of another version');
  t.same(of(echConfig({ id: 9, extensions: Buffer.from('80010000', 'hex') })), [9], 'extensions');
  const odd = of(echConfig({ id: 9, name: 'a b' }));
  t.same([odd, known()[0]?.name], [[9], 0n], 'a name that no hello can say');
  t.same(of(echConfig({ id: 9, name: `${'a'.repeat(62)}.`.repeat(4) })), [9], 'a long one');
  for (const [what, bad] of [
    ['no key', echConfig({ key: Buffer.alloc(0) })],
    ['no suites', echConfig({ suites: Buffer.alloc(0) })],
    ['half a suite', echConfig({ suites: Buffer.alloc(6) })],
    ['no name', echConfig({ name: '' })],
    ['bytes behind it', echConfig({ more: Buffer.alloc(1) })],
    ['nothing in it', Buffer.from('fe0d0000', 'hex')],
  ] as const)
    t.same(of(bad, good), [7], what);
  const list = echList(good, good);
  for (let size = 0; size < list.length; size++) {
    t.same(teach(https(record(list.subarray(0, size)))), [], `${size} bytes of it`);
    const cut = list.subarray(2, size);
    const left = size >= 2 + good.length ? [7] : [];
    if (size > 2) t.same(teach(https(record(echList(cut)))), left, `${size} bytes of its configurations`);
  }
});

t.test('how long', async (t) => {
  const after = (ttl: number) => {
    teach(echAnswer(echList(echConfig()), 'hidden.example', ttl));
    return known()[0]?.left ?? 0;
  };
  const near = (t: Test, left: number, want: number) => t.ok(left >= want - 1 && left <= want, `${left} of ${want}`);
  near(t, after(300), 330);
  near(t, after(0), 40);
  near(t, after(2 ** 31), 40);
  near(t, after(2 ** 31 - 1), 604800 + 30);
  forget();
  for (const ttl of [300, 60, 400]) bed.exchange(echAnswer(echList(echConfig()), 'hidden.example', ttl));
  t.equal(known().length, 1);
  near(t, known()[0]?.left ?? 0, 430);
});

/** Not a key, but what counts has a length: the packets of a test have 3 KiB at most. */
const SHORT = Buffer.alloc(1);
t.test('where there is no room', async (t) => {
  const many = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => echConfig({ id: from + i, name: `n${from + i}.example`, key: SHORT }));
  teach(echAnswer(echList(...many(0, EA_ECH_CONFIGS))));
  t.equal(known().length, EA_ECH_CONFIGS);
  t.ok(closedFor() <= 0);
  bed.exchange(echAnswer(echList(...many(3, 4)), 'b.example'));
  t.ok(closedFor() <= 0, 'what is known takes no more room');
  bed.exchange(echAnswer(echList(echConfig({ id: 99, name: 'z.example' })), 'c.example', 900));
  t.same(
    ids(),
    Array.from({ length: EA_ECH_CONFIGS }, (_, i) => i),
    'none gives way before its time',
  );
  t.ok(closedFor() > 900 && closedFor() <= 930);
  bed.exchange(echAnswer(echList(echConfig({ id: 98, name: 'y.example' })), 'd.example', 60));
  t.ok(closedFor() > 900, 'the longest counts');

  // One that is over gives way.
  const [entry] = entries() as [{ key: Buffer; value: Buffer }];
  entry.value.writeUInt32LE(sys.bootSeconds() - 1, 5 * C.size + C.fields.life.offset);
  map.update(entry.key, entry.value);
  bed.exchange(echAnswer(echList(echConfig({ id: 97, name: 'x.example' })), 'e.example'));
  t.same(ids(), [0, 1, 2, 3, 4, ...Array.from({ length: 10 }, (_, i) => 6 + i), 97]);

  teach(echAnswer(echList(...many(0, 80))));
  t.equal(known().length, EA_ECH_CONFIGS);
  t.ok(closedFor() > 0, 'more than are read');
  teach(echAnswer(echList(...Array.from({ length: 65 }, () => echConfig({ key: SHORT })))));
  t.ok(closedFor() > 0, 'more than are read, though all are the same');
  const records = Array.from({ length: 17 }, () => record(echList(echConfig())));
  t.same(teach(https(...records)), [1]);
  t.ok(closedFor() > 0, 'more lists than are noted');
  teach(https(...records.slice(0, 16)));
  t.ok(closedFor() <= 0);

  // Each endpoint has one entry; where there are more of them than the map holds, they are closed.
  forget();
  const key = Buffer.alloc(4);
  for (let n = 0; n < map.maxEntries; n++) {
    key.writeUInt32LE(0x8000_0000 + n);
    map.update(key, Buffer.alloc(map.valueSize));
  }
  bed.exchange(echAnswer(echList(echConfig())));
  t.equal(entries().length, map.maxEntries);
  t.ok(closedFor() > 0, 'the map is full');
  forget();
});

t.test('lists that are made at random and then damaged', async (t) => {
  const name = fc.oneof(
    fc.constantFrom('a.example', 'A.example', 'b.example', 'a b', 'x.'),
    fc.string({ maxLength: 255 }),
  );
  const config = fc
    .record({
      version: fc.constantFrom(0xfe0d, 0xfe0d, 0xfe0d, 0xfe0d, 0xfe0a),
      id: fc.nat(5),
      name: name.map((text) => Buffer.from(text).toString('latin1').slice(0, 255)),
      key: fc.uint8Array({ minLength: 1, maxLength: 3 }),
      suites: fc.constantFrom(4, 4, 4, 8, 6, 0).map((size) => Buffer.alloc(size)),
      extensions: fc.uint8Array({ maxLength: 5 }),
      more: fc.constantFrom(0, 0, 0, 0, 0, 1).map((size) => Buffer.alloc(size)),
    })
    .map(echConfig);
  const wound = fc.tuple(fc.constantFrom('byte', 'cut', 'more'), fc.nat(), fc.nat(255));
  let learned = 0;
  fc.assert(
    fc.property(
      fc.array(config, { maxLength: 6, size: 'max' }),
      // Half of the lists are whole: of damaged ones hardly any teaches anything.
      fc.oneof(fc.constant([]), fc.array(wound, { minLength: 1, maxLength: 2 })),
      (configs, wounds) => {
        let list = echList(...configs);
        for (const [what, where, value] of wounds) {
          const at = where % Math.max(1, list.length);
          if (what === 'byte') list[at] = value;
          else if (what === 'cut') list = list.subarray(0, at);
          else list = Buffer.concat([list.subarray(0, at), Buffer.from([value]), list.subarray(at)]);
        }
        const message = echAnswer(list);
        const read = readMessage(encodeMessage(message))?.ech ?? [];
        const said = read.flatMap(({ bytes }) => echConfigs(bytes));
        const all = new Map(said.map(({ id, publicName }) => [`${id} ${publicName ?? '?'}`, id]));
        const want = [...all.values()].sort((x, y) => x - y);
        learned += want.length;
        const got = teach(message);
        if (JSON.stringify(got) !== JSON.stringify(want))
          throw new Error(`${got} for ${want}: ${list.toString('hex')}`);
      },
    ),
    { numRuns: Math.ceil((numRuns * 4) / 3) },
  );
  t.ok(learned > numRuns / 2, `${learned} were learned`);
});
