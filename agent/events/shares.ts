/** Lost events by endpoint, which the programs count while the ring is filling up (bpf/share.h). */
import { remember } from '../../src/flow/names/addresses.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import type { BpfMap } from '../kernel/libbpf/map.js';

const LOST = STRUCTS.ea_share.fields.lost.offset;

/** Endpoints whose losses are kept after the kernel has dropped their entries. */
const MAX_ENDPOINTS = 4096;

export class Shares {
  readonly #map: BpfMap;
  /** By endpoint id: the last value of its counter, and its total loss since this process started. */
  readonly #losses = new Map<number, { last: number; lost: number }>();

  /** Events lost before this do not count: an earlier agent was their reader. */
  constructor(map: BpfMap) {
    this.#map = map;
    this.takeNew();
    for (const seen of this.#losses.values()) seen.lost = 0;
  }

  /** Events of an endpoint that were lost since this process started. */
  lost(endpoint: number): number {
    return this.#losses.get(endpoint)?.lost ?? 0;
  }

  /** Events lost since the last call, by endpoint id. */
  takeNew(): Map<number, number> {
    const out = new Map<number, number>();
    for (const { keys, values, count } of this.#map.batches()) {
      for (let i = 0; i < count; i++) {
        const counter = Number(values.readBigUInt64LE(i * this.#map.valueSize + LOST));
        const endpoint = keys.readUInt32LE(i * this.#map.keySize);
        const previous = this.#losses.get(endpoint);
        // An entry that was dropped and created again counts from zero.
        const added = counter - (previous && counter >= previous.last ? previous.last : 0);
        if (added === 0) continue;
        out.set(endpoint, (out.get(endpoint) ?? 0) + added);
        remember(this.#losses, endpoint, { last: counter, lost: (previous?.lost ?? 0) + added }, MAX_ENDPOINTS);
      }
    }
    return out;
  }
}
