/** Bounds how often somebody may try to sign in: each try costs a review, and might be a guess. */

const MINUTE_MS = 60_000;
/** Addresses that are remembered. With more, only the bound of all holds for the others. */
const MOST_ADDRESSES = 10_000;

export class Attempts {
  readonly #most: { readonly own: number; readonly all: number };
  readonly #now: () => number;
  readonly #addresses = new Map<string, number>();
  #all = 0;
  #beganMs: number;

  /** @param most tries in one minute: from one address, and in all */
  constructor(most: { own: number; all: number }, now: () => number = () => performance.now()) {
    this.#most = most;
    this.#now = now;
    this.#beganMs = now();
  }

  /** Counts a try. @returns whether it may be made */
  take(address: string): boolean {
    const now = this.#now();
    if (now - this.#beganMs >= MINUTE_MS) {
      this.#beganMs = now;
      this.#addresses.clear();
      this.#all = 0;
    }
    const own = this.#addresses.get(address) ?? 0;
    if (own >= this.#most.own || this.#all >= this.#most.all) return false;
    if (own > 0 || this.#addresses.size < MOST_ADDRESSES) this.#addresses.set(address, own + 1);
    this.#all++;
    return true;
  }
}
