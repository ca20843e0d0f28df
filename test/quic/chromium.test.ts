/** A browser and a server as people run them; what passes between them is what bpf/quic_flow.h lets pass. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { until } from '../netns/shell.js';
import { type Flow, FlowBed, VERDICT } from './flow-bed.js';

const NAME = 'www.example.test';
/** What the program is given: it tests with one page at most. */
const MOST = 3000;

const missing = ['chromium', 'caddy', 'openssl'].find((command) => spawnSync('which', [command]).status !== 0);

/** A UDP port that is free now. */
async function freePort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}

interface Told {
  readonly verdicts: number[];
  judged: number;
  /** Datagrams of the server that are as large as those with its hello must be; acknowledgements are not. */
  answers: number;
  /** Whether the last packet left the flow with a buffer. */
  holds: boolean;
}

/** Hands on datagrams between a client and the server at a port, as far as they pass. */
async function between(
  t: Test,
  bed: FlowBed,
  server: number,
  each: 'allow' | 'deny',
): Promise<{ port: number; told: Told }> {
  const told: Told = { verdicts: [], judged: 0, answers: 0, holds: false };
  const clients = new Map<number, { flow: Flow; behind: Socket }>();
  const front = createSocket('udp4').bind(0, '127.0.0.1');
  await once(front, 'listening');
  t.teardown(() => {
    front.close();
    for (const { behind } of clients.values()) behind.close();
  });
  const begin = (client: number) => {
    const made = { flow: bed.flow(1, each), behind: createSocket('udp4') };
    made.behind.on('message', (answer) => {
      if (answer.length >= 1200) told.answers++;
      made.flow.receive(answer.subarray(0, MOST));
      front.send(answer, client, '127.0.0.1');
    });
    clients.set(client, made);
    return made;
  };
  front.on('message', (datagram, { port }) => {
    const { flow, behind } = clients.get(port) ?? begin(port);
    const { verdict, judged } = flow.send(datagram);
    told.verdicts.push(verdict);
    if (judged) told.judged++;
    told.holds = flow.holds();
    if (verdict === VERDICT.pass) behind.send(datagram, server, '127.0.0.1');
  });
  return { port: (front.address() as AddressInfo).port, told };
}

/** Starts a server for HTTP/3 that says by what it was asked. @returns its port, and the hash of its public key */
async function serve(t: Test, dir: string): Promise<{ port: number; key: string }> {
  const files = { cert: join(dir, 'cert.pem'), key: join(dir, 'key.pem'), config: join(dir, 'Caddyfile') };
  const openssl = (command: string, input?: Buffer) =>
    execFileSync('openssl', command.split(' '), { input, stdio: ['pipe', 'pipe', 'ignore'] });
  openssl(
    `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -subj /CN=${NAME}` +
      ` -addext subjectAltName=DNS:${NAME} -keyout ${files.key} -out ${files.cert}`,
  );
  const publicKey = openssl('pkey -pubin -outform der', openssl(`x509 -in ${files.cert} -pubkey -noout`));
  const port = await freePort();
  writeFileSync(
    files.config,
    `{\n\tauto_https off\n\tadmin off\n}\nhttps://${NAME}:${port} {\n\ttls ${files.cert} ${files.key}\n` +
      '\trespond "by {http.request.proto}"\n}\n',
  );
  const caddy = spawn('caddy', ['run', '--adapter', 'caddyfile', '--config', files.config], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir },
  });
  t.teardown(() => caddy.kill('SIGKILL'));
  let log = '';
  caddy.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  await until('the server runs', () => log.includes('serving initial configuration'), 30_000);
  return { port, key: openssl('dgst -sha256 -binary', publicKey).toString('base64') };
}

/** What a browser shows that knows no way but QUIC. */
async function browse(dir: string, port: number, key: string): Promise<string> {
  const browser = spawn(
    'chromium',
    [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      `--user-data-dir=${join(dir, `profile-${port}`)}`,
      `--ignore-certificate-errors-spki-list=${key}`,
      `--origin-to-force-quic-on=${NAME}:${port}`,
      `--host-resolver-rules=MAP ${NAME} 127.0.0.1`,
      '--dump-dom',
      `https://${NAME}:${port}/`,
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  let page = '';
  browser.stdout.setEncoding('utf8').on('data', (text: string) => {
    page += text;
  });
  const timer = setTimeout(() => browser.kill('SIGKILL'), 60_000);
  await once(browser, 'close');
  clearTimeout(timer);
  return page;
}

t.test('a page over QUIC', missing === undefined ? {} : { skip: `${missing} is not installed` }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ea-quic-'));
  const bed = new FlowBed();
  t.teardown(() => {
    bed.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  });
  const server = await serve(t, dir);
  const allowed = await between(t, bed, server.port, 'allow');
  t.match(await browse(dir, allowed.port, server.key), 'by HTTP/3');
  t.ok(allowed.told.judged >= 1, 'its hello was judged');
  t.same(
    allowed.told.verdicts.filter((v) => v !== VERDICT.pass),
    [],
    'nothing had to be sent again',
  );
  t.ok(allowed.told.answers >= 1);
  t.notOk(allowed.told.holds, 'nothing is kept of it');

  const denied = await between(t, bed, server.port, 'deny');
  t.notMatch(await browse(dir, denied.port, server.key), 'by HTTP/3');
  t.ok(denied.told.judged >= 1);
  t.equal(denied.told.answers, 0, 'the server has not understood it');
});
