/** Syslog in datagrams: UDP (RFC 5426), and unix sockets such as /dev/log. */
import { createSocket, type Socket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { again, type Outcome } from '../base/sink.js';
import type { SyslogSpec } from '../base/spec.js';
import type { SyslogTransport } from './syslog.js';

/** Datagrams that are sent at once. */
const AT_ONCE = 32;
/** A name is looked up again after so many milliseconds, as nothing tells that its address has changed. */
const LOOKUP_MS = 60_000;
const LOOKUP_LIMIT_MS = 5000;

export class SyslogUdp implements SyslogTransport {
  readonly #spec: SyslogSpec;
  #socket: Socket | undefined;
  #until = 0;
  #fault: Error | undefined;

  constructor(spec: SyslogSpec) {
    this.#spec = spec;
  }

  /** Resolves when the kernel has taken the datagrams. What is lost on the way is not known. */
  async send(batch: readonly Buffer[]): Promise<Outcome> {
    let done = 0;
    try {
      if (this.#socket && Date.now() > this.#until) this.close();
      this.#socket ??= await this.#open();
      for (; done < batch.length; done += AT_ONCE) {
        // A connected socket hears that nobody listens, if somebody says so.
        if (this.#fault) throw this.#fault;
        const socket = this.#socket;
        await Promise.all(batch.slice(done, done + AT_ONCE).map((message) => sent(socket, message)));
      }
      return { done: true, refused: 0 };
    } catch (e) {
      this.close();
      return again(e, Math.min(done, batch.length));
    }
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
    this.#fault = undefined;
  }

  async #open(): Promise<Socket> {
    const { host, port } = this.#spec;
    const found = await Promise.race([lookup(host), sleep(LOOKUP_LIMIT_MS, undefined, { ref: false })]);
    if (!found) throw new Error(`no address of ${host} within ${LOOKUP_LIMIT_MS / 1000} s`);
    const socket = createSocket(found.family === 6 ? 'udp6' : 'udp4');
    socket.on('error', (e) => {
      this.#fault = e;
    });
    await new Promise<void>((resolve, reject) => {
      // dgram gives errors of connect() to its callback, which its types do not tell.
      socket.connect(port, found.address, ((e?: Error) => (e ? reject(e) : resolve())) as () => void);
    });
    this.#until = Date.now() + LOOKUP_MS;
    return socket;
  }
}

function sent(socket: Socket, message: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(message, (e) => (e ? reject(e) : resolve()));
  });
}

/** A connected datagram socket. Node.js has none for paths. */
export interface UnixDatagram {
  /** @returns false: its queue is full. @throws if nobody is there */
  send(message: Buffer): boolean;
  close(): void;
}

export type OpenUnixDatagram = (path: string) => UnixDatagram;

/** Pause after which a full queue is tried again, and for how long, in milliseconds. */
const FULL_MS = 1;
const FULL_LIMIT_MS = 5000;

export class SyslogUnix implements SyslogTransport {
  readonly #path: string;
  readonly #openSocket: OpenUnixDatagram;
  #socket: UnixDatagram | undefined;

  constructor(path: string, open: OpenUnixDatagram) {
    this.#path = path;
    this.#openSocket = open;
  }

  async send(batch: readonly Buffer[], signal: AbortSignal): Promise<Outcome> {
    let done = 0;
    try {
      this.#socket ??= this.#openSocket(this.#path);
      const deadline = Date.now() + FULL_LIMIT_MS;
      while (done < batch.length) {
        if (this.#socket.send(batch[done] as Buffer)) done++;
        else if (signal.aborted || Date.now() > deadline) throw new Error(`${this.#path} is not read`);
        else await sleep(FULL_MS);
      }
      return { done: true, refused: 0 };
    } catch (e) {
      this.close();
      return again(e, done);
    }
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }
}
