/** HTTP/1 requests: what is told of them, each reason to deny one, and bytes in any pieces. */
import t from 'tap';
import { type HttpEvent, HttpStream, looksLikeHttp } from '../../src/said/http.js';
import { MAX_HEAD } from '../../src/said/http-head.js';
import { isCanonicalPath } from '../../src/said/http-path.js';
import { type Answer, StatusReader } from '../../src/said/http-status.js';
import { isHost, hostName } from '../../src/said/name.js';
import { firstSaid } from '../../src/said/said.js';
import { get } from './make.js';

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');
const events = (text: string): HttpEvent[] => new HttpStream().push(latin1(text));
/** The reason to deny; the kinds of the events if there is none. */
function why(text: string): string {
  const all = events(text);
  const denied = all.find(({ kind }) => kind === 'denied');
  return denied?.kind === 'denied' ? denied.why : all.map(({ kind }) => kind).join(' ');
}

t.test('requests', async (t) => {
  const head = get('GET /a/b?c=/../%2f HTTP/1.1', 'X-One:  1 \t', 'x-two:');
  t.same(events(head), [
    {
      kind: 'request',
      number: 0,
      request: {
        method: 'GET',
        target: '/a/b?c=/../%2f',
        version: '1.1',
        path: '/a/b?c=/../%2f',
        host: 'a',
        headers: [
          ['host', 'a'],
          ['x-one', '1'],
          ['x-two', ''],
        ],
      },
      framing: { body: { kind: 'none' } },
      start: 0,
      end: head.length,
    },
    { kind: 'end', at: head.length },
  ]);

  const rows: [text: string, path: string, host?: string][] = [
    ['GET / HTTP/1.0\r\n\r\n', '/'],
    ['GET / HTTP/1.0\r\nHost: A.b:80\r\n\r\n', '/', 'A.b:80'],
    ['GET http://a.b HTTP/1.1\r\nHost: A.b\r\n\r\n', '/', 'a.b'],
    ['GET http://a.b?c HTTP/1.0\r\n\r\n', '/?c', 'a.b'],
    ['GET http://[::1]:8080/x HTTP/1.1\r\nhost: [::1]:8080\r\n\r\n', '/x', '[::1]:8080'],
    ['OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n', '*', 'a'],
    ['CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n', '', 'a.b:443'],
    ['CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n', '', 'a.b:443'],
    ['m!#$%&\'*+-.^_`|~ /"<>[]{}|^` HTTP/1.1\r\nHost: a\r\nX: \t\xff\r\n\r\n', '/"<>[]{}|^`', 'a'],
  ];
  for (const [text, path, host] of rows) {
    const [event] = events(text);
    t.match(event, { kind: 'request', request: { path, host } }, text);
  }
});

t.test('why a request is denied', async (t) => {
  const rows: Record<string, string[]> = {
    'bare-lf': ['GET / HTTP/1.1\n', 'GET / HTTP/1.1\r\nHost: a\n', 'GET / HTTP/1.1\r\nHost: a\r\n\n'],
    'bare-cr': [
      'GET / HTTP/1.1\r\nHost: a\rX',
      'GET / HTTP/1.1\r\n\r\r',
      'GET\r/\rHTTP/1.1\r\n',
      'GET /\r HTTP',
      'GET / HTTP/1.1\r\r',
    ],
    'invalid-byte': [
      get('GET / HTTP/1.1', 'X: \0'),
      get('GET / HTTP/1.1', 'X: \x7f'),
      get('GET / HTTP/1.1', 'X\x01: 1'),
      get('GET / HTTP/1.1', 'X y: 1'),
      get('GET / HTTP/1.1', ': 1'),
      get('GET / HTTP/1.1', 'no colon'),
      get('GET / HTTP/1.1', 'X\xe4: 1'),
    ],
    'request-line': [
      'GET  / HTTP/1.1\r\n',
      'GET / HTTP/1.1 \r\n',
      'GET /  HTTP/1.1\r\n',
      'GET / x HTTP/1.1\r\n',
      'GET\t/\tHTTP/1.1\r\n',
      'GET\x0b/\x0bHTTP/1.1\r\n',
      'GET /\0 HTTP/1.1\r\n',
      ' GET / HTTP/1.1\r\n',
      '\x0cGET / HTTP/1.1\r\n',
      '\xa0GET / HTTP/1.1\r\n',
      '\r\nGET / HTTP/1.1\r\n',
      '\n\nGET / HTTP/1.1\r\n',
      'GET /HTTP/1.1\r\n',
      'GET /\r\n',
      'get http://a/\r\n',
      'G/T / HTTP/1.1\r\n',
      '\tCONNECT a:1\r\n',
      'OPTIONS *\r\n',
      'CONNECT a:1\r\n',
    ],
    version: ['1.2', '1.01', '01.1', '2.0', '0.9', '1.1.', '1'].map((v) => `GET / HTTP/${v}\r\n`),
    target: [
      'GET * HTTP/1.1\r\n',
      'GET a:80 HTTP/1.1\r\n',
      'GET a HTTP/1.1\r\n',
      'GET ?a HTTP/1.1\r\n',
      'CONNECT / HTTP/1.1\r\n',
      'CONNECT a HTTP/1.1\r\n',
      'CONNECT http://a:80/ HTTP/1.1\r\n',
      'GET https://a/ HTTP/1.1\r\n',
      'GET HTTP://a/ HTTP/1.1\r\n',
      'GET http:///a HTTP/1.1\r\n',
      'GET http://u@a/ HTTP/1.1\r\n',
      'GET http://a:/ HTTP/1.1\r\n',
      'GET http://a\\b/ HTTP/1.1\r\n',
      'GET http:/a HTTP/1.1\r\n',
      'GET http://a#b HTTP/1.1\r\n',
      'GET http://\xe4/ HTTP/1.1\r\n',
    ],
    path: [
      ...['/.', '/..', '/./a', '/a/../b', '/a/..', '//', '//a', '/a//b', '/%2e', '/%2E%2e/a', '/.%2e/a', '/a%2fb'],
      ...['/a%2Fb', '/a%5cb', '/a%5Cb', '/%00', '/a\\b', '/a;b', '/;', '/a%3bb', '/a\xe4', '/a#b', '/a?b#c', '/a?\xe4'],
      ...['/%', '/%4', '/%g1', '/%4g', '/%61', '/%7E', '/%2d', '/a?\xff', 'http://a/../b', 'http://a//', 'http://a/#b'],
    ].map((path) => `GET ${path} HTTP/1.1\r\n`),
    'obs-fold': [get('GET / HTTP/1.1', 'X: 1', ' 2'), get('GET / HTTP/1.1', '\t2'), 'GET / HTTP/1.1\r\n Host: a\r\n'],
    'space-before-colon': [get('GET / HTTP/1.1', 'X : 1'), get('GET / HTTP/1.1', 'Host\t: b')],
    'no-host': ['GET / HTTP/1.1\r\n\r\n', 'GET http://a/ HTTP/1.1\r\n\r\n'],
    'two-hosts': [get('GET / HTTP/1.1', 'HOST: a'), get('GET / HTTP/1.0', 'host: a')],
    host: [
      ...['', 'a b', 'a, b', 'u@a', 'a:b', 'a:', ':80', 'a/b', '%61', '[::1', 'a:123456', '\xe4'].map(
        (host) => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
      ),
      get('GET http://b/ HTTP/1.1'),
      get('GET http://a:80/ HTTP/1.1'),
      get('GET http://b/ HTTP/1.0'),
      get('CONNECT b:443 HTTP/1.1'),
    ],
    'content-length': [
      ...['', '-1', '+1', '0x1', '1,1', '1, 1', '01', '00', '1 1', '1a', '1234567890123456'].map((n) =>
        get('POST / HTTP/1.1', `Content-Length: ${n}`),
      ),
      get('POST / HTTP/1.1', 'Content-Length: 1', 'content-length: 1'),
    ],
    'transfer-encoding': [
      ...[
        '',
        'Chunked',
        'gzip',
        'gzip, chunked',
        'chunked, chunked',
        'identity',
        'chunked;a',
        'chunked,',
        '"chunked"',
      ].map((coding) => get('POST / HTTP/1.1', `Transfer-Encoding: ${coding}`)),
      get('POST / HTTP/1.1', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
      get('POST / HTTP/1.0', 'Transfer-Encoding: chunked'),
    ],
    'length-and-encoding': [get('POST / HTTP/1.1', 'Content-Length: 1', 'Transfer-Encoding: chunked')],
    connect: [
      get('CONNECT a:1 HTTP/1.1', 'Content-Length: 1'),
      get('CONNECT a:1 HTTP/1.1', 'Transfer-Encoding: chunked'),
      get('CONNECT a:1 HTTP/1.1', 'Upgrade: x'),
    ],
    'head-too-large': [
      'GET /'.padEnd(MAX_HEAD, 'a'),
      'X '.padEnd(MAX_HEAD, 'a'),
      get('GET / HTTP/1.1', 'X: '.padEnd(MAX_HEAD, 'a')),
      `GET / HTTP/1.1\r\n${'X: 1\r\n'.repeat(MAX_HEAD / 6)}`,
    ],
    chunk: ['', 'g', '-1', '0x1', ' 1', '123456789', '1\n', '1\rx', '1\r\nabc', '1\r\na\n', '0\n', '0\r\n\rx'].map(
      (body) => `${get('POST / HTTP/1.1', 'Transfer-Encoding: chunked')}${body}\r\n`,
    ),
    'chunk-extension': [`${get('POST / HTTP/1.1', 'Transfer-Encoding: chunked')}1;a=b\r\n`],
    trailer: [`${get('POST / HTTP/1.1', 'Transfer-Encoding: chunked')}0\r\nX: 1\r\n\r\n`],
    'early-bytes': [
      `${get('GET / HTTP/1.1', 'Upgrade: websocket')}x`,
      `${get('CONNECT a:1 HTTP/1.1')}GET`,
      `${get('POST / HTTP/1.1', 'Upgrade: y', 'Content-Length: 1')}xP`,
    ],
  };
  for (const [reason, texts] of Object.entries(rows))
    for (const text of texts) t.equal(why(text), reason, `${reason}: ${JSON.stringify(text.slice(0, 80))}`);
});

t.test('streams that end', async (t) => {
  const end = (text: string): unknown[] => {
    const stream = new HttpStream();
    stream.push(latin1(text));
    return stream.end();
  };
  const head = get('GET / HTTP/1.1');
  for (const text of ['G', ' ', 'GET / HTTP/1.1\r\n', head.slice(0, -1), `${head}G`])
    t.same(end(text), [{ kind: 'denied', why: 'cut-off', at: text.length }], JSON.stringify(text));
  for (const text of ['', '\0', head, get('PUT / HTTP/1.1', 'Content-Length: 2'), 'GET / HTTP/1.1\n'])
    t.same(end(text), []);
});

t.test('the largest head', async (t) => {
  const size = (n: number) => get('GET / HTTP/1.1', 'X: '.padEnd(n - get('GET / HTTP/1.1', '').length, 'a'));
  t.equal(why(size(MAX_HEAD)), 'request end');
  t.equal(why(size(MAX_HEAD + 1)), 'head-too-large');
  t.same(events(size(MAX_HEAD + 1)).at(-1), { kind: 'denied', why: 'head-too-large', at: MAX_HEAD });
});

t.test('what is no HTTP', async (t) => {
  for (const text of [
    '\0',
    '\x16\x03',
    '{"a":1}',
    'SSH-2.0-OpenSSH_9.2\r\n',
    'EHLO a.example\r\n',
    'PING\r\n',
    '*1\r\n$4\r\nPING\r\n',
    'MAIL FROM:<a@b>\r\n',
    'GET key\r\n',
    'GET\n',
    '\n\x05abc',
    'G\0T / HTTP/1.1\r\n',
    `${'M'.repeat(33)} / HTTP/1.1\r\n`,
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  ])
    t.equal(why(text), 'other', JSON.stringify(text));
  for (const text of ['', 'GET', 'P', 'GET /', 'GET / HTTP/1.1\r\n', ' ', '\r\n']) {
    t.ok(looksLikeHttp(latin1(text)), text);
    t.same(events(text), []);
  }
  t.notOk(looksLikeHttp(latin1('\x80')));
  const first = get('GET / HTTP/1.1');
  for (const later of [
    '\0',
    '\r\n',
    ' ',
    '{',
    'GET\r',
    'GET\n',
    'GET /\t',
    'GET /\r\n',
    'PRI * HTTP/2.0\r\n',
    'GET / HTTP/2\r\n',
  ])
    t.match(
      why(first + later),
      /^(request-line|version|bare-lf|target)$/,
      `not behind a request: ${JSON.stringify(later)}`,
    );
});

t.test('requests behind one another', async (t) => {
  const bodies = [
    ['Content-Length: 5', 'hello'],
    ['Content-Length: 0', ''],
    ['Transfer-Encoding: chunked', '5\r\nhello\r\n000A\r\n0123456789\r\n0\r\n\r\n'],
    ['Transfer-Encoding: chunked', '00000000\r\n\r\n'],
    ['Expect: 100-continue', ''],
  ] as const;
  const all = bodies.map(([header, body]) => get('POST / HTTP/1.1', header) + body);
  const told = events(all.join(''));
  t.same(
    told.map(({ kind }) => kind),
    bodies.flatMap(() => ['request', 'end']),
  );
  let at = 0;
  for (const [i, text] of all.entries()) {
    t.match(told[2 * i], { number: i, start: at, end: at + text.indexOf('\r\n\r\n') + 4 });
    t.match(told[2 * i + 1], { at: (at += text.length) });
  }
});

t.test('requests that must be answered first', async (t) => {
  const after = (text: string, answers: Answer[]): string => {
    const stream = new HttpStream();
    stream.push(latin1(text));
    for (const answer of answers) stream.answered(answer);
    return stream.state;
  };
  const upgrade = get('GET / HTTP/1.1', 'Upgrade: websocket');
  const connect = get('CONNECT a:1 HTTP/1.1');
  const withBody = get('POST / HTTP/1.1', 'Upgrade: y', 'Content-Length: 2');
  for (const protocol of ['h2c', 'websocket, H2C', 'TLS/1.2', 'HTTP/2.0'])
    t.equal(
      after(get('GET / HTTP/1.1', `Upgrade: ${protocol}`), ['switching']),
      'head',
      `${protocol} carries requests`,
    );
  t.equal(after(withBody, ['switching']), 'body', 'only when it is complete');
  const rows: [text: string, answers: Answer[], state: string][] = [
    [upgrade, [], 'await-101'],
    [upgrade, ['informational'], 'await-101'],
    [upgrade, ['informational', 'switching'], 'through'],
    [upgrade, ['success'], 'head'],
    [upgrade, ['other'], 'head'],
    [`${withBody}ab`, ['switching'], 'through'],
    [connect, [], 'await-2xx'],
    [connect, ['success'], 'through'],
    [connect, ['other'], 'head'],
    [connect, ['switching'], 'await-2xx'],
    [get('GET / HTTP/1.1'), ['switching'], 'head'],
  ];
  for (const [text, answers, state] of rows) t.equal(after(text, answers), state, `${text.slice(0, 9)} ${answers}`);
  const stream = new HttpStream();
  stream.push(latin1(upgrade));
  stream.answered('success');
  t.match(stream.push(latin1(upgrade)), [{ kind: 'request', number: 1, start: upgrade.length }, { kind: 'end' }]);
  stream.answered('switching');
  t.same(stream.push(latin1('\0\0GET')), [], 'behind a switch nothing is read');
});

t.test('answers', async (t) => {
  const read = (text: string) =>
    new StatusReader().push(latin1(text)).map((e) => (e.kind === 'status' ? `${e.code} ${e.answer} ${e.at}` : e.kind));
  t.same(read('HTTP/1.1 101 Switching Protocols\r\n'), ['101 switching 13']);
  t.same(read('HTTP/1.0 200\r\n'), ['200 success 13']);
  t.same(read('HTTP/1.1 404 x'), ['404 other 13']);
  const early = 'HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n';
  t.same(read(`${early}HTTP/1.1 100 \r\n\r\nHTTP/1.1 204 \r\nHTTP`), [
    '103 informational 13',
    '100 informational 50',
    '204 success 67',
  ]);
  t.same(read('HTTP/1.1 100\r\n\r\nHTTP/1.1 101\r\n'), ['100 informational 13', '101 switching 29']);
  for (const bad of [
    'h',
    'HTTP/2',
    'HTTP/1.2',
    'HTTP/1.1  ',
    'HTTP/1.1 0',
    'HTTP/1.1 600',
    'HTTP/1.1 20x',
    'HTTP/1.1 2000',
    '\r',
  ])
    t.same(read(bad), ['malformed'], bad);
  t.equal(read('HTTP/1.1 100 \r\n\r\n'.repeat(20)).at(-1), 'malformed');
  t.same(read(`HTTP/1.1 100 \r\n${'a'.repeat(MAX_HEAD)}`), ['100 informational 13', 'malformed']);
});

t.test('paths and hosts', async (t) => {
  for (const path of [
    '/',
    '/a',
    '/a/',
    '/...',
    '/..a',
    '/a..',
    '/.a',
    '/a?',
    '/a?//;%zz/..',
    '/%C3%a4',
    '/a%20b',
    "/a:b@c!$&'()*+,=",
  ])
    t.ok(isCanonicalPath(path), path);
  for (const path of ['', 'a', '?', '/ ', '/a?\n', '/a?b#']) t.notOk(isCanonicalPath(path), path);
  t.equal(hostName('WWW.a.example:8080'), 'www.a.example');
  for (const host of ['a.', '1.2.3.4', '1.2.3.4:80', '[::1]:80', 'a:b', '']) t.equal(hostName(host), undefined, host);
  t.ok(isHost('a.:80'));
  t.ok(isHost(`${'a'.repeat(253)}.:65535`));
  t.notOk(isHost('a'.repeat(261)));
});

t.test('the first that a connection says', async (t) => {
  t.match(firstSaid(latin1(get('GET /a HTTP/1.1'))), { state: 'said', said: { kind: 'http', path: '/a', host: 'a' } });
  t.same(firstSaid(latin1('SSH-2.0-x\r\n')), { state: 'said', said: { kind: 'other' }, length: 0 });
  t.same(firstSaid(latin1('GET / HTTP/1.1\r\n \r\n')), { state: 'denied', why: 'obs-fold' });
  t.same(firstSaid(Buffer.from('1603010000', 'hex')), { state: 'denied', why: 'record-length' });
  for (const part of ['', '\x16', '\x16\x03', 'GET']) t.same(firstSaid(latin1(part)), { state: 'more' });
});
