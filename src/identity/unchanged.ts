/** What two lists have in common at their beginnings and at their ends: what one change of a long list leaves alone. */
export class Unchanged<T> {
  private readonly head: number;
  private readonly tail: number;

  constructor(
    private readonly old: readonly T[],
    private readonly now: readonly T[],
  ) {
    const least = Math.min(old.length, now.length);
    let head = 0;
    while (head < least && old[head] === now[head]) head++;
    let tail = 0;
    while (tail < least - head && old[old.length - 1 - tail] === now[now.length - 1 - tail]) tail++;
    this.head = head;
    this.tail = tail;
  }

  /** Where the element at a place of the list now stood before; undefined: it is in the part that changed. */
  before(at: number): number | undefined {
    if (at < this.head) return at;
    return at >= this.now.length - this.tail ? at - this.now.length + this.old.length : undefined;
  }

  /** The part that changed, as it was and as it is. */
  changed(): T[] {
    return [...this.old.slice(this.head, this.old.length - this.tail), ...this.added()];
  }

  /** The part that changed, as it is. */
  added(): T[] {
    return this.now.slice(this.head, this.now.length - this.tail);
  }

  /** The part that changed, as it was. */
  removed(): T[] {
    return this.old.slice(this.head, this.old.length - this.tail);
  }

  /** Elements that both begin with. */
  get common(): number {
    return this.head;
  }
}
