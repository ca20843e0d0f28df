/** DNS answers that are delivered to a pod: what is learned of them, and what is not. */
import t, { type Test } from 'tap';
import { readMessage, taughtBy } from '../../src/names/message.js';
import { DnsBed, line, RESOLVER, STRANGER } from './bed.js';
import { a, addressBytes, be16, cname, encodeMessage, svcb, TYPES, type WireMessage, wireName } from './wire.js';

const bed = new DnsBed();
t.teardown(() => bed.close());

const NAME = 'api.example.com';
const question = (name = NAME, type: number = TYPES.A) => [{ name, type }];

/** What is learned of an answer. The strict parser must say the same. */
function learnedOf(t: Test, message: WireMessage, bytes = encodeMessage(message)): string[] {
  bed.forget();
  bed.exchange(message, bytes);
  const learned = bed.learned();
  const read = readMessage(bytes);
  t.same(learned, (read ? taughtBy(read) : []).map(line).sort(), 'as the strict parser says');
  return learned;
}

t.test('addresses of the name that was asked for', async (t) => {
  t.same(learnedOf(t, { questions: question(), answers: [a(NAME, '192.0.2.1', 30), a(NAME, '192.0.2.2')] }), [
    `${NAME} 192.0.2.1 30`,
    `${NAME} 192.0.2.2 60`,
  ]);
  t.same(learnedOf(t, { questions: question(NAME, TYPES.AAAA), answers: [a(NAME, '2001:db8::1')] }), [
    `${NAME} 2001:db8::1 60`,
  ]);
  t.same(
    learnedOf(t, { questions: question('API.Example.COM'), answers: [a('api.EXAMPLE.com', '192.0.2.1')] }),
    [`${NAME} 192.0.2.1 60`],
    'in lower case',
  );
  t.same(learnedOf(t, { questions: question('a\x01b.c\xffd'), answers: [a('a\x01b.c\xffd', '192.0.2.1')] }), [
    'a?b.c?d 192.0.2.1 60',
  ]);
  t.same(learnedOf(t, { questions: question(''), answers: [a('', '192.0.2.1')] }), [' 192.0.2.1 60'], 'the root');
  t.same(learnedOf(t, { questions: question(), answers: [a(NAME, '192.0.2.1', 2 ** 31)] }), [`${NAME} 192.0.2.1 0`]);
});

t.test('CNAMEs, in any order', async (t) => {
  const chain = [cname(NAME, 'b.example', 50), cname('b.example', 'c.example', 40), a('c.example', '192.0.2.1', 300)];
  const all = [`${NAME} 192.0.2.1 40`, 'b.example 192.0.2.1 40 alias', 'c.example 192.0.2.1 40 alias'];
  t.same(learnedOf(t, { questions: question(), answers: chain }), all);
  t.same(learnedOf(t, { questions: question(), answers: [...chain].reverse() }), all);
  t.same(learnedOf(t, { questions: question(), answers: [...chain].reverse(), compress: false }), all);
  const half = [a('b.example', '192.0.2.7', 10), ...chain];
  t.same(
    learnedOf(t, { questions: question(), answers: half }),
    [...all, `${NAME} 192.0.2.7 10`, 'b.example 192.0.2.7 10 alias'].sort(),
    'an address in the middle of the chain',
  );
  const circle = [cname(NAME, 'b.example'), cname('b.example', NAME), a(NAME, '192.0.2.1')];
  t.same(learnedOf(t, { questions: question(), answers: circle }), [`${NAME} 192.0.2.1 60`]);
  t.same(learnedOf(t, { questions: question(), answers: [a('other.example', '192.0.2.1'), ...chain.slice(1)] }), []);
  const long = Array.from({ length: 17 }, (_, i) => cname(i ? `n${i}.example` : NAME, `n${i + 1}.example`));
  t.equal(
    learnedOf(t, { questions: question(), answers: [...long.slice(0, 16), a('n16.example', '192.0.2.1')] }).length,
    17,
  );
  t.same(learnedOf(t, { questions: question(), answers: [...long, a('n17.example', '192.0.2.1')] }), []);
});

t.test('HTTPS and SVCB', async (t) => {
  const hints = [
    [1, Buffer.from('\x02h2')],
    [4, Buffer.concat([addressBytes('192.0.2.1'), addressBytes('192.0.2.2')])],
    [6, addressBytes('2001:db8::1')],
  ] as const;
  const record = (data: Buffer, type: number = TYPES.HTTPS) => ({ owner: NAME, type, ttl: 9, data });
  const of = (data: Buffer, type: number = TYPES.HTTPS) =>
    learnedOf(t, { questions: question(NAME, type), answers: [record(data, type)] });
  const all = [`${NAME} 192.0.2.1 9`, `${NAME} 192.0.2.2 9`, `${NAME} 2001:db8::1 9`];
  t.same(of(svcb(1, '', hints)), all);
  t.same(of(svcb(1, 'cdn.example', hints), TYPES.SVCB), all);
  t.same(of(svcb(1, '', hints.slice(2))), all.slice(2), 'IPv6 alone');
  t.same(of(svcb(0, 'cdn.example', hints)), [], 'alias mode');
  t.same(of(svcb(1, '', [...hints].reverse())), [], 'keys in the wrong order');
  t.same(of(svcb(1, '', [[4, Buffer.alloc(5)]])), []);
  t.same(of(svcb(1, '', [[6, Buffer.alloc(0)]])), []);
  t.same(of(svcb(1, '', hints).subarray(0, -1)), []);
  t.same(of(Buffer.concat([be16(1), be16(0xc00c)])), [], 'a compressed target');
  const params = (n: number) => Array.from({ length: n }, (_, i) => [i + 10, Buffer.alloc(0)] as const);
  t.same(of(svcb(1, '', [...hints, ...params(61)])), all, '64 parameters');
  t.same(of(svcb(1, '', [...hints, ...params(62)])), [], 'more');
});

t.test('other records and sections', async (t) => {
  const opt = { owner: '', type: TYPES.OPT, class: 1232, ttl: 0, data: Buffer.alloc(0) };
  const ok = a(NAME, '192.0.2.1');
  const all = [`${NAME} 192.0.2.1 60`];
  const txt = { owner: NAME, type: TYPES.TXT, data: Buffer.from('\x03abc') };
  t.same(learnedOf(t, { questions: question(), answers: [txt, ok], additional: [opt] }), all);
  t.same(
    learnedOf(t, {
      questions: question(),
      answers: [ok],
      authority: [a(NAME, '192.0.2.9')],
      additional: [a(NAME, '192.0.2.8')],
    }),
    all,
  );
  t.same(learnedOf(t, { questions: question(), answers: [{ ...ok, class: 3 }] }), [], 'another class');
  t.same(learnedOf(t, { questions: question(), flags: 0x8380, answers: [ok] }), all, 'truncated');
  for (const flags of [0x8183, 0x8182, 0x8980])
    t.same(learnedOf(t, { questions: question(), flags, answers: [ok] }), []);
});

t.test('malformed answers teach nothing', async (t) => {
  const message = {
    questions: question(),
    answers: [a(NAME, '192.0.2.1'), cname('x.example', 'y.example')],
    additional: [a('z', '192.0.2.3')],
  };
  const bytes = encodeMessage(message);
  t.equal(learnedOf(t, message).length, 1);
  for (let end = 0; end < bytes.length; end++)
    t.same(learnedOf(t, message, bytes.subarray(0, end)), [], `${end} bytes`);
  const self = Buffer.concat([
    bytes.subarray(0, 12),
    wireName(NAME),
    be16(1, 1),
    be16(0xc000 | (12 + 17 + 4)),
    bytes.subarray(35),
  ]);
  t.same(learnedOf(t, message, self), [], 'a pointer to itself');
  for (const pointer of [0xc000, 0xc00b, 0xffff]) {
    const copy = Buffer.from(bytes);
    copy.writeUInt16BE(pointer, 12 + 17 + 4);
    t.same(learnedOf(t, message, copy), [], `a pointer to ${pointer & 0x3fff}`);
  }
});

t.test('names of 253 bytes, and longer', async (t) => {
  const name = [63, 63, 63, 61].map((n, i) => String.fromCharCode(97 + i).repeat(n)).join('.');
  t.equal(name.length, 253);
  t.same(learnedOf(t, { questions: question(name), answers: [a(name, '192.0.2.1')] }), [`${name} 192.0.2.1 60`]);
  t.same(learnedOf(t, { questions: question(`${name}e`), answers: [a(`${name}e`, '192.0.2.1')] }), []);
  const many = Array(127).fill('a').join('.');
  t.same(learnedOf(t, { questions: question(many), answers: [a(many, '192.0.2.1')] }), [`${many} 192.0.2.1 60`]);
});

t.test('only what was asked counts, of a trusted resolver', async (t) => {
  const message = { id: 7, questions: question(), answers: [a(NAME, '192.0.2.1')] };
  const query = (id = 7, name = NAME, type: number = TYPES.A) =>
    encodeMessage({ id, flags: 0x100, questions: question(name, type) });
  const bytes = encodeMessage(message);
  const learns = (sent: () => number, from = RESOLVER, sport = 53) => {
    bed.forget();
    t.ok(bed.receive(bytes, sent(), from, sport), 'is delivered');
    return bed.learned().length > 0;
  };
  const ask = (payload: Buffer, to = RESOLVER, port = 53) => {
    const own = bed.port();
    t.ok(bed.send(payload, own, to, port));
    return own;
  };
  t.ok(learns(() => ask(query())));
  t.notOk(
    learns(() => bed.port()),
    'nobody asked',
  );
  t.notOk(
    learns(() => ask(query()) + 1 && bed.port()),
    'another port',
  );
  t.notOk(
    learns(() => ask(query(8))),
    'another id',
  );
  t.notOk(
    learns(() => ask(query(7, 'other.example'))),
    'another name',
  );
  t.notOk(
    learns(() => ask(query(7, NAME, TYPES.AAAA))),
    'another type',
  );
  t.equal(bed.holdings.untrusted, 1, 'it is counted');
  t.notOk(
    learns(() => ask(query(), STRANGER), STRANGER),
    'not trusted',
  );
  t.notOk(
    learns(() => ask(query(), RESOLVER, 5353), RESOLVER, 5353),
    'another service of the resolver',
  );
  t.notOk(
    learns(() => ask(query()), STRANGER),
    'an answer from elsewhere',
  );
  const port = ask(query());
  ask(query(8));
  bed.send(query(9, NAME, TYPES.AAAA), port);
  t.ok(
    learns(() => port),
    'two queries from one port',
  );
  t.notOk(
    learns(() => port),
    'a query is answered once',
  );
});

t.test('a large answer', async (t) => {
  const ips = Array.from({ length: 190 }, (_, i) => `198.51.${100 + (i >> 7)}.${i & 127}`);
  const answers = [cname(NAME, 'b.example'), ...ips.map((ip) => a('b.example', ip))];
  t.equal(learnedOf(t, { questions: question(), answers }).length, 380);
});
