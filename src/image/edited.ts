/**
 * Destinations that were made from others by a few changes: what 50,000 of them cost when one pod has come. The arrays are
 * made when somebody reads them; whoever asks for single keys, or for what a step changed, does without.
 */
import type { Destinations4, Destinations6 } from './types.js';

export type Destinations<K> = K extends number ? Destinations4 : Destinations6;

interface Keys<K> {
  readonly [i: number]: K;
  readonly length: number;
}

/** By key, ascending; `undefined` takes a key away. */
export type Edits<K> = readonly (readonly [key: K, classId: number | undefined])[];

/** Changes are carried along until they are this many, or more than this share of the base: then a new base is made. */
const FEW = 64;
const SHARE = 128;

abstract class Edited<K extends number | string> {
  readonly size: number;
  /** Stands for what this was made from; not the thing itself, or each would keep all that were before it. */
  readonly #from: object;
  /** Keys of the step from there. */
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
    return this.flat().keys;
  }

  get classes(): Float64Array {
    return this.flat().classes;
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

  private flat(): Destinations<K> {
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

/** @param edits ascending by key */
export function edited4(from: Destinations4, edits: Edits<number>): Destinations4 {
  return edits.length === 0 ? from : new Edited4(from, edits);
}

/** @param edits ascending by key */
export function edited6(from: Destinations6, edits: Edits<string>): Destinations6 {
  return edits.length === 0 ? from : new Edited6(from, edits);
}

/** Number of entries, without making the arrays. */
export function sizeOf(d: Destinations4 | Destinations6): number {
  return d instanceof Edited ? d.size : d.keys.length;
}

/** Class of exactly this key; undefined where it is not there. */
export function classAt<K extends number | string>(d: Destinations<K>, key: K): number | undefined {
  if (d instanceof Edited) return (d as unknown as Edited<K>).at(key);
  const keys = d.keys as unknown as Keys<K>;
  const at = lowerBound(keys, key);
  return at < keys.length && keys[at] === key ? d.classes[at] : undefined;
}

/** Keys of all that may differ, ascending, where one was made from the other in one step; undefined: not known. */
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

/** For sorting keys of one family. */
export function ascending<K extends number | string>(a: K, b: K): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function sorted<K extends number | string>(delta: ReadonlyMap<K, number | undefined>): Edits<K> {
  return [...delta].sort(([a], [b]) => ascending(a, b));
}

/** Index of the first key that is not less. */
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
