/**
 * Merges items of several nodes into one sequence in time order. Pure: time is a parameter, and nothing waits here.
 *
 * An item is released
 * 1. when every member node has sent an item with the same or a later time, so that no earlier one can follow;
 * 2. when it, or a later item, has been held for `holdBackMs`: slow nodes are not awaited any longer;
 * 3. when `most` items are held, or half of `mostBytes`: the limit of memory has precedence over the order. If `most` is
 *    infinite, the order has precedence, and the nodes' streams must wait instead (`hasRoom`).
 *
 * Thus items that arrive within `holdBackMs` after their time are released in order, whatever the nodes' delays.
 */
export interface MergeOptions {
  /**
   * Time that an item waits for earlier ones of other nodes, in milliseconds; infinite: until those nodes send
   * something.
   */
  holdBackMs: number;
  /** Maximum number of held items. */
  most: number;
  /** Maximum size of held items in bytes, besides one item of each node; infinite unless set. May change. */
  mostBytes?: () => number;
}

interface Held<T> {
  time: bigint;
  /** Sequence number of arrival, which orders items with the same time. */
  seq: number;
  owner: Member | undefined;
  item: T;
  bytes: number;
  arrivedMs: number;
  out: boolean;
}

interface Member {
  node: string;
  gone: boolean;
  held: number;
  /** Size of its held items. */
  bytes: number;
  /** Time of its latest item; undefined before the first. */
  latest: bigint | undefined;
}

/** The merge, a heap of held items. */
export class Merge<T> {
  readonly #opts: Required<MergeOptions>;
  readonly #members = new Map<string, Member>();
  /** Members without held items. Only these can still send an earlier item. */
  readonly #empty = new Map<string, Member>();
  readonly #heap: Held<T>[] = [];
  /** In order of arrival. Released items are removed from the front. */
  #arrivals: Held<T>[] = [];
  #front = 0;
  #seq = 0;
  #bytes = 0;

  constructor(opts: MergeOptions) {
    this.#opts = { mostBytes: () => Number.POSITIVE_INFINITY, ...opts };
  }

  /** Number of held items. */
  get size(): number {
    return this.#heap.length;
  }

  /** Whether the bytes that are for whoever comes first are used up. */
  get isHalfFull(): boolean {
    return this.#bytes >= this.#opts.mostBytes() / 2;
  }

  /** Whether the next item is released regardless of the order. */
  get full(): boolean {
    const { most } = this.#opts;
    return this.#heap.length >= most || (most !== Number.POSITIVE_INFINITY && this.isHalfFull);
  }

  /**
   * Whether a node may add an item. One half of the bytes is for whoever comes first. The other half is divided among
   * the nodes, so that a node with large items does not take the room of the others. A member without held items may
   * always add one unless there are too many: the merge may be waiting for it.
   */
  hasRoom(node: string): boolean {
    if (this.#heap.length >= this.#opts.most) return false;
    if (!this.isHalfFull) return true;
    const most = this.#opts.mostBytes();
    const member = this.#members.get(node);
    if (!member) return this.#bytes < most;
    return member.bytes === 0 || (this.#bytes < most && member.bytes < most / 2 / this.#members.size);
  }

  /** Adds a node. From now on, items of other nodes wait for it. */
  join(node: string): void {
    if (this.#members.has(node)) return;
    const member: Member = { node, gone: false, held: 0, bytes: 0, latest: undefined };
    this.#members.set(node, member);
    this.#empty.set(node, member);
  }

  /** Removes a node that has ended or is gone, so that nobody waits for it. Its held items are still released. */
  leave(node: string): void {
    const member = this.#members.get(node);
    if (member) member.gone = true;
    this.#members.delete(node);
    this.#empty.delete(node);
  }

  /** Adds an item. @param time nanoseconds since 1970 @param bytes its size */
  push(node: string, time: bigint, item: T, nowMs: number, bytes = 0): void {
    const member = this.#members.get(node);
    const held: Held<T> = { time, seq: this.#seq++, owner: member, item, bytes, arrivedMs: nowMs, out: false };
    if (member) {
      member.held++;
      member.bytes += bytes;
      if (member.latest === undefined || time > member.latest) member.latest = time;
      this.#empty.delete(node);
    }
    this.#bytes += bytes;
    this.#arrivals.push(held);
    this.#up(held);
  }

  /** The next item, if it can be released. */
  take(nowMs: number): T | undefined {
    const head = this.#heap[0];
    if (!head || !(this.full || this.#overdueIn(nowMs) <= 0 || this.#isEarliest(head))) return undefined;
    this.#down();
    head.out = true;
    const { owner, item } = head;
    // Its entry in the list of arrivals may stay for long.
    head.item = undefined as T;
    this.#bytes -= head.bytes;
    if (owner) owner.bytes -= head.bytes;
    if (owner && --owner.held === 0 && !owner.gone) this.#empty.set(owner.node, owner);
    return item;
  }

  /** Milliseconds until `take` returns an item without further arrivals; infinite if it never will. */
  dueIn(nowMs: number): number {
    const head = this.#heap[0];
    if (!head) return Number.POSITIVE_INFINITY;
    return this.full || this.#isEarliest(head) ? 0 : Math.max(this.#overdueIn(nowMs), 0);
  }

  /** Number of held items of a node. */
  held(node: string): number {
    return this.#members.get(node)?.held ?? 0;
  }

  /** The nodes that the next item waits for. */
  awaited(): string[] {
    const head = this.#heap[0];
    return [...this.#empty].filter(([, m]) => !head || isBehind(m, head.time)).map(([node]) => node);
  }

  #isEarliest(head: Held<T>): boolean {
    for (const member of this.#empty.values()) if (isBehind(member, head.time)) return false;
    return true;
  }

  /**
   * Milliseconds until the oldest held item is overdue. Items with earlier times are released before it, however late
   * they arrived.
   */
  #overdueIn(nowMs: number): number {
    while (this.#arrivals[this.#front]?.out) this.#front++;
    if (this.#front > 1024 && this.#front * 2 > this.#arrivals.length) {
      this.#arrivals = this.#arrivals.slice(this.#front);
      this.#front = 0;
    }
    const oldest = this.#arrivals[this.#front];
    return oldest ? oldest.arrivedMs + this.#opts.holdBackMs - nowMs : Number.POSITIVE_INFINITY;
  }

  #up(held: Held<T>): void {
    const heap = this.#heap;
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const other = heap[parent] as Held<T>;
      if (!isBefore(held, other)) break;
      heap[at] = other;
      at = parent;
    }
    heap[at] = held;
  }

  /** Restores the heap after its head was removed. */
  #down(): void {
    const heap = this.#heap;
    const last = heap.pop() as Held<T>;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Held<T>, heap[child] as Held<T>)) child++;
      if (!isBefore(heap[child] as Held<T>, last)) break;
      heap[at] = heap[child] as Held<T>;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore<T>(a: Held<T>, b: Held<T>): boolean {
  return a.time < b.time || (a.time === b.time && a.seq < b.seq);
}

function isBehind(member: Member, time: bigint): boolean {
  return member.latest === undefined || member.latest < time;
}
