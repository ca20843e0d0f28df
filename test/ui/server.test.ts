/** The page's server: who gets anything, and who does not. Requests are made by hand, as browsers and others make them. */
import { type IncomingHttpHeaders, request } from 'node:http';
import t from 'tap';
import { EVERYTHING, type Viewer } from '../../src/ui/access/viewer.js';
import type { Handler } from '../../src/ui/api/handler.js';
import { Feeds } from '../../src/ui/api/stream.js';
import { Assets } from '../../src/ui/http/assets.js';
import { Sessions } from '../../src/ui/http/sessions.js';
import { UiServer } from '../../src/ui/server.js';
import { makeLogger } from '../../src/log.js';
import { AgentError } from '../../src/errors.js';
import { until } from '../netns/shell.js';
import { pageHeaders, remember } from './page-keys.js';
import { silentSource } from './source.js';

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

const logged: string[] = [];
const waiting: ((answer: object) => void)[] = [];
let now = Date.now();
const sessions = new Sessions<Viewer>(() => now);
const handlers: Record<string, Handler> = {
  echo: async (body) => body,
  refuses: async () => {
    throw new AgentError('USAGE', 'there is no pod shop/nobody', { where: { field: 'from' }, hint: 'look again' });
  },
  unreachable: async () => {
    throw new AgentError('AGENT', 'no agent answers');
  },
  waits: () => new Promise((resolve) => waiting.push(resolve)),
  breaks: async () => {
    throw new Error('a secret of the inside');
  },
};
const server = new UiServer({
  assets: new Assets(),
  sessions,
  feeds: new Feeds(silentSource()),
  handlers,
  session: async () => ({ version: '0', source: 'test', user: '', writes: false }),
  log: makeLogger('warn', (line) => logged.push(line)),
});
const url = await server.listenLocal(0);
const host = url.slice('http://'.length);
const port = Number(host.split(':')[1]);
t.teardown(() => server.close());

function send(
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string | Buffer,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const r = request(
      { host: '127.0.0.1', port, method, path, headers: { host, ...pageHeaders(headers.cookie), ...headers } },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(parts).toString('utf8'),
          }),
        );
      },
    );
    r.on('error', reject);
    r.end(body);
  });
}

const OWN = { origin: url, 'content-type': 'application/json', 'sec-fetch-site': 'same-origin' };

function post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  return send('POST', path, { ...OWN, ...headers }, JSON.stringify(body));
}

async function signIn(): Promise<string> {
  const answer = await post('/api/login', { token: sessions.newToken(EVERYTHING) });
  return remember(answer.headers['set-cookie']?.[0], answer.body);
}

t.test('the page is served to everybody, with a policy that lets nothing in', async (t) => {
  for (const path of ['/', '/graph', '/policies']) {
    const { status, headers, body } = await send('GET', path);
    t.equal(status, 200);
    t.match(body, /<div id="app">/);
    const policy = String(headers['content-security-policy']);
    t.match(policy, /default-src 'none'/);
    t.match(policy, /require-trusted-types-for 'script'/);
    t.notMatch(policy, /unsafe|https?:|\*/);
    t.equal(headers['x-content-type-options'], 'nosniff');
    t.equal(headers['cache-control'], 'no-store');
  }
  const { body } = await send('GET', '/');
  const [, script] = /src="([^"]+)"/.exec(body) ?? [];
  const plain = await send('GET', script as string);
  t.match(plain.headers, { 'content-type': 'text/javascript; charset=utf-8', 'cache-control': /immutable/ });
  const packed = await send('GET', script as string, { 'accept-encoding': 'gzip, br' });
  t.equal(packed.headers['content-encoding'], 'br');
  t.ok(Number(packed.headers['content-length']) < Number(plain.headers['content-length']) / 2);
  for (const path of ['/../package.json', '/%2e%2e/package.json', '/app.js.br', '/etc/passwd', '//evil/x'])
    t.not((await send('GET', path)).status, 500, path);
  t.equal((await send('GET', '/index.html.br')).status, 404);
});

t.test('without a session there is nothing', async (t) => {
  for (const [method, path] of [
    ['GET', '/api/session'],
    ['POST', '/api/stream'],
    ['POST', '/api/echo'],
    ['POST', '/api/nothing'],
  ] as const) {
    const body = method === 'POST' ? '{}' : undefined;
    t.equal((await send(method, path, OWN, body)).status, 401, path);
    t.equal((await send(method, path, { ...OWN, cookie: `egress-ui-${port}=AAAA` }, body)).status, 401, path);
  }
});

t.test('a token begins one session, once, for five minutes', async (t) => {
  const token = sessions.newToken(EVERYTHING);
  t.equal((await post('/api/login', { token: `${token}x` })).status, 401);
  const first = await post('/api/login', { token });
  t.equal(first.status, 200);
  t.match(first.headers['set-cookie']?.[0], /^egress-ui-\d+=[\w-]{43}; HttpOnly; SameSite=Strict; Path=\/$/);
  t.equal((await post('/api/login', { token })).status, 401, 'it was used');
  const old = sessions.newToken(EVERYTHING);
  now += 5 * 60_000 + 1;
  t.equal((await post('/api/login', { token: old })).status, 401, 'it is too old');
  const earlier = sessions.newToken(EVERYTHING);
  sessions.newToken(EVERYTHING);
  t.equal((await post('/api/login', { token: earlier })).status, 401, 'there is a newer one');
  for (const body of [{}, { token: 7 }, { token: 'x'.repeat(9000) }, [], 'x'])
    t.equal((await post('/api/login', body)).status, 400);
});

t.test('a session that nobody uses ends', async (t) => {
  const cookie = await signIn();
  t.equal((await send('GET', '/api/session', { cookie })).status, 200);
  now += 11 * 3600_000;
  t.equal((await send('GET', '/api/session', { cookie })).status, 200);
  now += 13 * 3600_000;
  t.equal((await send('GET', '/api/session', { cookie })).status, 401);
});

t.test('names that others lead here get nothing, with a session or without', async (t) => {
  const cookie = await signIn();
  for (const name of [
    'evil.example',
    `evil.example:${port}`,
    `127.0.0.1:${port + 1}`,
    `127.0.0.1.evil.example:${port}`,
  ]) {
    t.equal((await send('GET', '/api/session', { cookie, host: name })).status, 403, name);
    t.equal((await send('GET', '/', { host: name })).status, 403, name);
  }
  t.equal((await send('GET', '/api/session', { cookie, host: `LOCALHOST:${port}` })).status, 200);
});

t.test('other pages get nothing, whatever they send', async (t) => {
  const cookie = await signIn();
  const cases: Record<string, string>[] = [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: `http://127.0.0.1:${port + 1}` },
    { origin: `http://localhost:${port}` },
    { origin: url, 'sec-fetch-site': 'cross-site' },
    { origin: url, 'sec-fetch-site': 'same-site' },
    { origin: url, 'sec-fetch-site': 'none' },
  ];
  for (const headers of cases) {
    const answer = await post('/api/echo', {}, { cookie, ...headers });
    t.equal(answer.status, 403, JSON.stringify(headers));
  }
  const { origin: _, ...bare } = OWN;
  t.equal((await send('POST', '/api/echo', { ...bare, cookie }, '{}')).status, 403, 'no Origin');
  const foreign = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'script' };
  t.equal((await send('GET', '/api/session', { cookie, ...foreign })).status, 403);
  const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
  t.equal((await send('GET', '/graph', link)).status, 200, 'a link leads here');
  const frame = { ...link, 'sec-fetch-dest': 'iframe' };
  t.equal((await send('GET', '/graph', frame)).status, 403, 'a frame does not');
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', ''])
    t.equal((await post('/api/echo', {}, { cookie, 'content-type': type })).status, 415, type);
});

t.test('bodies have bounds, and errors say what is wrong with which field', async (t) => {
  const cookie = await signIn();
  const big = await send('POST', '/api/echo', { ...OWN, cookie }, Buffer.alloc((3 << 20) + 1, 0x20));
  t.equal(big.status, 413);
  t.equal((await send('POST', '/api/echo', { ...OWN, cookie }, '{')).status, 400);
  t.equal((await post('/api/echo', [], { cookie })).status, 400);
  t.equal((await post('/api/echo', { a: 1 }, { cookie })).body, '{"a":1}');
  const wrong: [object, string][] = [
    [{ window: '1y' }, 'window'],
    [{ namespaces: 'shop' }, 'namespaces'],
    [{ namespaces: ['a b'] }, 'namespaces[0]'],
    [{ namespaces: Array.from({ length: 101 }, () => 'a') }, 'namespaces'],
    [{ chips: [{ key: 'constructor', value: 'x' }] }, 'chips[0].key'],
    [{ chips: [{ key: 'port', value: 7 }] }, 'value'],
    [{ chips: Array.from({ length: 21 }, () => ({ key: 'port', value: '1' })) }, 'chips'],
    [{ edges: 1 }, 'edges'],
    [{ flows: { last: 1e9 } }, 'last'],
  ];
  for (const [view, field] of wrong) {
    const answer = await post('/api/stream', view, { cookie });
    t.equal(answer.status, 400, field);
    t.equal((JSON.parse(answer.body) as { field?: string }).field, field);
  }
  const chip = await post('/api/stream', { chips: [{ key: 'port', value: 'many' }], flows: { last: 1 } }, { cookie });
  t.equal(chip.status, 400, 'what the filter itself refuses');
});

t.test('errors of agents are told, those of this server are not', async (t) => {
  const cookie = await signIn();
  const refused = await post('/api/refuses', {}, { cookie });
  t.equal(refused.status, 400);
  t.strictSame(JSON.parse(refused.body), { error: 'there is no pod shop/nobody', hint: 'look again', field: 'from' });
  t.equal((await post('/api/unreachable', {}, { cookie })).status, 502);
  const broken = await post('/api/breaks', {}, { cookie });
  t.equal(broken.status, 500);
  t.notMatch(broken.body, /secret/);
  t.match(logged.join(''), /a secret of the inside/);
  for (const name of ['constructor', '__proto__', 'toString']) {
    t.equal((await post(`/api/${name}`, {}, { cookie })).status, 404);
  }
  t.equal((await send('GET', '/api/echo', { cookie })).status, 405);
  t.equal((await send('PUT', '/graph', OWN)).status, 405);
});

t.test('one user has a bounded number of streams, and gives them back', async (t) => {
  const cookie = await signIn();
  const open = () =>
    new Promise<{ status: number; end: () => void }>((resolve, reject) => {
      const r = request(
        {
          host: '127.0.0.1',
          port,
          method: 'POST',
          path: '/api/stream',
          headers: { host, ...OWN, ...pageHeaders(cookie), cookie },
        },
        (response) => {
          response.resume();
          response.on('error', () => {});
          resolve({ status: response.statusCode ?? 0, end: () => r.destroy() });
        },
      );
      r.on('error', reject);
      r.end('{}');
    });
  const streams = await Promise.all(Array.from({ length: 24 }, open));
  t.ok(streams.every(({ status }) => status === 200));
  t.equal((await post('/api/stream', {}, { cookie })).status, 429);
  for (const { end } of streams) end();
  for (let n = 0; n < 50; n++) {
    const again = await open();
    again.end();
    if (again.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.fail('the streams were not given back');
});

t.test('questions of one user at once are bounded', async (t) => {
  const cookie = await signIn();
  const all = Array.from({ length: 64 }, () => post('/api/waits', {}, { cookie }));
  await until('all are asked', () => waiting.length === 64);
  t.equal((await post('/api/waits', {}, { cookie })).status, 429);
  for (const answer of waiting.splice(0)) answer({});
  for (const { status } of await Promise.all(all)) t.equal(status, 200);
  t.equal((await post('/api/echo', {}, { cookie })).status, 200);
});

t.test('reports of browsers, which everybody can send, do not fill the log', async (t) => {
  logged.length = 0;
  for (let n = 0; n < 20; n++) t.equal((await post('/api/csp', {})).status, 204);
  t.ok(logged.length <= 1, `${logged.length}`);
});
