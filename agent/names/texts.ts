/**
 * The texts of names for events. An event has the slot and the incarnation of a name; it may be read much later, when
 * the slot has another name. So the text is read when the event arrives, and kept as long as events that name it may be
 * asked for.
 */
import { remember } from '../../src/flow/names/addresses.js';
import type { NameTable } from './table.js';

/** More than the events that are kept (src/flow/hub), each of which has one name at most. */
const MOST = 16_384;
/** Slots are below it: see the largest size of `names` in agent/kernel/loader.ts. */
const SLOTS = 2 ** 21;

export class NameTexts {
  readonly #table: Pick<NameTable, 'text'>;
  readonly #most: number;
  readonly #texts = new Map<number, string>();

  constructor(table: Pick<NameTable, 'text'>, most = MOST) {
    this.#table = table;
    this.#most = most;
  }

  /** Notes that an event names this one. */
  note(slot: number, incarnation: number): void {
    const key = keyOf(slot, incarnation);
    const text = this.#texts.get(key) ?? this.#table.text(slot, incarnation);
    if (text !== undefined) remember(this.#texts, key, text, this.#most);
  }

  /** Keeps the text of a name that is about to be freed. */
  freed(slot: number, incarnation: number, text: string): void {
    remember(this.#texts, keyOf(slot, incarnation), text, this.#most);
  }

  /** The text; undefined if the name is gone, and no event noted it in time. */
  text(slot: number, incarnation: number): string | undefined {
    return this.#texts.get(keyOf(slot, incarnation)) ?? this.#table.text(slot, incarnation);
  }
}

function keyOf(slot: number, incarnation: number): number {
  return incarnation * SLOTS + slot;
}
