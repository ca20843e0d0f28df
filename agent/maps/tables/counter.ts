/**
 * Counts the entries of maps that the agent does not count otherwise: BPF programs write them, or they have few
 * entries. Each tick counts one slice of one map, so that a full map causes no pause, and a status request costs
 * nothing.
 */
import type { MapFill } from '../../../src/image/store.js';
import type { BpfMap } from '../../kernel/libbpf/map.js';

/** Entries of a slice: some 2 ms if it is full. */
const SLICE = 4096;

export class MapCounter {
  readonly #maps: readonly BpfMap[];
  readonly #counts = new Map<string, number>();
  #slices: Generator<{ count: number }> | undefined;
  #partialCount = 0;
  #mapIndex = 0;

  /** @param maps hash tables, also LRU ones */
  constructor(maps: readonly BpfMap[]) {
    this.#maps = maps;
  }

  /** Counts the next slice. */
  tick(): void {
    const map = this.#maps[this.#mapIndex];
    if (!map) return;
    this.#slices ??= map.batches(SLICE);
    const slice = this.#slices.next();
    if (!slice.done) {
      this.#partialCount += slice.value.count;
      return;
    }
    this.#counts.set(map.name, this.#partialCount);
    this.#partialCount = 0;
    this.#slices = undefined;
    this.#mapIndex = (this.#mapIndex + 1) % this.#maps.length;
  }

  /** The result of each map's last complete count; a map that has not been counted yet is left out. */
  fill(): MapFill[] {
    return this.#maps.flatMap(({ name, maxEntries }) => {
      const entries = this.#counts.get(name);
      return entries === undefined ? [] : [{ name, entries, max: maxEntries }];
    });
  }
}
