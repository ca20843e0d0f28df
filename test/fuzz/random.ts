/** Chance that can be repeated: everything random in a run comes from one printed seed. */

export class Random {
  #state: number;

  constructor(readonly seed: number) {
    this.#state = (seed | 0) === 0 ? 0x9e3779b9 : seed | 0;
  }

  /** 0 … n-1. xorshift32. */
  below(n: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) % n;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)] as T;
  }

  some<T>(of: readonly T[], max: number): T[] {
    return Array.from({ length: this.below(max + 1) }, () => this.pick(of));
  }
}

/** FUZZ_SEED, or the clock's. */
export function seeded(): Random {
  return new Random(Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31));
}
