/**
 * What endpoints were given for Encrypted ClientHello (bpf/ech.h). Programs write it, and it is over by the clock; here
 * the entries of endpoints that are gone are deleted, so that others find room.
 */
import type { BpfMap } from '../kernel/libbpf/map.js';

/** As for names: an endpoint must have been gone for so long, seconds. */
const GONE_S = 30;

export class KnownEch {
  readonly #map: BpfMap;
  /** Endpoints that are gone, and since when: seconds. */
  #goneSince = new Map<number, number>();
  #entries = 0;

  /** @param map ech_known */
  constructor(map: BpfMap) {
    this.#map = map;
  }

  /**
   * Deletes what is of endpoints that are gone.
   * @param present ids of the endpoints that exist; undefined: not known yet, so none counts as gone
   * @param now seconds
   */
  sweep(present: ReadonlySet<number> | undefined, now: number): void {
    const goneSince = new Map<number, number>();
    const over: number[] = [];
    let entries = 0;
    for (const { keys, count } of this.#map.batches())
      for (let i = 0; i < count; i++) {
        const endpoint = keys.readUInt32LE(i * this.#map.keySize);
        entries++;
        if (present === undefined || present.has(endpoint)) continue;
        const since = this.#goneSince.get(endpoint) ?? now;
        if (now - since >= GONE_S) over.push(endpoint);
        else goneSince.set(endpoint, since);
      }
    const key = Buffer.alloc(4);
    for (const endpoint of over) {
      key.writeUInt32LE(endpoint);
      this.#map.delete(key);
    }
    this.#goneSince = goneSince;
    this.#entries = entries - over.length;
  }

  /** Fill as of the last sweep. */
  get fill(): { name: string; entries: number; max: number } {
    return { name: 'ech_known', entries: this.#entries, max: this.#map.maxEntries };
  }
}
