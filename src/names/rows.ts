/** The rows of an automaton's states, and their place in one array of cells, where they lie in each other's gaps. */
import { Numbers } from './numbers.js';

// enum ea_cells in bpf/name_types.h.
const CHUNK = 1 << 17;
const CELL_CLASS = 40;
const SPAN = 45;
const CLASS_CELLS = SPAN - CELL_CLASS;
const CELL_ACCEPTS = 0x80000000;

/** After this many places that do not fit, rows of the same length are not tried in the gaps behind any more. */
const PATIENCE = 64;

/** Where symbols lead from each state. States are numbered in order here, as rows. */
export class Rows {
  /** Where a label byte leads that has no target of its own; -1: nowhere. */
  readonly #otherwise: Numbers;
  readonly #accepts: Numbers;
  /** Where the targets of each row begin, and behind the last row where they end. */
  readonly #starts: Numbers;
  readonly #symbols: Numbers;
  readonly #targets: Numbers;

  /** @param expected how many rows there may be, and targets: about as many */
  constructor(expected: number) {
    this.#otherwise = new Numbers(expected);
    this.#accepts = new Numbers(expected);
    this.#starts = new Numbers(expected + 1);
    this.#symbols = new Numbers(expected);
    this.#targets = new Numbers(expected);
    this.#starts.push(0);
  }

  /** Adds a target to the row that end() will end. */
  target(symbol: number, row: number): void {
    this.#symbols.push(symbol);
    this.#targets.push(row);
  }

  /** Ends a row. The next target belongs to the next row. */
  end(otherwise: number, accepts: boolean): void {
    this.#otherwise.push(otherwise);
    this.#accepts.push(accepts ? 1 : 0);
    this.#starts.push(this.#symbols.length);
  }

  /**
   * Places all rows. Those with most cells come first, so that the many small ones fill their gaps.
   * @returns the cells as pairs (owner, next), and the state of each row: the index of its first cell, never 0
   */
  place(): { cells: Uint32Array; states: Uint32Array } {
    const count = this.#otherwise.length;
    const starts = this.#starts.values;
    const symbols = this.#symbols.values;
    const accepts = this.#accepts.values;
    const states = new Uint32Array(count);
    // Some cells stay free: most rows have two.
    let used = new Uint8Array(1 << Math.ceil(Math.log2(3 * (count + SPAN))));
    used[0] = 1;
    let end = 1;
    const rows = this.#byLength();
    let from = 1;
    let last = 0;
    for (let n = 0; n < count; n++) {
      const row = rows[n]!;
      const [first, behind] = [starts[row]!, starts[row + 1]!];
      const accepting = accepts[row] === 1;
      const length = behind - first + (accepting ? CLASS_CELLS : 0);
      if (length !== last) from = 1;
      last = length;
      while (used[from] === 1) from++;
      let state = from;
      for (let tries = 0; ; state++) {
        if (state + SPAN > used.length) used = grown(used);
        if (used[state] === 0 && (state & (CHUNK - 1)) <= CHUNK - SPAN) {
          let i = first;
          while (i < behind && used[state + symbols[i]!] === 0) i++;
          if (i === behind && !(accepting && areClassesUsed(used, state))) break;
        }
        if (++tries > PATIENCE) from = state - PATIENCE;
      }
      used[state] = 1;
      for (let i = first; i < behind; i++) used[state + symbols[i]!] = 1;
      if (accepting) used.fill(1, state + CELL_CLASS, state + SPAN);
      states[row] = state;
      end = Math.max(end, state + SPAN);
    }
    return { cells: this.#fill(states, end), states };
  }

  /** All rows, those with most cells first, and in order among those with as many. */
  #byLength(): Int32Array {
    const count = this.#otherwise.length;
    const starts = this.#starts.values;
    const accepts = this.#accepts.values;
    const lengthOf = (row: number) => starts[row + 1]! - starts[row]! + (accepts[row] === 1 ? CLASS_CELLS : 0);
    const places = new Int32Array(SPAN + 1);
    for (let row = 0; row < count; row++) places[lengthOf(row)]!++;
    for (let length = SPAN, at = 0; length >= 0; length--) {
      const some = places[length]!;
      places[length] = at;
      at += some;
    }
    const rows = new Int32Array(count);
    for (let row = 0; row < count; row++) rows[places[lengthOf(row)]!++] = row;
    return rows;
  }

  #fill(states: Uint32Array, size: number): Uint32Array {
    const cells = new Uint32Array(2 * size);
    const starts = this.#starts.values;
    const symbols = this.#symbols.values;
    const targets = this.#targets.values;
    const accepts = this.#accepts.values;
    const otherwises = this.#otherwise.values;
    for (let row = 0; row < states.length; row++) {
      const state = states[row]!;
      const otherwise = otherwises[row]!;
      cells[2 * state] = accepts[row] === 1 ? state + CELL_ACCEPTS : state;
      cells[2 * state + 1] = otherwise < 0 ? 0 : states[otherwise]!;
      for (let i = starts[row]!; i < starts[row + 1]!; i++) {
        const at = 2 * (state + symbols[i]!);
        cells[at] = state;
        cells[at + 1] = states[targets[i]!]!;
      }
    }
    return cells;
  }
}

function areClassesUsed(used: Uint8Array, state: number): boolean {
  for (let at = state + CELL_CLASS; at < state + SPAN; at++) if (used[at] === 1) return true;
  return false;
}

function grown(used: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(used.length * 2);
  larger.set(used);
  return larger;
}
