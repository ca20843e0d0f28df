/** What follows the head of a request, by the functions of bpf/http_body.h: bodies, and the wait for an answer. */
import t from 'tap';
import { HttpKernel } from './kernel.js';
import { type Event, KernelStream } from './stream.js';

const kernel = new HttpKernel();
t.teardown(() => kernel.close());

const latin1 = (text: string) => Buffer.from(text, 'latin1');
const head = (line: string, ...more: string[]) => `${[`${line} HTTP/1.1`, 'Host: a', ...more].join('\r\n')}\r\n\r\n`;
const CHUNKED = 'Transfer-Encoding: chunked';
const brief = (e: Event) => (e.kind === 'request' ? e.head.path : e.kind === 'denied' ? e.why : e.kind);

/** A connection, all at once, byte by byte, and in two pieces at each place. */
function tell(text: string): string[] {
  const bytes = latin1(text);
  const whole = new KernelStream(kernel).push(bytes).map(brief);
  const cuts = [[...bytes.keys()].slice(1), ...[...bytes.keys()].slice(1).map((at) => [at])];
  for (const cut of cuts) {
    const stream = new KernelStream(kernel);
    const pieces = [0, ...cut].map((from, i) => bytes.subarray(from, cut[i] ?? bytes.length));
    const got = pieces.flatMap((piece) => stream.push(piece)).map(brief);
    if (JSON.stringify(got) !== JSON.stringify(whole))
      throw new Error(`${got.join(' ')} instead of ${whole.join(' ')} in ${text}`);
  }
  return whole;
}

t.test('the next request is found behind a body', async (t) => {
  const next = head('GET /next');
  const inside = head('GET /inside');
  const size = inside.length.toString(16);
  const rows: [text: string, told: string[]][] = [
    [head('GET /a') + next, ['/a', '/next']],
    [head('POST /a', 'Content-Length: 0') + next, ['/a', '/next']],
    [head('POST /a', `Content-Length: ${inside.length}`) + inside + next, ['/a', '/next']],
    [`${head('POST /a', 'Content-Length: 3', 'Expect: 100-continue')}abc${next}`, ['/a', '/next']],
    [`${head('POST /a', CHUNKED)}0\r\n\r\n${next}`, ['/a', '/next']],
    [`${head('POST /a', CHUNKED)}00000000\r\n\r\n${next}`, ['/a', '/next']],
    [`${head('POST /a', CHUNKED)}${size}\r\n${inside}\r\n0\r\n\r\n${next}`, ['/a', '/next']],
    [`${head('POST /a', CHUNKED)}1\r\nx\r\n2\r\n\r\n\r\n0000000A\r\n0123456789\r\n0\r\n\r\n${next}`, ['/a', '/next']],
    [`${head('POST /a', CHUNKED)}0\r\n\r\n${head('POST /b', 'Content-Length: 2')}\r\n${next}`, ['/a', '/b', '/next']],
  ];
  for (const [text, told] of rows) t.same(tell(text), told, JSON.stringify(text.slice(0, 60)));
  t.same(
    tell(`${head('POST /a', 'Content-Length: 3')}ab${next}`),
    ['/a', '/next'],
    'a method that lost its first letter',
  );
});

t.test('chunks that are not read by all alike', async (t) => {
  const chunks = (text: string) => tell(head('POST /a', CHUNKED) + text);
  for (const text of [
    '\r\n',
    ';x\r\n',
    '5;x=y\r\n',
    '5 \r\n',
    ' 5\r\n',
    '+5\r\n',
    '-5\r\n',
    '0x5\r\n',
    'g\r\n',
    '5\n',
    '5\r5',
    '000000005\r\n',
  ])
    t.same(chunks(text), ['/a', 'BAD_CHUNK'], JSON.stringify(text));
  for (const text of ['1\r\nxy', '1\r\nx\n', '1\r\nx\rx', '0\r\n\rx', '1\r\nx0\r\n'])
    t.same(chunks(text), ['/a', 'BAD_CHUNK'], JSON.stringify(text));
  for (const text of ['0\r\nX: 1\r\n\r\n', '0\r\n\n', '0\r\n0\r\n'])
    t.same(chunks(text), ['/a', 'TRAILER'], JSON.stringify(text));
});

t.test('sizes that are not in the bytes that are read', async (t) => {
  const stream = new KernelStream(kernel);
  stream.push(latin1(`${head('POST /a', CHUNKED)}ffffffff\r\n`));
  t.equal(kernel.left, 0xffff_ffffn);
  stream.push(Buffer.alloc(5000));
  t.equal(kernel.left, 0xffff_ffffn - 5000n);
  const long = new KernelStream(kernel);
  long.push(latin1(`${head('POST /a', 'Content-Length: 999999999999999')}x`));
  t.equal(kernel.left, 999_999_999_999_998n);
});

t.test('nothing follows a request to upgrade before it is answered', async (t) => {
  const upgrade = head('GET /a', 'Upgrade: websocket');
  const connect = head('CONNECT a:1');
  t.same(tell(upgrade + head('GET /b')), ['/a', 'early']);
  t.same(tell(`${head('POST /a', 'Upgrade: x', 'Content-Length: 2')}xyz`), ['/a', 'early'], 'but its own body');
  t.same(tell(`${head('POST /a', 'Upgrade: x', CHUNKED)}1\r\nx\r\n0\r\n\r\nz`), ['/a', 'early']);
  t.same(tell(`${connect}x`), ['', 'early']);

  const next = head('GET /b');
  const interim = 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n';
  const rows: [request: string, answer: string, part: string, then: string[]][] = [
    [upgrade, 'HTTP/1.1 101 Switching Protocols\r\n\r\n', 'OPAQUE', []],
    [upgrade, 'HTTP/1.0 101\r\n', 'OPAQUE', []],
    [upgrade, `${interim}HTTP/1.1 101 x`, 'OPAQUE', []],
    [upgrade, 'HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 x\r\n', 'IN_HEAD', ['/b']],
    [upgrade, `${interim}HTTP/1.1 404 x`, 'IN_HEAD', ['/b']],
    [upgrade, 'HTTP/1.1 20', 'AWAIT', ['early']],
    [upgrade, interim, 'AWAIT', ['early']],
    [upgrade, 'HTTP/1.1 100 x\r\nX: HTTP/1.1 101 \r\n', 'AWAIT', ['early']],
    [upgrade, 'HTTP/1.1 100 x\r\n\nHTTP/1.1 101 x\r\n', 'AWAIT', ['early']],
    [upgrade, `${'HTTP/1.1 100 x\r\n\r\n'.repeat(17)}HTTP/1.1 101 x\r\n`, 'BROKEN', ['BAD_ANSWER']],
    [upgrade, `HTTP/1.1 100 ${'x'.repeat(8192)}`, 'BROKEN', ['BAD_ANSWER']],
    ...[
      '\r\nHTTP/1.1 101 x',
      'HTTP/2.0 101 x',
      'http/1.1 101 x',
      'HTTP/1.2 101 x',
      'HTTP/1.1  101 x',
      'HTTP/1.1 1010',
      'HTTP/1.1 999 x',
      'HTTP/1.1 000 x',
      'x',
    ].map((answer): [string, string, string, string[]] => [upgrade, answer, 'BROKEN', ['BAD_ANSWER']]),
    [connect, 'HTTP/1.1 200 OK\r\n\r\n', 'OPAQUE', []],
    [connect, 'HTTP/1.1 299 \r\n\r\n', 'OPAQUE', []],
    [connect, 'HTTP/1.1 403 No\r\n\r\n', 'IN_HEAD', ['/b']],
    [connect, 'HTTP/1.1 101 x\r\n\r\n', 'BROKEN', ['BAD_ANSWER']],
  ];
  for (const [request, answer, part, then] of rows) {
    for (const step of [answer.length, 1, 7]) {
      const stream = new KernelStream(kernel);
      stream.push(latin1(request));
      t.equal(stream.answer(latin1(answer), step), part, `${JSON.stringify(answer.slice(0, 60))} by ${step}`);
      t.same(stream.push(latin1(next)).map(brief), then);
    }
  }
});

t.test('only the first request of a connection can be its last', async (t) => {
  const first = head('GET /a');
  for (const later of [head('GET /b', 'Upgrade: y'), head('CONNECT a:1')]) {
    const stream = new KernelStream(kernel);
    stream.push(latin1(first + later));
    t.equal(stream.part, 'IN_HEAD');
    t.same(stream.push(latin1(head('GET /c'))).map(brief), ['/c'], 'what follows is a request');
    t.same(stream.push(latin1('PRI * HTTP/2.0\r\n\r\n')).map(brief), ['BAD_TARGET']);
  }
  for (const protocol of ['h2c', 'websocket, H2C', 'TLS/1.2', 'HTTP/2.0', 'x\r\nUpgrade: h2c', 'h2c\r\nupgrade: x']) {
    const stream = new KernelStream(kernel);
    stream.push(latin1(head('GET /a', `Upgrade: ${protocol}`)));
    t.equal(stream.part, 'IN_HEAD', `${protocol} carries requests`);
    t.same(stream.push(latin1('PRI * HTTP/2.0\r\n\r\n')).map(brief), ['BAD_TARGET']);
  }
  const spoken = new KernelStream(kernel);
  kernel.hear();
  spoken.push(latin1(head('GET /b', 'Upgrade: y')));
  t.equal(spoken.part, 'IN_HEAD', 'nor can the first, if the server spoke before it');
  t.same(new KernelStream(kernel).push(latin1(`${head('GET /a', 'Upgrade: x')}x`)).map(brief), ['/a', 'early']);
  kernel.hear();
  t.equal(kernel.part.part, 'AWAIT', 'what is awaited shifts nothing');
});
