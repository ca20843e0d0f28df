/**
 * A reader of the most recent flows: a position among them. Items are taken one by one without a promise for each. A
 * reader waits only when it has read everything.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { History } from './history.js';
import { type Lost, type Losses, Notices } from './losses.js';
import type { Flow } from '../event/types.js';

export type HubItem = { flow: Flow } | { lost: Lost };

/** Maximum number of flows that a reader examines before it yields to others. */
const FLOWS_A_TURN = 1024;
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface Wants {
  since: bigint | undefined;
  until: bigint | undefined;
  passes: (flow: Flow) => boolean;
  /** Kinds of events that may pass; undefined: all. */
  kinds: Uint8Array | undefined;
}

export interface ReadRequest extends Wants {
  /** Number of the first flow to examine, and of the first one behind the range. */
  start: number;
  end: number;
  most: number;
  follow: boolean;
  signal: AbortSignal;
}

/** The parts of the hub that a reader uses. */
export interface Readable {
  readonly history: History;
  readonly losses: Losses;
  now(): bigint;
  /** The flows since a time that are no longer in the ring. */
  missing(since: bigint, oldest: number): Lost | undefined;
  /** Counts flows that the reader missed. */
  overtaken(count: number): void;
  /** Registers a reader. @param wake called when something is written while the reader sleeps */
  begins(wake: () => void): { sleep(): void; rouse(): void; end(): void };
}

/**
 * The flow with this number if the reader wants it. Most unwanted flows are rejected by a few bytes of their record.
 */
export function wanted(history: History, n: number, { since, until, passes, kinds }: Wants): Flow | undefined {
  if (kinds && kinds[history.kind(n)] === 0) return undefined;
  const flow = history.flow(n);
  if (since !== undefined || until !== undefined) {
    const at = flow.timeNs;
    if ((since !== undefined && at < since) || (until !== undefined && at > until)) return undefined;
  }
  return passes(flow) ? flow : undefined;
}

/** Iterates over the flows of one request. */
export class FlowReader implements AsyncIterableIterator<HubItem> {
  readonly #of: Readable;
  readonly #request: ReadRequest;
  readonly #notices = new Notices();
  #next: number;
  #delivered = 0;
  #passed = 0;
  #lossesReported: number;
  #place: ReturnType<Readable['begins']> | undefined;
  /** Whether the reader must yield to others. */
  #turn = false;
  /** Losses that are reported at the end. */
  #rest: Lost[] | undefined;
  #isOver = false;
  #wake: () => void = () => {};

  constructor(request: ReadRequest, of: Readable) {
    this.#request = request;
    this.#of = of;
    this.#next = request.start;
    this.#lossesReported = of.losses.totalBefore(request.start);
  }

  /** The next item; undefined if there is none now. wait() then says whether there will be one. */
  take(): HubItem | undefined {
    if (this.#isOver) return undefined;
    if (!this.#place) {
      const missing = this.#begin();
      if (missing) return { lost: missing };
    }
    try {
      const item = this.#rest ? undefined : this.#read();
      if (item || !this.#rest) return item;
    } catch (e) {
      this.end();
      throw e;
    }
    const lost = this.#request.signal.aborted ? undefined : this.#rest.shift();
    if (lost) return { lost };
    this.end();
    return undefined;
  }

  /** Resolves when take() should be called again; to false if there will never be another item. */
  async wait(): Promise<boolean> {
    if (this.#isOver) return false;
    if (this.#turn) {
      this.#turn = false;
      await turn();
    } else {
      const remaining = this.#remainingMs();
      await this.#waitForMore(this.#notices.pending ? Math.min(remaining, 1000) : remaining);
    }
    return true;
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#place?.end();
    this.#wake();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<HubItem>> {
    const value = this.take();
    return value ? Promise.resolve({ value, done: false }) : this.#nextLater();
  }

  return(): Promise<IteratorResult<HubItem>> {
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  async #nextLater(): Promise<IteratorResult<HubItem>> {
    while (await this.wait()) {
      const value = this.take();
      if (value) return { value, done: false };
    }
    return { value: undefined, done: true };
  }

  #begin(): Lost | undefined {
    this.#place = this.#of.begins(() => this.#wake());
    return this.#request.since === undefined ? undefined : this.#of.missing(this.#request.since, this.#next);
  }

  /** Sets #rest when the range is read. */
  #read(): HubItem | undefined {
    const request = this.#request;
    const { history } = this.#of;
    while (!request.signal.aborted && this.#delivered < request.most) {
      const notice = this.#lost();
      if (notice) return { lost: notice };
      if (this.#next >= request.end) break;
      if (this.#next >= history.written) {
        if (this.#remainingMs() <= 0) break;
        return undefined;
      }
      const flow = wanted(history, this.#next++, request);
      if (flow) {
        this.#delivered++;
        return { flow };
      }
      if (++this.#passed % FLOWS_A_TURN === 0) {
        this.#turn = true;
        return undefined;
      }
    }
    this.#rest = [...this.#notices.rest()];
    return undefined;
  }

  /** The loss to report before the next flow. */
  #lost(): Lost | undefined {
    const { history, losses } = this.#of;
    const notices = this.#notices;
    if (this.#next < history.oldest) {
      const missed = Math.min(history.oldest, this.#request.end) - this.#next;
      const now = this.#of.now();
      this.#of.overtaken(missed);
      notices.add({ source: 'HUBBLE_RING_BUFFER', count: missed, firstNs: now, lastNs: now });
      this.#next += missed;
    }
    if (losses.total > this.#lossesReported) {
      for (const lost of losses.between(this.#lossesReported, this.#next)) {
        this.#lossesReported += lost.count;
        if (isWithin(lost, this.#request)) notices.add(lost);
      }
    }
    return notices.pending ? notices.due(this.#of.now()) : undefined;
  }

  /** Milliseconds until the end of the requested period. */
  #remainingMs(): number {
    const { until } = this.#request;
    return until === undefined ? Number.POSITIVE_INFINITY : Number((until - this.#of.now()) / 1_000_000n) + 1;
  }

  /** Resolves when something was written, the signal was sent, or the time is over. */
  #waitForMore(timeoutMs: number): Promise<void> {
    const { signal } = this.#request;
    return new Promise((resolve) => {
      const done = () => {
        signal.removeEventListener('abort', done);
        clearTimeout(timer);
        this.#place?.rouse();
        this.#wake = () => {};
        resolve();
      };
      const timer =
        timeoutMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(done, Math.min(timeoutMs, MAX_TIMER_MS));
      signal.addEventListener('abort', done);
      this.#wake = done;
      this.#place?.sleep();
      if (signal.aborted || this.#isOver || this.#next < this.#of.history.written) done();
    });
  }
}

function isWithin(lost: Lost, { since, until }: ReadRequest): boolean {
  return (since === undefined || lost.lastNs >= since) && (until === undefined || lost.firstNs <= until);
}
