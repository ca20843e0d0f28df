/**
 * The memory that waiting flows take. Nothing limits how many labels a pod or a policy has: without a limit in bytes,
 * whoever may write one in a namespace could make each of its flows half a megabyte, and get the relay killed.
 */
const MIB = 1 << 20;
/** Bytes of a string besides its characters, and of an object or array besides its fields, in V8. */
const STRING = 24;
const OBJECT = 32;
/** Bytes of a field or an element. */
const FIELD = 8;

/** Memory of all readers of one kind, which they share equally. */
export class Budget {
  readonly #total: number;
  readonly #most: number;
  #users = 0;

  /** @param most maximum for one reader, however few there are */
  constructor(total: number, most: number) {
    this.#total = total;
    this.#most = most;
  }

  /** The present share of one reader, in bytes. */
  get share(): number {
    return Math.min(this.#most, this.#total / Math.max(this.#users, 1));
  }

  enter(): void {
    this.#users++;
  }

  leave(): void {
    this.#users--;
  }
}

/** For flows that wait for those of other nodes. This and the next one are half of the relay's limit of memory. */
export const HELD_BYTES = new Budget(128 * MIB, 64 * MIB);
/** For the last flows of the cluster, which are kept until the last node has ended. */
export const TAIL_BYTES = new Budget(128 * MIB, 128 * MIB);
/** For the chosen flows of each of the four ranks of a sample, until their second is over. */
export const SAMPLE_BYTES = new Budget(16 * MIB, 4 * MIB);

/** Estimates the memory of a decoded message, in bytes: its strings, objects and arrays. */
export function sizeOf(value: unknown): number {
  if (typeof value === 'string') return STRING + value.length;
  if (typeof value !== 'object' || value === null) return 0;
  let size = OBJECT;
  if (Array.isArray(value)) for (const element of value) size += FIELD + sizeOf(element);
  else for (const key in value) size += FIELD + sizeOf((value as Record<string, unknown>)[key]);
  return size;
}
