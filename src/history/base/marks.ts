/** Which edges a store has described, in little memory. */
import type { Edge } from '../../edges/edge.js';

const MODULUS = 2 ** 53;

/** Identifies an edge with its address: the description that a store has to have. Never 0. */
export function markOf(id: number, address: string): number {
  // FNV-1a, twice, for the upper and the lower bits.
  let [low, high] = [0x811c9dc5, 0x01000193];
  for (let n = 0; n < address.length; n++) {
    const code = address.charCodeAt(n);
    low = Math.imul(low ^ code, 0x01000193);
    high = Math.imul(high ^ code, 0x85ebca6b);
  }
  const hash = address === '' ? 0 : (high >>> 11) * 2 ** 32 + (low >>> 0);
  return (id + hash) % MODULUS || 1;
}

/** 1 to 65535 of a workload, by which its rows are found; 0 of anything else. The same in every version. */
export function shardOf({ kind, namespace, name }: Edge['source']): number {
  return kind === 'workload' ? workloadShard(`${namespace}/${name}`) : 0;
}

/** @param workload `namespace/name` */
export function workloadShard(workload: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(workload)) hash = Math.imul(hash ^ byte, 0x01000193);
  return ((hash >>> 0) % 65_535) + 1;
}

/**
 * A set of numbers other than 0, each with a number of 32 bits where asked for: 16 to 48 bytes for each, where a Map takes
 * 80.
 */
export class Marks {
  #slots = new Float64Array(1024);
  #values: Uint32Array | undefined;
  #size = 0;

  constructor(withValues = false) {
    if (withValues) this.#values = new Uint32Array(1024);
  }

  get size(): number {
    return this.#size;
  }

  has(mark: number): boolean {
    return this.#slots[slotOf(this.#slots, mark)] === mark;
  }

  /** The value of a mark; 0: it has none. */
  get(mark: number): number {
    const at = slotOf(this.#slots, mark);
    return this.#slots[at] === mark ? (this.#values?.[at] ?? 0) : 0;
  }

  add(mark: number, value = 0): void {
    const at = slotOf(this.#slots, mark);
    if (this.#values) this.#values[at] = value;
    if (this.#slots[at] === mark) return;
    this.#slots[at] = mark;
    if (++this.#size * 2 > this.#slots.length) this.#widen();
  }

  clear(): void {
    this.#slots = new Float64Array(1024);
    if (this.#values) this.#values = new Uint32Array(1024);
    this.#size = 0;
  }

  #widen(): void {
    const [slots, values] = [this.#slots, this.#values];
    this.#slots = new Float64Array(slots.length * 2);
    if (values) this.#values = new Uint32Array(slots.length * 2);
    for (let n = 0; n < slots.length; n++) {
      const mark = slots[n] as number;
      if (mark === 0) continue;
      const at = slotOf(this.#slots, mark);
      this.#slots[at] = mark;
      if (values && this.#values) this.#values[at] = values[n] as number;
    }
  }
}

function slotOf(slots: Float64Array, mark: number): number {
  const mask = slots.length - 1;
  let at = (Math.imul((mark % 2 ** 32) ^ (mark / 2 ** 32), 0x9e3779b1) >>> 7) & mask;
  while (slots[at] !== 0 && slots[at] !== mark) at = (at + 1) & mask;
  return at;
}
