/** The common beginning and end of two lists: the parts that a change of a long list does not touch. */
export class Unchanged<T> {
  readonly #old: readonly T[];
  readonly #now: readonly T[];
  readonly #head: number;
  readonly #tail: number;

  constructor(old: readonly T[], now: readonly T[]) {
    this.#old = old;
    this.#now = now;
    const least = Math.min(old.length, now.length);
    let head = 0;
    while (head < least && old[head] === now[head]) head++;
    let tail = 0;
    while (tail < least - head && old[old.length - 1 - tail] === now[now.length - 1 - tail]) tail++;
    this.#head = head;
    this.#tail = tail;
  }

  /** The index in the old list of the element at an index in the new one; undefined if it is in the changed part. */
  before(at: number): number | undefined {
    if (at < this.#head) return at;
    return at >= this.#now.length - this.#tail ? at - this.#now.length + this.#old.length : undefined;
  }

  /** The changed part, old and new elements. */
  changed(): T[] {
    return [...this.#old.slice(this.#head, this.#old.length - this.#tail), ...this.added()];
  }

  /** The changed part of the new list. */
  added(): T[] {
    return this.#now.slice(this.#head, this.#now.length - this.#tail);
  }

  /** The changed part of the old list. */
  removed(): T[] {
    return this.#old.slice(this.#head, this.#old.length - this.#tail);
  }

  /** Number of elements that both lists begin with. */
  get common(): number {
    return this.#head;
  }
}

/** Whether both lists have the same elements in the same order. */
export function sameList<T>(a: readonly T[], b: readonly T[]): boolean {
  return a === b || (a.length === b.length && a.every((x, i) => x === b[i]));
}
