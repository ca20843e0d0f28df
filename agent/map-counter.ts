/**
 * How full the maps are whose entries nobody here keeps count of: the hooks write them, or few are ever written. Counted as the
 * flow table is, a slice of one map at each tick, so that a full table costs no pause and a question for the status nothing.
 */
import type { MapFill } from '../src/image/store.js';
import type { BpfMap } from './libbpf/map.js';

/** Some 2 ms where the slice is full. */
const SLICE = 4096;

export class MapCounter {
  readonly #maps: readonly BpfMap[];
  readonly #counts = new Map<string, number>();
  #slices: Generator<{ count: number }> | undefined;
  #counted = 0;
  #at = 0;

  /** @param maps hash tables, also such as forget */
  constructor(maps: readonly BpfMap[]) {
    this.#maps = maps;
  }

  /** Counts one slice, of the map that it has come to. */
  tick(): void {
    const map = this.#maps[this.#at];
    if (!map) return;
    this.#slices ??= map.batches(SLICE);
    const next = this.#slices.next();
    if (!next.done) {
      this.#counted += next.value.count;
      return;
    }
    this.#counts.set(map.name, this.#counted);
    this.#counted = 0;
    this.#slices = undefined;
    this.#at = (this.#at + 1) % this.#maps.length;
  }

  /** As of each map's last count; a map that has not been counted yet is not told of. */
  fill(): MapFill[] {
    return this.#maps.flatMap(({ name, maxEntries }) => {
      const entries = this.#counts.get(name);
      return entries === undefined ? [] : [{ name, entries, max: maxEntries }];
    });
  }
}
