/**
 * What is left in the maps by updates whose old state packets may still be judged by, and since when. Books only: nothing
 * here reads or writes a map.
 *
 * Time is counted in moments. What was written up to a moment may be settled and collected when every program that ran then
 * has ended. An update that comes before that plans from what the maps show, and leaves alone what is none of its business.
 */
import type { ImageService } from '../src/image/types.js';

interface Standing<V> {
  readonly value: V;
  readonly since: number;
}

/** Entries that show something else than the Image in force says. */
export class Shown<K, V> {
  #entries = new Map<K, Standing<V>>();
  #values: ReadonlyMap<K, V> | undefined = new Map();

  get size(): number {
    return this.#entries.size;
  }

  /** Key → what it shows. */
  get values(): ReadonlyMap<K, V> {
    this.#values ??= new Map([...this.#entries].map(([key, { value }]) => [key, value]));
    return this.#values;
  }

  /**
   * Takes in the plan of an update.
   * @param moment of the update
   * @param unmoved whether what an entry is to become is what it was to become before
   * @returns what entries do not show any more
   */
  replace(shown: ReadonlyMap<K, V>, moment: number, unmoved: (key: K) => boolean): V[] {
    const before = this.#entries;
    if (before.size === 0 && shown.size === 0) return [];
    this.#values = undefined;
    this.#entries = new Map();
    for (const [key, value] of shown) {
      const old = before.get(key);
      const since = old?.value === value && unmoved(key) ? old.since : moment;
      this.#entries.set(key, { value, since });
    }
    return [...before].filter(([key, { value }]) => shown.get(key) !== value).map(([, { value }]) => value);
  }

  /** Takes out those that may settle. */
  until(moment: number): [K, V][] {
    const out: [K, V][] = [];
    for (const [key, { value, since }] of this.#entries) if (since <= moment) out.push([key, value]);
    for (const [key] of out) this.#entries.delete(key);
    if (out.length > 0) this.#values = undefined;
    return out;
  }

  clear(): void {
    this.#entries.clear();
    this.#values = new Map();
  }
}

export class Leftovers {
  readonly destinations4 = new Shown<number, number>();
  readonly destinations6 = new Shown<string, number>();
  readonly services = new Shown<string, ImageService>();
  /** Sets and classes that nothing names any more, and since when. */
  readonly sets = new Map<number, number>();
  readonly classes = new Map<number, number>();
  /** Entries that nobody remembers are among them. */
  strangers = false;
  #now = 0;
  #flipped = 0;
  #through = 0;

  /** The latest moment. */
  get now(): number {
    return this.#now;
  }

  /** A packet may still be judged by a set that its endpoint does not have any more. */
  get flipping(): boolean {
    return this.#flipped > this.#through;
  }

  /** Addresses and Services show something else than the Image in force says. */
  get shows(): boolean {
    return this.destinations4.size + this.destinations6.size + this.services.size > 0;
  }

  /** There is something to settle, or to delete. */
  get any(): boolean {
    return this.shows || this.strangers || this.sets.size + this.classes.size > 0;
  }

  /** @returns the moment of an update that has just been written */
  next(flips: boolean): number {
    this.#now++;
    if (flips) this.#flipped = this.#now;
    return this.#now;
  }

  /** Every program that ran at this moment has ended. */
  passed(moment: number): void {
    this.#through = Math.max(this.#through, moment);
  }

  /** Classes that addresses show meanwhile. */
  shownClasses(): Set<number> {
    return new Set([...this.destinations4.values.values(), ...this.destinations6.values.values()]);
  }

  /** What maps are read for anew, nobody waits for. */
  clear(): void {
    for (const m of [this.destinations4, this.destinations6, this.services, this.sets, this.classes]) m.clear();
    this.strangers = false;
  }
}
