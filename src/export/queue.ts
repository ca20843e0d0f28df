/** What waits to be written: first in, first out, bounded by number and by size. */

export interface Queued<T> {
  readonly data: T;
  /** Flows that are lost where it is lost. */
  readonly weight: number;
  /** Lost flows of which it tells. */
  readonly told: number;
  readonly size: number;
}

export class Queue<T> {
  readonly #most: number;
  readonly #mostBytes: number;
  #items: (Queued<T> | undefined)[] = [];
  #head = 0;
  #bytes = 0;

  constructor(most: number, mostBytes: number) {
    this.#most = most;
    this.#mostBytes = mostBytes;
  }

  get length(): number {
    return this.#items.length - this.#head;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether `count` more records of this size would fit. */
  fits(count: number, bytes: number): boolean {
    return this.length + count <= this.#most && (this.length === 0 || this.#bytes + bytes <= this.#mostBytes);
  }

  push(item: Queued<T>): void {
    this.#items.push(item);
    this.#bytes += item.size;
  }

  /** The oldest of them, without removing them: one at least, if there is any. */
  peek(most: number, mostBytes: number): Queued<T>[] {
    const batch: Queued<T>[] = [];
    let bytes = 0;
    for (let i = this.#head; i < this.#items.length && batch.length < most; i++) {
      const item = this.#items[i] as Queued<T>;
      bytes += item.size;
      if (batch.length > 0 && bytes > mostBytes) break;
      batch.push(item);
    }
    return batch;
  }

  /** Removes the oldest. */
  drop(count: number): void {
    for (const end = this.#head + count; this.#head < end; this.#head++) {
      this.#bytes -= this.#items[this.#head]?.size ?? 0;
      this.#items[this.#head] = undefined;
    }
    // Moving the rest costs no more than what was removed.
    if (this.#head * 2 < this.#items.length) return;
    this.#items = this.#items.slice(this.#head);
    this.#head = 0;
  }
}
