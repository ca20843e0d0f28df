/** bpf/quic.h by itself: Initial packets that node:crypto wrote are read as they were written, and nothing else is. */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { seeded } from '../fuzz/random.js';
import { TestObject } from './object.js';
import { KIND, packetAt, RESULT, Stream } from './reference.js';
import { ack, close, crypto, initial, integer, keysOf, opaque, padding, ping, TYPES, V1, V2 } from './writer.js';

const object = new TestObject('quic');
t.teardown(() => object.close());
const run = object.program('read_datagram');
const stream = object.map('quic_stream');

/** struct quic_stream. */
const [HAVE, KNOWN, WORDS, STREAM] = [648, 656, 2704, 16384];
/** From there on the program returns what a datagram begins with. */
const KINDS = 100;

/** What the kernel has read so far. */
function content(): { have: number; known: Buffer; bytes: Buffer } {
  const value = stream.lookup(Buffer.alloc(4)) as Buffer;
  const bits = value.subarray(KNOWN, WORDS);
  const known = Buffer.from(Array.from({ length: STREAM }, (_, i) => ((bits[i >> 3] as number) >> (i & 7)) & 1));
  return { have: value.readUInt32LE(HAVE), known, bytes: value.subarray(WORDS, WORDS + STREAM) };
}

/** Gives kernel and reference datagrams of a new stream, and compares what they make of each. */
function both(t: Test, version: number, first: Buffer) {
  const reference = new Stream(version, first);
  stream.update(Buffer.alloc(4), Buffer.alloc(WORDS + STREAM));
  run(initial(padding(40), { to: first, version }), [1]);
  return (datagram: Buffer, what = ''): number => {
    const { kind } = packetAt(datagram);
    const r = run(datagram);
    if (kind !== KIND.initial) {
      if (r.retval !== KINDS + kind) t.equal(r.retval, KINDS + kind, `kind of ${what} ${datagram.toString('hex')}`);
      return KINDS + kind;
    }
    const result = reference.read(datagram);
    const got = [r.retval, ...(result === RESULT.read ? r.cb.slice(1, 4) : [])];
    const want = [result, ...(result === RESULT.read ? [reference.seen, reference.have, reference.crypto] : [])];
    if (got.join() !== want.join()) t.same(got, want, `${what} ${datagram.toString('hex')}`);
    return result;
  };
}

t.test('the packets of RFC 9001, A.2 and RFC 9369, A.2', async (t) => {
  const hello = Buffer.from(
    '010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c0' +
      '00000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e00' +
      '0500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d7' +
      '48002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffff' +
      'ffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff',
    'hex',
  );
  const to = Buffer.from('8394c8f03e515708', 'hex');
  const frame = Buffer.concat([Buffer.from([6, 0, 0x40, 0xf1]), hello]);
  for (const [version, begins, ends] of [
    [V1, 'c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11', 'e221af44860018ab0856972e194cd934'],
    [V2, 'd76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485', 'a18b2faa745b6fe189cf772a9f84cbfc'],
  ] as const) {
    const packet = initial(frame, { version, to, number: 2, numberSize: 4, padTo: 1200 });
    t.equal(packet.length, 1200);
    t.equal(packet.subarray(0, 32).toString('hex'), begins, 'as the RFC has it');
    t.equal(packet.subarray(-16).toString('hex'), ends);
    const r = run(packet, [1]);
    t.same([r.retval, ...r.cb.slice(1, 4)], [RESULT.read, 0, 241, 241]);
    t.same(content().bytes.subarray(0, 241), hello);
    stream.update(Buffer.alloc(4), Buffer.alloc(WORDS + STREAM));
  }
});

t.test('ids, tokens, numbers and sizes of every length', async (t) => {
  const bytes = randomBytes(STREAM);
  for (let length = 0; length <= 20; length++) {
    const [to, from] = [randomBytes(length), randomBytes(20 - length)];
    const version = length % 2 ? V1 : V2;
    const read = both(t, version, to);
    for (const numberSize of [1, 2, 3, 4])
      for (const tokenSize of [0, 1, 63, 64, 500, 950]) {
        const number = randomBytes(4).readUInt32BE() >>> (8 * (4 - numberSize));
        const token = randomBytes(tokenSize);
        const size = 1 + (number % 400);
        const opts = { version, to, from, token, number, numberSize, lengthSize: [2, 4, 8][number % 3] as number };
        t.equal(read(initial(crypto(0, bytes.subarray(0, size)), opts)), RESULT.read);
      }
  }
  const to = randomBytes(8);
  const read = both(t, V1, to);
  for (let n = 0; n < 40; n++) t.equal(read(initial(Buffer.concat([ping(), padding(n)]), { to })), RESULT.read);
  for (const size of [1200, 1452, 1472, 3300])
    t.equal(read(initial(crypto(0, bytes.subarray(0, 1000)), { to, padTo: size })), RESULT.read, `${size} bytes`);
  t.equal(read(initial(padding(30), { to, token: randomBytes(1010) })), RESULT.refused, 'a longer header than is read');
  t.equal(read(initial(padding(30), { to, token: randomBytes(1030) })), KINDS + KIND.malformed);
});

t.test('frames in any order, of any size, and what is between them', async (t) => {
  const random = seeded();
  for (let n = 0; n < 60; n++) {
    const to = randomBytes(8 + random.below(13));
    const version = random.pick([V1, V2]);
    const read = both(t, version, to);
    const hello = randomBytes(1 + random.below(random.pick([20, 500, 3000, STREAM])));
    const cuts = [0, hello.length, ...Array.from({ length: random.below(30) }, () => random.below(hello.length))];
    cuts.sort((a, b) => a - b);
    const pieces = cuts.slice(1).map((end, i) => {
      const from = Math.max(0, (cuts[i] as number) - random.below(10));
      return { at: from, bytes: hello.subarray(from, end) };
    });
    // Overlapping pieces, some of them twice, none longer than a packet.
    const frames = [...pieces, ...random.some(pieces, 3)]
      .flatMap(({ at, bytes }) =>
        Array.from({ length: Math.ceil(bytes.length / 1100) }, (_, i) =>
          crypto(at + i * 1100, bytes.subarray(i * 1100, (i + 1) * 1100)),
        ),
      )
      .sort(() => random.below(3) - 1);
    for (const frame of frames) {
      const between = () =>
        random.pick([ping(), padding(1 + random.below(20)), ack(3, random.below(4)), ack(9, 1, true)]);
      const all = Buffer.concat([...random.some([0], 2).map(between), frame, ...random.some([0], 2).map(between)]);
      const datagram = initial(all, { version, to, padTo: random.pick([0, 1200]) });
      if (read(datagram, `FUZZ_SEED=${random.seed}`) !== RESULT.read) t.fail(`FUZZ_SEED=${random.seed}`);
    }
    const { have, bytes } = content();
    if (have !== hello.length || !bytes.subarray(0, have).equals(hello)) t.fail(`FUZZ_SEED=${random.seed}: ${have}`);
  }
  t.pass();
});

t.test('a byte that was said is not said otherwise', async (t) => {
  const to = randomBytes(8);
  const hello = randomBytes(200);
  for (let at = 0; at < 40; at++) {
    const read = both(t, V1, to);
    t.equal(read(initial(crypto(3, hello), { to })), RESULT.read);
    const other = Buffer.from(hello);
    other[at] = (other[at] as number) ^ 1;
    t.equal(read(initial(crypto(3 + at, other.subarray(at, at + 1)), { to })), RESULT.conflict, `byte ${at}`);
    t.equal(read(initial(crypto(3, other), { to })), RESULT.conflict);
    t.equal(read(initial(crypto(0, Buffer.concat([hello.subarray(0, 3), hello])), { to })), RESULT.read);
    t.same(content().bytes.subarray(3, 203), hello, 'it stays');
  }
});

t.test('what is not valid is refused', async (t) => {
  const to = randomBytes(8);
  const read = both(t, V1, to);
  const frame = crypto(0, randomBytes(100));
  for (const [what, datagram, want] of [
    ['a wrong tag', initial(frame, { to, spoilTag: true })],
    ['other keys', initial(frame, { to: randomBytes(8) })],
    ['reserved bits', initial(frame, { to, first: 0xc4 })],
    ['a frame of handshakes only', initial(Buffer.from([0x1e]), { to })],
    ['data', initial(Buffer.from([8, 0, 1, 2, 3]), { to })],
    ['a close of the application', initial(Buffer.from([0x1d, 1, 0]), { to })],
    ['a type in two bytes', initial(Buffer.concat([Buffer.from([0x40]), frame]), { to })],
    ['a frame that is not whole', initial(frame.subarray(0, 50), { to })],
    ['half an integer', initial(Buffer.from([0, 0, 0, 6, 0x40]), { to })],
    ['an ACK with more ranges than there are', initial(ack(1, 3).subarray(0, -1), { to })],
    ['a reason that is not whole', initial(close('abc').subarray(0, -1), { to })],
    ['beyond the stream', initial(crypto(STREAM - 99, frame.subarray(0, 100)), { to }), RESULT.tooLarge],
    ['far beyond it', initial(crypto(2 ** 40, frame), { to }), RESULT.tooLarge],
    ['more frames than are read', initial(Buffer.alloc(2049, 1), { to })],
  ] as const)
    t.equal(read(datagram, what), want ?? RESULT.refused, what);
  t.equal(read(initial(crypto(STREAM - 100, frame.subarray(0, 100)), { to })), RESULT.read, 'up to its end');
  t.equal(read(initial(Buffer.concat([close('bye'), ack(1, 3)]), { to })), RESULT.read);
  t.equal(read(initial(Buffer.alloc(2048, 1), { to })), RESULT.read);
});

t.test('packets behind each other', async (t) => {
  const to = randomBytes(8);
  const of = (n: number, version = V1, id = to) => initial(crypto(n * 10, Buffer.alloc(10, n)), { to: id, version });
  const seen = (...kinds: number[]) => kinds.reduce((bits, kind) => bits | (1 << kind), 0);
  for (const [what, parts, want, behind = 0] of [
    ['two', [of(0), of(1)], RESULT.read],
    ['eight', [0, 1, 2, 3, 4, 5, 6, 7].map((n) => of(n)), RESULT.read],
    ['nine', [0, 1, 2, 3, 4, 5, 6, 7, 8].map((n) => of(n)), RESULT.refused],
    ['0-RTT', [of(0), opaque(TYPES.zeroRtt, to)], RESULT.read, seen(KIND.zeroRtt)],
    ['a handshake', [of(0), opaque(TYPES.handshake, to), of(1)], RESULT.read, seen(KIND.handshake)],
    ['a short header', [of(0), Buffer.alloc(50, 0x41)], RESULT.read, seen(KIND.short)],
    ['zeros', [of(0), Buffer.alloc(777)], RESULT.read],
    ['one zero', [of(0), Buffer.alloc(1)], RESULT.read],
    ['zeros, and not', [of(0), Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3])], RESULT.read, seen(KIND.other)],
    ['zeros, and then not', [of(0), Buffer.from([0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0])], RESULT.read, seen(KIND.other)],
    ['garbage', [of(0), Buffer.from([0x20, 1])], RESULT.read, seen(KIND.other)],
    ['another connection’s', [of(0), of(1, V1, randomBytes(8))], RESULT.refused],
    ['another version’s', [of(0), of(1, V2)], RESULT.refused],
    [
      'with another id, but the same keys',
      [of(0), initial(ping(), { to: randomBytes(8), keys: keysOf(V1, to) })],
      RESULT.refused,
    ],
    ['another connection’s early data', [of(0), opaque(TYPES.zeroRtt, randomBytes(8))], RESULT.refused],
    ['a Retry', [of(0), opaque(TYPES.retry, to)], RESULT.refused],
    ['an unknown version', [of(0), Buffer.from('ff00000000000000', 'hex')], RESULT.refused],
    ['half a header', [of(0), of(1).subarray(0, 6)], RESULT.refused],
    ['half a packet', [of(0), of(1).subarray(0, 40)], RESULT.refused],
    ['0-RTT of version 2', [of(0, V2), opaque(TYPES.zeroRtt, to, { version: V2 })], RESULT.read, seen(KIND.zeroRtt)],
  ] as const) {
    const read = both(t, (parts[0] as Buffer).readUInt32BE(1), to);
    const datagram = Buffer.concat(parts);
    t.equal(read(datagram, what), want, what);
    if (want === RESULT.read) t.equal(run(datagram).cb[1], behind, `${what}: what is behind`);
  }
});

t.test('what a datagram begins with', async (t) => {
  const to = randomBytes(8);
  for (const [kind, datagram] of [
    [KIND.other, Buffer.from([0x20, 1, 2, 3])],
    [KIND.short, Buffer.from([0x40])],
    [KIND.malformed, Buffer.from([0xc0, 0, 0, 0, 1, 0])],
    [KIND.negotiation, Buffer.from('c000000000080001020304050607', 'hex')],
    [KIND.unknownVersion, Buffer.from('c0ff00001d080001020304050607', 'hex')],
    [KIND.malformed, Buffer.from('8000000001080001020304050607000040', 'hex')],
    [KIND.zeroRtt, opaque(TYPES.zeroRtt, to)],
    [KIND.handshake, opaque(TYPES.handshake, to)],
    [KIND.retry, opaque(TYPES.retry, to)],
    [KIND.zeroRtt, opaque(TYPES.zeroRtt, to, { version: V2 })],
    [KIND.handshake, opaque(TYPES.handshake, to, { version: V2 })],
    [KIND.retry, opaque(TYPES.retry, to, { version: V2 })],
    [KIND.malformed, opaque(TYPES.zeroRtt, randomBytes(21))],
    [KIND.malformed, opaque(TYPES.zeroRtt, to, { size: 19 })],
  ] as const) {
    t.equal(packetAt(datagram).kind, kind);
    t.equal(run(datagram).retval, KINDS + kind);
  }
});

const { FUZZ_DATAGRAMS } = process.env;
t.test('datagrams with anything changed in them: as the reference reads them', async (t) => {
  const random = seeded();
  let [reads, opened] = [0, 0];
  for (let n = 0; n < Number(FUZZ_DATAGRAMS ?? 300); n++) {
    const to = randomBytes(random.pick([0, 8, 8, 20]));
    const version = random.pick([V1, V2]);
    const read = both(t, version, to);
    const packet = (): Buffer => {
      // Frames are changed before they are sealed: their reader sees what no other test lets through the tag.
      const frames = Buffer.concat(
        Array.from({ length: 1 + random.below(5) }, () =>
          random.pick([
            () => crypto(random.below(random.pick([9, 300, 16500])), Buffer.alloc(random.below(300), random.below(2))),
            ping,
            () => padding(random.below(30)),
            () => ack(random.below(99), random.below(9), random.chance(50)),
            () => close('x'.repeat(random.below(9))),
            () => integer(random.below(2 ** 20)),
          ])(),
        ),
      );
      for (let i = random.below(6) - 3; i > 0 && frames.length > 0; i--)
        frames[random.below(frames.length)] = random.below(256);
      return initial(frames, {
        version,
        to,
        from: randomBytes(random.below(21)),
        token: Buffer.alloc(random.below(3) * random.below(70)),
        number: random.below(256),
        lengthSize: random.pick([2, 2, 4, 8]),
        padTo: random.pick([0, 0, 1200]),
      });
    };
    const others = () => random.pick([TYPES.zeroRtt, TYPES.handshake, TYPES.initial, TYPES.retry]);
    for (let i = 0; i < 10; i++) {
      let datagram = Buffer.concat([
        packet(),
        ...random.some([0], 2).map(() => (random.chance(60) ? packet() : opaque(others(), to, { version }))),
        padding(random.below(2) * random.below(40)),
      ]);
      const changes = random.pick([0, 0, 0, 1, 2]);
      for (let k = 0; k < changes; k++) {
        const at = random.below(random.pick([Math.min(60, datagram.length), datagram.length]));
        const what = random.below(10);
        if (what === 0) datagram = datagram.subarray(0, at);
        else if (what === 1) datagram = Buffer.concat([datagram.subarray(0, at), datagram.subarray(at + 1)]);
        else datagram[at] = random.below(256);
        if (datagram.length === 0) break;
      }
      reads++;
      if (read(datagram, `FUZZ_SEED=${random.seed}`) === RESULT.read) opened++;
      if (!t.passing()) return;
    }
  }
  t.ok(opened > reads / 20, `${opened} of ${reads} were read`);
});

t.test('1,200 bytes take less than 40 µs', async (t) => {
  const packet = initial(crypto(0, randomBytes(300)), { to: randomBytes(8), padTo: 1200 });
  const [fresh, known] = [1, 0].map((first) =>
    Math.min(...Array.from({ length: 5 }, () => run(packet, [first], { repeat: 2000 }).durationNs)),
  ) as [number, number];
  t.comment(`${known} ns, and ${fresh} ns with the keys`);
  // Twice as much: the machine does other things too.
  t.ok(fresh < 80_000);
});
