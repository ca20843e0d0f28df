/**
 * A cache of what was asked for lately, in two generations: what the young one lacks is taken over from the old one, or made. After
 * so many look-ups, or entries, the young one becomes the old one, and what nobody asked for since is gone. So its memory
 * follows what goes on now, not how long the process has run; and no clock is read.
 */
export class Recent<K, V> {
  #young = new Map<K, V>();
  #old = new Map<K, V>();
  #left: number;

  /** @param entries of one generation at most @param lookups of one generation at most */
  constructor(
    private readonly make: (key: K, buf: Buffer, at: number) => V,
    private readonly entries = 8192,
    private readonly lookups = 65536,
  ) {
    this.#left = lookups;
  }

  /** @param buf, at what the value is made of, where it must be made */
  get(key: K, buf: Buffer, at: number): V {
    if (--this.#left <= 0 || this.#young.size >= this.entries) this.#turn();
    const known = this.#young.get(key);
    if (known !== undefined) return known;
    const value = this.#old.get(key) ?? this.make(key, buf, at);
    this.#young.set(key, value);
    return value;
  }

  /** Entries in both generations. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  #turn(): void {
    this.#old = this.#young;
    this.#young = new Map();
    this.#left = this.lookups;
  }
}
