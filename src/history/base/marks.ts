/** Which edges a store has described, in little memory. */
import { createHash, randomBytes } from 'node:crypto';
import type { Edge } from '../../edges/edge.js';

/** Nobody outside of this process can make two descriptions with one mark. */
const SEED = randomBytes(16);

/** Tells descriptions of an edge apart, as they are on the wire. 32 bits, never 0; another one in each process. */
export function markOf(description: Buffer): number {
  return createHash('sha1').update(SEED).update(description).digest().readUInt32LE(0) || 1;
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

  copy(): Marks {
    const copy = new Marks();
    copy.#slots = this.#slots.slice();
    copy.#values = this.#values?.slice();
    copy.#size = this.#size;
    return copy;
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
