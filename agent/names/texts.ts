/**
 * The texts of names for events. An event has the slot and the incarnation of a name; it may be read much later, when
 * the slot has another name. So the text is read when the event arrives, and kept as long as events that name it may be
 * asked for.
 */
import { remember } from '../../src/flow/names/addresses.js';
import type { NameSource } from '../../src/flow/names/enrich.js';
import { parseAddr } from '../../src/net/addr.js';
import type { NameTable } from './table.js';

/** More than the events that are kept (src/flow/hub), each of which has one name at most. */
const MOST = 16_384;
/** Slots are below it: see the largest size of `names` in agent/kernel/loader.ts. */
const SLOTS = 2 ** 21;
/** Names of one address that a flow shows. */
const SHOWN = 4;

export interface TextsParts {
  readonly table: Pick<NameTable, 'text' | 'namesOf'>;
  /** Whether an endpoint may have learned an address: a quick answer for those that have not. */
  readonly mayKnow: (endpoint: number) => boolean;
  /** CLOCK_BOOTTIME minus CLOCK_MONOTONIC, seconds: how long the node has slept. */
  readonly sleptS: () => number;
  /** Texts that are kept. */
  readonly most?: number;
}

export class NameTexts implements NameSource {
  readonly #table: TextsParts['table'];
  readonly #parts: TextsParts;
  readonly #most: number;
  readonly #texts = new Map<number, string>();

  constructor(parts: TextsParts) {
    this.#parts = parts;
    this.#table = parts.table;
    this.#most = parts.most ?? MOST;
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

  /** The names of an address that the endpoint had learned before an event, those that it asked for first. */
  known(endpoint: number, ip: string, timeNs: number): readonly string[] {
    if (!this.#parts.mayKnow(endpoint)) return [];
    const names = this.#table.namesOf(endpoint, Buffer.from(parseAddr(ip).bytes), SHOWN);
    const latest = timeNs / 1e9 + this.#parts.sleptS() + 1;
    return [...new Set(names.filter((n) => n.learnedS <= latest).map((n) => n.text))];
  }
}

function keyOf(slot: number, incarnation: number): number {
  return incarnation * SLOTS + slot;
}
