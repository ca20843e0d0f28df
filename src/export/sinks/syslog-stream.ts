/** Syslog over TCP (RFC 6587, octet counting) and over TLS (RFC 5425, the same framing). */
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { again, type Outcome, WRITE_MS } from '../base/sink.js';
import type { SyslogSpec } from '../base/spec.js';
import { tlsOptions } from './files.js';
import type { SyslogTransport } from './syslog.js';

export class SyslogStream implements SyslogTransport {
  readonly #spec: SyslogSpec;
  #socket: Socket | undefined;
  #fault: unknown;
  #connected = false;

  constructor(spec: SyslogSpec) {
    this.#spec = spec;
  }

  /**
   * Resolves when the kernel has taken the batch. The protocol has no acknowledgement: what a collector had not read
   * when it ended is lost, and nobody is told.
   */
  async send(batch: readonly Buffer[], signal: AbortSignal): Promise<Outcome> {
    const isNew = this.#socket === undefined;
    try {
      const socket = this.#socket ?? (await this.#open(signal));
      const frames = batch.flatMap((message) => [Buffer.from(`${message.length} `), message]);
      await this.#within(socket, signal, (done) => socket.write(Buffer.concat(frames), done));
      const reopened = isNew && this.#connected;
      this.#connected = true;
      return { done: true, refused: 0, ...(reopened ? { reopened } : {}) };
    } catch (e) {
      this.#drop();
      return again(e);
    }
  }

  /** TLS has a message that says so. */
  async close(): Promise<void> {
    const socket = this.#socket;
    if (!socket) return;
    await new Promise((resolve) => socket.once('close', resolve).end());
  }

  #drop(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  async #open(signal: AbortSignal): Promise<Socket> {
    const { host, port, transport, tls } = this.#spec;
    const isTls = transport === 'tls';
    const socket = isTls ? connectTls({ host, port, ...tlsOptions(tls, host) }) : connect({ host, port });
    this.#socket = socket;
    this.#fault = undefined;
    socket.setNoDelay().setKeepAlive(true, 60_000);
    // Collectors say nothing; whatever one sends is not kept.
    socket.resume();
    socket.on('error', (e) => {
      this.#fault = e;
    });
    socket.on('end', () => socket.destroy());
    socket.on('close', () => {
      if (this.#socket === socket) this.#socket = undefined;
    });
    await this.#within(socket, signal, (done) => socket.once(isTls ? 'secureConnect' : 'connect', () => done()));
    return socket;
  }

  /** @throws if the socket is closed before, or the time is over */
  #within(socket: Socket, signal: AbortSignal, begin: (done: (e?: Error | null) => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (e?: unknown) => {
        clearTimeout(late);
        socket.off('close', closed);
        signal.removeEventListener('abort', abort);
        if (e) reject(e);
        else resolve();
      };
      const closed = () => end(this.#fault ?? new Error('the collector has closed the connection'));
      const abort = () => end(new Error('there was no more time'));
      const late = setTimeout(() => end(new Error(`not taken within ${WRITE_MS / 1000} s`)), WRITE_MS);
      socket.once('close', closed);
      signal.addEventListener('abort', abort);
      if (signal.aborted) return abort();
      if (socket.destroyed) return closed();
      begin(end);
    });
  }
}
