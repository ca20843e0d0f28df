/** The server for many: TLS, tokens, sessions, and whoever tries to come in another way. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request as plainRequest } from 'node:http';
import { request } from 'node:https';
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { KubeClient } from '../../src/kube/client/client.js';
import { makeLogger } from '../../src/log.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { People } from '../../src/ui/access/people.js';
import { Reviews } from '../../src/ui/access/reviews.js';
import type { Viewer } from '../../src/ui/access/viewer.js';
import { allHandlers } from '../../src/ui/api/handlers.js';
import { Feeds } from '../../src/ui/api/stream.js';
import { Assets } from '../../src/ui/http/assets.js';
import { followCertificate, readCertificate } from '../../src/ui/http/certificate.js';
import { TokenDoor } from '../../src/ui/http/door.js';
import { Sessions } from '../../src/ui/http/sessions.js';
import { UiServer } from '../../src/ui/server.js';
import { until } from '../netns/shell.js';
import { pageHeaders, remember } from './page-keys.js';
import { ReviewsServer } from './reviews-server.js';
import { asked, client, HUSH, OTHER, OWN } from './two-teams.js';

const api = new ReviewsServer();
await api.listen();
api.namespaces = [OWN, OTHER];
api.rights.add(`ann get flows.egress-agent.io ${OWN}`);
api.accounts.set('token-of-ann', { username: 'ann' });
const kube = new KubeClient(api.config);
const dir = mkdtempSync(join(tmpdir(), 'egress-ui-test-'));
const certificates = await makeCertificates('egress-system');
const write = ({ cert, key }: { cert: Buffer; key: Buffer }) => {
  writeFileSync(join(dir, 'tls.crt'), cert);
  writeFileSync(join(dir, 'tls.key'), key);
};
write(certificates.ui);
const logged: string[] = [];
let now = 0;

function made(header = false): UiServer {
  const people = new People({ reviews: new Reviews(kube, []), server: api.config, now: () => now });
  return new UiServer({
    assets: new Assets(),
    sessions: new Sessions<Viewer>(),
    door: new TokenDoor(people, { header }),
    feeds: new Feeds(client),
    handlers: allHandlers(client, () => 'not in this test'),
    session: async (viewer) => ({ version: '0', source: 'test', user: viewer.name, writes: false, signedIn: true }),
    log: makeLogger('debug', (line) => logged.push(line)),
  });
}

const server = made();
const port = await server.listen({ host: '127.0.0.1', port: 0, names: ['ui.example.com'], tlsDir: dir });
t.teardown(async () => {
  await server.close();
  kube.close();
  await api.close();
  rmSync(dir, { recursive: true });
});

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

const HOST = `localhost:${port}`;
const OWN_PAGE = { host: HOST, origin: `https://${HOST}`, 'content-type': 'application/json' };

function send(
  method: string,
  path: string,
  headers: Record<string, string>,
  body = '',
  at: { port: number; tls?: boolean } = { port },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const own = { ...pageHeaders(headers.cookie), ...headers };
    const options = { host: '127.0.0.1', port: at.port, method, path, headers: own, ca: certificates.ui.ca };
    const r = (at.tls === false ? plainRequest : request)(
      { ...options, servername: 'localhost', agent: false } as never,
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(parts).toString(),
          }),
        );
      },
    );
    r.on('error', reject);
    r.end(body);
  });
}

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  send('POST', path, { ...OWN_PAGE, ...headers }, JSON.stringify(body));

async function signIn(token = 'token-of-ann'): Promise<string> {
  const answer = await post('/api/login', { token });
  return remember(answer.headers['set-cookie']?.[0], answer.body);
}

t.test('a user of one namespace sees nothing of another', async (t) => {
  const answer = await post('/api/login', { token: ' token-of-ann\n' });
  t.equal(answer.status, 200);
  const [cookie] = answer.headers['set-cookie'] ?? [];
  t.match(cookie, /^__Host-egress-ui=[\w-]{43}; HttpOnly; Secure; SameSite=Strict; Path=\/$/);
  const own = { cookie: remember(cookie, answer.body) };
  t.match((await send('GET', '/api/session', { ...OWN_PAGE, ...own })).body, /"user":"ann"/);
  for (const [path, body] of [
    ['policies', {}],
    ['status', {}],
    ['namespaces', {}],
    ['recommend', {}],
    ['policy', { policy: `np/${OWN}/web` }],
  ] as const) {
    const { status, body: text } = await post(`/api/${path}`, body, own);
    t.equal(status, 200, path);
    t.match(text, /shop|node-a/, path);
    t.notMatch(text, new RegExp(HUSH), path);
  }
});

t.test('whoever has no session gets nothing', async (t) => {
  const cookie = await signIn();
  const names = ['session', 'stream', 'read', ...Object.keys(allHandlers(client, () => ''))];
  for (const name of names) {
    for (const more of [{}, { cookie: '__Host-egress-ui=x' }, { authorization: 'Bearer token-of-ann' }]) {
      const { status, body } = await send(
        name === 'session' ? 'GET' : 'POST',
        `/api/${name}`,
        { ...OWN_PAGE, ...more } as never,
        name === 'session' ? '' : '{}',
      );
      t.equal(status, 401, `${name} ${JSON.stringify(more)}`);
      t.strictSame(JSON.parse(body), {
        error: 'this page has no session',
        signIn: true,
        hint: 'kubectl create token NAME',
      });
    }
  }
  for (const [what, headers] of Object.entries({
    'a rebound name': { ...OWN_PAGE, host: 'evil.example.com', origin: 'https://evil.example.com' },
    'a name that only begins like one': { ...OWN_PAGE, host: 'localhost.evil.example.com' },
    'a name that only ends like one': { ...OWN_PAGE, host: 'evil-ui.example.com' },
    'no name': { ...OWN_PAGE, host: '' },
    'another page': { ...OWN_PAGE, origin: 'https://evil.example.com' },
    'a page of another port': { ...OWN_PAGE, origin: 'https://localhost:1' },
    'a page without TLS': { ...OWN_PAGE, origin: `http://${HOST}` },
    'a page of nobody': { ...OWN_PAGE, origin: 'null' },
    'no page': { host: HOST, 'content-type': 'application/json' },
    'another site': { ...OWN_PAGE, 'sec-fetch-site': 'cross-site' },
    'a neighbour': { ...OWN_PAGE, 'sec-fetch-site': 'same-site' },
  })) {
    const { status, body } = await send('POST', '/api/policies', { ...headers, cookie } as never, '{}');
    t.equal(status, 403, what);
    t.notMatch(body, /shop/, what);
    t.equal((await send('POST', '/api/login', headers as never, '{"token":"token-of-ann"}')).status, 403, what);
  }
  t.equal(
    (await send('POST', '/api/policies', { ...OWN_PAGE, cookie, 'content-type': 'text/plain' }, '{}')).status,
    415,
  );
  t.equal((await send('GET', '/api/policies', { host: HOST, cookie })).status, 405);
  const elsewhere = { host: HOST, cookie, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' };
  t.equal((await send('GET', '/api/session', elsewhere)).status, 403, 'a picture on another page');
  for (const host of ['ui.example.com', 'UI.example.com:8443', `127.0.0.1:${port}`, '[::1]:1'])
    t.equal(
      (
        await send(
          'POST',
          '/api/policies',
          { ...OWN_PAGE, host, origin: `https://${host.toLowerCase()}`, cookie },
          '{}',
        )
      ).status,
      200,
      host,
    );
  for (const path of [
    '//',
    '//evil/api/policies',
    'http://[',
    '/%',
    '/api/../api/policies',
    '/api/__proto__',
    '/api/constructor',
  ])
    t.ok([400, 401, 403, 404, 405].includes((await send('POST', path, OWN_PAGE, '{}')).status), path);
  t.strictSame(
    logged.filter((line) => line.includes('failed')),
    [],
    'none of it is an error of the server',
  );
});

t.test('wrong tokens: one answer', async (t) => {
  const other = made();
  const at = { port: await other.listen({ host: '127.0.0.1', port: 0, names: [], tlsDir: dir }) };
  t.teardown(() => other.close());
  const host = `localhost:${at.port}`;
  const login = (token: unknown) =>
    send('POST', '/api/login', { ...OWN_PAGE, host, origin: `https://${host}` }, JSON.stringify({ token }), at);
  const answers = [];
  for (const token of ['wrong', '', ' ', 'a b c', 'x'.repeat(9000), 'token-of-ann\0', '../../x', '{}', 'null', 'ü'])
    answers.push(await login(token));
  t.strictSame(
    [...new Set(answers.map((a) => `${a.status} ${a.body}`))],
    ['401 {"error":"this token is not good here","signIn":true}'],
  );
  t.equal((await login('token-of-ann')).status, 200, 'which keeps no good one out');
  t.equal((await login(7)).status, 400);
  t.notMatch(logged.join('\n'), /token-of-ann|wrong/, 'no token is logged');
  t.notMatch(answers.map((a) => a.body).join(), /token-of-ann/);
});

t.test('a session is over with its token, and with signing out', async (t) => {
  const cookie = await signIn();
  const status = async () => (await post('/api/namespaces', {}, { cookie })).status;
  t.equal(await status(), 200);
  api.mood = 'broken';
  now += 60_000;
  const away = await post('/api/namespaces', {}, { cookie });
  t.equal(away.status, 502, 'nobody can say');
  t.match(away.body, /cannot be decided/);
  api.mood = 'well';
  t.equal(await status(), 200, 'which is no end');
  api.accounts.delete('token-of-ann');
  now += 60_000;
  const over = await post('/api/namespaces', {}, { cookie });
  t.equal(over.status, 401);
  t.match(over.body, /"signIn":true/);
  api.accounts.set('token-of-ann', { username: 'ann' });
  t.equal(await status(), 401, 'and stays over');

  const next = await signIn();
  const second = await signIn();
  const stream = send(
    'POST',
    '/api/stream',
    { ...OWN_PAGE, cookie: second },
    JSON.stringify({ edges: true, window: '7d' }),
  );
  await until('it has begun', () => asked.some(({ method }) => method === 'edges'));
  const out = await post('/api/logout', {}, { cookie: next });
  t.match(out.headers['set-cookie']?.[0], /^__Host-egress-ui=; .*Max-Age=0$/);
  t.equal((await post('/api/namespaces', {}, { cookie: next })).status, 401);
  t.equal((await post('/api/namespaces', {}, { cookie: second })).status, 401, 'every session of the token');
  t.equal((await stream).status, 200, 'and its streams end');
});

t.test('a proxy that brings the token', async (t) => {
  const other = made(true);
  const at = {
    port: await other.listen({ host: '127.0.0.1', port: 0, names: ['ui.example.com'], tlsDir: undefined }),
    tls: false,
  };
  t.teardown(() => other.close());
  const browser = { host: 'ui.example.com', origin: 'https://ui.example.com', 'content-type': 'application/json' };
  const ask = (headers: object) => send('POST', '/api/namespaces', { ...browser, ...headers } as never, '{}', at);
  const good = await ask({ authorization: 'Bearer token-of-ann' });
  t.equal(good.status, 200);
  t.match(good.body, /shop/);
  t.notMatch(good.body, /vault/);
  for (const headers of [
    { authorization: 'Bearer wrong' },
    { authorization: 'Basic YTpi' },
    { authorization: 'token-of-ann' },
    { 'x-forwarded-user': 'ann', 'x-forwarded-groups': 'system:masters', 'x-remote-user': 'ann' },
    {},
  ])
    t.equal((await ask(headers)).status, 401, JSON.stringify(headers));
  t.equal((await ask({ authorization: 'Bearer token-of-ann', origin: 'https://evil.example.com' })).status, 403);
  const [cookie] =
    (await send('POST', '/api/login', browser, '{"token":"token-of-ann"}', at)).headers['set-cookie'] ?? [];
  const bad = await ask({ authorization: 'Bearer wrong', cookie: cookie?.split(';')[0] });
  t.equal(bad.status, 401, 'a session does not stand in for a token that is not good');
});

t.test('the certificate is replaced', async (t) => {
  const serial = (socket: TLSSocket) => (socket.getPeerCertificate() as PeerCertificate).serialNumber;
  const shown = () =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', rejectUnauthorized: false }, () => {
        resolve(serial(socket));
        socket.destroy();
      });
      socket.on('error', reject);
    });
  const first = await shown();
  writeFileSync(join(dir, 'tls.key'), 'nonsense');
  await until('it says so', () => logged.some((line) => line.includes('keeping the certificate')));
  t.equal(await shown(), first, 'what cannot be used changes nothing');
  write((await makeCertificates('egress-system')).ui);
  await until('another is shown', async () => (await shown()) !== first);
  write(certificates.ui);
  t.throws(() => readCertificate(join(dir, 'nowhere')), { code: 'AGENT' });
  followCertificate(dir, readCertificate(dir), { changed: () => t.fail(), trouble: () => t.fail() }, 1)();
});
