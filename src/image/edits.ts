/**
 * Destinations that were made from others by a few changes: what 50,000 of them cost when one pod has come. The arrays are
 * made when somebody reads them; whoever asks for single keys, or for what a step changed, does without.
 */

/** As Destinations4 and 6. */
interface Flat<K> {
  readonly keys: { readonly [i: number]: K; readonly length: number };
  readonly classes: Float64Array;
}

/** Changes are carried along until they are this many, or more than this share of the base: then a new base is made. */
const FEW = 64;
const SHARE = 128;

/** Sorted changes; `undefined` takes a key away. */
export type Edits<K> = readonly (readonly [key: K, classId: number | undefined])[];

abstract class Edited<K extends number | string, D extends Flat<K>> {
  readonly size: number;
  /** Keys of the step that led here, ascending. */
  readonly #step: readonly K[];
  /** Stands for what that step started from; not the thing itself, or each would keep all before it. */
  readonly #from: object;
  readonly #token = {};
  readonly #delta: ReadonlyMap<K, number | undefined>;
  #base: D;
  #flat: D | undefined;

  constructor(from: D, edits: Edits<K>) {
    const before = from instanceof Edited ? (from as Edited<K, D>) : undefined;
    this.#base = before ? before.#base : from;
    this.#from = before ? before.#token : from;
    this.#step = edits.map(([key]) => key);
    const delta = new Map(before?.#delta);
    let size = sizeOf(from);
    for (const [key, classId] of edits) {
      const had = classAt(from, key) !== undefined;
      if (had !== (classId !== undefined)) size += had ? -1 : 1;
      delta.set(key, classId);
    }
    this.size = size;
    this.#delta = delta;
    if (delta.size <= FEW + this.#base.keys.length / SHARE) return;
    this.#base = this.flat();
    this.#delta = new Map();
  }

  get keys(): D['keys'] {
    return this.flat().keys;
  }

  get classes(): Float64Array {
    return this.flat().classes;
  }

  /** Class of a key; undefined where it is not there. */
  at(key: K): number | undefined {
    return this.#delta.has(key) ? this.#delta.get(key) : classAt(this.#base, key);
  }

  /** Keys that may differ; undefined: this was not made from that. */
  stepFrom(from: Flat<K>): readonly K[] | undefined {
    return this.#from === (from instanceof Edited ? (from as Edited<K, D>).#token : from) ? this.#step : undefined;
  }

  protected abstract merged(base: D, edits: Edits<K>): D;

  private flat(): D {
    if (this.#delta.size === 0) return this.#base;
    this.#flat ??= this.merged(
      this.#base,
      [...this.#delta].sort(([a], [b]) => (a < b ? -1 : 1)),
    );
    return this.#flat;
  }
}
