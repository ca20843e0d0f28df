/**
 * Several regular expressions of one field become few tables, each of which tells which of them match: a walk of the
 * field for each table in place of one for each expression.
 */
import { type Dfa, MAX_CELLS, MAX_STATES, MAX_TABLES, sizeOf } from './dfa.js';

/** Cells of tables that are filled: some 100 ms. No clock: the same expressions are refused everywhere. */
const MAX_WORK = 1 << 24;
/** A table is full when so many expressions have found no room in it. */
const MAX_MISSES = 3;

export interface Combined {
  /** Their sets list indices of the tables that were given. */
  readonly tables: readonly Dfa[];
  /** Indices of those that did not fit into MAX_TABLES tables, ascending: whoever has them closes their rules. */
  readonly refused: readonly number[];
}

/**
 * Puts each into the first table that has room for it, in the order given: what is added at the end moves nothing of what
 * is before, unless the work is used up, which refuses what has no table yet. A combination of smallest tables is itself
 * smallest, and grows with each that is added, whatever the order; so many can be tried at once, and if they fit, each
 * would have.
 * @param regexes as compileRegex() makes them
 */
export function combine(regexes: readonly Dfa[]): Combined {
  const budget = { work: MAX_WORK, misses: 0 };
  const tables: Dfa[] = [];
  let left = regexes.map((dfa, index) => ({ index, dfa: named(dfa, index) }));
  while (left.length > 0 && tables.length < MAX_TABLES) {
    budget.misses = MAX_MISSES;
    const { table, others } = fill(undefined, left, budget);
    if (!table) break;
    tables.push(table);
    left = others;
  }
  return { tables, refused: left.map(({ index }) => index) };
}

interface Item {
  readonly index: number;
  readonly dfa: Dfa;
}

/** What is left of the limits. */
interface Budget {
  work: number;
  misses: number;
}

/** The table of one regular expression, under its index. */
function named(dfa: Dfa, index: number): Dfa {
  return { ...dfa, sets: dfa.sets.map((set) => set.map(() => index)) };
}

/** Adds all that fit. @param table undefined: there is none yet */
function fill(table: Dfa | undefined, items: Item[], budget: Budget): { table: Dfa | undefined; others: Item[] } {
  if (items.length === 0 || budget.misses === 0) return { table, others: items };
  const all = unionOf(items, budget);
  const together = all && table ? product(table, all, budget) : all;
  if (together) return { table: together, others: [] };
  if (items.length === 1) {
    budget.misses--;
    return { table, others: items };
  }
  const middle = items.length >> 1;
  const head = fill(table, items.slice(0, middle), budget);
  const tail = fill(head.table, items.slice(middle), budget);
  return { table: tail.table, others: [...head.others, ...tail.others] };
}

/** All of them in one table, or undefined if they do not fit. By halves, so that large tables are seldom copied. */
function unionOf(items: readonly Item[], budget: Budget): Dfa | undefined {
  if (items.length === 1) return items[0]!.dfa;
  const middle = items.length >> 1;
  const head = unionOf(items.slice(0, middle), budget);
  const tail = head && unionOf(items.slice(middle), budget);
  return head && tail && product(head, tail, budget);
}

/** The table that says what two say, or undefined if it does not fit. */
function product(a: Dfa, b: Dfa, budget: Budget): Dfa | undefined {
  const { classOf, pairs: classes } = jointClasses(a, b);
  const states = new Pairs(sizeOf(b));
  const sets = new Sets();
  states.number(0, 0);
  const start = states.number(a.start, b.start);
  const [next, accepts]: [number[], number[]] = [[], []];
  for (let state = 0; state < states.size; state++) {
    const [p, q] = states.at(state);
    for (const [c, d] of classes) next.push(states.number(a.next[p * a.classes + c]!, b.next[q * b.classes + d]!));
    const [m, n] = [a.accepts[p]!, b.accepts[q]!];
    accepts.push(sets.number(m, n, () => [...a.sets[m]!, ...b.sets[n]!].sort((x, y) => x - y)));
    budget.work -= classes.length;
    if (states.size > MAX_STATES || states.size * classes.length > MAX_CELLS || budget.work < 0) return undefined;
  }
  return {
    classes: classes.length,
    classOf,
    next: Uint16Array.from(next),
    start,
    accepts: Uint16Array.from(accepts),
    sets: sets.list,
  };
}

/** Bytes that both hold for the same. `pairs`: for each class, those of the two that its bytes belong to. */
function jointClasses(a: Dfa, b: Dfa): { classOf: Uint8Array; pairs: (readonly [number, number])[] } {
  const pairs: [number, number][] = [];
  const numbers = new Map<number, number>();
  const classOf = Uint8Array.from({ length: 256 }, (_, byte) => {
    const [c, d] = [a.classOf[byte]!, b.classOf[byte]!];
    const key = c * 256 + d;
    if (!numbers.has(key)) numbers.set(key, pairs.push([c, d]) - 1);
    return numbers.get(key)!;
  });
  return { classOf, pairs };
}

/** Numbers pairs of states in the order in which they are met: a hash table, since this is most of the work. */
class Pairs {
  readonly #width: number;
  readonly #keys = new Int32Array(SLOTS);
  readonly #numbers = new Uint16Array(SLOTS);
  readonly #pairs: number[] = [];

  /** @param width number of states of the second table */
  constructor(width: number) {
    this.#width = width;
  }

  get size(): number {
    return this.#pairs.length;
  }

  at(number: number): readonly [number, number] {
    const pair = this.#pairs[number]!;
    return [Math.floor(pair / this.#width), pair % this.#width];
  }

  number(p: number, q: number): number {
    const pair = p * this.#width + q;
    let slot = Math.imul(pair, 0x9e3779b1) >>> (32 - SLOT_BITS);
    while (this.#keys[slot] !== 0 && this.#keys[slot] !== pair + 1) slot = (slot + 1) % SLOTS;
    if (this.#keys[slot] === 0) {
      this.#keys[slot] = pair + 1;
      this.#numbers[slot] = this.#pairs.push(pair) - 1;
    }
    return this.#numbers[slot]!;
  }
}

/** Twice as many as the largest table's states, and those that the last of them adds. */
const SLOT_BITS = 13;
const SLOTS = 1 << SLOT_BITS;

/** Numbers the sets of a combination. */
class Sets {
  readonly list: (readonly number[])[] = [[]];
  readonly #numbers = new Map([[0, 0]]);

  /** @param m number of the first table's set @param n of the second's */
  number(m: number, n: number, make: () => readonly number[]): number {
    const key = m * MAX_STATES + n;
    let number = this.#numbers.get(key);
    if (number === undefined) this.#numbers.set(key, (number = this.list.push(make()) - 1));
    return number;
  }
}
