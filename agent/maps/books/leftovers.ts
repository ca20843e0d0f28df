/**
 * Leftovers of updates in the maps: old state by which packets may still be judged, and since when. Bookkeeping only:
 * this file reads and writes no map.
 *
 * Time is counted in moments. What was written up to a moment may be settled and deleted when every program that ran
 * then has ended. An update before that plans from what the maps contain, and does not touch other updates' leftovers.
 */
import type { ImageService } from '../../../src/image/types.js';
import type { Tunnel } from '../../../src/net/tunnels.js';
import type { Address } from './address-book.js';

/** The value of an entry in a map, and the moment of the update that left it. */
interface LeftoverEntry<V> {
  readonly value: V;
  readonly since: number;
}

/** Entries of a map whose value differs from the Image in force, until they are settled. */
export class OutdatedEntries<K, V> {
  #entries = new Map<K, LeftoverEntry<V>>();
  #values: ReadonlyMap<K, V> | undefined = new Map();

  get size(): number {
    return this.#entries.size;
  }

  /** Key → value in the map. */
  get values(): ReadonlyMap<K, V> {
    this.#values ??= new Map([...this.#entries].map(([key, { value }]) => [key, value]));
    return this.#values;
  }

  /** Number of entries that the Image does not have. */
  countOutside(inImage: (key: K) => unknown): number {
    let n = 0;
    for (const key of this.#entries.keys()) if (inImage(key) === undefined) n++;
    return n;
  }

  /**
   * Takes over the plan of an update.
   * @param shown the entries that differ from the Image after it
   * @param moment of the update
   * @param unmoved whether an entry's final value is the same as before the update
   * @returns values that the entries had and do not have any more
   */
  replace(shown: ReadonlyMap<K, V>, moment: number, unmoved: (key: K) => boolean): V[] {
    const previous = this.#entries;
    if (previous.size === 0 && shown.size === 0) return [];
    this.#values = undefined;
    this.#entries = new Map();
    for (const [key, value] of shown) {
      const old = previous.get(key);
      const since = old?.value === value && unmoved(key) ? old.since : moment;
      this.#entries.set(key, { value, since });
    }
    return [...previous].filter(([key, { value }]) => shown.get(key) !== value).map(([, { value }]) => value);
  }

  /** Removes and returns the entries that may be settled: those since a moment up to this one. */
  takeUntil(moment: number): [K, V][] {
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

/** The leftovers of all maps. */
export class Leftovers {
  readonly destinations4 = new OutdatedEntries<number, number>();
  readonly destinations6 = new OutdatedEntries<string, number>();
  readonly services = new OutdatedEntries<string, ImageService>();
  readonly addresses = new OutdatedEntries<string, Address>();
  readonly tunnels = new OutdatedEntries<string, Tunnel>();
  readonly #outdated = [this.destinations4, this.destinations6, this.services, this.addresses, this.tunnels];
  /** Ids of sets and classes without references → the moment since when. */
  readonly sets = new Map<number, number>();
  readonly classes = new Map<number, number>();
  /** Nodes of the trie of destinations without references → the moment since when. */
  readonly nodes = new Map<number, number>();
  /** Chunks of matchers of names that were replaced → the moment since when. */
  readonly chunks = new Map<number, number>();
  #moment = 0;
  #lastFlip = 0;
  #lastPassed = 0;

  /** The latest moment. */
  get moment(): number {
    return this.#moment;
  }

  /** Packets may still be judged by sets that their endpoints had before. */
  get flipPending(): boolean {
    return this.#lastFlip > this.#lastPassed;
  }

  /** Packets may still be judged by old entries of `addresses` or `tunnels`. */
  get addressesPending(): boolean {
    return this.addresses.size + this.tunnels.size > 0;
  }

  /** Entries of a map differ from the Image in force. */
  get hasOutdated(): boolean {
    return this.#outdated.some((entries) => entries.size > 0);
  }

  /** There is something to settle, or to delete. */
  get hasWork(): boolean {
    return this.hasOutdated || this.sets.size + this.classes.size + this.nodes.size + this.chunks.size > 0;
  }

  /** Begins the next moment, after an update was written. @param flips endpoints got other sets. @returns the moment */
  next(flips: boolean): number {
    this.#moment++;
    if (flips) this.#lastFlip = this.#moment;
    return this.#moment;
  }

  /** Records that every program that ran at this moment has ended. */
  markPassed(moment: number): void {
    this.#lastPassed = Math.max(this.#lastPassed, moment);
  }

  /** Classes of destinations that differ from the Image. */
  outdatedClasses(): Set<number> {
    return new Set([...this.destinations4.values.values(), ...this.destinations6.values.values()]);
  }

  /** Forgets all leftovers but the trie's nodes and the matcher's chunks, before the maps are read again. */
  clear(): void {
    for (const m of [...this.#outdated, this.sets, this.classes]) m.clear();
  }
}
