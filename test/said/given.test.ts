/** What a connection is to say, as users write it. */
import t from 'tap';
import { saidInput, saidOf } from '../../src/rpc/said.js';
import { helloSaying, requestOf, requestSaying } from '../../src/said/given.js';
import type { Said } from '../../src/said/said.js';

const USAGE = { code: 'USAGE' };

t.test('server names', async (t) => {
  t.same(helloSaying('API.Example.com'), { kind: 'tls', serverName: 'api.example.com' });
  for (const none of ['-', '']) t.same(helloSaying(none), { kind: 'tls' });
  for (const odd of ['203.0.113.10', 'a.example.', 'a b', 'ä.example', 'a/b', '2001:db8::1'])
    t.throws(() => helloSaying(odd), USAGE, odd);
});

t.test('requests', async (t) => {
  const rows: [string, string[], Partial<Extract<Said, { kind: 'http' }>>][] = [
    ['GET http://api.example.com/v1?q=1', [], { method: 'GET', host: 'api.example.com', path: '/v1?q=1' }],
    ['GET http://api.example.com:8080', [], { host: 'api.example.com:8080', path: '/' }],
    ['GET http://api.example.com?q=1', [], { path: '/?q=1' }],
    ['  get   HTTP://[2001:db8::1]:80/ ', [], { method: 'get', host: '[2001:db8::1]:80' }],
    ['CONNECT api.example.com:443', [], { method: 'CONNECT', host: 'api.example.com:443', path: '' }],
    [
      'POST http://a/',
      ['X-Team:  shop ', 'x-team: two', 'X-Empty:'],
      {
        headers: [
          ['host', 'a'],
          ['x-team', 'shop'],
          ['x-team', 'two'],
          ['x-empty', ''],
        ],
      },
    ],
  ];
  for (const [text, headers, expected] of rows)
    t.match(requestSaying(text, headers), { kind: 'http', ...expected }, text);
  t.same(requestSaying('GET /v1'), { kind: 'http', method: 'GET', path: '/v1', headers: [] }, 'HTTP/1.0 names no host');
  t.match(requestSaying('GET /v1', ['Host: a.example']), { host: 'a.example' });
  for (const [text, headers, why] of [
    ['GET', [], /no request/],
    ['http://api.example.com/', [], /no request/],
    ['GET https://api.example.com/', [], /https is not http/],
    ['GET http://api.example.com/a/../b', [], /GET http:\/\/api\.example\.com\/a\/\.\.\/b: ambiguous \(path\)/],
    ['GET http:///a', [], /names no host/],
    ['G=T http://a/', [], /no HTTP\/1 request|ambiguous/],
    ['GET http://a/ü', [], /only printable ASCII/],
    ['GET http://a/', ['X-Team'], /X-Team is no header/],
    ['GET http://a/', ['Host: b'], /ambiguous \(two-hosts\)/],
    ['GET http://a/', ['X-A: b\r\nHost: c'], /is no header|printable/],
    ['POST http://a/', ['Content-Length: 1', 'Transfer-Encoding: chunked'], /ambiguous \(length-and-encoding\)/],
  ] as const)
    t.throws(() => requestSaying(text, headers), { ...USAGE, message: why }, text);
  t.throws(() => requestOf({ method: 'GET', host: 'a', path: '/\r\nX: y', headers: [] }), USAGE, 'no second line');
});

t.test('in messages', async (t) => {
  for (const said of [
    helloSaying('a.example'),
    helloSaying('-'),
    requestSaying('GET http://a.example:80/v1?q', ['X-Team: shop']),
    requestSaying('CONNECT a.example:443'),
    requestSaying('GET /'),
  ]) {
    const input = saidInput(said);
    t.same(input && saidOf(input), said, JSON.stringify(said));
  }
  t.equal(saidInput({ kind: 'other' }), undefined);
  t.throws(() => saidOf({ http: { host: 'a', path: '/../' } }), USAGE);
  t.throws(() => saidOf({ server_name: '1.2.3.4' }), USAGE);
});
