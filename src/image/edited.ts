/**
 * Destinations that differ from others by a few changes, so that one new pod does not copy 50,000 entries. The arrays
 * are built when somebody reads them. Queries for single keys, or for the keys of one step, do not need the arrays.
 */
import type { Destinations4, Destinations6 } from './types.js';

export type Destinations<K> = K extends number ? Destinations4 : Destinations6;

interface Keys<K> {
  readonly [i: number]: K;
  readonly length: number;
}

/** Changes by key, ascending; `undefined` deletes a key. */
export type Edits<K> = readonly (readonly [key: K, classId: number | undefined])[];

/**
 * Changes accumulate until there are more than this number, or more than this share of the base; then a new base is
 * built.
 */
const FEW = 64;
const SHARE = 128;

abstract class Edited<K extends number | string> {
  readonly size: number;
  /**
   * Identity of the value that this one was made from. It is not that value itself, which would keep all its
   * predecessors in memory.
   */
  readonly #from: object;
  /** Keys that the step from there changed. */
  readonly #step: readonly K[];
  readonly #token = {};
  readonly #base: Destinations<K>;
  readonly #delta: ReadonlyMap<K, number | undefined>;
  #flat: Destinations<K> | undefined;
  /** Keys of the delta, ascending. */
  #sorted: readonly K[] | undefined;

  constructor(from: Destinations<K> | Edited<K>, edits: Edits<K>) {
    const before = from instanceof Edited ? from : undefined;
    const base = (before ? before.#base : from) as Destinations<K>;
    const delta = new Map<K, number | undefined>(before ? before.#delta : []);
    let size = sizeOf(from as Destinations<K>);
    for (const [key, classId] of edits) {
      const had = classAt(from as Destinations<K>, key) !== undefined;
      if (had !== (classId !== undefined)) size += had ? -1 : 1;
      delta.set(key, classId);
    }
    this.size = size;
    this.#from = before ? before.#token : from;
    this.#step = edits.map(([key]) => key);
    const few = delta.size <= FEW + base.keys.length / SHARE;
    this.#base = few ? base : this.merged(base, sorted(delta));
    this.#delta = few ? delta : new Map();
  }

  get keys(): Destinations<K>['keys'] {
    return this.#whole().keys;
  }

  get classes(): Float64Array {
    return this.#whole().classes;
  }

  at(key: K): number | undefined {
    return this.#delta.has(key) ? this.#delta.get(key) : classAt(this.#base, key);
  }

  between(first: K, last: K): readonly K[] {
    const kept = keysBetween(this.#base, first, last).filter((key) => !this.#delta.has(key));
    this.#sorted ??= [...this.#delta.keys()].sort(ascending);
    const added: K[] = [];
    for (let at = lowerBound(this.#sorted, first); at < this.#sorted.length; at++) {
      const key = this.#sorted[at] as K;
      if (key > last) break;
      if (this.#delta.get(key) !== undefined) added.push(key);
    }
    return added.length === 0 ? kept : [...kept, ...added].sort(ascending);
  }

  stepFrom(from: Destinations<K> | Edited<K>): readonly K[] | undefined {
    return this.#from === (from instanceof Edited ? from.#token : from) ? this.#step : undefined;
  }

  protected abstract merged(base: Destinations<K>, edits: Edits<K>): Destinations<K>;

  #whole(): Destinations<K> {
    if (this.#delta.size === 0) return this.#base;
    this.#flat ??= this.merged(this.#base, sorted(this.#delta));
    return this.#flat;
  }
}

class Edited4 extends Edited<number> implements Destinations4 {
  protected merged(from: Destinations4, edits: Edits<number>): Destinations4 {
    const keys = new Float64Array(from.keys.length + edits.length);
    const classes = new Float64Array(keys.length);
    let out = 0;
    let at = 0;
    const copy = (until: number) => {
      keys.set(from.keys.subarray(at, until), out);
      classes.set(from.classes.subarray(at, until), out);
      out += until - at;
      at = until;
    };
    for (const [key, classId] of edits) {
      copy(lowerBound(from.keys, key));
      if (at < from.keys.length && from.keys[at] === key) at++;
      if (classId === undefined) continue;
      keys[out] = key;
      classes[out++] = classId;
    }
    copy(from.keys.length);
    return { keys: keys.subarray(0, out), classes: classes.subarray(0, out) };
  }
}

class Edited6 extends Edited<string> implements Destinations6 {
  protected merged(from: Destinations6, edits: Edits<string>): Destinations6 {
    const keys: string[] = [];
    const classes: number[] = [];
    let at = 0;
    const copy = (until: number) => {
      for (; at < until; at++) {
        keys.push(from.keys[at] as string);
        classes.push(from.classes[at] as number);
      }
    };
    for (const [key, classId] of edits) {
      copy(lowerBound(from.keys, key));
      if (at < from.keys.length && from.keys[at] === key) at++;
      if (classId === undefined) continue;
      keys.push(key);
      classes.push(classId);
    }
    copy(from.keys.length);
    return { keys, classes: Float64Array.from(classes) };
  }
}

/** Destinations with some edits applied. @param edits ascending by key */
export function edited4(from: Destinations4, edits: Edits<number>): Destinations4 {
  return edits.length === 0 ? from : new Edited4(from, edits);
}

/** Destinations with some edits applied. @param edits ascending by key */
export function edited6(from: Destinations6, edits: Edits<string>): Destinations6 {
  return edits.length === 0 ? from : new Edited6(from, edits);
}

/** Number of entries, without building the arrays. */
export function sizeOf(d: Destinations4 | Destinations6): number {
  return d instanceof Edited ? d.size : d.keys.length;
}

/** Class of exactly this key; undefined if there is no entry. */
export function classAt<K extends number | string>(d: Destinations<K>, key: K): number | undefined {
  if (d instanceof Edited) return (d as unknown as Edited<K>).at(key);
  const keys = d.keys as unknown as Keys<K>;
  const at = lowerBound(keys, key);
  return at < keys.length && keys[at] === key ? d.classes[at] : undefined;
}

/** The keys that may differ, ascending, if one value was made from the other in one step; undefined otherwise. */
export function stepBetween<K extends number | string>(
  from: Destinations<K>,
  next: Destinations<K>,
): readonly K[] | undefined {
  if (from === next) return [];
  return next instanceof Edited ? (next as unknown as Edited<K>).stepFrom(from) : undefined;
}

/** Keys from `first` to `last`, both included, ascending. */
export function keysBetween<K extends number | string>(d: Destinations<K>, first: K, last: K): readonly K[] {
  if (d instanceof Edited) return (d as unknown as Edited<K>).between(first, last);
  const keys = d.keys as unknown as Keys<K>;
  const out: K[] = [];
  for (let at = lowerBound(keys, first); at < keys.length && (keys[at] as K) <= last; at++) out.push(keys[at] as K);
  return out;
}

/** Compares two keys of one family for sorting. */
export function ascending<K extends number | string>(a: K, b: K): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function sorted<K extends number | string>(delta: ReadonlyMap<K, number | undefined>): Edits<K> {
  return [...delta].sort(([a], [b]) => ascending(a, b));
}

/** Index of the first key that is not less than `key`. */
function lowerBound<K>(keys: Keys<K>, key: K): number {
  let lo = 0;
  let hi = keys.length;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if ((keys[mid] as K) < key) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}
