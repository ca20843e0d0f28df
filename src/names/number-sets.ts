/** Sets of small numbers, each kept once and numbered in order of appearance. */
import { Numbers } from './numbers.js';

export class NumberSets {
  #members = new Int32Array(1 << 12);
  /** Where each set begins in #members, and behind the last one where it ends. */
  readonly #starts = new Numbers();
  /** Open addressing: number of a set plus 1, 0 is free. */
  #table = new Int32Array(1 << 12);

  constructor() {
    this.#starts.push(0);
  }

  /** Number of sets. */
  get size(): number {
    return this.#starts.length - 1;
  }

  /** Number of members of all sets together. */
  get total(): number {
    return this.#starts.at(this.size);
  }

  /** Copies the members of a set, ascending, into `into`, which has only them then. */
  read(set: number, into: number[]): void {
    into.length = 0;
    for (let i = this.#starts.at(set); i < this.#starts.at(set + 1); i++) into.push(this.#members[i]!);
  }

  /** The number of the set with these members. @param members ascending, without repetition */
  number(members: readonly number[]): number {
    const mask = this.#table.length - 1;
    let slot = hash(members) & mask;
    for (; this.#table[slot] !== 0; slot = (slot + 1) & mask)
      if (this.#has(this.#table[slot]! - 1, members)) return this.#table[slot]! - 1;
    return this.#add(members, slot);
  }

  #has(set: number, members: readonly number[]): boolean {
    const start = this.#starts.at(set);
    if (this.#starts.at(set + 1) - start !== members.length) return false;
    for (let i = 0; i < members.length; i++) if (this.#members[start + i] !== members[i]) return false;
    return true;
  }

  #add(members: readonly number[], slot: number): number {
    const set = this.size;
    const start = this.total;
    const end = start + members.length;
    if (end > this.#members.length) {
      const larger = new Int32Array(Math.max(end, 2 * this.#members.length));
      larger.set(this.#members);
      this.#members = larger;
    }
    this.#members.set(members, start);
    this.#starts.push(end);
    this.#table[slot] = set + 1;
    if (2 * this.size > this.#table.length) this.#grow();
    return set;
  }

  #grow(): void {
    this.#table = new Int32Array(2 * this.#table.length);
    const mask = this.#table.length - 1;
    const members: number[] = [];
    for (let set = 0; set < this.size; set++) {
      this.read(set, members);
      let slot = hash(members) & mask;
      while (this.#table[slot] !== 0) slot = (slot + 1) & mask;
      this.#table[slot] = set + 1;
    }
  }
}

/** Spreads sets over the table; nobody who chooses patterns gains more than time by a collision. */
function hash(members: readonly number[]): number {
  let h = members.length;
  for (const member of members) h = Math.imul(h ^ member, 0x9e3779b1) ^ (h >>> 15);
  return (h ^ (h >>> 13)) >>> 0;
}
