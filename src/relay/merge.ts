/**
 * Several nodes' items → one sequence in time order. Pure: time is a parameter, nothing waits here.
 *
 * An item leaves
 * 1. when every node that takes part has shown something as late as it, so that nothing earlier is to come;
 * 2. when it, or an item behind it, has been held for `holdBackMs`: a node that lags is not waited for any longer;
 * 3. when `most` items are held: memory goes before order.
 *
 * So items that arrive less than the hold-back after their time come out in order, whatever the nodes' delays are.
 */
export interface MergeOptions {
  /** Milliseconds that an item waits for earlier ones of other nodes; infinite: until those nodes show something. */
  holdBackMs: number;
  /** Items held at once. */
  most: number;
}

interface Held<T> {
  time: bigint;
  /** Order of arrival: what two items of the same time go by. */
  seq: number;
  owner: Member | undefined;
  item: T;
  arrivedMs: number;
  out: boolean;
}

interface Member {
  node: string;
  gone: boolean;
  held: number;
  /** Time of its latest item; undefined before the first. */
  latest: bigint | undefined;
}

export class Merge<T> {
  readonly #opts: MergeOptions;
  readonly #members = new Map<string, Member>();
  /** Members of which nothing is held: the only ones that can have something earlier to come. */
  readonly #empty = new Map<string, Member>();
  readonly #heap: Held<T>[] = [];
  /** By arrival; those that are out already are dropped from its front. */
  #arrivals: Held<T>[] = [];
  #front = 0;
  #seq = 0;

  constructor(opts: MergeOptions) {
    this.#opts = opts;
  }

  /** Items held. */
  get size(): number {
    return this.#heap.length;
  }

  get full(): boolean {
    return this.#heap.length >= this.#opts.most;
  }

  /** From now on others' items wait for this node's. */
  join(node: string): void {
    if (this.#members.has(node)) return;
    const member: Member = { node, gone: false, held: 0, latest: undefined };
    this.#members.set(node, member);
    this.#empty.set(node, member);
  }

  /** The node has ended, or is gone: nobody waits for it. What it has shown is still told. */
  leave(node: string): void {
    const member = this.#members.get(node);
    if (member) member.gone = true;
    this.#members.delete(node);
    this.#empty.delete(node);
  }

  /** @param time nanoseconds since 1970 */
  push(node: string, time: bigint, item: T, nowMs: number): void {
    const member = this.#members.get(node);
    const held: Held<T> = { time, seq: this.#seq++, owner: member, item, arrivedMs: nowMs, out: false };
    if (member) {
      member.held++;
      if (member.latest === undefined || time > member.latest) member.latest = time;
      this.#empty.delete(node);
    }
    this.#arrivals.push(held);
    this.#up(held);
  }

  /** The next item, if it may leave. */
  take(nowMs: number): T | undefined {
    const head = this.#heap[0];
    if (!head || !(this.full || this.#overdueIn(nowMs) <= 0 || this.#isEarliest(head))) return undefined;
    this.#down();
    head.out = true;
    const { owner } = head;
    if (owner && --owner.held === 0 && !owner.gone) this.#empty.set(owner.node, owner);
    return head.item;
  }

  /** Milliseconds until `take` gives something even if nothing more arrives; infinite where it never does. */
  dueIn(nowMs: number): number {
    const head = this.#heap[0];
    if (!head) return Number.POSITIVE_INFINITY;
    return this.full || this.#isEarliest(head) ? 0 : Math.max(this.#overdueIn(nowMs), 0);
  }

  /** Items of a node that are held. */
  held(node: string): number {
    return this.#members.get(node)?.held ?? 0;
  }

  /** The nodes that the next item waits for. */
  behind(): string[] {
    const head = this.#heap[0];
    return [...this.#empty].filter(([, m]) => !head || isBehind(m, head.time)).map(([node]) => node);
  }

  #isEarliest(head: Held<T>): boolean {
    for (const member of this.#empty.values()) if (isBehind(member, head.time)) return false;
    return true;
  }

  /** Of the item that has been held longest: those before it in time leave first, however late they came. */
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

  /** Takes the head away. */
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
