/**
 * Delays between attempts: exponential with full jitter, so that the nodes of a cluster do not retry at the same
 * moment.
 */
import { setTimeout as sleep } from 'node:timers/promises';

export interface BackoffOptions {
  /** Upper bound of the first delay in milliseconds. The bound doubles with each attempt. */
  baseMs: number;
  /** Upper bound of all delays in milliseconds. */
  capMs: number;
  /** 0 ≤ x < 1 */
  random: () => number;
}

/** 2 ** 40 ms are 34 years, so the exponent need not grow further. */
const MAX_DOUBLINGS = 40;

/** The sequence of delays of one loop. */
export class Backoff {
  readonly #opts: BackoffOptions;
  #tries = 0;

  constructor(opts: BackoffOptions) {
    this.#opts = opts;
  }

  /**
   * The next delay in milliseconds.
   * @param atLeastMs minimum that the server asked for (Retry-After); the jitter is added to it
   */
  next(atLeastMs = 0): number {
    const { baseMs, capMs, random } = this.#opts;
    const most = Math.min(capMs, baseMs * 2 ** this.#tries);
    this.#tries = Math.min(this.#tries + 1, MAX_DOUBLINGS);
    return Math.min(atLeastMs, 10 * capMs) + random() * most;
  }

  /** Resets the delay after a success of sufficient duration. */
  reset(): void {
    this.#tries = 0;
  }
}

/** Waits for a time. Returns early, without an error, when the signal is aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {});
}
