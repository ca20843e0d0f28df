/**
 * Makes disjoint classes from the overlapping prefixes of atoms: one sweep over the prefixes in order of address, with
 * a stack of those that cover the current one. O(n log n) in the number of prefixes; 1,000,000 take about a second.
 */
import { randomFillSync } from 'node:crypto';
import { AgentError } from '../../errors.js';
import { classClash, contents, sameAtoms } from '../../image/fault.js';
import { type Ids, PLAIN_IDS } from '../../ids.js';
import { ascending } from '../../image/edited.js';
import { IPV6 } from '../../image/prefix.js';
import type { Destinations4, Destinations6 } from '../../image/types.js';
import type { AtomPrefix } from '../../image/prefix.js';
import type { Atom } from '../atoms/atoms.js';

/** Classes by id, with the ids of their atoms in ascending order. */
export type Classes = Map<number, readonly string[]>;

/** Number of index bits in a sort word. */
const INDEX_BITS = 26;
/** Maximum number of prefixes in one sweep, far beyond the size of any map. */
export const MAX_PREFIXES = 2 ** INDEX_BITS - 1;

/** Two words of 32 bits do not fit into an exact number; one of 21 and one of 32 bits do. */
const SPARE = 11;

/** Finds the class of the active atoms while atoms begin and end. */
class ActiveSet {
  readonly #atoms: readonly string[];
  readonly #classes: Classes;
  readonly #ids: Ids;
  readonly #counts: Int32Array;
  #active: number[] = [];
  #hi = 0;
  #lo = 0;
  readonly #memo = new Map<number, { id: number; members: readonly number[] }[]>();
  /** Two random words for each atom. */
  readonly #words: Uint32Array;

  constructor(atoms: readonly string[], classes: Classes, ids: Ids) {
    this.#atoms = atoms;
    this.#classes = classes;
    this.#ids = ids;
    this.#counts = new Int32Array(atoms.length);
    // Random, so that nobody can choose atoms with equal sums.
    this.#words = randomFillSync(new Uint32Array(atoms.length * 2));
  }

  change(atom: number, by: number): void {
    const before = this.#counts[atom] as number;
    const after = before + by;
    this.#counts[atom] = after;
    if (before > 0 === after > 0) return;
    this.#hi ^= (this.#words[atom * 2] as number) >>> SPARE;
    this.#lo ^= this.#words[atom * 2 + 1] as number;
    if (after > 0) this.#active.push(atom);
    else this.#active.splice(this.#active.lastIndexOf(atom), 1);
  }

  /** Class id of the active atoms; 0 if there are none. */
  classId(): number {
    if (this.#active.length === 0) return 0;
    const key = (this.#hi >>> 0) * 0x1_0000_0000 + (this.#lo >>> 0);
    let bucket = this.#memo.get(key);
    if (!bucket) this.#memo.set(key, (bucket = []));
    for (const entry of bucket) {
      // The XOR only finds a candidate: different atoms with equal sums must not become one class.
      if (entry.members.length === this.#active.length && entry.members.every((a) => (this.#counts[a] as number) > 0)) {
        return entry.id;
      }
    }
    const members = [...this.#active];
    const atoms = members.map((a) => this.#atoms[a] as string).sort(ascending);
    const id = this.#ids.of(contents.class(atoms));
    const known = this.#classes.get(id);
    if (known && !sameAtoms(known, atoms)) throw classClash(id, known, atoms);
    this.#classes.set(id, atoms);
    bucket.push({ id, members });
    return id;
  }
}

/**
 * Computes disjoint destinations for the prefixes of atoms. Atoms that select pods or nodes are ignored.
 * @throws SetFault if two classes have the same id
 */
export function sweep(
  atoms: readonly Atom[],
  hash: Ids = PLAIN_IDS,
): {
  destinations4: Destinations4;
  destinations6: Destinations6;
  classes: Classes;
} {
  const classes: Classes = new Map();
  const ids = atoms.map((a) => a.id);
  const v6: { key: string; prefix: number; atom: number; sign: number }[] = [];
  let n = 0;
  atoms.forEach((atom, index) => {
    n += atom.keys4?.length ?? 0;
    for (const p of atom.prefixes ?? []) {
      if (p.family === 4) n++;
      else v6.push({ key: key6(p), prefix: p.prefix, atom: index, sign: p.sign });
    }
  });
  return {
    destinations4: sweep4(atoms, n, new ActiveSet(ids, classes, hash)),
    destinations6: sweep6(v6, new ActiveSet(ids, classes, hash)),
    classes,
  };
}

/** Sort key of an IPv6 prefix: 32 hex digits, `/`, three digits. */
export function key6(p: AtomPrefix): string {
  return `${p.addr6}/${String(p.prefix).padStart(3, '0')}`;
}

function sweep4(atoms: readonly Atom[], n: number, active: ActiveSet): Destinations4 {
  if (n > MAX_PREFIXES) throw new AgentError('TOO_LARGE', `${n} IPv4 prefixes are more than ${MAX_PREFIXES}`);
  // 64-bit sort words [address:32][prefix length:6][index:26], written as two halves to avoid a BigInt for each.
  const order = new BigUint64Array(n);
  const halves = new Uint32Array(order.buffer);
  const atomOf = new Int32Array(n);
  const signOf = new Int8Array(n);
  let i = 0;
  const add = (addr: number, prefix: number, atom: number, sign: number) => {
    halves[2 * i] = ((prefix << INDEX_BITS) | i) >>> 0;
    halves[2 * i + 1] = addr;
    atomOf[i] = atom;
    signOf[i] = sign;
    i++;
  };
  atoms.forEach((atom, index) => {
    for (const key of atom.keys4 ?? []) add(Math.floor(key / 64), key % 64, index, 1);
    for (const p of atom.prefixes ?? []) if (p.family === 4) add(p.addr4, p.prefix, index, p.sign);
  });
  order.sort();

  const keys = new Float64Array(n);
  const classIds = new Float64Array(n);
  let out = 0;
  const stack: { end: number; from: number; to: number; classId: number }[] = [];
  const indexMask = (1 << INDEX_BITS) - 1;
  for (let at = 0; at < n; ) {
    const addr = halves[2 * at + 1] as number;
    const prefix = (halves[2 * at] as number) >>> INDEX_BITS;
    while (stack.length > 0 && (stack[stack.length - 1] as { end: number }).end <= addr) {
      const top = stack.pop() as { from: number; to: number };
      for (let j = top.from; j < top.to; j++) {
        const index = (halves[2 * j] as number) & indexMask;
        active.change(atomOf[index] as number, -(signOf[index] as number));
      }
    }
    const from = at;
    for (; at < n && halves[2 * at + 1] === addr && (halves[2 * at] as number) >>> INDEX_BITS === prefix; at++) {
      const index = (halves[2 * at] as number) & indexMask;
      active.change(atomOf[index] as number, signOf[index] as number);
    }
    const classId = active.classId();
    const parent = stack.length > 0 ? (stack[stack.length - 1] as { classId: number }).classId : 0;
    // A prefix with the same class as the prefix around it is redundant.
    if (classId !== parent) {
      keys[out] = addr * 64 + prefix;
      classIds[out++] = classId;
    }
    stack.push({ end: addr + 2 ** (32 - prefix), from, to: at, classId });
  }
  return { keys: keys.slice(0, out), classes: classIds.slice(0, out) };
}

function sweep6(
  entries: { key: string; prefix: number; atom: number; sign: number }[],
  active: ActiveSet,
): Destinations6 {
  entries.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const keys: string[] = [];
  const classIds: number[] = [];
  const stack: { key: string; prefix: number; from: number; to: number; classId: number }[] = [];
  for (let at = 0; at < entries.length; ) {
    const { key, prefix } = entries[at] as { key: string; prefix: number };
    while (stack.length > 0 && !IPV6.covers((stack[stack.length - 1] as { key: string }).key, key)) {
      const top = stack.pop() as { from: number; to: number };
      for (let j = top.from; j < top.to; j++) {
        const e = entries[j] as { atom: number; sign: number };
        active.change(e.atom, -e.sign);
      }
    }
    const from = at;
    for (; at < entries.length && (entries[at] as { key: string }).key === key; at++) {
      const e = entries[at] as { atom: number; sign: number };
      active.change(e.atom, e.sign);
    }
    const classId = active.classId();
    const parent = stack.length > 0 ? (stack[stack.length - 1] as { classId: number }).classId : 0;
    if (classId !== parent) {
      keys.push(key);
      classIds.push(classId);
    }
    stack.push({ key, prefix, from, to: at, classId });
  }
  return { keys, classes: Float64Array.from(classIds) };
}
