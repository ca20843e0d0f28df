/**
 * Limits the connections of a server, with separate limits for callers that have sent something and for silent ones. If
 * there are too many silent connections, the oldest of them is closed. Without it, whoever opens many connections and
 * stays silent could lock out all other callers. With it, a new caller gets in if it sends its first bytes before that
 * many new silent connections arrive.
 */
import type { Socket } from 'node:net';

export interface DoorOptions {
  /** Maximum number of callers that have sent something. One more is refused, unless another can be closed for it. */
  most: number;
  /**
   * Callers that have sent fewer bytes than this have not sent a request yet. They are closed first when there is no
   * room. Default: 0.
   */
  leastBytes?: number;
  /** Maximum number of silent callers. */
  mostSilent: number;
  /** Time after which a silent caller is closed, in milliseconds. */
  patienceMs: number;
  /**
   * Time in which a caller must send something again, if only the answer to a ping, in milliseconds. A quiet one is
   * closed after at most twice this time. Default: no limit.
   */
  quietMs?: number;
}

export class Door {
  readonly #opts: DoorOptions;
  /** The silent callers with their timers, the oldest first. */
  readonly #silent = new Map<Socket, NodeJS.Timeout>();
  /** The callers that have sent something, with their timers if `quietMs` is set. */
  readonly #spoken = new Map<Socket, NodeJS.Timeout | undefined>();

  constructor(opts: DoorOptions) {
    this.#opts = opts;
  }

  get size(): number {
    return this.#silent.size + this.#spoken.size;
  }

  /** Adds a silent connection: a new one, or one that counts as silent again. An error on it only closes it. */
  enter(socket: Socket): void {
    if (socket.destroyed) return;
    if (!this.#unwatch(socket)) {
      socket.on('error', () => socket.destroy());
      socket.once('close', () => this.#leave(socket));
    }
    const timer = setTimeout(() => socket.destroy(), this.#opts.patienceMs);
    timer.unref();
    this.#silent.set(socket, timer);
    if (this.#silent.size <= this.#opts.mostSilent) return;
    const [first] = this.#silent.keys();
    if (!first) return;
    this.#forget(first);
    first.destroy();
  }

  /** Records that a caller has sent something. @returns false if there is no room, and it was closed */
  spoke(socket: Socket): boolean {
    this.#forget(socket);
    if (socket.destroyed) return false;
    if (this.#spoken.size >= this.#opts.most && !this.#makeRoom()) {
      socket.destroy();
      return false;
    }
    this.#spoken.set(socket, this.#watch(socket));
    return true;
  }

  /** Replaces a socket by the TLS socket on top of it, after the handshake. @returns as `spoke` does */
  becomes(socket: Socket | undefined, inner: Socket): boolean {
    if (socket) this.#forget(socket);
    if (!this.spoke(inner)) return false;
    inner.once('close', () => this.#leave(inner));
    return true;
  }

  /** Closes the silent connections. */
  dismiss(): void {
    for (const socket of [...this.#silent.keys()]) socket.destroy();
  }

  #makeRoom(): boolean {
    const { leastBytes = 0 } = this.#opts;
    for (const socket of this.#spoken.keys()) {
      if (socket.bytesRead >= leastBytes) continue;
      this.#leave(socket);
      socket.destroy();
      return true;
    }
    return false;
  }

  /**
   * Watches for quiet callers. A library above may be done with a caller and wait for it to read or to close, possibly
   * for ever.
   */
  #watch(socket: Socket): NodeJS.Timeout | undefined {
    const { quietMs } = this.#opts;
    if (quietMs === undefined) return undefined;
    let bytesBefore = socket.bytesRead;
    const timer = setInterval(() => {
      if (socket.bytesRead === bytesBefore) socket.destroy();
      bytesBefore = socket.bytesRead;
    }, quietMs);
    return timer.unref();
  }

  /** @returns whether the caller had sent something */
  #unwatch(socket: Socket): boolean {
    clearInterval(this.#spoken.get(socket));
    return this.#spoken.delete(socket);
  }

  #forget(socket: Socket): void {
    clearTimeout(this.#silent.get(socket));
    this.#silent.delete(socket);
  }

  #leave(socket: Socket): void {
    this.#forget(socket);
    this.#unwatch(socket);
  }
}
