/**
 * An immutable map that is made from another one by a few changes and shares the rest with it, so that one changed pod
 * does not copy a map of 50,000. It consists of a base that is never modified, and the changes since.
 */

/** The new value of a key; `undefined` deletes the key. */
export type Change<V, K = string> = readonly [key: K, value: V | undefined];

/**
 * Changes accumulate until there are more than this number, or more than this share of the base; then a new base is
 * built.
 */
const FEW = 64;
const SHARE = 128;
/** Maximum number of the most recent changes, which are kept separately because they are copied with each step. */
const NEWEST = 16;
/** Number of steps whose changed keys are remembered. Readers are rarely further behind. */
const STEPS = 16;

type Layer<V, K> = ReadonlyMap<K, V | undefined>;

/** The immutable map. with() makes a changed one. */
export class SharedMap<V, K = string> implements ReadonlyMap<K, V> {
  /** The layers from oldest to newest. Each contains the differences from those before it. */
  readonly #base: ReadonlyMap<K, V>;
  readonly #delta: Layer<V, K>;
  readonly #newest: Layer<V, K>;
  /** The base from which this base was made, so that a comparison across that step is cheap too. */
  #from: { base: ReadonlyMap<K, unknown>; keys: Iterable<K> } | undefined;
  /** Identity of this map for its successors, which thus need not keep the map itself in memory. */
  readonly #token = {};
  /** The last steps, newest first: the identity of the predecessor, and the changed keys. */
  #steps: readonly { readonly from: object; readonly keys: readonly K[] }[] = [];
  readonly size: number;

  private constructor(base: ReadonlyMap<K, V>, delta: Layer<V, K>, newest: Layer<V, K>, size: number) {
    this.#base = base;
    this.#delta = delta;
    this.#newest = newest;
    this.size = size;
  }

  /** @param base must not be modified afterwards */
  static of<V, K = string>(base: ReadonlyMap<K, V> = new Map()): SharedMap<V, K> {
    return new SharedMap(base, new Map(), new Map(), base.size);
  }

  /** A map with changes; the same map if nothing changes. */
  with(changes: Iterable<Change<V, K>>): SharedMap<V, K> {
    let newest: Map<K, V | undefined> | undefined;
    const step = new Set<K>();
    let size = this.size;
    for (const [key, value] of changes) {
      const before = newest?.has(key) ? newest.get(key) : this.get(key);
      if (value === before) continue;
      newest ??= new Map(this.#newest);
      newest.set(key, value);
      step.add(key);
      if ((before !== undefined) !== (value !== undefined)) size += before !== undefined ? -1 : 1;
    }
    if (!newest) return this;
    const next = this.#next(newest, size);
    if (step.size <= FEW) next.#steps = [{ from: this.#token, keys: [...step] }, ...this.#steps.slice(0, STEPS - 1)];
    return next;
  }

  #next(newest: Layer<V, K>, size: number): SharedMap<V, K> {
    if (newest.size <= NEWEST) return new SharedMap(this.#base, this.#delta, newest, size);
    const delta = new Map([...this.#delta, ...newest]);
    if (delta.size <= FEW + this.#base.size / SHARE) return new SharedMap(this.#base, delta, new Map(), size);
    const base = new Map(this.#base);
    for (const [key, value] of delta) {
      if (value === undefined) base.delete(key);
      else base.set(key, value);
    }
    const next = new SharedMap<V, K>(base, new Map(), new Map(), base.size);
    next.#from = { base: this.#base, keys: [...delta.keys()] };
    return next;
  }

  get(key: K): V | undefined {
    if (this.#newest.size > 0 && this.#newest.has(key)) return this.#newest.get(key);
    if (this.#delta.size > 0 && this.#delta.has(key)) return this.#delta.get(key);
    return this.#base.get(key);
  }

  has(key: K): boolean {
    if (this.#newest.size > 0 && this.#newest.has(key)) return this.#newest.get(key) !== undefined;
    if (this.#delta.size > 0 && this.#delta.has(key)) return this.#delta.get(key) !== undefined;
    return this.#base.has(key);
  }

  *entries(): MapIterator<[K, V]> {
    if (this.#delta.size + this.#newest.size === 0) {
      yield* this.#base.entries();
      return;
    }
    for (const entry of this.#base) if (!this.#delta.has(entry[0]) && !this.#newest.has(entry[0])) yield entry;
    for (const [key, value] of this.#delta) if (value !== undefined && !this.#newest.has(key)) yield [key, value];
    for (const [key, value] of this.#newest) if (value !== undefined) yield [key, value];
  }

  *keys(): MapIterator<K> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): MapIterator<V> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.entries();
  }

  forEach(call: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    for (const [key, value] of this.entries()) call(value, key, this);
  }

  /** The keys that may differ, without examining the shared parts; undefined if nothing is shared. */
  static candidates<K>(a: SharedMap<unknown, K>, b: SharedMap<unknown, K>): Iterable<K> | undefined {
    const at = b.#steps.findIndex((s) => s.from === a.#token);
    if (at === 0) return b.#steps[0]?.keys;
    if (at > 0) return new Set(b.#steps.slice(0, at + 1).flatMap((s) => s.keys));
    const carried = [a.#delta, a.#newest, b.#delta, b.#newest].flatMap((layer) => [...layer.keys()]);
    if (a.#base === b.#base) return new Set(carried);
    if (b.#from?.base === a.#base) return new Set([...carried, ...b.#from.keys]);
    return undefined;
  }
}

/**
 * The keys whose values (by identity) differ. If one map was made from the other, the cost is proportional to the
 * changes.
 */
export function changedKeys<V, K = string>(before: ReadonlyMap<K, V>, after: ReadonlyMap<K, V>): K[] {
  if (before === after) return [];
  const some =
    before instanceof SharedMap && after instanceof SharedMap ? SharedMap.candidates(before, after) : undefined;
  const out: K[] = [];
  if (some) {
    for (const key of some) if (before.get(key) !== after.get(key)) out.push(key);
    return out;
  }
  for (const [key, value] of before) if (after.get(key) !== value) out.push(key);
  for (const key of after.keys()) if (!before.has(key)) out.push(key);
  return out;
}
