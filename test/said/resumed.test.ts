/** Sessions of TLS 1.2 that are resumed: the client's Finished follows its hello, encrypted, and may look like a hello. */
import t from 'tap';
import { type Connection, type Line, SaidBed } from './bed.js';
import { type Extension, makeHello, records, serverName, u16 } from './make.js';

const RULES: readonly Line[] = [{ serverNames: ['good.example'] }];
const bed = new SaidBed(RULES);
t.teardown(() => bed.close());

const hello = (name: string, more: readonly Extension[] = []): Buffer =>
  records(makeHello({ extensions: [...more, serverName(name)] }));
const CCS = Buffer.from('140303000101', 'hex');
const DATA = Buffer.concat([Buffer.from('1703030020', 'hex'), Buffer.alloc(32, 1)]);
/** An alert that is not encrypted, which some servers pass over. */
const WARNING = Buffer.from('1503030002015a', 'hex');
const GOOD = hello('good.example');
const SIZES = [2000, 41, 7, 1];

/** An encrypted record. @param begin its first bytes: type and length of a message, for those who do not know */
const sealed = (begin: string, size = 40, type = 22): Buffer =>
  Buffer.concat([
    Buffer.from([type, 3, 3]),
    u16(size),
    Buffer.from(begin, 'hex'),
    Buffer.alloc(size - begin.length / 2, 5),
  ]);
const ALERT = sealed('', 26, 21);

/** Sends bytes in pieces. @returns whether all passed as they were */
function sendAll(c: Connection, bytes: Buffer, size: number, from = 0): boolean {
  for (let at = 0; at < bytes.length; at += size) {
    const piece = bytes.subarray(at, at + size);
    const f = c.send(from + at, piece);
    if (!f.passes || f.data.length !== piece.length) return false;
  }
  return true;
}

/** Sends a hello that is allowed and these records. @returns whether they pass, and whether anything passes behind them */
function behind(parts: readonly Buffer[], size: number, first = GOOD): { passes: boolean; free: boolean } {
  const c = bed.connect();
  c.send(0, first);
  c.acknowledge(first.length);
  const all = Buffer.concat(parts);
  const passes = sendAll(c, all, size, first.length);
  const end = first.length + all.length;
  c.acknowledge(end);
  return { passes, free: sendAll(c, hello('evil.example'), 2000, end) };
}

for (const size of SIZES) {
  t.test(`segments of ${size} bytes`, async (t) => {
    const held = bed.held();
    for (const begin of ['01ffffff', '01004000', '01000400', '0101', '01000043', '14ffffff'])
      for (const more of [DATA, ALERT])
        t.same(behind([CCS, sealed(begin), more], size), { passes: true, free: true }, begin);
    for (const bytes of [32, 64, 96, 340])
      t.same(behind([CCS, sealed('01ffffff', bytes), DATA], size), { passes: true, free: true }, `${bytes} bytes`);
    t.equal(bed.held(), held, 'nobody looks any more');
    t.same(behind([CCS, sealed('01ffffff')], size), { passes: true, free: false }, 'what follows is not data');
    const early = hello('good.example', [[42, Buffer.alloc(0)]]);
    for (const [what, parts, first] of [
      ['too short for a Finished', [CCS, sealed('01ffffff', 31), DATA]],
      ['too long for a hello, without ChangeCipherSpec', [sealed('01ffffff')]],
      ['a part of a hello, without ChangeCipherSpec', [sealed('01000400'), DATA]],
      ['two records of a hello', [CCS, sealed('01000400'), sealed('05'), DATA]],
      ['two records of one that is too long', [CCS, sealed('01004000'), sealed('05'), DATA]],
      ['a warning', [CCS, sealed('01000400'), WARNING, DATA]],
      ['ChangeCipherSpec', [CCS, sealed('01000400'), CCS, DATA]],
      ['data that a server may pass over', [CCS, sealed('01000400'), DATA], early],
    ] as const)
      t.notOk(behind(parts, size, first).passes, what);
    bed.names();
  });
}

t.test('a second hello is judged, and no part of it passes as something else', async (t) => {
  for (const more of [[], [[21, Buffer.alloc(2000)] as const]]) {
    for (const size of SIZES) {
      t.ok(behind([CCS, hello('good.example', more)], size).passes, 'the same name');
      t.notOk(behind([CCS, hello('evil.example', more)], size).passes, 'another name');
      t.notOk(behind([CCS, CCS, WARNING, hello('evil.example', more)], size).passes);
    }
  }
  const large = hello('evil.example', [[21, Buffer.alloc(16_200)]]);
  for (const size of [2900, 1000]) t.notOk(behind([CCS, large], size).passes, 'whole, and more than is kept');
  bed.names();
});

t.test('what tells that it was no hello is what arrives', async (t) => {
  const finished = Buffer.concat([CCS, sealed('01ffffff')]);
  const end = GOOD.length + finished.length;
  for (const [told, other] of [
    [DATA, sealed('05')],
    [ALERT, WARNING],
  ] as const) {
    const c = bed.connect();
    t.ok(c.send(0, Buffer.concat([GOOD, finished])).passes);
    t.ok(c.send(end, told, { ttl: 1 }).passes, 'it dies on its way');
    t.same(c.send(end, other).told, ['retold']);
    t.ok(c.send(end, told).passes);
  }
  bed.names();
});
