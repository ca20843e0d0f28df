/** Requests that only the audit verdict depends on: each of them is told of, and nothing is dropped for it. */
import t from 'tap';
import { FIN } from '../attacks/craft.js';
import { decodeSaid } from '../../src/flow/event/said.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import { sumOf } from '../../agent/serve/counters.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { Connection, type Fate, type Line, SaidBed } from './bed.js';

const RULES: readonly Line[] = [{ http: [{ path: '/ok(/.*)?' }, { path: '/up' }] }];
const bed = new SaidBed(RULES, { staged: true });
t.teardown(() => bed.close());

const request = (line: string, ...headers: string[]): Buffer =>
  Buffer.from([`${line} HTTP/1.1`, 'Host: a', ...headers, '', ''].join('\r\n'), 'latin1');
const get = (path: string, ...headers: string[]): Buffer => request(`GET ${path}`, ...headers);
const DATA = Buffer.alloc(100, 'x');
/** As it was sent. */
const isWhole = (f: Fate, bytes: Buffer): boolean => f.passes && f.data.equals(bytes);

/** The requests that were told of, with the audit verdict on each. */
function told(): string[] {
  return bed.told().map((bytes) => {
    const { event, said } = decodeSaid(bytes, 0);
    if (event.verdict !== 'allow') t.fail('a verdict');
    return `${said.kind === 'http' ? said.path : said.kind} ${event.auditVerdict}`;
  });
}

/** Sends bytes in pieces. @returns the events */
function sendAll(c: Connection, bytes: Buffer, { size = 1448, from = 0, acks = true } = {}): string[] {
  const events: string[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const piece = bytes.subarray(at, at + size);
    const f = c.send(from + at, piece);
    if (!isWhole(f, piece)) t.fail(`it does not pass: ${at}`);
    events.push(...f.events.map((e) => `${e.type} ${e.verdict} ${e.auditVerdict}`));
    if (acks) c.acknowledge(from + at + piece.length);
  }
  return events;
}

const upload = (n: number): Buffer => {
  const chunks = Array.from({ length: n }, () => '5\r\nhello\r\n').join('');
  return Buffer.concat([request('POST /ok', 'Transfer-Encoding: chunked'), Buffer.from(`${chunks}0\r\n\r\n`)]);
};

t.test('each request', async (t) => {
  const body = Buffer.concat([request('POST /no', 'Content-Length: 2000'), Buffer.alloc(2000, 'GET /ok')]);
  const stream = Buffer.concat([get('/ok'), get('/evil'), body, get('/ok/2'), upload(9), get('/evil/2')]);
  const all = ['/ok allow', '/evil deny', '/no deny', '/ok/2 allow', '/ok allow', '/evil/2 deny'];
  for (const size of [1, 30, 1448, 3000]) {
    for (const acks of [true, false]) {
      const c = bed.connect();
      const events = sendAll(c, stream, { size, acks });
      t.same(told(), all, `by ${size}`);
      t.same(events, ['changed allow deny'], 'of the flow, the first one');
      t.ok(c.send(stream.length, Buffer.alloc(0), { flags: FIN | 16 }).passes);
    }
  }
});

t.test('nothing is dropped for it', async (t) => {
  const broken: [string, Buffer][] = [
    ['what is no request', Buffer.from('GET /a b c\r\n\r\n')],
    ['two hosts', get('/ok', 'Host: b')],
    ['a head that is too large', get('/ok', `X: ${'x'.repeat(9000)}`)],
    ['other bytes', Buffer.from('SSH-2.0-x\r\n')],
    ['a bad chunk', Buffer.concat([request('POST /ok', 'Transfer-Encoding: chunked'), Buffer.from('zz\r\n')])],
    ['behind a request to upgrade', Buffer.concat([get('/up', 'Upgrade: x', 'Connection: Upgrade'), DATA])],
  ];
  for (const [what, bytes] of broken) {
    const held = bed.held();
    for (const before of [Buffer.alloc(0), get('/ok')]) {
      const c = bed.connect();
      sendAll(c, Buffer.concat([before, bytes, DATA]));
      t.ok(isWhole(c.send(90_000, DATA), DATA), what);
    }
    t.equal(bed.held(), held);
  }
  const first = get('/ok');
  const c = bed.connect();
  sendAll(c, first, { acks: false });
  t.ok(isWhole(c.send(0, get('/no')), get('/no')), 'other bytes than were sent before');
  const d = bed.connect();
  sendAll(d, first);
  t.ok(isWhole(d.send(first.length + 10, first), first), 'a gap');
  const e = bed.connect();
  sendAll(e, Buffer.concat(Array.from({ length: 100 }, () => get('/ok'))), { size: 2900, acks: false });
  told();
});

t.test('many at once, which nobody acknowledges', async (t) => {
  const large = get('/ok', `X: ${'x'.repeat(3000)}`);
  const many = Buffer.concat([...Array.from({ length: 9 }, () => large), get('/evil')]);
  sendAll(bed.connect(), many, { acks: false });
  t.same(told().slice(-2), ['/ok allow', '/evil deny'], 'more than there is room for');
  const chunks = Buffer.concat([upload(900), get('/evil')]);
  sendAll(bed.connect(), chunks, { acks: false });
  t.same(told(), ['/ok allow', '/evil deny'], 'more chunks than there is room for');
  const c = bed.connect();
  sendAll(c, Buffer.concat(Array.from({ length: 60 }, () => get('/ok'))), { size: 3000, acks: false });
  t.equal(told().length, 60, 'in one segment');
});

t.test('another protocol', async (t) => {
  const up = get('/up', 'Upgrade: websocket', 'Connection: Upgrade');
  for (const [answer, free] of [
    ['HTTP/1.1 101 Switching Protocols\r\n\r\n', true],
    ['HTTP/1.1 200 OK\r\n\r\n', false],
  ] as const) {
    const c = bed.connect();
    sendAll(c, up);
    t.ok(c.receive(0, Buffer.from(answer), { ack: up.length }).passes);
    sendAll(c, get('/evil'), { from: up.length });
    t.same(told(), ['/up allow', ...(free ? [] : ['/evil deny'])]);
  }
  const c = bed.connect();
  sendAll(c, up);
  t.match(c.receive(0, Buffer.from('nothing\r\n'), { ack: up.length }), { passes: true, told: [] }, 'an odd answer');
  const d = bed.connect();
  sendAll(d, up);
  t.match(d.receive(500, Buffer.from('later'), { ack: up.length }), { passes: true, told: [] }, 'one that comes early');
  told();
});

t.test('when a policy makes a verdict of it', async (t) => {
  t.teardown(() => bed.rules(RULES, { staged: true }));
  const [ok, evil] = [get('/ok'), get('/evil')];
  const begin = (stream: Buffer, acks = true) => {
    bed.rules(RULES, { staged: true });
    const c = bed.connect();
    sendAll(c, stream, { acks });
    bed.rules(RULES);
    return { c, at: stream.length };
  };
  for (const stream of [ok, evil, Buffer.concat([ok, evil, upload(3)]), Buffer.concat([ok, evil.subarray(0, 9)])]) {
    const { c, at } = begin(stream);
    const rest = stream.subarray(-9).equals(evil.subarray(0, 9)) ? get('/evil').subarray(9) : evil;
    if (rest === evil) t.ok(isWhole(c.send(at, ok), ok), 'what is allowed passes');
    t.ok(Connection.isDenied(c.send(rest === evil ? at + ok.length : at, rest)), 'and nothing else');
  }
  const silent = begin(ok);
  silent.c.send(silent.at, Buffer.alloc(0), { flags: 16 });
  t.ok(Connection.isDenied(silent.c.send(silent.at, evil)), 'an acknowledgement came in between');
  const decoy = begin(ok, false);
  t.same(decoy.c.send(0, evil.subarray(0, 20)).told, ['retold'], 'what was heard is still compared');
  const loose = begin(Buffer.concat([get('/ok', `X: ${'x'.repeat(3000)}`), ok]), false);
  t.ok(Connection.isDenied(loose.c.send(loose.at, ok)), 'what nothing can be compared with, ends');
  const given = begin(Buffer.concat([ok, get('/ok', 'Host: b')]));
  t.ok(Connection.isDenied(given.c.send(given.at, ok)), 'and what was not heard');

  bed.rules(RULES);
  const c = bed.connect();
  sendAll(c, ok);
  bed.rules(RULES, { staged: true });
  sendAll(c, Buffer.concat([evil, get('/ok', 'Host: b'), evil]), { from: ok.length });
  bed.told();
});

t.test('a pod that floods the ring', async (t) => {
  const counters = bed.kernel.programs.maps.counters as BpfMap;
  const lost = () => sumOf(counters, ENUMS.ea_counter.EA_COUNT_SAID_EVENTS_LOST);
  told();
  const before = lost();
  const c = bed.connect();
  const [ok, evil] = [get('/ok'), get('/evil')];
  const both = Buffer.concat(Array.from({ length: 20 }, () => Buffer.concat([ok, evil])));
  const events: string[] = [];
  const rounds = 150;
  for (let n = 0; n < rounds; n++) events.push(...sendAll(c, both, { from: n * both.length, size: both.length }));
  const got = told().length;
  t.ok(got > 500, `${got} were reported`);
  t.equal(got + lost() - before, rounds * 40, 'the others are counted');
  t.same(events, ['changed allow deny'], 'and the flow is told of once');
});
