/**
 * What lax servers make of damaged bytes. They get what would pass: all up to the byte for which a stream is denied.
 * No server may then have understood more, or something else, than was told; these servers repeat what they understood.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttp } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { createServer as createTls, type SecureContext } from 'node:tls';
import fc from '../seeded.js';
import t from 'tap';
import { readHello } from '../../src/said/hello.js';
import { HttpStream } from '../../src/said/http.js';
import type { HttpRequest } from '../../src/said/http-head.js';
import { damagedStream } from './http-streams.js';
import { alpn, type Extension, get, makeHello, records, serverName } from './make.js';

const numRuns = Number(process.env.RUNS ?? 600);

/** How long a connection is kept open that must not be ended, after the last answer, in milliseconds. */
const PATIENCE = 30;

/** Sends bytes and returns all that came back. @param ends whether the client ends its side behind them */
async function exchange(port: number, bytes: Uint8Array, ends = true): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  const back: Buffer[] = [];
  const timer = ends ? undefined : setTimeout(() => socket.destroy(), PATIENCE);
  socket.on('error', () => undefined);
  socket.on('data', (data) => {
    back.push(data);
    timer?.refresh();
  });
  if (ends) socket.end(bytes);
  else socket.write(bytes);
  await once(socket, 'close').catch(() => undefined);
  return Buffer.concat(back).toString('latin1');
}

/** A request as a server understood it. */
interface Understood {
  method: string;
  target: string;
  host: string | null;
}

/** What a server writes for each request, and how it is read again. */
const MARK = /@@(\{.*?\})@@/g;
const understood = (text: string): Understood[] => [...text.matchAll(MARK)].map(([, json]) => JSON.parse(json!));

const PYTHON = `
import http.server, json, re
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args):
        pass
    def __getattr__(self, name):
        if re.fullmatch('do_[-A-Za-z0-9!#$%&*+.^_|~][!-~]*', name):
            return self.any
        raise AttributeError(name)
    def any(self):
        length = self.headers.get('Content-Length') if getattr(self, 'headers', None) else None
        if length:
            self.rfile.read(int(length))
        host = self.headers.get('Host') if getattr(self, 'headers', None) else None
        said = {'method': self.command, 'target': self.path, 'host': host}
        body = ('@@' + json.dumps(said) + '@@').encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args):
        pass
server = Server(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
`;

/** What was told of the bytes, and the bytes that would pass. */
function judged(bytes: Buffer): { requests: HttpRequest[]; isOther: boolean; passed: Buffer; mayEnd: boolean } {
  const stream = new HttpStream();
  const events = stream.push(bytes);
  const denied = events.find((e) => e.kind === 'denied');
  return {
    requests: events.flatMap((e) => (e.kind === 'request' ? [e.request] : [])),
    isOther: events.some((e) => e.kind === 'other'),
    passed: denied?.kind === 'denied' ? bytes.subarray(0, denied.at - 1) : bytes,
    mayEnd: denied === undefined && stream.end().length === 0,
  };
}

/** Why the server's understanding is a hole; undefined if it is none. */
function hole(bytes: Buffer, seen: readonly Understood[]): string | undefined {
  const { requests, isOther } = judged(bytes);
  if (isOther) return seen.some(({ host }) => host !== null) ? 'a host in what is no HTTP' : undefined;
  if (seen.length > requests.length) return `${seen.length} requests instead of ${requests.length}`;
  for (const [i, { method, target, host }] of seen.entries()) {
    const request = requests[i]!;
    const hosts = request.headers.filter(([name]) => name === 'host').map(([, value]) => value);
    // Python leaves white space behind a value where it is.
    const same = (host?.replace(/[ \t]+$/, '') ?? null) === (hosts[0] ?? null);
    if (method !== request.method || target !== request.target || !same) return `${method} ${target} of ${host}`;
  }
  return undefined;
}

async function compare(port: number, isFor: (bytes: Buffer) => boolean): Promise<void> {
  let [requests, others, denied] = [0, 0, 0];
  await fc.assert(
    fc.asyncProperty(damagedStream, async (bytes) => {
      if (!isFor(bytes)) return;
      const { isOther, passed, mayEnd } = judged(bytes);
      const seen = understood(await exchange(port, passed, mayEnd));
      requests += seen.length;
      if (isOther) others++;
      if (passed.length < bytes.length) denied++;
      const why = hole(bytes, seen);
      if (why !== undefined) throw new Error(`${why}: ${JSON.stringify(passed.toString('latin1'))}`);
    }),
    { numRuns, endOnFailure: true },
  );
  t.ok(
    requests > numRuns / 10 && others > 0 && denied > numRuns / 10,
    `${requests} requests, ${denied} denied, ${others} no HTTP`,
  );
}

t.test('HTTP: Node, which takes what is invalid', async (t) => {
  const server = createHttp({ insecureHTTPParser: true, requireHostHeader: false }, (request, response) => {
    request.resume();
    const { method, url, headers } = request;
    response.end(`@@${JSON.stringify({ method, target: url, host: headers.host ?? null })}@@`);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  t.same(understood(await exchange(port, Buffer.from(get('GET /x HTTP/1.1')))), [
    { method: 'GET', target: '/x', host: 'a' },
  ]);
  await compare(port, () => true);
  server.close();
  server.closeAllConnections();
});

t.test("HTTP: Python's http.server", async (t) => {
  const child = spawn('python3', ['-c', PYTHON], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  const port = Number(String((await once(child.stdout, 'data'))[0]));
  t.same(understood(await exchange(port, Buffer.from(' GET\x0b/x  HTTP/1.1\nHost: b\n\n'))), [
    { method: 'GET', target: '/x', host: 'b' },
  ]);
  // It does not know chunks, and reads them as requests.
  await compare(port, (bytes) => !/transfer-encoding/i.test(bytes.toString('latin1')));
});

t.test('TLS: OpenSSL, as Node uses it', async (t) => {
  const dir = t.testdir();
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      '/CN=a',
      '-keyout',
      `${dir}/key`,
      '-out',
      `${dir}/cert`,
    ],
    { stdio: 'ignore' },
  );
  const { readFileSync } = await import('node:fs');
  const names: string[] = [];
  const server = createTls({
    key: readFileSync(`${dir}/key`),
    cert: readFileSync(`${dir}/cert`),
    SNICallback: (name: string, done: (error: Error | null, context?: SecureContext) => void) => {
      names.push(name);
      done(null);
    },
  });
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const group: Extension = [10, Buffer.from('0004001d0017', 'hex')];
  const point: Extension = [11, Buffer.from('0100', 'hex')];
  const signatures: Extension = [13, Buffer.from('0004040308040', 'hex').subarray(0, 6)];
  const name = fc.constantFrom('a.example', 'A.Example', 'a.example.', '1.2.3.4', 'a b', 'a..b', '', 'x'.repeat(254));
  const hello = name.map((n) =>
    makeHello({
      session: Buffer.alloc(0),
      suites: Buffer.from('c02bc02cc02f', 'hex'),
      extensions: [group, serverName(n), point, signatures, alpn('h2')],
    }),
  );
  const damage = fc.array(fc.tuple(fc.oneof(fc.nat(), fc.integer({ min: 43, max: 90 })), fc.nat(255), fc.nat(2)), {
    maxLength: 2,
  });
  let understoodNames = 0;
  await fc.assert(
    fc.asyncProperty(
      hello,
      damage,
      fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 4 }),
      async (hello, damage, sizes) => {
        let stream = records(hello, sizes);
        for (const [where, value, how] of damage) {
          const at = where % stream.length;
          if (how === 0) stream[at] = value;
          else
            stream = Buffer.concat([
              stream.subarray(0, at),
              Buffer.from(how === 1 ? [value] : []),
              stream.subarray(at + how - 1),
            ]);
        }
        const read = readHello(stream);
        let end = stream.length;
        if (read.state === 'malformed') while (readHello(stream.subarray(0, end)).state === 'malformed') end--;
        names.length = 0;
        await exchange(port, stream.subarray(0, end));
        understoodNames += names.length;
        if (names.length === 0) return;
        const [seen = ''] = names;
        const isSame = read.state === 'hello' && (read.oddName ?? read.serverName === seen.toLowerCase());
        if (!isSame)
          throw new Error(`${read.state}, but the server read ${JSON.stringify(seen)}: ${stream.toString('hex')}`);
      },
    ),
    { numRuns },
  );
  t.ok(understoodNames > numRuns / 10, `${understoodNames} names understood`);
  server.close();
});
