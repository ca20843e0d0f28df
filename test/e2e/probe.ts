/**
 * What runs in the pods of the end-to-end test: a server, or a client that is driven line by line.
 *
 *   node probe.mjs serve NAME tcp:8080 udp:5353 …   greets each connection with NAME, echoes every line; with tls:PORT:FILE (a key and
 *                                                   a certificate) and http:PORT, prints each server name and each request
 *   node probe.mjs control                          one JSON request a line on stdin, one answer a line on stdout
 *   node probe.mjs steady HOST PORT MS EVERY       connects again and again; prints each second what came of it so far
 *   node probe.mjs first HOST PORT MS               connects at once, prints what came of it, and stays
 */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';

interface Request {
  id: number;
  op: 'tcp' | 'udp' | 'tls' | 'http' | 'open' | 'ping' | 'steady' | 'stop';
  host?: string;
  port?: number;
  timeout?: number;
  handle?: number;
  everyMs?: number;
  /** The server name of a hello; the host of a request. */
  name?: string;
  method?: string;
  path?: string;
}

const [mode, ...args] = process.argv.slice(2);

function serve(name: string, ports: readonly string[]): void {
  for (const text of ports) {
    const [protocol, port, file] = text.split(':');
    if (protocol === 'udp') {
      const socket = createSocket('udp4');
      socket.on('message', (_, from) => socket.send(name, from.port, from.address));
      socket.bind(Number(port));
      continue;
    }
    const told = (what: string) => process.stdout.write(`${what}\n`);
    if (protocol === 'http') {
      createHttpServer((asked, answer) => {
        told(`${asked.method} ${asked.headers.host}${asked.url}`);
        answer.end(name);
      }).listen(Number(port));
      continue;
    }
    const greet = (socket: Socket) => {
      socket.on('error', () => undefined);
      socket.write(`${name}\n`);
      socket.pipe(socket);
    };
    if (protocol === 'tls') {
      const pem = readFileSync(file as string);
      const SNICallback = (server: string, done: (error: null) => void) => {
        told(`tls ${server}`);
        done(null);
      };
      createTlsServer({ key: pem, cert: pem, SNICallback }, greet).listen(Number(port));
    } else createServer(greet).listen(Number(port));
  }
}

function failure(e: NodeJS.ErrnoException): string {
  if (e.code === 'ECONNREFUSED') return 'refused';
  if (e.code === 'ECONNRESET') return 'reset';
  if (e.code === 'EHOSTUNREACH' || e.code === 'ENETUNREACH') return 'unreachable';
  return e.code ?? e.message;
}

/** One line from a connection; how it failed otherwise. */
function line(socket: Socket, timeout: number, write?: string): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const done = (result: string) => {
      clearTimeout(timer);
      socket.off('data', data);
      socket.off('error', error);
      socket.off('close', closed);
      resolve(result);
    };
    const data = (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes('\n')) done(`ok ${text.trim()}`);
    };
    const error = (e: NodeJS.ErrnoException) => done(failure(e));
    const closed = () => done('closed');
    const timer = setTimeout(() => done('timeout'), timeout);
    socket.on('data', data);
    socket.on('error', error);
    socket.on('close', closed);
    if (write !== undefined) socket.write(write);
  });
}

async function tcp(host: string, port: number, timeout: number): Promise<string> {
  const socket = connect({ host, port });
  const result = await line(socket, timeout);
  socket.on('error', () => undefined);
  socket.destroy();
  return result;
}

/** One line over TLS. @param name of the server; empty: none is said */
async function tls(host: string, port: number, timeout: number, name: string): Promise<string> {
  const socket = connectTls({ host, port, ...(name === '' ? {} : { servername: name }), rejectUnauthorized: false });
  const result = await line(socket, timeout);
  socket.on('error', () => undefined);
  socket.destroy();
  return result.split(' ')[0] as string;
}

/** `403 Access denied`; how it failed otherwise. */
function http({ host, port, timeout = 1500, name = '', method, path }: Request): Promise<string> {
  return new Promise((resolve) => {
    const options = { host, port, method, path, headers: { host: name }, timeout, agent: false };
    const asked = request(options, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve(`${response.statusCode} ${text.trim()}`));
      response.on('error', (e) => resolve(failure(e)));
    });
    asked.on('timeout', () => asked.destroy(new Error('timeout')));
    asked.on('error', (e) => resolve(failure(e)));
    asked.end();
  });
}

function udp(host: string, port: number, timeout: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const done = (result: string) => {
      clearTimeout(timer);
      socket.close();
      resolve(result);
    };
    const timer = setTimeout(() => done('timeout'), timeout);
    socket.on('error', (e) => done(failure(e)));
    socket.on('message', (message) => done(`ok ${message.toString()}`));
    socket.send('hello', port, host);
  });
}

const handles = new Map<number, Socket>();
const loops = new Map<number, { stop: () => void; results: Record<string, number> }>();
let next = 1;

async function answer(r: Request): Promise<unknown> {
  const { host = '', port = 0, timeout = 1500 } = r;
  switch (r.op) {
    case 'tcp':
      return tcp(host, port, timeout);
    case 'udp':
      return udp(host, port, timeout);
    case 'tls':
      return tls(host, port, timeout, r.name ?? '');
    case 'http':
      return http(r);
    case 'open': {
      const socket = connect({ host, port });
      const greeting = await line(socket, timeout);
      if (!greeting.startsWith('ok')) return greeting;
      socket.on('error', () => undefined);
      handles.set(next, socket);
      return next++;
    }
    case 'ping': {
      const socket = handles.get(r.handle ?? 0);
      return socket && !socket.destroyed ? line(socket, timeout, 'ping\n') : 'closed';
    }
    case 'steady': {
      // New connections one after the other, for as long as it is not stopped.
      const results: Record<string, number> = {};
      let going = true;
      const loop = async () => {
        while (going) {
          const result = (await tcp(host, port, timeout)).split(' ')[0] as string;
          results[result] = (results[result] ?? 0) + 1;
          await new Promise((resolve) => setTimeout(resolve, r.everyMs ?? 20));
        }
      };
      const ended = loop();
      loops.set(next, {
        stop: () => {
          going = false;
          void ended;
        },
        results,
      });
      return next++;
    }
    case 'stop': {
      const found = loops.get(r.handle ?? 0);
      found?.stop();
      return found?.results;
    }
    default:
      return r.op satisfies never;
  }
}

if (mode === 'serve') {
  serve(args[0] as string, args.slice(1));
} else if (mode === 'steady') {
  const [host, port, ms, every] = args;
  const results: Record<string, number> = {};
  setInterval(() => process.stdout.write(`${JSON.stringify(results)}\n`), 1000);
  for (;;) {
    const result = (await tcp(host as string, Number(port), Number(ms))).split(' ')[0] as string;
    results[result] = (results[result] ?? 0) + 1;
    await new Promise((resolve) => setTimeout(resolve, Number(every)));
  }
} else if (mode === 'first') {
  const [host, port, ms] = args;
  process.stdout.write(`${await tcp(host as string, Number(port), Number(ms))}\n`);
  setInterval(() => undefined, 1 << 30);
} else {
  createInterface({ input: process.stdin }).on('line', (text) => {
    const request = JSON.parse(text) as Request;
    void answer(request).then((result) => process.stdout.write(`${JSON.stringify({ id: request.id, result })}\n`));
  });
  process.stdin.on('end', () => process.exit(0));
}
process.on('SIGTERM', () => process.exit(0));
