/**
 * The states, the tags and the counts of one of the two tables of names, as the sweeper uses them: names, or pages of
 * addresses.
 */
import * as L from '../../src/image/layout.gen.js';
import { isReadable, tagAt, type Words } from './table.js';

const H = L.STRUCTS.ea_name_holding;
const { EA_NAME_LEAVING, EA_NAME_NEXT } = L.ENUMS.ea_name_state;
const FLAGS = EA_NAME_NEXT - 1;
const WORD = 4;

export class Side {
  /** Entries at the last pass. */
  count = 0;
  #entries = 0;
  #byPayer = new Map<number, number>();
  /** Smallest and largest count of the programs since the beginning of the pass, by payer. */
  #range = new Map<number, { low: number; high: number }>();
  #errors = new Map<number, number>();
  #suspects = new Map<number, number>();
  #leaked = new Map<number, number>();

  /** @param held offset of the count in struct ea_name_holding */
  constructor(
    readonly words: Uint32Array,
    readonly tags: Uint32Array,
    readonly capacity: number,
    readonly at: Words,
    readonly holdings: Uint32Array,
    readonly held: number,
  ) {}

  noteEntry(payer: number): void {
    this.#entries++;
    this.#byPayer.set(payer, (this.#byPayer.get(payer) ?? 0) + 1);
  }

  /** Notes a slot with a tag whose entry is not valid. If nobody is filling it, the tag is left over. */
  notePending(slot: number, state: number): void {
    if ((state & FLAGS) !== 0) return;
    const tag = this.tags[tagAt(slot)] as number;
    // Tag and state were read one after the other: a program may have written an entry in between.
    if (tag === 0 || Atomics.load(this.words, this.#stateAt(slot)) !== state) return;
    if (this.#leaked.get(slot) === tag) Atomics.compareExchange(this.tags, tagAt(slot), tag, 0);
    else this.#suspects.set(slot, tag);
  }

  /** Marks an entry LEAVING. @returns its state then; undefined if it is not there, or is being changed */
  beginLeaving(slot: number): number | undefined {
    const at = this.#stateAt(slot);
    const state = Atomics.load(this.words, at);
    if (!isReadable(state)) return undefined;
    const leaving = (state | EA_NAME_LEAVING) >>> 0;
    return Atomics.compareExchange(this.words, at, state, leaving) === state ? leaving : undefined;
  }

  /** Takes LEAVING back, if it is still there. */
  stay(slot: number, leaving: number): void {
    Atomics.compareExchange(this.words, this.#stateAt(slot), leaving, (leaving & ~EA_NAME_LEAVING) >>> 0);
  }

  /** Frees an entry that is LEAVING. @returns false if a program has renewed or replaced it */
  free(slot: number, leaving: number): boolean {
    const payer = this.words[slot * this.at.size + this.at.payer] as number;
    const next = ((leaving & ~FLAGS) + EA_NAME_NEXT) >>> 0;
    if (Atomics.compareExchange(this.words, this.#stateAt(slot), leaving, next) !== leaving) return false;
    Atomics.store(this.tags, tagAt(slot), 0);
    this.#adjust(payer, -1);
    this.#entries--;
    this.#byPayer.set(payer, (this.#byPayer.get(payer) ?? 0) - 1);
    return true;
  }

  /**
   * Corrects the programs' counts, which change during a pass: only a number outside of their range in that time is an
   * error, and one in the same direction after two passes is real (a process was killed between an entry and its count).
   */
  endPass(): void {
    this.count = this.#entries;
    const errors = new Map<number, number>();
    for (const payer of new Set([...this.#byPayer.keys(), ...this.#errors.keys(), ...this.#range.keys()])) {
      const counted = this.#byPayer.get(payer) ?? 0;
      const { low, high } = this.#rangeOf(payer);
      const error = counted - Math.min(Math.max(counted, low), high);
      const previous = this.#errors.get(payer) ?? 0;
      if (error !== 0 && Math.sign(error) === Math.sign(previous))
        this.#adjust(payer, Math.sign(error) * Math.min(Math.abs(error), Math.abs(previous)));
      else if (error !== 0) errors.set(payer, error);
    }
    this.#errors = errors;
    const payers = [...this.#byPayer.keys()];
    this.#range = new Map();
    for (const payer of payers) this.#rangeOf(payer);
    this.#byPayer = new Map();
    this.#entries = 0;
    this.#leaked = this.#suspects;
    this.#suspects = new Map();
  }

  #rangeOf(payer: number): { low: number; high: number } {
    const held = Atomics.load(this.holdings, this.#heldAt(payer)) | 0;
    const range = this.#range.get(payer) ?? { low: held, high: held };
    range.low = Math.min(range.low, held);
    range.high = Math.max(range.high, held);
    this.#range.set(payer, range);
    return range;
  }

  #adjust(payer: number, by: number): void {
    Atomics.add(this.holdings, this.#heldAt(payer), by);
  }

  #heldAt(payer: number): number {
    return (payer * H.size + this.held) / WORD;
  }

  #stateAt(slot: number): number {
    return slot * this.at.size + this.at.state;
  }
}
