/**
 * Updates swept destinations after a few atoms were added or removed. A class is identified by its atoms, so the
 * unchanged atoms at a prefix are read from its previous class: `class - removed + added`. Only the prefixes of changed
 * atoms, and those inside them, can change their class. Elsewhere neither the class of a prefix nor that of the prefix
 * around it changes.
 */
import { ascending, classAt, type Destinations, type Edits, keysBetween } from '../../image/edited.js';
import type { Family } from '../../image/prefix.js';
import { classClash, sameAtoms } from '../../image/fault.js';
import type { ClassTable } from './classes.js';

/** A prefix of an atom. */
export interface Mark<K> {
  readonly key: K;
  readonly atom: string;
  readonly sign: 1 | -1;
}

export interface Patch<K> {
  readonly edits: Edits<K>;
  /** Prefixes in which addresses may have changed their class: ascending and disjoint. */
  readonly ranges: readonly K[];
}

export interface Patched<K extends number | string> {
  readonly family: Family<K>;
  readonly destinations: Destinations<K>;
  /** Class of the closest prefix around a key, not of the key itself; 0 if there is none. */
  readonly around: (key: K) => number;
  /** The class table of all destinations. Its counts are updated. */
  readonly classes: ClassTable;
}

/**
 * Computes the edits.
 * @param removed prefixes of the removed atoms
 * @param added prefixes of the added atoms
 * @param limit maximum number of prefixes to examine
 * @returns undefined if the limit is exceeded; no count has changed then
 * @throws SetFault if two classes have the same id
 */
export function patch<K extends number | string>(
  now: Patched<K>,
  removed: readonly Mark<K>[],
  added: Mark<K>[],
  limit: number,
): Patch<K> | undefined {
  const { family, destinations, classes } = now;
  const reached = reach(now, [...removed, ...added], limit);
  if (!reached) return undefined;
  const active = new ActiveAtoms(added.sort((a, b) => ascending(a.key, b.key)));
  const classAfter = transitions(classes, new Set(removed.map((m) => m.atom)), active);
  const edits: (readonly [K, number | undefined])[] = [];
  const dropped: number[] = [];
  const stack: { key: K; classBefore: number; classNow: number }[] = [];
  const outside = { classBefore: 0, classNow: 0 };
  for (const key of reached.keys) {
    for (let top = stack.at(-1); top && !family.covers(top.key, key); top = stack.at(-1)) {
      stack.pop();
      active.leave(top.key);
    }
    if (stack.length === 0) outside.classBefore = outside.classNow = now.around(key);
    const parent = stack.at(-1) ?? outside;
    const own = classAt(destinations, key);
    const classBefore = own ?? parent.classBefore;
    active.enter(key);
    const { id: classNow, atoms } = classAfter(classBefore);
    // A prefix with the same class as the prefix around it is redundant.
    const wanted = classNow === parent.classNow ? undefined : classNow;
    if (wanted !== own) {
      edits.push([key, wanted]);
      if (wanted) classes.take(atoms);
      if (own) dropped.push(own);
    }
    stack.push({ key, classBefore, classNow });
  }
  // Old classes are dropped only here, since their atoms are needed above.
  for (const id of dropped) classes.drop({ id });
  return { edits, ranges: reached.ranges };
}

/** All prefixes whose class may change: those of changed atoms, and the destinations inside them. */
function reach<K extends number | string>(
  { family, destinations }: Patched<K>,
  marks: readonly Mark<K>[],
  limit: number,
): { keys: readonly K[]; ranges: readonly K[] } | undefined {
  const changed = [...new Set(marks.map((m) => m.key))].sort(ascending);
  const ranges: K[] = [];
  const keys = new Set(changed);
  for (const key of changed) {
    const last = ranges.at(-1);
    if (last !== undefined && family.covers(last, key)) continue;
    ranges.push(key);
    if (family.length(key) < family.bits)
      for (const inner of keysBetween(destinations, key, family.last(key))) keys.add(inner);
    if (keys.size > limit) return undefined;
  }
  return { keys: keys.size === changed.length ? changed : [...keys].sort(ascending), ranges };
}

/** Tracks which of the added atoms cover the current position of the walk. */
class ActiveAtoms<K extends number | string> {
  readonly #marks: readonly Mark<K>[];
  readonly #counts = new Map<string, number>();
  readonly #open: { key: K; from: number; to: number }[] = [];
  #at = 0;
  #list: readonly string[] | undefined = [];

  /** @param marks ascending by key */
  constructor(marks: readonly Mark<K>[]) {
    this.#marks = marks;
  }

  /** Moves to a prefix. All prefixes with marks must be visited, in ascending order. */
  enter(key: K): void {
    const from = this.#at;
    while (this.#marks[this.#at]?.key === key) this.#count(this.#at++, 1);
    if (this.#at > from) this.#open.push({ key, from, to: this.#at });
  }

  leave(key: K): void {
    if (this.#open.at(-1)?.key !== key) return;
    const { from, to } = this.#open.pop() as { from: number; to: number };
    for (let i = from; i < to; i++) this.#count(i, -1);
  }

  /** Ids, ascending; the same list object until the atoms change. */
  ids(): readonly string[] {
    this.#list ??= [...this.#counts.keys()].filter((id) => (this.#counts.get(id) as number) > 0).sort(ascending);
    return this.#list;
  }

  #count(index: number, by: 1 | -1): void {
    const { atom, sign } = this.#marks[index] as Mark<K>;
    const before = this.#counts.get(atom) ?? 0;
    const after = before + sign * by;
    this.#counts.set(atom, after);
    if (before > 0 !== after > 0) this.#list = undefined;
  }
}

interface ClassAfter {
  readonly id: number;
  readonly atoms: readonly string[];
}

/** Maps the old class of a prefix to its new class, at the current position of the walk. */
function transitions<K extends number | string>(
  classes: ClassTable,
  removed: ReadonlySet<string>,
  active: ActiveAtoms<K>,
): (classBefore: number) => ClassAfter {
  // Most prefixes change from one of a few classes to one of a few others, so the results are cached.
  const known = new Map<string, Map<number, ClassAfter>>();
  const empty: ClassAfter = { id: 0, atoms: [] };
  // New classes are compared by their ids before they are counted.
  const made = new Map<number, ClassAfter>();
  let activeIds: readonly string[] | undefined;
  let results = new Map<number, ClassAfter>();
  return (classBefore) => {
    if (active.ids() !== activeIds) {
      activeIds = active.ids();
      const text = activeIds.join();
      results = known.get(text) ?? new Map<number, ClassAfter>();
      known.set(text, results);
    }
    let found = results.get(classBefore);
    if (!found) {
      const kept = classes.atomsOf(classBefore).filter((id) => !removed.has(id));
      const atoms = [...kept, ...activeIds].sort(ascending);
      found = atoms.length === 0 ? empty : { id: classes.idOf(atoms), atoms };
      const other = made.get(found.id);
      if (other && !sameAtoms(other.atoms, atoms)) throw classClash(found.id, other.atoms, atoms);
      made.set(found.id, found);
      results.set(classBefore, found);
    }
    return found;
  };
}
