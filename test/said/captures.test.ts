/** What real clients say: their first bytes, caught by plain listeners. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { readHello } from '../../src/said/hello.js';
import { type HttpEvent, HttpStream } from '../../src/said/http.js';
import { StatusReader } from '../../src/said/http-status.js';
import { QuicFlow, type QuicResult } from '../../src/said/quic.js';
import { firstSaid } from '../../src/said/said.js';

const has = (command: string): boolean => spawnSync('which', [command]).status === 0;
const skipWithout = (command: string) => (has(command) ? {} : { skip: `${command} is not installed` });

/** Runs a client; it is killed when its first bytes have been read. */
function start(command: string, args: readonly string[]): ChildProcess {
  return spawn(command, args, { stdio: ['ignore', 'ignore', 'ignore'] });
}

/** A client's bytes up to where `isDone` says, with what `answer` sends on the way. */
async function caught(
  client: (port: number) => ChildProcess,
  isDone: (bytes: Buffer) => boolean,
  answer: (bytes: Buffer, socket: Socket) => void = () => undefined,
): Promise<Buffer> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const child = client((server.address() as AddressInfo).port);
  const bytes = await new Promise<Buffer>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the client said too little')), 30_000);
    server.on('connection', (socket) => {
      let read = Buffer.alloc(0);
      socket.on('error', () => undefined);
      socket.on('data', (data) => {
        read = Buffer.concat([read, data]);
        answer(read, socket);
        if (!isDone(read)) return;
        clearTimeout(timer);
        socket.destroy();
        resolve(read);
      });
    });
  }).finally(() => {
    child.kill('SIGKILL');
    server.close();
  });
  return bytes;
}

const NODE_TLS = (options: string) => `require('tls').connect(${options}).on('error', () => {})`;
const name = 'www.example.com';

t.test('TLS', async (t) => {
  const clients: Record<string, { run: (port: number) => ChildProcess; serverName?: string; alpn?: string[] }> = {
    'openssl s_client': {
      run: (p) => start('openssl', ['s_client', '-connect', `127.0.0.1:${p}`, '-servername', 'WWW.example.COM']),
      serverName: name,
    },
    'openssl without a name': {
      run: (p) => start('openssl', ['s_client', '-connect', `127.0.0.1:${p}`, '-noservername']),
    },
    'openssl, TLS 1.2 only': {
      run: (p) =>
        start('openssl', ['s_client', '-tls1_2', '-connect', `127.0.0.1:${p}`, '-servername', name, '-alpn', 'h2']),
      serverName: name,
      alpn: ['h2'],
    },
    curl: {
      run: (p) =>
        start('curl', ['-ks', '--noproxy', '*', '--resolve', `${name}:${p}:127.0.0.1`, `https://${name}:${p}/`]),
      serverName: name,
      alpn: ['h2', 'http/1.1'],
    },
    'curl to an address': {
      run: (p) => start('curl', ['-ks', '--noproxy', '*', `https://127.0.0.1:${p}/`]),
      alpn: ['h2', 'http/1.1'],
    },
    wget: {
      run: (p) => start('wget', ['-q', '--no-proxy', '--no-check-certificate', `https://localhost:${p}/`]),
      serverName: 'localhost',
      alpn: [],
    },
    python3: {
      run: (p) =>
        start('python3', [
          '-c',
          `import socket,ssl\nssl.create_default_context().wrap_socket(socket.create_connection(("127.0.0.1",${p})),server_hostname="${name}")`,
        ]),
      serverName: name,
    },
    node: {
      run: (p) =>
        start(process.execPath, [
          '-e',
          NODE_TLS(`{port:${p},host:'127.0.0.1',servername:'${name}',ALPNProtocols:['x']}`),
        ]),
      serverName: name,
      alpn: ['x'],
    },
  };
  for (const [client, { run, serverName, alpn = [] }] of Object.entries(clients)) {
    await t.test(client, client === 'node' ? {} : skipWithout(client.split(/[ ,]/)[0]!), async (t) => {
      const bytes = await caught(run, (read) => readHello(read).state !== 'more');
      const hello = readHello(bytes);
      t.match(hello, { state: 'hello', length: bytes.length, earlyData: false, ech: false, alpn });
      t.equal('serverName' in hello ? hello.serverName : undefined, serverName);
      for (let end = 0; end < bytes.length; end++)
        if (readHello(bytes.subarray(0, end)).state !== 'more') return t.fail(`not "more" at ${end}`);
      t.match(firstSaid(bytes), { state: 'said', said: { kind: 'tls', serverName }, length: bytes.length });
    });
  }
});

t.test('HTTP', async (t) => {
  const curl =
    (...args: string[]) =>
    (p: number) =>
      start('curl', [
        '-s',
        '--noproxy',
        '*',
        '--resolve',
        `${name}:${p}:127.0.0.1`,
        ...args.map((a) => a.replace('@', `${name}:${p}`)),
      ]);
  const script = (text: string) => (p: number) => start(process.execPath, ['-e', text.replaceAll('PORT', String(p))]);
  const clients: Record<string, [run: (port: number) => ChildProcess, want: object, state: string]> = {
    'curl: GET': [curl('http://@/a/../b?c=d'), { method: 'GET', path: '/b?c=d' }, 'head'],
    'curl: HTTP/1.0': [curl('-0', 'http://@/'), { version: '1.0', path: '/' }, 'head'],
    'curl: POST': [curl('-d', 'x=1', 'http://@/p'), { method: 'POST', path: '/p' }, 'head'],
    'curl: POST in chunks': [
      curl('-H', 'Transfer-Encoding: chunked', '-d', 'x=1', 'http://@/p'),
      { method: 'POST', headers: [] },
      'head',
    ],
    'curl: a large POST, after 100': [
      curl('-H', 'Expect: 100-continue', '-d', 'x'.repeat(3000), 'http://@/p'),
      { method: 'POST' },
      'head',
    ],
    'curl: upgrade to h2c': [curl('--http2', 'http://@/'), { method: 'GET', path: '/' }, 'head'],
    'curl: through a proxy': [
      (p) => start('curl', ['-s', '-x', `http://127.0.0.1:${p}`, `http://${name}/a?b`]),
      { target: `http://${name}/a?b`, path: '/a?b', host: name },
      'head',
    ],
    'curl: CONNECT': [
      (p) => start('curl', ['-s', '-p', '-x', `http://127.0.0.1:${p}`, `http://${name}/a`]),
      { method: 'CONNECT', path: '', host: `${name}:80` },
      'await-2xx',
    ],
    wget: [(p) => start('wget', ['-q', '--no-proxy', `http://localhost:${p}/w`]), { path: '/w' }, 'head'],
    python3: [
      (p) => start('python3', ['-c', `import urllib.request as u\nu.urlopen("http://127.0.0.1:${p}/%41b")`]),
      {},
      'denied',
    ],
    'node: fetch': [
      script("fetch('http://127.0.0.1:PORT/f', {method: 'PUT', body: 'abc'})"),
      { path: '/f', method: 'PUT' },
      'head',
    ],
    'node: http in chunks': [
      script(
        "const r = require('http').request({port: PORT, host: '127.0.0.1', method: 'POST', path: '/n'}); r.write('a'); r.end('b')",
      ),
      { path: '/n', method: 'POST' },
      'head',
    ],
  };
  for (const [client, [run, want, state]] of Object.entries(clients)) {
    const command = client.split(':')[0]!;
    await t.test(client, command === 'node' ? {} : skipWithout(command), async (t) => {
      const isOver = (events: HttpEvent[]) => events.some(({ kind }) => kind === 'end' || kind === 'denied');
      let hasContinued = false;
      const bytes = await caught(
        run,
        (read) => isOver(new HttpStream().push(read)),
        (_, socket) => {
          if (!hasContinued) socket.write('HTTP/1.1 100 Continue\r\n\r\n');
          hasContinued = true;
        },
      );
      const stream = new HttpStream();
      const [first, last] = stream.push(bytes);
      t.equal(stream.state, state);
      if (state === 'denied') return t.match(first, { kind: 'denied', why: 'path' });
      t.match(first, { kind: 'request', number: 0, request: want });
      t.match(last, { kind: 'end', at: bytes.length });
    });
  }
  await t.test('curl: HTTP/2 with prior knowledge', skipWithout('curl'), async (t) => {
    const bytes = await caught(curl('--http2-prior-knowledge', 'http://@/'), (read) => read.length > 20);
    t.match(firstSaid(bytes), { said: { kind: 'other' } });
  });
  await t.test("answers of Node's server", async (t) => {
    const { createServer: createHttp } = await import('node:http');
    const server = createHttp((_, response) => {
      response.writeProcessing();
      response.end('x');
    });
    server.on('upgrade', (_, socket) => socket.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const ask = async (headers: string): Promise<string[]> => {
      const { connect } = await import('node:net');
      const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
      socket.write(`GET / HTTP/1.1\r\nHost: a\r\n${headers}\r\n`);
      const reader = new StatusReader();
      const told: string[] = [];
      for await (const bytes of socket)
        for (const event of reader.push(bytes)) told.push(event.kind === 'status' ? event.answer : event.kind);
      return told;
    };
    t.same(await ask('Connection: close\r\n'), ['informational', 'success']);
    t.same(await ask('Connection: upgrade\r\nUpgrade: x\r\n'), ['switching']);
    server.close();
  });
});

/** A QUIC client's datagrams, until its hello is complete. */
async function quic(client: (port: number) => ChildProcess): Promise<{ datagrams: Buffer[]; results: QuicResult[] }> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const child = client(socket.address().port);
  const [datagrams, results]: [Buffer[], QuicResult[]] = [[], []];
  const flows = new Map<number, QuicFlow>();
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no hello')), 60_000);
    socket.on('message', (datagram, { port }) => {
      const flow = flows.get(port) ?? new QuicFlow();
      flows.set(port, flow);
      const result = flow.datagram(datagram);
      datagrams.push(datagram);
      results.push(result);
      if (result.state === 'more') return;
      clearTimeout(timer);
      resolve();
    });
  }).finally(() => {
    child.kill('SIGKILL');
    socket.close();
  });
  return { datagrams, results };
}

t.test('chromium', skipWithout('chromium'), async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'said-'));
  t.teardown(async () => {
    // Its children outlive it for a moment, and go on writing.
    for (let tries = 0; tries < 40; tries++) {
      try {
        return rmSync(home, { recursive: true, force: true });
      } catch {
        await sleep(250);
      }
    }
  });
  const chromium = (...args: string[]) =>
    start('chromium', [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--no-proxy-server',
      `--user-data-dir=${mkdtempSync(join(home, 'profile-'))}`,
      ...args,
    ]);
  const rules = `--host-resolver-rules=MAP ${name} 127.0.0.1`;

  await t.test('TCP', async (t) => {
    const bytes = await caught(
      (p) => chromium(rules, `https://${name}:${p}/`),
      (read) => readHello(read).state !== 'more',
    );
    const hello = readHello(bytes);
    t.match(hello, { state: 'hello', serverName: name, length: bytes.length });
    t.comment(`${bytes.length} bytes`, hello);
  });
  await t.test('QUIC', async (t) => {
    const { datagrams, results } = await quic((p) =>
      chromium(rules, '--enable-quic', `--origin-to-force-quic-on=${name}:${p}`, `https://${name}:${p}/`),
    );
    t.match(results.at(-1), { state: 'hello', hellos: [{ serverName: name, number: 0, alpn: ['h3'] }] });
    t.comment(`${datagrams.length} datagrams`, results.at(-1));
  });
});
