/** Measures the wall clock minus CLOCK_MONOTONIC, in nanoseconds. */

/** It is measured again after events of this many nanoseconds … */
const AGAIN_NS = 1e9;
/**
 * … and corrected if it is off by this much. A smaller difference is the wall clock's own resolution, and a correction
 * would put flows out of order.
 */
const STEP_NS = 2_000_000n;

/** Tracks the difference between both clocks. */
export class Clocks {
  readonly #wall: () => bigint;
  readonly #mono: () => number;
  /** The difference that is applied to events. */
  #lead: bigint;
  #measuredAt = Number.NEGATIVE_INFINITY;
  /** The difference at the last measurement. */
  latest: bigint;
  #measuredByCaller = false;

  /** @param wall wall clock, nanoseconds since 1970 @param mono CLOCK_MONOTONIC, nanoseconds */
  constructor(wall: () => bigint, mono: () => number) {
    this.#wall = wall;
    this.#mono = mono;
    this.latest = this.#lead = this.#measure();
  }

  now(): number {
    return this.#mono();
  }

  /** The difference at the time of an event. @param mono time of the event */
  lead(mono: number): bigint {
    if (!this.#measuredByCaller && Math.abs(mono - this.#measuredAt) >= AGAIN_NS) {
      this.#remeasure();
      this.#lead = this.latest;
      this.#measuredAt = mono;
    }
    return this.#lead;
  }

  /** See Enricher.measure(). */
  measure(): (() => void) | undefined {
    this.#measuredByCaller = true;
    if (!this.#remeasure()) return undefined;
    const lead = this.latest;
    return () => {
      this.#lead = lead;
    };
  }

  #measure(): bigint {
    return this.#wall() - BigInt(Math.round(this.#mono()));
  }

  /** Measures again. @returns whether the difference changed */
  #remeasure(): boolean {
    const lead = this.#measure();
    const step = lead - this.latest;
    if (step <= STEP_NS && step >= -STEP_NS) return false;
    this.latest = lead;
    return true;
  }
}
