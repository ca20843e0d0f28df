/** The rows of an automaton's states, and their place in one array of cells, where they lie in each other's gaps. */
import { Numbers } from './numbers.js';

// enum ea_cells in bpf/name_types.h.
const CHUNK = 1 << 17;
const CELL_CLASS = 40;
const SPAN = 43;
const CELL_ACCEPTS = 0x80000000;

/** After this many places that do not fit, rows of the same length are not tried in the gaps behind any more. */
const PATIENCE = 64;

/** Where symbols lead from each state. States are numbered in order here, as rows. */
export class Rows {
  /** Where a label byte leads that has no target of its own; -1: nowhere. */
  readonly #otherwise = new Numbers();
  readonly #accepts = new Numbers();
  /** Where the targets of each row begin, and behind the last row where they end. */
  readonly #starts = new Numbers();
  readonly #symbols = new Numbers();
  readonly #targets = new Numbers();

  constructor() {
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
    const byLength: number[][] = [];
    for (let row = 0; row < this.#otherwise.length; row++) (byLength[this.#offsets(row).length] ??= []).push(row);
    const states = new Uint32Array(this.#otherwise.length);
    let used = new Uint8Array(1 << 12);
    used[0] = 1;
    let end = 1;
    for (const rows of byLength.reverse()) {
      let from = 1;
      for (const row of rows ?? []) {
        const offsets = this.#offsets(row);
        while (used[from] === 1) from++;
        let state = from;
        for (let tries = 0; ; state++) {
          if (state + SPAN > used.length) used = grown(used);
          if (isFree(used, state, offsets) && (state % CHUNK) + SPAN <= CHUNK) break;
          if (++tries > PATIENCE) from = state - PATIENCE;
        }
        for (const offset of offsets) used[state + offset] = 1;
        states[row] = state;
        end = Math.max(end, state + SPAN);
      }
    }
    return { cells: this.#fill(states, end), states };
  }

  /** The cells of a row, relative to the first. */
  #offsets(row: number): number[] {
    const offsets = [0];
    for (let i = this.#starts.at(row); i < this.#starts.at(row + 1); i++) offsets.push(this.#symbols.at(i));
    if (this.#accepts.at(row) === 1) for (let offset = CELL_CLASS; offset < SPAN; offset++) offsets.push(offset);
    return offsets;
  }

  #fill(states: Uint32Array, size: number): Uint32Array {
    const cells = new Uint32Array(2 * size);
    for (let row = 0; row < states.length; row++) {
      const state = states[row]!;
      const otherwise = this.#otherwise.at(row);
      cells[2 * state] = this.#accepts.at(row) === 1 ? state + CELL_ACCEPTS : state;
      cells[2 * state + 1] = otherwise < 0 ? 0 : states[otherwise]!;
      for (let i = this.#starts.at(row); i < this.#starts.at(row + 1); i++) {
        const at = 2 * (state + this.#symbols.at(i));
        cells[at] = state;
        cells[at + 1] = states[this.#targets.at(i)]!;
      }
    }
    return cells;
  }
}

function isFree(used: Uint8Array, state: number, offsets: readonly number[]): boolean {
  for (let i = 0; i < offsets.length; i++) if (used[state + offsets[i]!] === 1) return false;
  return true;
}

function grown(used: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(used.length * 2);
  larger.set(used);
  return larger;
}
