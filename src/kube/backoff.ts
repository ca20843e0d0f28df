/** Waiting before another try: exponential with full jitter, so that the nodes of a cluster do not come back at the same moment. */
import { setTimeout as sleep } from 'node:timers/promises';

export interface BackoffOptions {
  /** The first wait is between 0 and this, in milliseconds; each further one may be twice as long. */
  baseMs: number;
  /** No wait is longer, in milliseconds. */
  capMs: number;
  /** 0 ≤ x < 1 */
  random: () => number;
}

/** 2 ** 40 ms are 34 years: the exponent has no need to grow further. */
const MAX_DOUBLINGS = 40;

export class Backoff {
  readonly #opts: BackoffOptions;
  #tries = 0;

  constructor(opts: BackoffOptions) {
    this.#opts = opts;
  }

  /**
   * How long to wait now, in milliseconds.
   * @param atLeastMs what the server asked for (Retry-After); the jitter comes on top of it
   */
  next(atLeastMs = 0): number {
    const { baseMs, capMs, random } = this.#opts;
    const most = Math.min(capMs, baseMs * 2 ** this.#tries);
    this.#tries = Math.min(this.#tries + 1, MAX_DOUBLINGS);
    return Math.min(atLeastMs, 10 * capMs) + random() * most;
  }

  /** It went well for long enough: the next wait is a short one again. */
  reset(): void {
    this.#tries = 0;
  }
}

/** Waits; ends at once, and without an error, when the signal is given. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {});
}
