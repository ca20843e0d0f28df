/** QUIC's Initial packets: samples of the RFCs, hellos in any packets, each reason to refuse a datagram. */
import fc from '../seeded.js';
import t from 'tap';
import { QuicFlow, type QuicResult } from '../../src/said/quic.js';
import { clientInitialKeys, openPacket, QUIC_V1, QUIC_V2, readLongHeader } from '../../src/said/quic-packet.js';
import { type Cut, cryptoFrame, encodeHello, encodeInitial, makeHello, serverName, varint } from './make.js';
import { SAMPLE_DCID, SAMPLE_FRAME, SAMPLE_V1, SAMPLE_V2 } from './vectors.js';

const numRuns = Number(process.env.RUNS ?? 300);

const malformed = (why: string) => ({ state: 'malformed', why });
const A = Buffer.from('0102030405060708', 'hex');
const B = Buffer.from('1112131415161718191a1b1c1d1e1f2021222324', 'hex');
const hello = makeHello({ extensions: [serverName('a.example'), [51, Buffer.alloc(300, 3)]] });
const evil = makeHello({ extensions: [serverName('b.example'), [51, Buffer.alloc(300, 3)]] });
const whole: Cut = [[0, hello.length]];
const part = (from: number, to: number, bytes = hello) => cryptoFrame(from, bytes.subarray(from, to));
const initial = (frames: Uint8Array, rest: Partial<Parameters<typeof encodeInitial>[0]> = {}) =>
  encodeInitial({ dcid: A, frames, ...rest });
/** A long header of another type, with bytes that look protected. */
function longPacket(type: number, dcid: Buffer = A): Buffer {
  const body = Buffer.alloc(40, 0x77);
  return Buffer.concat([
    Buffer.from([0xc0 | (type << 4), 0, 0, 0, 1, dcid.length]),
    dcid,
    Buffer.from([0]),
    varint(body.length),
    body,
  ]);
}
const zeroRtt = longPacket(1);
const handshake = longPacket(2);
const short = Buffer.alloc(60, 0x4a);

/** What the flow says of each datagram, in turn: a state, or a reason. */
function says(...datagrams: Buffer[]): string[] {
  const flow = new QuicFlow();
  return datagrams.map((datagram) => text(flow.datagram(datagram)));
}
function text(result: QuicResult): string {
  if (result.state === 'malformed') return result.why;
  if (result.state !== 'hello') return result.state;
  return result.hellos.map((h) => `${h.serverName ?? ''} ${h.number}`).join(', ');
}

t.test('samples of the RFCs', async (t) => {
  for (const [version, sample, keys] of [
    [
      QUIC_V1,
      SAMPLE_V1,
      ['1f369613dd76d5467730efcbe3b1a22d', 'fa044b2f42a3fd3b46fb255c', '9f50449e04a0e810283a1e9933adedd2'],
    ],
    [
      QUIC_V2,
      SAMPLE_V2,
      ['8b1a0bc121284290a29e0971b5cd045d', '91f73e2351d8fa91660e909f', '45b95e15235d6f45a6b19cbcb0294ba9'],
    ],
  ] as const) {
    const derived = clientInitialKeys(version, SAMPLE_DCID);
    t.same(
      [derived.key, derived.iv, derived.hp].map((key) => key.toString('hex')),
      keys,
    );
    const header = readLongHeader(sample, 0);
    if (header.state !== 'packet') return t.fail(header.state);
    t.match(header, { type: 'initial', version, end: 1200, number: 18 });
    const open = openPacket(sample, header, derived, -1);
    t.match(open, { number: 2, reserved: false });
    t.same(open?.payload, Buffer.concat([SAMPLE_FRAME, Buffer.alloc(1162 - SAMPLE_FRAME.length)]));
    t.same(encodeInitial({ version, dcid: SAMPLE_DCID, number: 2, frames: SAMPLE_FRAME, padTo: 1200 }), sample);
    t.match(new QuicFlow().datagram(sample), {
      state: 'hello',
      version,
      hellos: [{ serverName: 'example.com', number: 0, alpn: ['alpn'], length: 241, earlyData: false }],
    });
    const damaged = Buffer.from(sample);
    damaged[700]! ^= 1;
    t.same(new QuicFlow().datagram(damaged), malformed('protection'));
  }
});

t.test('packet numbers', async (t) => {
  const open = (number: number, numberSize: 1 | 2 | 3 | 4, largest: number) => {
    const packet = initial(Buffer.from([1]), { number, numberSize });
    const header = readLongHeader(packet, 0);
    return header.state === 'packet'
      ? openPacket(packet, header, clientInitialKeys(QUIC_V1, A), largest)?.number
      : header;
  };
  for (const [number, size, largest] of [
    [0, 1, -1],
    [255, 1, -1],
    [256, 1, 255],
    [300, 1, 260],
    [200, 1, 300],
    [0xa82f9b32, 2, 0xa82f30ea],
    [0xffffffff, 4, -1],
    [2 ** 32 + 5, 2, 2 ** 32],
  ] as const)
    t.equal(open(number, size, largest), number, `${number} behind ${largest} in ${size}`);
  t.equal(open(256, 1, -1), undefined, 'read as 0, whose nonce is another');
});

t.test('hellos in several frames, packets and datagrams', async (t) => {
  const n = hello.length;
  t.same(says(...encodeHello(hello, A)), ['a.example 0']);
  t.same(says(...encodeHello(hello, A, [[[200, n]], [[0, 200]]])), ['more', 'a.example 0'], 'the end first');
  const shuffled: Cut = [
    [100, 150],
    [0, 10],
    [150, n],
    [10, 100],
  ];
  t.same(says(...encodeHello(hello, A, [shuffled])), ['a.example 0']);
  t.same(
    says(
      ...encodeHello(hello, A, [
        [
          [0, 100],
          [50, 200],
        ],
        [[0, n]],
      ]),
    ),
    ['more', 'a.example 0'],
    'overlaps',
  );
  const bytewise = Array.from({ length: n }, (_, i) => [n - 1 - i, n - i] as const);
  t.same(says(...encodeHello(hello, B, [bytewise.slice(0, 150), bytewise.slice(150)])), ['more', 'a.example 0']);
  const between = Buffer.concat([
    Buffer.from([0, 1, 0]),
    part(0, 90),
    Buffer.from([1, 0]),
    part(90, n),
    Buffer.from([1]),
  ]);
  t.same(says(initial(between)), ['a.example 0'], 'PADDING and PING between');
  const ack = Buffer.from('020500020100000000', 'hex');
  const ecn = Buffer.from('03050000000a0b0c', 'hex');
  const close = Buffer.from('1c0006026869', 'hex');
  t.same(says(initial(Buffer.concat([ack, ecn, part(0, n), close]))), ['a.example 0']);
  t.same(
    says(Buffer.concat([initial(part(0, 90)), initial(part(90, n), { number: 1 })])),
    ['a.example 0'],
    'coalesced',
  );
  t.same(says(initial(part(0, n), { version: QUIC_V2 })), ['a.example 0']);
  t.same(says(initial(part(0, 90)), initial(part(90, n), { number: 1, version: QUIC_V2 })), ['more', 'a.example 0']);
  t.same(says(Buffer.concat([initial(part(0, n)), Buffer.alloc(300)])), ['a.example 0'], 'filled with zeros');
  for (const dcid of [Buffer.alloc(0), Buffer.alloc(20, 1)])
    t.same(says(initial(part(0, n), { dcid })), ['a.example 0']);
  t.same(says(initial(part(0, n), { scid: B, token: Buffer.alloc(70, 1) })), ['a.example 0']);
});

t.test('what follows a hello', async (t) => {
  const [first] = encodeHello(hello, A, [whole]) as [Buffer];
  const second = cryptoFrame(hello.length, hello);
  const later = (frames: Uint8Array, number = 1) => initial(frames, { dcid: B, keysFrom: A, number });
  t.same(says(first, first, later(Buffer.from([1])), zeroRtt, handshake, short), [
    'a.example 0',
    ...Array(5).fill('known'),
  ]);
  t.same(says(first, later(second)), ['a.example 0', 'a.example 1'], 'behind a HelloRetryRequest');
  t.same(says(first, later(cryptoFrame(hello.length, evil))), ['a.example 0', 'b.example 1']);
  t.same(says(first, later(Buffer.concat([part(0, 90), second]))), ['a.example 0', 'a.example 1']);
  t.same(says(initial(Buffer.concat([part(0, hello.length), second]))), ['a.example 0, a.example 1']);
  const third = cryptoFrame(2 * hello.length, hello);
  t.same(says(first, later(second), later(third, 2)), ['a.example 0', 'a.example 1', 'too-many-hellos']);
  t.same(says(first, later(part(0, hello.length, evil))), ['a.example 0', 'overlap'], 'other bytes at the same place');
  t.same(says(first, Buffer.concat([later(Buffer.from([1])), longPacket(2, B), short])), ['a.example 0', 'known']);
  t.same(says(Buffer.concat([first, zeroRtt])), ['a.example 0'], 'early data with the end of the hello');
});

t.test('other connections of the flow', async (t) => {
  const n = hello.length;
  const [a] = encodeHello(hello, A) as [Buffer];
  const [b] = encodeHello(evil, B, [whole], { token: Buffer.alloc(9) }) as [Buffer];
  t.same(says(a, b), ['a.example 0', 'b.example 0'], 'after a Retry, or a new one: judged again');
  t.same(says(a, initial(part(0, 90), { dcid: B }), short), ['a.example 0', 'more', 'early']);
  t.same(says(a, b, a), ['a.example 0', 'b.example 0', 'another-connection'], 'never back');
  t.same(says(initial(part(0, 90)), b), ['more', 'another-connection'], 'not while a hello is incomplete');
  const half = initial(cryptoFrame(n, hello.subarray(0, 50)), { number: 1 });
  t.same(says(a, half, b), ['a.example 0', 'known', 'another-connection'], 'nor the second one');
  const island = initial(cryptoFrame(n + 9, hello.subarray(0, 50)), { number: 1 });
  t.same(says(a, island, b), ['a.example 0', 'known', 'another-connection']);
  const many = Array.from({ length: 9 }, (_, i) => encodeHello(hello, Buffer.alloc(8, i))[0]!);
  t.same(says(...many), [...Array(8).fill('a.example 0'), 'another-connection']);
});

t.test('why a datagram is refused', async (t) => {
  const n = hello.length;
  const ok = initial(part(0, n));
  const cut = (bytes: Buffer, end: number) => bytes.subarray(0, end);
  const rows: Record<string, Buffer[]> = {
    header: [
      cut(ok, 1),
      cut(ok, 5),
      cut(ok, 10),
      cut(ok, 16),
      cut(ok, ok.length - 1),
      longPacket(3),
      Buffer.concat([Buffer.from([0xc0, 0, 0, 0, 1, 21]), Buffer.alloc(60)]),
      Buffer.concat([Buffer.from([0xc0, 0, 0, 0, 1, 0, 21]), Buffer.alloc(60)]),
      Buffer.concat([Buffer.from([0xc0, 0, 0, 0, 1, 0, 0, 0, 19]), Buffer.alloc(19)]),
      Buffer.concat([Buffer.from([0xc0, 0, 0, 0, 1, 0, 0]), varint(2 ** 61), Buffer.alloc(60)]),
      Buffer.concat([ok, Buffer.from([0xc0])]),
    ],
    protection: [initial(part(0, n), { keysFrom: B }), Buffer.concat([cut(ok, ok.length - 1), Buffer.from([0])])],
    coalesced: [
      Buffer.concat([ok, initial(part(0, n), { dcid: B, keysFrom: A })]),
      Buffer.concat([ok, initial(part(0, n), { version: QUIC_V2 })]),
      Buffer.concat([ok, Buffer.from('c0000000020000', 'hex')]),
      Buffer.concat(Array.from({ length: 9 }, () => ok)),
    ],
    trailing: [Buffer.concat([ok, Buffer.from([0, 0, 1])]), Buffer.concat([ok, Buffer.from([0x80])])],
    'reserved-bits': [initial(part(0, n), { reserved: 4 }), initial(part(0, n), { reserved: 8 })],
    frame: [
      ...[
        '04',
        '05',
        '07',
        '08',
        '10',
        '18',
        '1a',
        '1d',
        '1e',
        '30',
        '4006',
        '06',
        '0600',
        '060005aa',
        '02',
        '0201',
        '03',
      ],
      ...['020100', '02010001', '0201003fff00', '020100bfffffff0000', '030100000000', '1c', '1c0000', '1c000005aa'],
    ].map((hex) => initial(Buffer.concat([part(0, n), Buffer.from(hex, 'hex')]))),
    'too-large': [
      initial(cryptoFrame(16384, Buffer.from([1]))),
      initial(cryptoFrame(2 ** 61, Buffer.from([1]))),
      initial(Buffer.concat([varint(6), varint(0), varint(16385)])),
      initial(cryptoFrame(0, Buffer.from('01004000', 'hex'))),
    ],
    overlap: [initial(Buffer.concat([part(0, 90), part(60, n, Buffer.alloc(n))]))],
    early: [
      zeroRtt,
      handshake,
      Buffer.concat([initial(part(0, 90)), zeroRtt]),
      Buffer.concat([initial(part(0, 90)), handshake]),
      Buffer.concat([initial(part(0, 90)), short]),
    ],
    'handshake-type': [initial(cryptoFrame(0, Buffer.from([2])))],
    'server-name': [initial(cryptoFrame(0, makeHello({ extensions: [serverName('a', 'b')] })))],
  };
  for (const [why, datagrams] of Object.entries(rows))
    for (const [i, datagram] of datagrams.entries()) {
      t.same(says(datagram), [why], `${why} ${i}`);
      t.same(says(datagram, ok), [why, 'a.example 0'], `nothing of it counts: ${why} ${i}`);
    }
  const empty = encodeInitial({ dcid: A, frames: Buffer.alloc(0), numberSize: 4 });
  t.same(says(empty), ['no-frames']);
  for (const other of [Buffer.alloc(0), short, Buffer.alloc(20), Buffer.from([0x80, 0, 0, 0, 1])])
    t.same(says(other), ['other']);
  t.match(new QuicFlow().datagram(Buffer.from('c0faceb00c0000', 'hex')), { state: 'version', version: 0xfaceb00c });
  t.same(says(Buffer.from('c0000000000000', 'hex')), ['version'], 'version negotiation');
  t.same(says(initial(part(0, 90)), short), ['more', 'early']);
  t.same(says(ok, Buffer.alloc(40)), ['a.example 0', 'trailing']);
});

/** Parts that cover a hello, in any order, with overlaps. */
const cuts = fc
  .array(fc.tuple(fc.nat(), fc.nat(200)), { maxLength: 10 })
  .chain((extra) => {
    const parts: [number, number][] = [];
    for (let at = 0; at < hello.length; at += 60) parts.push([at, Math.min(at + 60, hello.length)]);
    for (const [at, size] of extra) {
      const from = at % hello.length;
      parts.push([from, Math.min(from + size, hello.length)]);
    }
    return fc.shuffledSubarray(parts, { minLength: parts.length });
  })
  .chain((parts) =>
    fc.array(fc.nat(3), { minLength: parts.length, maxLength: parts.length }).map((to) => ({ parts, to })),
  );

t.test('hellos at random: a hello with the datagram that completes it, and only then', async () => {
  fc.assert(
    fc.property(cuts, fc.constantFrom(QUIC_V1, QUIC_V2), ({ parts, to }, version) => {
      const lists = [0, 1, 2, 3].map((n) => parts.filter((_, i) => to[i] === n)).filter((list) => list.length > 0);
      const told = says(...encodeHello(hello, A, lists, { version }));
      const known = new Set<number>();
      let isComplete = false;
      return lists.every((list, i) => {
        for (const [from, end] of list) for (let at = from; at < end; at++) known.add(at);
        const [before, now] = [isComplete, known.size === hello.length];
        isComplete = now;
        return told[i] === (before ? 'known' : now ? 'a.example 0' : 'more');
      });
    }),
    { numRuns },
  );
});

const frame = fc.oneof(
  fc.tuple(fc.nat(400), fc.nat(100)).map(([at, size]) => part(at, at + size)),
  fc.tuple(fc.nat(400), fc.uint8Array({ maxLength: 20 })).map(([at, data]) => cryptoFrame(at, data)),
  fc.uint8Array({ maxLength: 12 }).map((b) => Buffer.from(b)),
  fc.constantFrom(part(0, hello.length), Buffer.from([1]), Buffer.from('0201000000', 'hex')),
);
const packet = fc
  .tuple(
    fc.array(frame, { minLength: 1, maxLength: 4 }),
    fc.constantFrom(A, A, A, B),
    fc.nat(3),
    fc.constantFrom(1, 2, 3, 4),
  )
  .map(([frames, dcid, number, numberSize]) =>
    encodeInitial({ dcid, number, numberSize: numberSize as 1, frames: Buffer.concat(frames) }),
  );
const datagram = fc
  .tuple(
    fc.array(fc.oneof({ weight: 5, arbitrary: packet }, fc.constantFrom(zeroRtt, handshake, short, Buffer.alloc(3))), {
      minLength: 1,
      maxLength: 3,
    }),
    fc.option(fc.tuple(fc.nat(), fc.nat(255)), { freq: 5 }),
  )
  .map(([packets, damage]) => {
    const bytes = Buffer.concat(packets);
    if (damage) bytes[damage[0] % bytes.length] = damage[1];
    return bytes;
  });

t.test('flows at random: no exception, and what was refused does not matter', async (t) => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(fc.array(datagram, { minLength: 1, maxLength: 5 }), (datagrams) => {
      const told = says(...datagrams);
      for (const text of told) seen.add(text);
      const passes = (text: string) => text === 'more' || text === 'known' || text.includes(' ');
      const kept = datagrams.filter((_, i) => passes(told[i]!));
      return JSON.stringify(says(...kept)) === JSON.stringify(told.filter(passes));
    }),
    { numRuns: numRuns * 4 },
  );
  t.ok(seen.size >= 8, [...seen].join(', '));
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 3 }), (datagrams) => {
      const flow = new QuicFlow();
      for (const bytes of datagrams) flow.datagram(Buffer.concat([Buffer.from('c000000001', 'hex'), bytes]));
    }),
    { numRuns: numRuns * 4 },
  );
});
