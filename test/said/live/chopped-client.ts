/**
 * A client of TLS whose first bytes go out in pieces that no library makes: a real handshake, and a request.
 * Says in one line of JSON what became of it.
 *
 *   node chopped-client.js '{"host": …}'
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';

export interface Chopping {
  host: string;
  port: number;
  /** Server name; absent: none. */
  name?: string;
  path: string;
  /** Bytes that a list of protocols adds to the hello. */
  pad?: number;
  /** Bytes of each segment of the first flight. */
  segment?: number;
  /** Handshake bytes of each TLS record of the hello, in order; the last goes on. */
  records?: number[];
  /** Milliseconds between segments. */
  pause?: number;
}

export interface Chopped {
  /** `HTTP/1.1 200 OK`, or the code of an error. */
  result: string;
  /** Of the bytes that TLS gave for the first flight. */
  hello: number;
  /** Milliseconds from the last byte of the first flight that was sent to the end. */
  ms: number;
}

/** The same handshake bytes in records of these sizes. */
function inRecords(flight: Buffer, sizes: readonly number[]): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < flight.length; at += 5 + flight.readUInt16BE(at + 3))
    parts.push(flight.subarray(at + 5, at + 5 + flight.readUInt16BE(at + 3)));
  const message = Buffer.concat(parts);
  const out: Buffer[] = [];
  for (let at = 0, n = 0; at < message.length; n++) {
    const part = message.subarray(at, at + (sizes[Math.min(n, sizes.length - 1)] as number));
    out.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
    at += part.length;
  }
  return Buffer.concat(out);
}

/** What TLS writes into, which writes to the socket piece by piece. */
class Chopper extends Duplex {
  hello = 0;
  /** When a byte of the first flight was sent last. */
  sentAt = performance.now();

  constructor(
    readonly socket: Socket,
    readonly how: Chopping,
  ) {
    super();
    socket.on('data', (data) => void this.push(data));
    socket.on('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(error));
  }

  override _read(): void {}

  override _write(data: Buffer, _: string, done: (error?: Error | null) => void): void {
    if (this.hello > 0) return void this.socket.write(data, done);
    this.hello = data.length;
    this.#chop(this.how.records ? inRecords(data, this.how.records) : data).then(() => done(), done);
  }

  override _final(done: () => void): void {
    this.socket.end(done);
  }

  async #chop(data: Buffer): Promise<void> {
    const { segment = data.length, pause } = this.how;
    for (let at = 0; at < data.length; at += segment) {
      await new Promise<void>((resolve, reject) =>
        this.socket.write(data.subarray(at, at + segment), (error) => (error ? reject(error) : resolve())),
      );
      this.sentAt = performance.now();
      if (pause !== undefined) await sleep(pause);
    }
  }
}

/** Names of protocols that nobody has, with about so many bytes. */
function protocols(bytes: number): string[] {
  const names: string[] = [];
  for (let left = bytes; left > 1; left -= 201) names.push(`${names.length}`.padEnd(Math.min(200, left - 1), 'x'));
  return [...names, 'http/1.1'];
}

const how = JSON.parse(process.argv[2] as string) as Chopping;
const socket = connectTcp({ host: how.host, port: how.port, noDelay: true });
const chopper = new Chopper(socket, how);
function end(result: string): void {
  const said: Chopped = { result, hello: chopper.hello, ms: performance.now() - chopper.sentAt };
  console.log(JSON.stringify(said));
  process.exit();
}
socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
socket.on('connect', () => {
  const names = how.pad ? { ALPNProtocols: protocols(how.pad) } : {};
  const tls = connectTls({ socket: chopper, rejectUnauthorized: false, ...names, servername: how.name ?? '' });
  tls.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  tls.on('end', () => end('closed'));
  tls.write(`GET ${how.path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
  tls.once('data', (data: Buffer) => end(data.toString('latin1').split('\r\n')[0] as string));
});
