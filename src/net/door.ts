/**
 * Who may stay connected. A server has room for so many; callers that have not said anything yet take none of it away from
 * others: when there are too many of them, the one that came first has to go. A whole crowd that never speaks therefore costs a
 * new caller nothing, as long as it speaks sooner than the crowd grows anew.
 */
import type { Socket } from 'node:net';

export interface DoorOptions {
  /** Callers that have spoken. One more is turned away, unless another has to go for it. */
  most: number;
  /** Who has sent less than this in all, having spoken, has not asked anything yet: goes first when there is no room. Default 0. */
  leastBytes?: number;
  /** Callers that have not. */
  mostSilent: number;
  /** Milliseconds after which a silent one has to go. */
  patienceMs: number;
  /**
   * Milliseconds in which whoever has spoken says something again, if only by answering a ping: who does not has to go, after
   * twice that at the latest. Default: never.
   */
  quietMs?: number;
}

export class Door {
  readonly #opts: DoorOptions;
  /** The longest ago first. */
  readonly #silent = new Map<Socket, NodeJS.Timeout>();
  /** With what watches over them, where they may not be quiet. */
  readonly #spoken = new Map<Socket, NodeJS.Timeout | undefined>();

  constructor(opts: DoorOptions) {
    this.#opts = opts;
  }

  get size(): number {
    return this.#silent.size + this.#spoken.size;
  }

  /** A new connection, or one that has nothing to say any more. Its errors end it, and nothing else. */
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

  /** It has spoken. @returns false: there is no room, and it was turned away */
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

  /** It has spoken through another: what is encrypted, once its handshake is done. @returns as `spoke` does */
  becomes(socket: Socket | undefined, inner: Socket): boolean {
    if (socket) this.#forget(socket);
    if (!this.spoke(inner)) return false;
    inner.once('close', () => this.#leave(inner));
    return true;
  }

  /** Ends the connections of those who have not spoken. */
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

  /** A library above may have done with a caller, and still wait for it to read or to leave: then it waits for ever. */
  #watch(socket: Socket): NodeJS.Timeout | undefined {
    const { quietMs } = this.#opts;
    if (quietMs === undefined) return undefined;
    let heard = socket.bytesRead;
    const timer = setInterval(() => {
      if (socket.bytesRead === heard) socket.destroy();
      heard = socket.bytesRead;
    }, quietMs);
    return timer.unref();
  }

  /** @returns whether it was one that has spoken */
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
