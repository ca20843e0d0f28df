/**
 * The tables that the kernel walks, one look-up for each byte: what a deterministic automaton over bytes becomes. They
 * are canonical: two automata that accept the same texts with the same sets are equal, number for number.
 */

/** A table that is larger than one of these fits no entry of the kernel's map. States count with the dead one. */
export const MAX_STATES = 2048;
/** States times classes: 256 KiB. A power of two, so that the kernel can bound an index by a mask. */
export const MAX_CELLS = MAX_STATES * 64;
/** How many tables a field of a policy set may have: each is one more walk over the field. */
export const MAX_TABLES = 8;

export interface Dfa {
  /** Number of byte classes: bytes that no state tells apart. 1 to 256. */
  readonly classes: number;
  /** By byte: its class. Classes are numbered in the order of their first bytes. 256 entries. */
  readonly classOf: Uint8Array;
  /**
   * The state behind a state and a class, at `state * classes + class`. State 0 is dead: it accepts nothing and leads to
   * itself. The others are numbered in the order in which a search from the start, class by class, finds them.
   */
  readonly next: Uint16Array;
  /** Where a walk begins; 0 if nothing is accepted. */
  readonly start: number;
  /** By state: the number of its set; 0 if no regular expression matches a text that ends here. */
  readonly accepts: Uint16Array;
  /** The sets, in the order of their first states: the indices of regular expressions that match, ascending. Set 0 is empty. */
  readonly sets: readonly (readonly number[])[];
}

/** Walks as the kernel does. @param bytes of the whole text @returns the indices of the regular expressions that match */
export function walk({ classes, classOf, next, start, accepts, sets }: Dfa, bytes: Uint8Array): readonly number[] {
  let state = start;
  for (let i = 0; i < bytes.length && state !== 0; i++) state = next[state * classes + classOf[bytes[i]!]!]!;
  return sets[accepts[state]!]!;
}

/** The number of states, with the dead one. */
export function sizeOf(dfa: Dfa): number {
  return dfa.accepts.length;
}

/** A table whose settled states stand behind the dead one: the walk of the kernel compares one number. */
export interface Settled {
  readonly table: Dfa;
  /** The last state that no byte of the field leaves; 0: only the dead one. */
  readonly settled: number;
}

/**
 * Numbers the states anew: those first that each of some bytes leads back to.
 * @param bytes that a field may have; no other one may be walked over
 */
export function settle(table: Dfa, bytes: Iterable<number>): Settled {
  const { classes, classOf, next, start, accepts } = table;
  const met = [...new Set([...bytes].map((byte) => classOf[byte]!))];
  const states = accepts.length;
  const settles = (state: number) => met.every((byteClass) => next[state * classes + byteClass] === state);
  const others = Array.from({ length: states - 1 }, (_, i) => i + 1);
  const first = others.filter(settles);
  // The old numbers in their new order.
  const order = [0, ...first, ...others.filter((state) => !settles(state))];
  const numbers = new Uint16Array(states);
  order.forEach((old, now) => {
    numbers[old] = now;
  });
  const moved = new Uint16Array(next.length);
  order.forEach((old, now) => {
    for (let c = 0; c < classes; c++) moved[now * classes + c] = numbers[next[old * classes + c]!]!;
  });
  return {
    table: { ...table, next: moved, start: numbers[start]!, accepts: Uint16Array.from(order, (old) => accepts[old]!) },
    settled: first.length,
  };
}
