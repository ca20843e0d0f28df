/** Heads of requests, by the functions of bpf/http.h: what is read of them, and each reason to refuse one. */
import t from 'tap';
import { readHeaderLine } from '../../../src/said/http-head.js';
import { HttpStream } from '../../../src/said/http.js';
import { HttpKernel } from './kernel.js';
import { KernelStream } from './stream.js';

const kernel = new HttpKernel();
t.teardown(() => kernel.close());

const latin1 = (text: string) => Buffer.from(text, 'latin1');
const HOST = 'Host: a.example\r\n';

/** What the first request of a connection comes to. */
function read(text: string) {
  kernel.connect();
  kernel.put(latin1(text));
  return kernel.head(0, text.length);
}

/** What the reference makes of it. */
function reference(text: string): string {
  const [event] = new HttpStream().push(latin1(text));
  if (event === undefined) return 'more';
  return event.kind === 'request' ? 'head' : event.kind === 'denied' ? 'refused' : event.kind;
}

t.test('what is read of a head', async (t) => {
  const rows: [text: string, what: object][] = [
    [
      'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n',
      { method: 'GET', path: '/', host: 'a.example', version: '1.1', lines: 1 },
    ],
    ['GET /x?y=1 HTTP/1.0\r\n\r\n', { path: '/x?y=1', host: undefined, version: '1.0', lines: 0 }],
    [`!#$%&'*+-.^_\`|~09azAZ / HTTP/1.1\r\n${HOST}\r\n`, { method: "!#$%&'*+-.^_`|~09azAZ" }],
    ['GET / HTTP/1.1\r\nhOST:\t a.example:8080 \t\r\n\r\n', { host: 'a.example:8080', hostname: 'a.example' }],
    ['GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n', { host: '[::1]:80', hostname: '[::1]' }],
    [
      'GET http://A.example HTTP/1.1\r\nHost: a.EXAMPLE\r\n\r\n',
      { host: 'A.example', path: '/', target: 'http://A.example' },
    ],
    ['GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n', { host: 'a.example', path: '/' }],
    [
      'GET http://a.example:1/b/c?d HTTP/1.1\r\nHost: a.example:1\r\n\r\n',
      { host: 'a.example:1', hostname: 'a.example', path: '/b/c?d' },
    ],
    ['GET http://a.example?d=/e HTTP/1.1\r\nHost: a.example\r\n\r\n', { host: 'a.example', path: '/?d=/e' }],
    ['GET http://[::1]?d HTTP/1.0\r\n\r\n', { host: '[::1]', hostname: '[::1]', path: '/?d' }],
    ['OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n', { method: 'OPTIONS', path: '*', host: 'a', hostname: 'a' }],
    [
      'CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n',
      { connects: true, host: 'a.example:443', path: '' },
    ],
    ['CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n', { connects: true, host: 'a.example:443' }],
    ['CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]\r\n\r\n', { connects: true, host: '[::1]:443' }],
    ['CONNECT a:443 HTTP/1.0\r\nContent-Length: 0\r\n\r\n', { connects: true, host: 'a:443', content: 0 }],
    [`POST / HTTP/1.1\r\n${HOST}CONTENT-length:12\r\n\r\n`, { content: 12, chunked: false }],
    [`POST / HTTP/1.1\r\n${HOST}Content-Length:\t999999999999999 \r\n\r\n`, { content: 999_999_999_999_999 }],
    [`POST / HTTP/1.1\r\n${HOST}Transfer-ENCODING: chunked\r\n\r\n`, { chunked: true, content: 0 }],
    [
      `GET / HTTP/1.1\r\n${HOST}Upgrade: websocket\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n`,
      { upgrades: true, lines: 4 },
    ],
    [
      `GET /a.b/..c/...%20%2a%c3%A9"<>[]^|{}/?;//../%2f%zz\\ HTTP/1.1\r\n${HOST}\r\n`,
      { path: '/a.b/..c/...%20%2a%c3%A9"<>[]^|{}/?;//../%2f%zz\\' },
    ],
    [`GET / HTTP/1.1\r\n${HOST}X: \xff\x80"\t;\r\nY:\r\nZ: \r\n\r\n`, { lines: 4 }],
  ];
  for (const [text, what] of rows) {
    t.match(read(text), { result: 'head', length: text.length, ...what }, JSON.stringify(text));
    t.equal(reference(text), 'head', 'the reference');
  }
});

t.test('each reason to refuse a head', async (t) => {
  const get = (path: string) => `GET ${path} HTTP/1.1\r\n${HOST}\r\n`;
  const line = (text: string) => `GET / HTTP/1.1\r\n${HOST}${text}\r\n\r\n`;
  const rows: Readonly<Record<string, readonly string[]>> = {
    BAD_METHOD: [
      'GET\t/ HTTP/1.1\r\n\r\n',
      '\r\nGET / HTTP/1.1\r\n\r\n',
      ' GET / HTTP/1.1\r\n\r\n',
      'GE\x0bT / HTTP/1.1\r\n',
    ],
    BAD_TARGET: [
      get('x'),
      get(' /'),
      get('https://a.example/'),
      get('HTTP://a.example/'),
      get('http:///x'),
      get('http://u@a.example/'),
      get('http://a.example:/'),
      get('http://a.example:123456/'),
      get('http://a%41.example/'),
      get('http://[]/'),
      get('http://[1]/'),
      get('http://[1::2/'),
      get('http://a.example:80443x/'),
      get('*'),
      get('*x'),
      'OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n',
      'PRI * HTTP/1.1\r\nHost: a\r\n\r\n',
      'CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n',
      'CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n',
      'CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n',
      'CONNECT http://a:1 HTTP/1.1\r\nHost: a\r\n\r\n',
      'connect a:1 HTTP/1.1\r\nHost: a\r\n\r\n',
    ],
    BAD_VERSION: [
      'GET / HTTP/1.2\r\n\r\n',
      'GET / HTTP/2.0\r\n\r\n',
      'GET / HTTP/0.9\r\n\r\n',
      'GET / http/1.1\r\n\r\n',
      'GET / HTTP/1.1 \r\n\r\n',
      'GET /  HTTP/1.1\r\n\r\n',
      'GET / HTTP/1.10\r\n\r\n',
      'GET / HTTP/01.1\r\n\r\n',
      'GET / HTTP/11\r\n\r\n',
      'GET /HTTP/1.1\r\n\r\n',
      'GET / \r HTTP/1.1\r\n',
    ],
    BARE_LF: ['GET / HTTP/1.1\n', `GET / HTTP/1.1\r\n${HOST}\n`, line('X: 1\nY: 2'), line('X\n'), 'GET /HTTP/1\n'],
    BARE_CR: ['GET / HTTP/1.1\r\r\n', line('X: 1\rY: 2'), `GET / HTTP/1.1\r\n${HOST}\rX`],
    NUL: [get('/\0'), line('X\0: 1'), line('X: \0')],
    BAD_BYTE: [
      get('/\x01'),
      get('/\x7f'),
      get('/\x80'),
      get('/?\xff'),
      line('X: \x01'),
      line('X: \x7f'),
      line('X'),
      line(':'),
    ].concat([line('X(: 1'), line('\xc3: 1'), line('X;Y: 1'), line('X@: 1')]),
    EMPTY_SEGMENT: [get('//'), get('/a//b'), get('http://a.example//b')],
    DOT_SEGMENT: [get('/.'), get('/..'), get('/a/../b'), get('/./b'), get('/a/..?x'), get('/a/.?')],
    BACKSLASH: [get('/a\\b'), get('/\\')],
    SEMICOLON: [get('/a;b=1'), get('/;')],
    FRAGMENT: [get('/a#b'), get('/?#'), get('/#')],
    BROKEN_ESCAPE: [get('/%'), get('/%4'), get('/%g1'), get('/%1g'), get('/%%20'), get('/a%2/')],
    NEEDLESS_ESCAPE: ['%41', '%5A', '%61', '%7a', '%30', '%39', '%2d', '%2e', '%2E%2e', '%5f', '%7E'].map((e) =>
      get(`/${e}`),
    ),
    HIDDEN_BYTE: ['%2f', '%2F', '%5c', '%5C', '%00', '%3b', '%3B'].map((e) => get(`/a${e}b`)),
    FOLDED: [line('X: 1\r\n  2'), `GET / HTTP/1.1\r\n ${HOST}\r\n`, `GET / HTTP/1.1\r\n\t${HOST}\r\n`],
    SPACED_NAME: [line('X : 1'), line('X\t: 1'), 'GET / HTTP/1.1\r\nHost : a\r\n\r\n'],
    NO_HOST: ['GET / HTTP/1.1\r\n\r\n', 'GET http://a.example/ HTTP/1.1\r\n\r\n', 'GET / HTTP/1.1\r\nHosts: a\r\n\r\n'],
    TWO_HOSTS: [line('Host: a.example'), line('HOST: b.example'), 'GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n'],
    BAD_HOST: [
      '',
      'a b',
      'u@a',
      'a/',
      'a,b',
      'a:',
      'a:x',
      'a:123456',
      ':80',
      '[1]',
      '[::1',
      '[::1]x',
      'ä',
      'a%2e',
      `[${'1'.repeat(46)}]`,
      'a'.repeat(261),
    ]
      .map((host) => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
      .concat([
        'GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n',
        'GET http://a.example:80/ HTTP/1.1\r\nHost: a.example\r\n\r\n',
        'GET http://a.example/ HTTP/1.1\r\nHost: a.example:80\r\n\r\n',
        'GET http://a.example/ HTTP/1.1\r\nHost:\r\n\r\n',
        'CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:80\r\n\r\n',
        'CONNECT [::1]:443 HTTP/1.1\r\nHost: [:\r\n\r\n',
      ]),
    TWO_LENGTHS: [line('Content-Length: 1\r\nContent-Length: 1')],
    BAD_LENGTH: ['', '-1', '+1', '1,1', '1 1', '0x1', '01', '00', '1a', '1000000000000000'].map((n) =>
      line(`Content-Length: ${n}`),
    ),
    BAD_CODING: ['', 'Chunked', 'chunked, gzip', 'gzip, chunked', 'identity', 'chunked;q=1', 'xchunked']
      .map((c) => line(`Transfer-Encoding: ${c}`))
      .concat([
        line('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked'),
        'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n',
      ]),
    TWO_FRAMINGS: [
      line('Transfer-Encoding: chunked\r\nContent-Length: 1'),
      line('Content-Length: 0\r\nTransfer-Encoding: x'),
    ],
    BAD_CONNECT: ['Content-Length: 1', 'Transfer-Encoding: chunked', 'Upgrade: x'].map(
      (more) => `CONNECT a:1 HTTP/1.1\r\nHost: a\r\n${more}\r\n\r\n`,
    ),
    TOO_LARGE: [
      line(`X: ${'x'.repeat(8192)}`),
      `GET / HTTP/1.1\r\n${'X:\r\n'.repeat(2048)}`,
      `GET /${'a'.repeat(8192)}`,
      `A ${' '.repeat(8190)}`,
    ],
  };
  for (const [why, texts] of Object.entries(rows)) {
    for (const text of texts) {
      t.match(read(text), { result: 'refused', why }, `${why} ${JSON.stringify(text.slice(0, 80))}`);
      t.equal(reference(text), 'refused', 'the reference');
    }
  }
});

t.test('what is no request, and what may become one', async (t) => {
  const other = [
    '\x16\x03\x01',
    '\0',
    'SSH-2.0-OpenSSH_9.2\r\n',
    'EHLO a.example\r\n',
    'GET\n',
    'GET\r\n',
    'GET x\n',
    'GE(T\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'HTTP/1.1 200\r\n'.replace('/', '-'),
    `${'A'.repeat(33)}`,
    `${'('.repeat(33)}`,
    ` \t\r\n ${'A'.repeat(33)}`,
    '{"a": 1}\n',
    'A{"a": 1}\n',
    'CAP LS 302\r\n',
    'CONNECTS a:1\r\n',
    '\x85(',
  ];
  const more = [
    ['', 'G', 'A'.repeat(32), 'GET ', 'GET /', 'EHLO a', 'PRI * HTTP/2.0\r', ' ', '\r\n\r\n', 'GET / HTTP/1.1'],
    ['GET // HTTP/1.1\r', 'GET / HTTP/1.1\r\nHost: a\r\n', 'GET / HTTP/1.1\r\nX', 'USER a/b', 'GE(T', 'USER a\r'],
  ].flat();
  // Not for us, but some servers might think so.
  for (const text of [
    'GET /x\r\n',
    'GET /x\n',
    'GE(T /\r\n',
    'GET\t*\n',
    'USER a/b\r\n',
    'connect a:1\r\n',
    'xCONNECT\r\n',
    'USER a\rb',
    'USER\rb',
  ]) {
    t.equal(read(text).result, 'refused', JSON.stringify(text));
    t.equal(reference(text), 'refused', 'the reference');
  }
  for (const text of other) {
    t.equal(read(text).result, 'other', JSON.stringify(text));
    t.equal(reference(text), 'other', 'the reference');
  }
  for (const text of more) {
    t.equal(read(text).result, 'more', JSON.stringify(text));
    t.equal(reference(text), 'more', 'the reference');
  }
  for (const text of [...other, ' ', '\r\n', 'USER a\r']) {
    const stream = new KernelStream(kernel);
    stream.push(latin1(`GET / HTTP/1.1\r\n${HOST}\r\n`));
    t.match(stream.push(latin1(text)), [{ kind: 'denied' }], `${JSON.stringify(text)} as a second request`);
  }
});

t.test('the largest head', async (t) => {
  const head = (size: number) => `GET / HTTP/1.1\r\n${HOST}X: ${'x'.repeat(size - 40)}\r\n\r\n`;
  t.equal(head(8192).length, 8192);
  t.match(read(head(8192)), { result: 'head', length: 8192 });
  t.match(read(head(8193)), { result: 'refused', why: 'TOO_LARGE' });
  const lines = `GET / HTTP/1.1\r\n${HOST}${'a:\r\n'.repeat(2039)}\r\n`;
  t.match(read(lines), { result: 'head', lines: 2040, length: lines.length });
  t.match(
    read(`${lines.slice(0, 33)}${' '.repeat(3)}${lines.slice(33)}`),
    { result: 'refused' },
    'a line that begins with a space',
  );
});

t.test('a head at the end of the buffer', async (t) => {
  const text = `GET /a HTTP/1.1\r\n${HOST}\r\n`;
  const at = HttpKernel.BUFFER - text.length;
  kernel.connect();
  kernel.put(latin1(text), at);
  t.match(kernel.head(at, text.length), { result: 'head', path: '/a', host: 'a.example' });
  t.equal(kernel.head(at + 1, text.length).result, 'refused', 'not beyond it');
});

t.test('names of lines that mean something', async (t) => {
  // Each byte of such a name, replaced by every other one: another name, or none.
  for (const name of ['host', 'upgrade', 'content-length', 'transfer-encoding']) {
    const value = name === 'host' ? 'b' : name === 'content-length' ? '7' : 'chunked';
    for (let at = 0; at < name.length; at++) {
      for (let byte = 0x21; byte < 0x7f; byte++) {
        const other = name.slice(0, at) + String.fromCharCode(byte) + name.slice(at + 1);
        if (typeof readHeaderLine(`${other}: ${value}`) === 'string' || other.includes(':')) continue;
        const text = `POST / HTTP/1.1\r\n${name === 'host' ? '' : HOST}${other}: ${value}\r\n\r\n`;
        const same = other.toLowerCase() === name;
        const head = read(text);
        const means =
          name === 'host'
            ? head.result === 'head'
            : name === 'upgrade'
              ? head.upgrades
              : name === 'content-length'
                ? head.content === 7
                : head.chunked;
        if (means !== same) t.fail(`${other} as ${name}`);
      }
    }
  }
  t.pass('as they are');
});
