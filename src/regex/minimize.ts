/** Makes states that accept the same texts one, by Hopcroft's algorithm, and numbers what is left canonically. */
import type { RawTable } from './determine.js';
import type { Dfa } from './dfa.js';

/** The smallest table of a regular expression, whose index is 0. It may be larger than the limits. */
export function minimize(raw: RawTable): Dfa {
  const blockOf = new Partition(raw).refined();
  const members: number[] = [];
  blockOf.forEach((block, state) => {
    members[block] ??= state;
  });
  const { classOf, columns } = mergeClasses(raw, blockOf, members);
  const classes = columns.length;

  const start = blockOf[1] === blockOf[0] ? 0 : 1;
  const order = start === 0 ? [blockOf[0]!] : [blockOf[0]!, blockOf[1]!];
  const numbers = new Map(order.map((block, number) => [block, number]));
  const next: number[] = [];
  for (let state = 0; state < order.length; state++) {
    for (const column of columns) {
      const to = column[order[state]!]!;
      if (!numbers.has(to)) numbers.set(to, order.push(to) - 1);
      next.push(numbers.get(to)!);
    }
  }
  const accepts = Uint16Array.from(order, (block) => (raw.accepts[members[block]!] ? 1 : 0));
  return {
    classes,
    classOf,
    next: Uint16Array.from(next),
    start,
    accepts,
    sets: accepts.includes(1) ? [[], [0]] : [[]],
  };
}

/** Classes of bytes with the same ways are one. `columns`: where each class leads, by block. */
function mergeClasses({ classes, classOf, next }: RawTable, blockOf: Int32Array, members: readonly number[]) {
  const columns: Int32Array[] = [];
  const numbers = new Map<string, number>();
  const merged: number[] = [];
  const finer = Uint8Array.from(classOf, (c) => {
    if (merged[c] === undefined) {
      const column = Int32Array.from(members, (state) => blockOf[next[state * classes + c]!]!);
      const key = column.join();
      if (!numbers.has(key)) numbers.set(key, columns.push(column) - 1);
      merged[c] = numbers.get(key)!;
    }
    return merged[c];
  });
  return { classOf: finer, columns };
}

/** States in blocks, which are split as long as some state of a block leads elsewhere than another. */
class Partition {
  readonly #raw: RawTable;
  /** All states, each block's side by side; those of a block that are marked stand first. */
  readonly #states: Int32Array;
  /** By state: its place in `#states`. */
  readonly #places: Int32Array;
  readonly #blockOf: Int32Array;
  /** By block. */
  readonly #first: number[] = [0];
  readonly #end: number[];
  readonly #marked: number[] = [0];
  /** Blocks by which others may have to be split. */
  readonly #open: number[] = [];
  readonly #isOpen: boolean[] = [false];

  constructor(raw: RawTable) {
    const n = raw.accepts.length;
    this.#raw = raw;
    this.#states = Int32Array.from({ length: n }, (_, state) => state);
    this.#places = this.#states.slice();
    this.#blockOf = new Int32Array(n);
    this.#end = [n];
  }

  /** @returns the block of each state, numbered from 0 */
  refined(): Int32Array {
    const { classes, accepts } = this.#raw;
    const { from, sources } = this.#sources();
    this.#reopen(0);
    this.#split(accepts.flatMap((accepting, state) => (accepting ? [state] : [])));
    for (let by = this.#open.pop(); by !== undefined; by = this.#open.pop()) {
      this.#isOpen[by] = false;
      const splitter = this.#states.slice(this.#first[by], this.#end[by]);
      for (let c = 0; c < classes; c++) {
        const leading: number[] = [];
        for (const to of splitter) {
          const at = c * accepts.length + to;
          for (let i = from[at]!; i < from[at + 1]!; i++) leading.push(sources[i]!);
        }
        this.#split(leading);
      }
    }
    return this.#blockOf;
  }

  /** By class and state: the states that lead there, at `from[class * states + state]` and on, before the next one's. */
  #sources(): { from: Int32Array; sources: Int32Array } {
    const { classes, next, accepts } = this.#raw;
    const n = accepts.length;
    const from = new Int32Array(classes * n + 1);
    const slot = (i: number) => (i % classes) * n + next[i]!;
    for (let i = 0; i < next.length; i++) from[slot(i) + 1]!++;
    for (let at = 1; at < from.length; at++) from[at]! += from[at - 1]!;
    const filled = from.slice();
    const sources = new Int32Array(next.length);
    for (let i = 0; i < next.length; i++) sources[filled[slot(i)]!++] = Math.floor(i / classes);
    return { from, sources };
  }

  /** Splits each block of which some states are among these, each of which is there once, and others are not. */
  #split(states: readonly number[]): void {
    const touched: number[] = [];
    for (const state of states) {
      const block = this.#blockOf[state]!;
      if (this.#marked[block] === 0) touched.push(block);
      this.#swap(this.#places[state]!, this.#first[block]! + this.#marked[block]!++);
    }
    for (const block of touched) {
      const [first, end, marked] = [this.#first[block]!, this.#end[block]!, this.#marked[block]!];
      this.#marked[block] = 0;
      if (marked === end - first) continue;
      // The smaller part becomes the new block, so that a state seldom changes its block.
      const middle = first + marked;
      const isHead = marked <= end - middle;
      const created = this.#first.push(isHead ? first : middle) - 1;
      this.#end.push(isHead ? middle : end);
      this.#marked.push(0);
      this.#isOpen.push(false);
      if (isHead) this.#first[block] = middle;
      else this.#end[block] = middle;
      for (let i = this.#first[created]!; i < this.#end[created]!; i++) this.#blockOf[this.#states[i]!] = created;
      // If the old block is still open, both parts are; if not, one part is enough: the other splits alike.
      this.#reopen(created);
    }
  }

  #reopen(block: number): void {
    this.#isOpen[block] = true;
    this.#open.push(block);
  }

  #swap(a: number, b: number): void {
    const [x, y] = [this.#states[a]!, this.#states[b]!];
    this.#states[a] = y;
    this.#states[b] = x;
    this.#places[x] = b;
    this.#places[y] = a;
  }
}
