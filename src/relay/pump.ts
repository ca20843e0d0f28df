/** Streams into a merge and out of it: no stream gets further ahead than there is room for, none waits for a slow one. */
import type { GetRecordsResponse, Timestamp } from '../rpc/messages.js';
import { Merge } from './merge.js';

export interface PumpOptions {
  holdBackMs: number;
  /** Items held, of all nodes. */
  most: number;
  /** Items held of one node; infinite: as many as of all. */
  mostOfEach: number;
  /** Milliseconds without any progress after which the nodes waited for are given up. */
  stallMs: number;
  onStall: (nodes: readonly string[]) => void;
}

interface Entry {
  node: string;
  response: GetRecordsResponse;
}

export class Pump {
  readonly #opts: PumpOptions;
  readonly #merge: Merge<Entry>;
  /** What belongs to no point in time: told at once. */
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

  tell(response: GetRecordsResponse): void {
    this.#urgent.push(response);
    this.#wake?.();
  }

  /** Ends the waiting of whoever reads or writes here, so that they look at what has changed. */
  nudge(): void {
    this.#wake?.();
    for (const go of [...this.#waiting.values()]) go();
  }

  /** Takes a node's stream in, to its end. @param accept which of its responses count, and notes them */
  async feed(
    node: string,
    stream: AsyncIterable<GetRecordsResponse>,
    signal: AbortSignal,
    accept: (response: GetRecordsResponse, time: bigint) => boolean,
  ): Promise<void> {
    let latest = 0n;
    for await (const response of stream) {
      if (!response.record && !response.lost_events) continue;
      // A notice of losses carries the time at which it was made: it stands where it came.
      if (response.record) latest = nanosOf(response.time);
      if (!accept(response, latest)) continue;
      while (!signal.aborted && (this.#merge.full || this.#merge.held(node) >= this.#opts.mostOfEach)) {
        await new Promise<void>((resolve) => this.#waiting.set(node, resolve));
        this.#waiting.delete(node);
      }
      if (signal.aborted) return;
      this.#movedMs = performance.now();
      this.#merge.push(node, latest, { node, response }, this.#movedMs);
      this.#wake?.();
    }
  }

  /** In time order, until `ended` says so and nothing is left, or the signal comes. */
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
        const entry = this.#merge.take(performance.now());
        if (entry) {
          this.#makeRoom(entry.node);
          yield entry.response;
          // However long the reader took, the nodes are not to blame for it.
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

  #makeRoom(node: string): void {
    if (this.#waiting.size === 0) return;
    // With the whole merge full, all may wait: the one that has waited longest goes on.
    const wasFull = this.#merge.size + 1 >= this.#opts.most;
    (wasFull ? this.#waiting.values().next().value : this.#waiting.get(node))?.();
  }

  async #pause(): Promise<void> {
    const now = performance.now();
    const stalled = this.#movedMs + this.#opts.stallMs - now;
    if (stalled <= 0) {
      this.#movedMs = now;
      this.#opts.onStall(this.#merge.behind());
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
