/**
 * Moves streams through a merge, with backpressure: no stream gets ahead by more than the buffer, and none waits for a
 * slow one.
 */
import type { GetRecordsResponse, Timestamp } from '../../proto/messages.js';
import { sizeOf } from './memory.js';
import { Merge } from './merge.js';

export interface PumpOptions {
  holdBackMs: number;
  /** Maximum number of buffered items of all nodes. */
  most: number;
  /** Maximum size of buffered items of all nodes in bytes. May change. */
  mostBytes: () => number;
  /** Maximum number of buffered items of one node; infinite: no separate limit. */
  mostOfEach: number;
  /** Time without progress after which the missing nodes are given up, in milliseconds. */
  stallMs: number;
  onStall: (nodes: readonly string[]) => void;
}

interface Entry {
  node: string;
  response: GetRecordsResponse;
}

/** Connects streams and a reader through a Merge. */
export class Pump {
  readonly #opts: PumpOptions;
  readonly #merge: Merge<Entry>;
  /** Items without a position in time, which are sent at once. */
  readonly #urgent: GetRecordsResponse[] = [];
  /** Streams that wait for room, by node. */
  readonly #waiting = new Map<string, () => void>();
  #wake: (() => void) | undefined;
  #movedMs = performance.now();

  constructor(opts: PumpOptions) {
    this.#opts = opts;
    this.#merge = new Merge(opts);
  }

  join(node: string): void {
    this.#merge.join(node);
  }

  leave(node: string): void {
    this.#merge.leave(node);
    this.#wake?.();
  }

  sendNow(response: GetRecordsResponse): void {
    this.#urgent.push(response);
    this.#wake?.();
  }

  /** Wakes up all waiting readers and writers, so that they check what has changed. */
  nudge(): void {
    this.#wake?.();
    for (const go of [...this.#waiting.values()]) go();
  }

  /** Reads a node's stream to its end. @param accept says which of its responses are used, and records them */
  async feed(
    node: string,
    stream: AsyncIterable<GetRecordsResponse>,
    signal: AbortSignal,
    accept: (response: GetRecordsResponse, time: bigint) => boolean,
  ): Promise<void> {
    let latest = 0n;
    for await (const response of stream) {
      if (!response.record && !response.lost_events) continue;
      // A notice of losses has the time at which it was created, so it keeps its position in the stream.
      if (response.record) latest = nanosOf(response.time);
      if (!accept(response, latest)) continue;
      while (!signal.aborted && !this.#hasRoom(node)) {
        await new Promise<void>((resolve) => this.#waiting.set(node, resolve));
        this.#waiting.delete(node);
      }
      if (signal.aborted) return;
      this.#movedMs = performance.now();
      this.#merge.push(node, latest, { node, response }, this.#movedMs, sizeOf(response));
      this.#wake?.();
    }
  }

  /** The items in time order, until `ended` is true and nothing is left, or the signal is aborted. */
  async *items(ended: () => boolean, signal: AbortSignal): AsyncGenerator<GetRecordsResponse> {
    const wake = () => this.#wake?.();
    signal.addEventListener('abort', wake);
    this.#movedMs = performance.now();
    try {
      while (!signal.aborted) {
        const urgent = this.#urgent.shift();
        if (urgent) {
          yield urgent;
          continue;
        }
        const { isHalfFull } = this.#merge;
        const entry = this.#merge.take(performance.now());
        if (entry) {
          this.#makeRoom(entry.node, isHalfFull);
          yield entry.response;
          // The time that the reader took must not count against the nodes.
          this.#movedMs = performance.now();
          continue;
        }
        if (this.#merge.size === 0 && ended()) return;
        await this.#pause();
      }
    } finally {
      signal.removeEventListener('abort', wake);
      this.nudge();
    }
  }

  #makeRoom(node: string, wasHalfFull: boolean): void {
    if (this.#waiting.size === 0) return;
    // If the whole merge was full, all streams may wait: the longest waiting one that has room now continues.
    const wasFull = this.#merge.size + 1 >= this.#opts.most;
    if (!wasFull && !wasHalfFull) {
      this.#waiting.get(node)?.();
      return;
    }
    let free = this.#opts.most - this.#merge.size;
    for (const [waiting, go] of this.#waiting) {
      if (free <= 0) return;
      if (!this.#hasRoom(waiting)) continue;
      go();
      free--;
    }
  }

  #hasRoom(node: string): boolean {
    return this.#merge.hasRoom(node) && this.#merge.held(node) < this.#opts.mostOfEach;
  }

  async #pause(): Promise<void> {
    const now = performance.now();
    const stalled = this.#movedMs + this.#opts.stallMs - now;
    if (stalled <= 0) {
      this.#movedMs = now;
      this.#opts.onStall(this.#merge.awaited());
      return;
    }
    const ms = Math.min(this.#merge.dueIn(now), stalled);
    await new Promise<void>((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(resolve, Math.ceil(ms)) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }
}

/** @returns nanoseconds since 1970 */
export function nanosOf(t: Timestamp | undefined): bigint {
  return BigInt(t?.seconds ?? 0) * 1_000_000_000n + BigInt(t?.nanos ?? 0);
}
