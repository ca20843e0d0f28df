/**
 * A cache with two generations. An entry that is missing in the young generation is taken from the old one, or made.
 * After a number of look-ups or entries, the young generation becomes the old one, and entries that nobody used since
 * are dropped. So the memory follows the present traffic, not the uptime, and no clock is read.
 */
export class Recent<K, V> {
  readonly #make: (key: K, buf: Buffer, at: number) => V;
  readonly #entries: number;
  readonly #lookups: number;
  #young = new Map<K, V>();
  #old = new Map<K, V>();
  #lookupsLeft: number;

  /** @param entries maximum entries of one generation @param lookups maximum look-ups of one generation */
  constructor(make: (key: K, buf: Buffer, at: number) => V, entries = 8192, lookups = 65536) {
    this.#make = make;
    this.#entries = entries;
    this.#lookups = lookups;
    this.#lookupsLeft = lookups;
  }

  /** The value of a key. @param buf, at bytes from which a missing value is made */
  get(key: K, buf: Buffer, at: number): V {
    if (--this.#lookupsLeft <= 0 || this.#young.size >= this.#entries) this.#turn();
    const known = this.#young.get(key);
    if (known !== undefined) return known;
    const value = this.#old.get(key) ?? this.#make(key, buf, at);
    this.#young.set(key, value);
    return value;
  }

  /** Number of entries in both generations. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  #turn(): void {
    this.#old = this.#young;
    this.#young = new Map();
    this.#lookupsLeft = this.#lookups;
  }
}
