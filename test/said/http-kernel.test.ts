/** HTTP/1 requests on connections, judged in the kernel: which segments pass, whichever way a stream is cut. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { FIN, RST } from '../attacks/craft.js';
import { Processors } from '../engines/processors.js';
import { Connection, type Line, SaidBed } from './bed.js';

const RULES: readonly Line[] = [
  { http: [{ method: 'GET|POST', path: '/ok(/.*)?', host: 'good\\.example(:443)?' }] },
  { http: [{ path: '/up' }] },
];
const bed = new SaidBed(RULES);
t.teardown(() => bed.close());

const denied = Connection.isDenied;
const request = (line: string, ...headers: string[]): Buffer =>
  Buffer.from([`${line} HTTP/1.1`, ...headers, '', ''].join('\r\n'), 'latin1');
const get = (path: string, ...headers: string[]): Buffer => request(`GET ${path}`, 'Host: good.example', ...headers);
const join = (...parts: (Buffer | string)[]): Buffer => Buffer.concat(parts.map((p) => Buffer.from(p as string)));
const body = (n: number): Buffer => Buffer.alloc(n, 'GET /evil HTTP/1.1\r\n');

/** Sends bytes in pieces, and acknowledges them. @returns how many passed as they were */
function sendAll(c: Connection, bytes: Buffer, size: number, acks = true): number {
  for (let at = 0; at < bytes.length; at += size) {
    const piece = bytes.subarray(at, at + size);
    const f = c.send(at, piece);
    if (!f.passes || f.data.length !== piece.length) return at;
    if (acks) c.acknowledge(at + piece.length);
  }
  return bytes.length;
}

t.test('a request', async (t) => {
  const c = bed.connect();
  const f = c.send(0, get('/ok'));
  t.match(f, { passes: true, data: get('/ok') });
  t.match(f.events, [{ type: 'verdict', verdict: 'allow' }]);
  t.same(bed.names(), ['GET good.example /ok allow']);
  t.equal(bed.held(), 1);
  c.acknowledge(get('/ok').length);
  t.equal(bed.held(), 0);
});

t.test('a host leaves room for the path in what is told', async (t) => {
  const paths = new SaidBed([{ http: [{ path: '/ok' }] }]);
  t.teardown(() => paths.close());
  const ask = (host: string) => paths.connect().send(0, request('GET /evil', `Host: ${host}`));
  t.ok(denied(ask('a'.repeat(260))));
  t.ok(paths.names()[0]?.endsWith('a /evil deny'));
  t.match(ask('a'.repeat(261)).told, ['unreadable-request']);
});

t.test('a denied one', async (t) => {
  const c = bed.connect();
  const f = c.send(0, get('/evil'));
  t.ok(denied(f));
  t.match(f, { passes: true, flags: RST | 16, seq: 0 }, 'its server gets a reset');
  t.match(f.events, [{ type: 'verdict', verdict: 'deny' }]);
  t.same(bed.names(), ['GET good.example /evil deny']);
  t.notOk(c.send(0, get('/ok')).passes && !denied(c.send(0, get('/ok'))));
  t.equal(bed.held(), 0);
});

t.test('a head in pieces, each on another processor, none of which keeps what it refused', async (t) => {
  const processors = new Processors();
  t.teardown(() => processors.release());
  for (const refused of [get('/a//b'), request('GET /ok', 'Host : good.example'), get('/evil'), request('GET  /ok')]) {
    for (const _ of processors.numbers) {
      processors.next();
      t.ok(denied(bed.connect().send(0, refused)));
    }
    const [c, bytes] = [bed.connect(), join(get('/ok'), get('/ok/x'))];
    for (let at = 0; at < bytes.length; at++) {
      processors.next();
      const f = c.send(at, bytes.subarray(at, at + 1));
      if (!f.passes || f.data.length !== 1) return t.fail(`byte ${at} does not pass: ${f.told.join()}`);
      c.acknowledge(at + 1);
    }
    t.match(bed.names().slice(-2), ['GET good.example /ok allow', 'GET good.example /ok/x allow']);
  }
});

t.test('what is judged', async (t) => {
  const cases: [Buffer, boolean, string?][] = [
    [get('/ok/x?y=z'), true],
    [request('POST /ok', 'Host: good.example:443', 'Content-Length: 0'), true],
    [request('GET /ok', 'Host: evil.example'), false],
    [request('PUT /ok', 'Host: good.example'), false],
    [request('GET http://good.example/ok', 'Host: good.example'), true],
    [request('GET /ok'), false, 'unreadable-request'],
    [get('/ok/../evil'), false, 'unreadable-request'],
    [get('/ok', 'Content-Length: 1', 'Transfer-Encoding: chunked'), false, 'unreadable-request'],
    [get('/ok', 'Host: evil.example'), false, 'unreadable-request'],
    [get('/ok', ' folded: 1'), false, 'unreadable-request'],
    [Buffer.from('GET /ok HTTP/1.1\nHost: good.example\n\n'), false, 'unreadable-request'],
    [Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), false],
    [Buffer.from('SSH-2.0-x\r\n'), false],
  ];
  for (const [bytes, allowed, reason] of cases) {
    const what = bytes.subarray(0, 60).toString('latin1');
    const f = bed.connect().send(0, bytes);
    t.equal(!denied(f), allowed, what);
    if (reason) t.same(f.told, [reason], what);
  }
  const large = get('/ok', `X: ${'x'.repeat(9000)}`);
  t.ok(sendAll(bed.connect(), large, 1448) < large.length, 'a head of more than 8 KiB');
  bed.names();
});

t.test('every request of a connection', async (t) => {
  const streams: [string, Buffer[]][] = [
    ['kept alive', [get('/ok'), get('/ok/2')]],
    [
      'with bodies',
      [join(request('POST /ok', 'Host: good.example', 'Content-Length: 2000'), body(2000)), get('/ok/3')],
    ],
    [
      'chunked',
      [
        join(
          request('POST /ok', 'Host: good.example', 'Transfer-Encoding: chunked'),
          ...[1, 20, 1000, 17].flatMap((n) => [`${n.toString(16)}\r\n`, body(n), '\r\n']),
          '0\r\n\r\n',
        ),
        get('/ok/4'),
      ],
    ],
  ];
  for (const [what, parts] of streams) {
    for (const size of [1, 7, 100, 1448, 3000]) {
      const good = Buffer.concat(parts);
      t.equal(sendAll(bed.connect(), good, size), good.length, `${what}, by ${size}`);
      const evil = join(good, get('/evil'));
      const at = sendAll(bed.connect(), evil, size);
      t.ok(at < evil.length && (size > 1448 || at > good.length - size), `${what}, by ${size}, and an evil one`);
      t.equal(sendAll(bed.connect(), evil.subarray(0, -1), size), evil.length - 1, 'up to its last byte');
    }
  }
  bed.names();
});

t.test('pipelined, unacknowledged', async (t) => {
  const many = Buffer.concat(Array.from({ length: 20 }, () => get('/ok')));
  t.equal(sendAll(bed.connect(), many, 1448, false), many.length);
  t.equal(bed.names().length, 20);
  const c = bed.connect();
  t.equal(sendAll(c, many, 700, false), many.length);
  const evil = join(get('/ok').subarray(0, -6), 'x', get('/ok').subarray(-5));
  t.same(c.send(0, evil).told, ['retold'], 'the first of them again');
  t.ok(c.send(50, many.subarray(50, 300)).passes, 'the same again');
  c.acknowledge(many.length);
  t.ok(c.send(0, evil).passes, 'when it has arrived, anything');
  t.ok(denied(c.send(many.length, get('/evil'))));
  bed.names();
});

t.test('between chunks', async (t) => {
  const head = request('POST /ok', 'Host: good.example', 'Transfer-Encoding: chunked');
  const chunk = join('ff\r\n', body(255), '\r\n');
  const c = bed.connect();
  t.ok(c.send(0, head).passes);
  for (let i = 0; i < 40; i++) t.ok(c.send(head.length + i * chunk.length, chunk).passes);
  const other = join('fe\r\n', body(255), '\r\n');
  t.same(c.send(head.length + 20 * chunk.length, other).told, ['retold'], 'another size');
  const free = join('ff\r\n', body(30), Buffer.alloc(225), '\r\n');
  t.ok(c.send(head.length + 20 * chunk.length, free).passes, 'another body');
  t.same(c.send(head.length + 20 * chunk.length + 259, Buffer.from('\n\r')).told, ['retold']);
  t.ok(c.send(head.length + 40 * chunk.length, Buffer.from('0\r\n\r\n')).passes);
  c.acknowledge(head.length + 40 * chunk.length + 5);
  const d = bed.connect();
  t.ok(d.send(0, head).passes);
  t.same(d.send(head.length, Buffer.from('5;x\r\nhello\r\n')).told, ['unreadable-request']);
  bed.names();
});

t.test('bodies are free', async (t) => {
  const head = request('POST /ok', 'Host: good.example', 'Content-Length: 9000');
  const held = bed.held();
  const c = bed.connect();
  t.ok(c.send(0, head).passes);
  t.ok(c.send(head.length, body(3000)).passes);
  c.acknowledge(head.length + 3000);
  t.equal(bed.held(), held, 'no buffer meanwhile');
  t.ok(c.send(head.length + 2000, Buffer.alloc(3000)).passes);
  t.same(c.send(head.length + 7000, body(10)).told, ['out-of-order']);
  t.ok(c.send(head.length + 5000, body(2000)).passes);
  t.ok(denied(c.send(head.length + 7000, join(body(2000), get('/evil')))));
  bed.names();
});

t.test('another protocol', async (t) => {
  const up = request('GET /up', 'Host: good.example', 'Upgrade: websocket', 'Connection: Upgrade');
  const answer = (status: string) => Buffer.from(`HTTP/1.1 ${status}\r\nX: 1\r\n\r\n`);
  const early = bed.connect();
  t.ok(denied(early.send(0, join(up, 'early'))), 'nothing before the 101');
  const c = bed.connect();
  t.ok(c.send(0, up).passes);
  c.acknowledge(up.length);
  t.ok(denied(c.send(up.length, Buffer.from('early'))));
  const held = bed.held();
  const d = bed.connect();
  t.ok(d.send(0, up).passes);
  t.ok(d.receive(0, answer('101 Switching Protocols'), { ack: up.length }).passes);
  t.ok(d.send(up.length, body(300)).passes, 'after it, anything');
  t.equal(bed.held(), held);
  const e = bed.connect();
  t.ok(e.send(0, up).passes);
  t.ok(e.receive(0, answer('200 OK'), { ack: up.length }).passes);
  t.ok(e.send(up.length, get('/ok')).passes, 'after another answer, requests');
  t.ok(denied(e.send(up.length + get('/ok').length, get('/evil'))));
  bed.names();
});

t.test('its end', async (t) => {
  const c = bed.connect();
  t.ok(c.send(0, get('/ok')).passes);
  t.ok(c.send(get('/ok').length, Buffer.alloc(0), { flags: FIN | 16 }).passes);
  const d = bed.connect();
  d.send(0, get('/evil'));
  t.match(d.send(200, Buffer.alloc(0), { flags: FIN | 16 }), { passes: false });
  t.ok(d.send(200, Buffer.alloc(0), { flags: RST }).passes, 'a reset passes');
  bed.names();
});

t.test('a head whose beginning is no longer kept', async (t) => {
  const c = bed.connect();
  const begins = Buffer.from('GET /evil HTTP/1.1\r\nX: ');
  t.equal(sendAll(c, join(get('/ok'), begins), 1448), get('/ok').length + begins.length);
  await sleep(10_200);
  // Others take what the pod may hold, and then the oldest.
  const others = Array.from({ length: 200 }, () => bed.connect());
  for (const other of others) other.send(0, Buffer.from('GET /'));
  for (const other of others) other.send(5, Buffer.from('evil HTTP/1.1\n'));
  const goesOn = get('/ok', `Y: ${'y'.repeat(100)}`);
  t.same(c.send(get('/ok').length + begins.length, goesOn).told, ['unreadable-request']);
  bed.names();
});
