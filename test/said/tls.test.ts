/** Server names in TLS, judged in the kernel: which segments pass, whichever way a hello is cut. */
import t from 'tap';
import { FIN, RST, SYN } from '../attacks/craft.js';
import { Connection, type Line, SaidBed } from './bed.js';
import { type Extension, makeHello, records, serverName, u16 } from './make.js';

const RULES: readonly Line[] = [{ serverNames: ['good.example', '*.good.example'] }];
const bed = new SaidBed(RULES);
t.teardown(() => bed.close());

/** A key_share of so many bytes, as hybrid groups have it. */
const share = (bytes: number): Extension => [51, Buffer.alloc(bytes, 9)];
const hello = (name: string | undefined, more: readonly Extension[] = [], sizes: number[] = []): Buffer =>
  records(makeHello({ extensions: [...more, ...(name === undefined ? [] : [serverName(name)])] }), sizes);
const denied = Connection.isDenied;
/** What a client sends behind the server's answer: ChangeCipherSpec and encrypted records. */
const CCS = Buffer.from('140303000101', 'hex');
const DATA = Buffer.concat([Buffer.from('1703030020', 'hex'), Buffer.alloc(32, 1)]);

/** Sends bytes in pieces. @returns whether all passed as they were */
function sendAll(c: Connection, bytes: Buffer, size: number, from = 0): boolean {
  for (let at = 0; at < bytes.length; at += size) {
    const piece = bytes.subarray(at, at + size);
    const f = c.send(from + at, piece);
    if (!f.passes || f.data.length !== piece.length) return false;
  }
  return true;
}

t.test('in one segment', async (t) => {
  const c = bed.connect();
  const good = hello('WWW.Good.Example', [share(1216)]);
  const sent = c.send(0, good);
  t.same(sent.data, good);
  t.same(
    sent.events.map((e) => [e.type, e.verdict, e.reason]),
    [['verdict', 'allow', 'rule']],
  );
  t.same(bed.names(), ['www.good.example allow']);
  t.equal(bed.held(), 1, 'kept until it is acknowledged');
  c.acknowledge(good.length);
  t.equal(bed.held(), 0);
  t.ok(c.send(good.length, Buffer.concat([CCS, DATA])).passes);
  t.equal(bed.held(), 1);
  c.acknowledge(good.length + CCS.length + DATA.length);
  t.equal(bed.held(), 0);
  t.ok(c.send(good.length + 100_000, DATA).passes, 'nobody looks any more');
});

t.test('another name', async (t) => {
  const c = bed.connect();
  const f = c.send(0, hello('evil.example'));
  t.ok(denied(f));
  t.match(f, { passes: true, flags: RST | 16, seq: 0 }, 'what goes on is a reset');
  t.match(f.events, [{ type: 'verdict', verdict: 'deny' }]);
  t.same(bed.names(), ['evil.example deny']);
  t.notOk(c.send(0, hello('good.example')).passes, 'it is over');
  t.equal(bed.held(), 0);
});

t.test('no name, an odd one, no TLS', async (t) => {
  for (const bytes of [
    hello(undefined),
    hello('good.example.'),
    hello('1.2.3.4'),
    hello('good.example\0'),
    Buffer.from('GET / HTTP/1.1\r\nHost: good.example\r\n\r\n'),
    Buffer.from('EHLO good.example\r\n'),
    Buffer.from([0x80, 0x2e, 1, 0, 2]),
    Buffer.from([22, 2]),
  ])
    t.ok(denied(bed.connect().send(0, bytes)), bytes.subarray(0, 20).toString('latin1'));
  for (const bytes of [
    Buffer.from('16030100050200000101', 'hex'),
    Buffer.from('16030100000100000101', 'hex'),
    records(makeHello({ extensions: [serverName('good.example', 'evil.example')] })),
    records(makeHello({ extensions: [serverName('good.example'), serverName('evil.example')] })),
    Buffer.concat([hello('good.example'), hello('good.example')]),
  ]) {
    const f = bed.connect().send(0, bytes);
    t.ok(denied(f), bytes.subarray(0, 20).toString('hex'));
    t.match(f.told, ['unreadable-hello']);
  }
  bed.names();
});

t.test('cut anywhere, in records of any size', async (t) => {
  for (const [records, more] of [
    [[], []],
    [[1, 1, 1, 1, 1, 5, 30], [share(40)]],
    [[100, 200], [share(1216)]],
  ] as [number[], Extension[]][]) {
    for (const size of [1, 2, 3, 7, 100, 536, 1448]) {
      const good = hello('a.good.example', more, records);
      const c = bed.connect();
      t.ok(sendAll(c, good, size), `good: ${good.length} bytes by ${size}`);
      t.same(bed.names(), ['a.good.example allow']);
      c.acknowledge(good.length);
      const evil = hello('a.evil.example', more, records);
      const d = bed.connect();
      t.notOk(sendAll(d, evil, size), `evil: ${evil.length} bytes by ${size}`);
      t.same(bed.names(), ['a.evil.example deny']);
      t.ok(sendAll(bed.connect(), evil.subarray(0, -1), size), 'the verdict falls with the last byte');
    }
  }
});

t.test('16 KiB, and more', async (t) => {
  const large = hello('good.example', [share(16000)]);
  t.ok(large.length < 16384);
  const c = bed.connect();
  t.ok(sendAll(c, large, 1448));
  c.acknowledge(large.length);
  t.same(bed.names(), ['good.example allow']);
  const more = hello('good.example', [share(16384)]);
  t.notOk(sendAll(bed.connect(), more, 1448));
});

t.test('in sequence only', async (t) => {
  const good = hello('good.example');
  const c = bed.connect();
  t.same(c.send(10, good.subarray(10)).told, ['out-of-order'], 'a gap');
  t.ok(c.send(0, good.subarray(0, 10)).passes);
  t.ok(c.send(0, good.subarray(0, 10)).passes, 'the same bytes again');
  t.ok(c.send(5, good.subarray(5, 20)).passes, 'an overlap');
  const other = Buffer.from(good.subarray(5, 30));
  other[3] = 0xee;
  t.same(c.send(5, other).told, ['retold'], 'other bytes');
  t.ok(c.send(20, good.subarray(20)).passes);
  t.same(bed.names(), ['good.example allow']);
});

t.test('what was judged is what arrives', async (t) => {
  const [good, evil] = [hello('good.example'), hello('evil.example')];
  const c = bed.connect();
  t.ok(c.send(0, good, { ttl: 1 }).passes, 'a decoy that dies on its way');
  t.same(c.send(0, evil).told, ['retold']);
  t.notOk(c.send(0, evil.subarray(0, 105)).passes);
  t.notOk(c.send(60, evil.subarray(60)).passes);
  t.ok(c.send(0, good).passes, 'the same again');
  t.ok(c.send(60, good.subarray(60)).passes, 'or a part of it');
  c.acknowledge(50);
  t.notOk(c.send(0, evil).passes);
  c.acknowledge(5_000_000);
  t.notOk(c.send(0, evil).passes, 'an acknowledgement of what was never sent');
  t.ok(c.send(good.length, DATA).passes);
  c.acknowledge(good.length);
  const retold = Buffer.concat([hello('evil.example')]);
  t.notOk(c.send(good.length, retold).passes, 'nor the record that says that no second hello comes');
  bed.names();
});

t.test('a wrong checksum buys nothing', async (t) => {
  const c = bed.connect();
  t.match(c.send(0, hello('good.example'), { sum: 1 }), { passes: false, told: ['unreadable-hello'] });
  t.ok(denied(c.send(0, hello('evil.example'))), 'nothing was judged');
  bed.names();
});

t.test('data in a SYN, urgent data, fragments', async (t) => {
  const good = hello('good.example');
  const c = new Connection(bed.kernel, bed.port(), 443);
  t.same(c.send(-1, good, { flags: SYN }).told, ['unreadable-hello']);
  c.open();
  t.ok(c.send(0, good).passes, 'the client falls back');
  const d = bed.connect();
  t.notOk(d.send(0, good, { flags: 16 | 32 }).passes);
  const e = bed.connect();
  t.notOk(e.send(0, good.subarray(0, 64), { more: true }).passes);
  t.ok(e.send(0, good).passes);
  bed.names();
});

t.test('control passes', async (t) => {
  const good = hello('good.example');
  const c = bed.connect();
  t.ok(c.send(-1, Buffer.alloc(0), { flags: 16 }).passes, 'a keepalive');
  t.ok(c.send(0, Buffer.alloc(0), { flags: 16 }).passes);
  t.ok(c.send(0, good).passes);
  t.notOk(c.send(good.length - 1, Buffer.alloc(1)).passes, 'a byte that is not the last one');
  t.ok(c.send(good.length - 1, good.subarray(-1)).passes);
  c.acknowledge(good.length);
  t.ok(c.send(good.length - 1, Buffer.alloc(1)).passes, 'when it has arrived, anything');
  const d = bed.connect();
  t.ok(d.send(0, Buffer.alloc(0), { flags: FIN | 16 }).passes);
  bed.names();
});

t.test('no data before the peer has accepted the connection', async (t) => {
  const good = hello('good.example');
  const c = new Connection(bed.kernel, bed.port(), 443);
  t.ok(c.send(-1, Buffer.alloc(0), { flags: SYN }).passes);
  t.ok(c.send(-1, Buffer.alloc(0), { flags: SYN }).passes, 'again');
  t.notOk(c.send(0, good).passes);
  c.receive(-1, Buffer.alloc(0), { flags: SYN | 16, ack: 77 });
  t.notOk(c.send(0, good).passes, 'it accepted another one');
  c.receive(-1, Buffer.alloc(0), { flags: SYN | 16, ack: 0 });
  t.ok(c.send(0, good).passes);
  bed.names();
});

t.test('a SYN begins anew', async (t) => {
  const good = hello('good.example');
  const c = bed.connect();
  c.send(0, good);
  c.send(good.length, DATA);
  c.acknowledge(good.length + DATA.length);
  t.ok(c.send(good.length + DATA.length, DATA).passes);
  t.ok(c.send(99_999, Buffer.alloc(0), { flags: SYN }).passes);
  t.notOk(c.send(100_000, hello('evil.example')).passes, 'not accepted yet');
  c.receive(50_000, Buffer.alloc(0), { flags: SYN | 16, ack: 100_000 });
  t.ok(denied(c.send(100_000, hello('evil.example'))));
  t.same(bed.names(), ['good.example allow', 'evil.example deny']);
});

t.test('after a HelloRetryRequest', async (t) => {
  const [good, evil] = [hello('good.example'), hello('evil.example')];
  for (const before of [CCS, Buffer.alloc(0)]) {
    for (const size of [2000, 3]) {
      const c = bed.connect();
      t.ok(c.send(0, good).passes);
      c.acknowledge(good.length);
      t.ok(sendAll(c, Buffer.concat([before, good]), size, good.length), 'the same name');
      const end = good.length * 2 + before.length;
      c.acknowledge(end);
      t.ok(c.send(end, DATA).passes);
      c.acknowledge(end + DATA.length);
      t.ok(c.send(end + 90_000, DATA).passes);
      const d = bed.connect();
      t.ok(d.send(0, good).passes);
      d.acknowledge(good.length);
      t.notOk(sendAll(d, Buffer.concat([before, evil]), size, good.length), 'another name');
    }
  }
  const c = bed.connect();
  t.ok(c.send(0, good).passes);
  c.acknowledge(good.length);
  t.ok(c.send(good.length, Buffer.from('16030300250c', 'hex')).passes, 'as in TLS 1.2: no second hello');
  // OpenSSL takes a hello behind a warning.
  for (const before of ['1503030002015a', '1503030002025a', '140303000101' + '1503030002015a', '1603030000']) {
    const e = bed.connect();
    t.ok(e.send(0, good).passes);
    e.acknowledge(good.length);
    t.notOk(sendAll(e, Buffer.concat([Buffer.from(before, 'hex'), evil]), 2000, good.length), before);
  }
  bed.names();
});

t.test('early data', async (t) => {
  const early = hello('good.example', [[42, Buffer.alloc(0)]]);
  const answer = (random: Buffer) =>
    Buffer.concat([Buffer.from('160303007a020000760303', 'hex'), random, Buffer.alloc(90)]);
  const retry = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');
  for (const [what, random] of [
    ['accepted', Buffer.alloc(32, 3)],
    ['to be tried again', retry],
  ] as const) {
    const c = bed.connect();
    t.ok(c.send(0, Buffer.concat([early, CCS, DATA])).passes);
    const end = early.length + CCS.length + DATA.length;
    t.ok(c.send(end, DATA).passes);
    c.acknowledge(end + DATA.length);
    const f = c.receive(0, answer(random), { ack: end + DATA.length });
    t.equal((f.flags & RST) === 0, what === 'accepted', what);
    t.equal(c.send(end + DATA.length, what === 'accepted' ? DATA : hello('evil.example')).passes, what === 'accepted');
  }
  bed.names();
});

t.test('beginnings that nobody saw', async (t) => {
  const c = bed.connect();
  bed.kernel.forget();
  t.notOk(c.send(0, hello('good.example')).passes);
  t.ok(bed.connect(444).send(0, Buffer.from('x')).passes === false, 'another port is denied as ever');
});

t.test('a reset that its peer does not take', async (t) => {
  // A name that is neither allowed nor denied: without one, and with any, the connection would pass.
  const open = new SaidBed([{ serverNames: ['good.example'] }, { action: 'deny', serverNames: ['**'] }, {}]);
  t.teardown(() => open.close());
  const c = open.connect();
  t.ok(c.send(5000, Buffer.alloc(0), { flags: RST }).passes);
  t.notOk(c.send(0, hello('evil.example')).passes, 'its beginning is forgotten');
});

t.test('an encrypted hello is judged by its outer name', async (t) => {
  const grease: Extension = [0xfe0d, Buffer.alloc(9)];
  t.ok(bed.connect().send(0, hello('good.example', [grease])).passes);
  t.ok(denied(bed.connect().send(0, hello('evil.example', [grease]))));
  bed.names();
});

t.test('what is denied whatever is said', async (t) => {
  const c = new Connection(bed.kernel, bed.port(), 444);
  t.notOk(c.send(-1, Buffer.alloc(0), { flags: SYN }).passes);
  t.notOk(new Connection(bed.kernel, bed.port(), 444).send(5, Buffer.alloc(0), { flags: 16 }).passes, 'control, too');
});

t.test('a change of policy', async (t) => {
  const changing = new SaidBed(RULES);
  t.teardown(() => changing.close());
  const long = `${'x'.repeat(60)}.good.example`;
  const connections = ['good.example', 'a.good.example', long].map((name) => {
    const [c, bytes] = [changing.connect(), hello(name)];
    c.send(0, bytes);
    c.send(bytes.length, DATA);
    c.acknowledge(bytes.length + DATA.length);
    return { c, name, at: bytes.length + DATA.length };
  });
  const passing = () => connections.filter(({ c, at }) => c.send(at, DATA).passes).map(({ name }) => name);
  t.same(passing(), ['good.example', 'a.good.example', long]);
  changing.rules([{ ports: [{ protocol: 6, ports: [[80, 80]] }] }, ...RULES]);
  t.same(passing(), ['good.example', 'a.good.example', long], 'what still admits the names');
  changing.rules([{ serverNames: ['*.example'] }, { serverNames: ['**.good.example'] }]);
  t.same(passing(), ['good.example', 'a.good.example'], 'of a long name the class alone is known');
  changing.rules([{ serverNames: ['*.good.example'] }]);
  t.same(passing(), ['a.good.example', long]);
  changing.rules([{}]);
  t.same(passing(), ['good.example', 'a.good.example', long], 'no rule asks any more');
});

t.test('what is denied stays denied where rules log', async (t) => {
  const log: Line = { action: 'log', peers: null, ports: null };
  const logging = new SaidBed([log, ...RULES]);
  t.teardown(() => logging.close());
  const [c, bytes] = [logging.connect(), hello('evil.example')];
  t.ok(denied(c.send(0, bytes)));
  logging.rules([log, ...RULES, { serverNames: ['other.example'] }]);
  t.ok(denied(c.send(0, bytes)), 'after a change of policy, too');
  t.ok(denied(c.send(bytes.length, DATA)));
});

t.test('more connections than there are buffers', async (t) => {
  const full = new SaidBed(RULES);
  t.teardown(() => full.close());
  const half = hello('good.example').subarray(0, 50);
  const passed = Array.from({ length: 200 }, () => full.connect().send(0, half).passes).filter((ok) => ok);
  t.equal(passed.length, 128, 'half of them, for one endpoint');
  t.equal(full.held(), 128);
});

t.test('only the audit verdict asks', async (t) => {
  const staged = new SaidBed([{ serverNames: ['good.example'] }], { staged: true });
  t.teardown(() => staged.close());
  // It is told with its handshake what such a flow passes by; a hello that the rules would deny changes that.
  for (const [name, events] of [
    ['good.example', []],
    ['evil.example', [{ type: 'changed', verdict: 'allow', auditVerdict: 'deny' }]],
  ] as const) {
    const c = staged.connect();
    const f = c.send(0, hello(name));
    t.ok(f.passes && f.data.length > 0);
    t.match(f.events, events);
    t.equal(f.events.length, events.length);
    t.ok(c.send(90_000, DATA).passes);
  }
  const c = staged.connect();
  t.ok(c.send(10, hello('good.example')).passes, 'a gap is not dropped');
  t.ok(c.send(0, u16(7)).passes);
  t.equal(staged.held(), 0);
});
