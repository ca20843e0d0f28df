/** ClientHellos: what is one, what is none, and from which byte on. */
import fc from '../seeded.js';
import t from 'tap';
import { type HelloStream, MAX_EXTENSIONS, MAX_HELLO, readHello, readHelloMessage } from '../../src/said/hello.js';
import { alpn, type Extension, type HelloParts, makeHello, records, serverName, u16 } from './make.js';
import { outer } from './make-ech.js';

const numRuns = Number(process.env.RUNS ?? 2000);

const read = (parts: HelloParts, sizes: number[] = []): HelloStream => readHello(records(makeHello(parts), sizes));
const named = (...names: Parameters<typeof serverName>): HelloStream => read({ extensions: [serverName(...names)] });
const malformed = (why: string) => ({ state: 'malformed', why });

t.test('what a hello says', async (t) => {
  const extensions = [serverName('WWW.Example.com'), alpn('h2', 'http/1.1'), [42, Buffer.alloc(0)]] as Extension[];
  const stream = records(makeHello({ extensions: [...extensions, [0xfe0d, Buffer.alloc(9)]] }));
  t.same(readHello(Buffer.concat([stream, Buffer.from('more')])), {
    state: 'hello',
    length: stream.length,
    serverName: 'www.example.com',
    earlyData: true,
    ech: true,
    alpn: ['h2', 'http/1.1'],
  });
  const nothing = { state: 'hello', earlyData: false, ech: false, alpn: [] };
  t.match(read({}), nothing, 'no extensions at all, as before TLS 1.2');
  t.match(read({ extensions: [] }), nothing);
  t.match(read({ extensions: [[16, Buffer.from('0003026832', 'hex')]] }), { alpn: ['h2'] });
  for (const bad of ['', '00', '0004026832', '000100', '0003036832', '00020268'])
    t.match(read({ extensions: [[16, Buffer.from(bad, 'hex')]] }), nothing, `a list of protocols ${bad} says nothing`);
});

t.test('what is encrypted', async (t) => {
  const of = (data: Uint8Array) => {
    const hello = read({ extensions: [[0xfe0d, data]] });
    return hello.state === 'hello' && hello.ech ? (hello.echId ?? 'odd') : hello;
  };
  const [, whole] = outer(200);
  t.equal(of(whole), 200);
  t.equal(of(outer(0, { enc: 0, payload: 1 })[1]), 0, 'as in a second hello');
  for (let size = 0; size < whole.length; size++) t.equal(of(whole.subarray(0, size)), 'odd', `${size} bytes`);
  t.equal(of(Buffer.concat([whole, Buffer.alloc(1)])), 'odd', 'a byte behind it');
  t.equal(of(outer(1, { payload: 0 })[1]), 'odd', 'nothing is encrypted');
  t.equal(of(Buffer.from([1])), 'odd', 'an inner hello');
});

t.test('names', async (t) => {
  const long = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`;
  for (const name of ['a', 'a.b', '_x.a-b.example', 'a..b', '.a', long, '1.2.3.4a', '1.2.3.x'])
    t.match(named(name), { state: 'hello', serverName: name, oddName: undefined }, name);
  for (const odd of [
    '',
    'a.',
    '.',
    '1.2.3.4',
    '127.1',
    '2130706433',
    'a b',
    'a:443',
    '::1',
    '[::1]',
    'ä',
    'a\0',
    'a*',
    `${long}e`,
  ]) {
    const hello = named(odd);
    t.match(hello, { state: 'hello', oddName: true }, odd);
    t.notOk('serverName' in hello, odd);
  }
  t.same(named('a', 'b'), malformed('server-name'));
  t.same(named('a', [1, 'b']), malformed('server-name'));
  t.same(named([1, 'a']), malformed('server-name'));
  t.same(named(), malformed('server-name'), 'an empty list');
  for (const data of ['', '00', '0000', '00030000', '0007000003616263', '0004000001616263', '00060000046162'])
    t.same(read({ extensions: [[0, Buffer.from(data, 'hex')]] }), malformed('server-name'), data);
});

t.test('malformed', async (t) => {
  const raw = (hex: string) => readHello(Buffer.from(hex, 'hex'));
  t.same(raw(''), { state: 'more' });
  for (const other of ['00', '17', '15', '80', '1602', '16fe', '474554']) t.same(raw(other), { state: 'other' }, other);
  for (const first of ['16', '1603', '160301', '16030100', '1603014000', '160304012001'])
    t.same(raw(first), { state: 'more' }, first);
  for (const length of ['0000', '41', '4001', 'ffff', '8000'])
    t.same(raw(`160301${length}`), malformed('record-length'), length);
  for (const type of ['00', '02', 'ff']) t.same(raw(`1603010100${type}`), malformed('handshake-type'), type);
  for (const length of ['01', '0040', '00ff', '003fff'])
    t.same(raw(`160301010001${length}`), malformed('too-large'), length);
  t.same(raw('160301010001000028'), malformed('handshake-length'));
  t.same(raw('160301010001000029'), malformed('record-length'), 'more than the hello in its record');
  t.same(raw('16030100040100010017'), malformed('record-type'), 'an alert between the parts of a hello');
  t.same(raw('1603010004010001001602'), malformed('record-version'));
  t.same(raw('1603010004010001001603010101'), malformed('record-length'), 'too much in the second record');
  t.same(raw('160301002d0100002903'), { state: 'more' });
  t.same(raw('160301002d0100002902'), malformed('version'));

  t.same(read({ session: Buffer.alloc(33) }), malformed('session-id'));
  t.same(read({ suites: Buffer.alloc(0), extensions: [] }), malformed('cipher-suites'));
  t.same(read({ suites: Buffer.alloc(3), extensions: [] }), malformed('cipher-suites'));
  t.same(read({ compression: Buffer.alloc(0), extensions: [] }), malformed('compression'));
  const many = (n: number) => Array.from({ length: n }, (_, i) => [i + 100, Buffer.alloc(1)] as Extension);
  t.match(read({ extensions: many(MAX_EXTENSIONS) }), { state: 'hello' });
  t.same(read({ extensions: many(MAX_EXTENSIONS + 1) }), malformed('too-many-extensions'));
  t.same(read({ extensions: [serverName('a'), serverName('a')] }), malformed('duplicate-extension'));
  t.same(
    read({ extensions: [[9, Buffer.alloc(0)], serverName('a'), [9, Buffer.alloc(3)]] }),
    malformed('duplicate-extension'),
  );

  const hello = makeHello({ extensions: [serverName('a.example')] });
  const block = hello.length - 2 - 18;
  for (const by of [-1, 1]) {
    const wrong = Buffer.from(hello);
    u16(18 + by).copy(wrong, block);
    t.same(readHello(records(wrong)), malformed('extensions'), `the block is ${by} too long`);
  }
  const wrong = Buffer.from(hello);
  u16(15).copy(wrong, block + 4);
  t.same(readHello(records(wrong)), malformed('extension'), 'an extension that is longer than the block');
});

t.test('sizes', async (t) => {
  const padded = (total: number) => {
    const empty = makeHello({ extensions: [[21, Buffer.alloc(0)]] });
    return makeHello({ extensions: [[21, Buffer.alloc(total - empty.length)]] });
  };
  t.match(readHello(records(padded(MAX_HELLO - 5))), { state: 'hello', length: MAX_HELLO });
  t.same(readHello(records(padded(MAX_HELLO - 4))), malformed('too-large'));
  t.match(readHelloMessage(padded(MAX_HELLO)), { state: 'hello', length: MAX_HELLO });
  t.same(readHelloMessage(padded(MAX_HELLO + 1)), malformed('too-large'));
  t.match(readHello(records(padded(MAX_HELLO - 10), [9000])), { state: 'hello', length: MAX_HELLO });
  t.same(readHello(records(padded(MAX_HELLO - 9), [9000])), malformed('too-large'), 'headers of records count');
  const small = padded(2700);
  const bytewise = records(small, Array(small.length).fill(1));
  t.match(readHello(bytewise), { state: 'hello', length: 2700 * 6 }, 'one byte a record');
});

/** Lengths of prefixes: all of a short stream, and some of a long one. */
const prefixes = (length: number): number[] =>
  Array.from({ length: Math.min(length, 400) + 1 }, (_, i) => Math.round((i * length) / Math.min(length, 400)));

/** What is said of a prefix is said of all longer ones; before, it is `more`. */
function isStable(bytes: Uint8Array, read: (prefix: Uint8Array) => { state: string }): boolean {
  let last: { state: string } = { state: 'more' };
  for (const length of prefixes(bytes.length)) {
    const now = read(bytes.subarray(0, length));
    if (last.state !== 'more' && JSON.stringify(now) !== JSON.stringify(last)) return false;
    last = now;
  }
  return true;
}

const bytes = (maxLength: number) => fc.uint8Array({ maxLength });
const extension: fc.Arbitrary<Extension> = fc.oneof(
  fc.tuple(fc.integer({ min: 1, max: 60 }), bytes(20)),
  fc.tuple(fc.constantFrom(42, 43, 51, 0xfe0d, 0x0a0a), bytes(200)),
  fc.constantFrom(serverName('a.example'), serverName('1.2.3.4'), serverName('A.Example'), alpn('h2')),
);
const parts: fc.Arbitrary<HelloParts> = fc.record({
  session: bytes(32),
  suites: fc.uint8Array({ minLength: 1, maxLength: 20 }).map((b) => Buffer.concat([b, b])),
  extensions: fc.uniqueArray(extension, { maxLength: 12, selector: ([type]) => type }),
});
const sizes = fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 12 });
const damage = fc.array(fc.tuple(fc.nat(), fc.constantFrom('byte', 'cut', 'insert', 'bit'), fc.nat(255)), {
  maxLength: 3,
});

t.test('hellos at random: whole, in any records, and cut off', async () => {
  fc.assert(
    fc.property(parts, sizes, (parts, sizes) => {
      const message = makeHello(parts);
      const stream = records(message, sizes);
      const whole = readHelloMessage(message);
      const { state, length: _, ...said } = readHello(stream) as { state: string; length: number };
      const { length: __, ...want } = whole as { state: string; length: number };
      if (JSON.stringify({ state, ...said }) !== JSON.stringify(want) || state !== 'hello') return false;
      for (let end = 0; end < stream.length; end++)
        if (readHello(stream.subarray(0, end)).state !== 'more') return false;
      return true;
    }),
    { numRuns: numRuns / 10 },
  );
});

t.test('hellos that are damaged: the same of every prefix, and never an exception', async (t) => {
  const states = new Map<string, number>();
  fc.assert(
    fc.property(parts, sizes, damage, (parts, sizes, damage) => {
      let stream = records(makeHello(parts), sizes);
      for (const [where, how, value] of damage) {
        const at = where % (stream.length + 1);
        const [before, after] = [stream.subarray(0, at), stream.subarray(at)];
        if (how === 'cut') stream = Buffer.concat([before, after.subarray(value % 20)]);
        else if (how === 'insert') stream = Buffer.concat([before, Buffer.from([value]), after]);
        else if (after.length > 0) after[0] = how === 'bit' ? after[0]! ^ (1 << (value % 8)) : value;
      }
      const last = readHello(stream);
      const name = last.state === 'malformed' ? last.why : last.state;
      states.set(name, (states.get(name) ?? 0) + 1);
      return isStable(stream, readHello) && isStable(stream.subarray(5), readHelloMessage);
    }),
    { numRuns },
  );
  t.ok(states.size >= 10, [...states.keys()].join(' '));
});

/** Bytes that are often right, then all. */
const TRIES = [0, 1, 2, 3, 22, ...Array.from({ length: 256 }, (_, i) => i)];

t.test('refused with the first byte that leaves no way: behind "more" some byte goes on', async (t) => {
  let tried = 0;
  const goesOn = (prefix: Uint8Array, read: (bytes: Uint8Array) => { state: string }): boolean =>
    TRIES.some((byte) => {
      const { state } = read(Buffer.concat([prefix, Buffer.from([byte])]));
      return state === 'more' || state === 'hello';
    });
  fc.assert(
    fc.property(parts, sizes, damage, fc.nat(), (parts, sizes, damage, seed) => {
      let stream: Buffer = records(makeHello(parts), sizes);
      for (const [where, , value] of damage) stream[where % stream.length] = value;
      stream = stream.subarray(0, seed % 2 === 0 ? stream.length : seed % stream.length);
      for (const read of [readHello, readHelloMessage] as const) {
        const bytes = read === readHello ? stream : stream.subarray(5);
        // The last prefix that says "more", where a refusal that comes late would show.
        let end = bytes.length;
        while (end > 0 && read(bytes.subarray(0, end)).state !== 'more') end--;
        if (read(bytes.subarray(0, end)).state !== 'more') return false;
        tried++;
        if (!goesOn(bytes.subarray(0, end), read)) return false;
      }
      return true;
    }),
    { numRuns: numRuns / 2 },
  );
  t.ok(tried > 100);
  // Where the hello is nearly too large: each record must leave room for the header of the next.
  const large = makeHello({ extensions: [[21, Buffer.alloc(16000)]] });
  for (const count of [45, 50, 55, 56, 57, 58, 59, 60, 70]) {
    const stream = records(large, Array(count).fill(200));
    let end = 0;
    while (end <= stream.length && readHello(stream.subarray(0, end)).state === 'more') end++;
    t.ok(
      end > stream.length ||
        readHello(stream.subarray(0, end)).state === 'hello' ||
        goesOn(stream.subarray(0, end - 1), readHello),
    );
  }
});

t.test('any bytes', async () => {
  fc.assert(
    fc.property(bytes(300), fc.constantFrom('', '16', '1603', '160301', '16030101000100'), (tail, head) => {
      const stream = Buffer.concat([Buffer.from(head, 'hex'), tail]);
      return isStable(stream, readHello) && isStable(tail, readHelloMessage);
    }),
    { numRuns },
  );
});

t.test('the worst that 16 KB can hold is read in time', async (t) => {
  const extensions = Array.from({ length: MAX_EXTENSIONS }, (_, i) => [i + 100, Buffer.alloc(36)] as Extension);
  const message = makeHello({ extensions });
  const stream = records(message, Array(message.length).fill(1));
  const start = performance.now();
  for (let end = 0; end <= stream.length; end += 16) readHello(stream.subarray(0, end));
  const ms = (performance.now() - start) / (stream.length / 16);
  t.ok(ms < 20, `${ms.toFixed(3)} ms`);
});
