/**
 * An immutable map that is made from another one by a few changes and shares the rest with it: what a snapshot
 * of 50,000 pods costs when one of them changed. A base that is never written again, and the changes since.
 */

/** What a key was given last; `undefined` takes it away. */
export type Change<V> = readonly [key: string, value: V | undefined];

/** Changes are carried along until they are this many, or more than this share of the base: then a new base is made. */
const FEW = 64;
const SHARE = 128;

export class SharedMap<V> implements ReadonlyMap<string, V> {
  readonly #base: ReadonlyMap<string, V>;
  readonly #delta: ReadonlyMap<string, V | undefined>;
  /** What this base was made from, so that a comparison over that step is cheap too. */
  #from: { base: ReadonlyMap<string, unknown>; delta: ReadonlyMap<string, unknown> } | undefined;
  readonly size: number;

  private constructor(base: ReadonlyMap<string, V>, delta: ReadonlyMap<string, V | undefined>, size: number) {
    this.#base = base;
    this.#delta = delta;
    this.size = size;
  }

  /** @param base must not be written from here on */
  static of<V>(base: ReadonlyMap<string, V> = new Map()): SharedMap<V> {
    return new SharedMap(base, new Map(), base.size);
  }

  /** The same map where nothing changes. */
  with(changes: Iterable<Change<V>>): SharedMap<V> {
    let delta: Map<string, V | undefined> | undefined;
    let size = this.size;
    const has = (key: string) => (delta?.has(key) ? delta.get(key) !== undefined : this.has(key));
    for (const [key, value] of changes) {
      if (value === (delta?.has(key) ? delta.get(key) : this.get(key))) continue;
      const before = has(key);
      delta ??= new Map(this.#delta);
      delta.set(key, value);
      if (before !== (value !== undefined)) size += before ? -1 : 1;
    }
    if (!delta) return this;
    if (delta.size <= FEW + this.#base.size / SHARE) return new SharedMap(this.#base, delta, size);
    const base = new Map(this.#base);
    for (const [key, value] of delta) {
      if (value === undefined) base.delete(key);
      else base.set(key, value);
    }
    const next = new SharedMap<V>(base, new Map(), base.size);
    next.#from = { base: this.#base, delta };
    return next;
  }

  get(key: string): V | undefined {
    if (this.#delta.size > 0 && this.#delta.has(key)) return this.#delta.get(key);
    return this.#base.get(key);
  }

  has(key: string): boolean {
    if (this.#delta.size > 0 && this.#delta.has(key)) return this.#delta.get(key) !== undefined;
    return this.#base.has(key);
  }

  *entries(): MapIterator<[string, V]> {
    if (this.#delta.size === 0) {
      yield* this.#base.entries();
      return;
    }
    for (const entry of this.#base) if (!this.#delta.has(entry[0])) yield entry;
    for (const [key, value] of this.#delta) if (value !== undefined) yield [key, value];
  }

  *keys(): MapIterator<string> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): MapIterator<V> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries();
  }

  forEach(call: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    for (const [key, value] of this.entries()) call(value, key, this);
  }

  /** Keys that may differ, found without looking at what both share; undefined where they share nothing. */
  static candidates(a: SharedMap<unknown>, b: SharedMap<unknown>): Iterable<string> | undefined {
    if (a.#base === b.#base) return new Set([...a.#delta.keys(), ...b.#delta.keys()]);
    const from = b.#from;
    if (from && from.base === a.#base) return new Set([...a.#delta.keys(), ...from.delta.keys(), ...b.#delta.keys()]);
    return undefined;
  }
}

/** Keys whose values (by identity) are not the same in both. Costs as much as changed, where one map was made from the other. */
export function changedKeys<V>(before: ReadonlyMap<string, V>, after: ReadonlyMap<string, V>): string[] {
  if (before === after) return [];
  const some =
    before instanceof SharedMap && after instanceof SharedMap ? SharedMap.candidates(before, after) : undefined;
  const out: string[] = [];
  if (some) {
    for (const key of some) if (before.get(key) !== after.get(key)) out.push(key);
    return out;
  }
  for (const [key, value] of before) if (after.get(key) !== value) out.push(key);
  for (const key of after.keys()) if (!before.has(key)) out.push(key);
  return out;
}
