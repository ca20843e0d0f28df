/**
 * What a few atoms that come and go change of destinations that were swept before. A class is known by its atoms, so
 * what the other atoms say at a prefix is read from the class that it had: `class - gone + come`. Only prefixes of the changed
 * atoms, and those inside them, can have another one; elsewhere neither the class nor the one around it changes.
 */
import { ascending, classAt, type Destinations, type Edits, keysBetween } from '../image/edited.js';
import type { Family } from '../image/prefix.js';
import { classIdOf, type ClassTable } from './classes.js';

/** A prefix of an atom. */
export interface Mark<K> {
  readonly key: K;
  readonly atom: number;
  readonly sign: 1 | -1;
}

export interface Patch<K> {
  readonly edits: Edits<K>;
  /** Prefixes in which addresses may have other classes than before: ascending, none inside another. */
  readonly ranges: readonly K[];
}

export interface Patched<K extends number | string> {
  readonly family: Family<K>;
  readonly destinations: Destinations<K>;
  /** Class of the closest prefix around a key, without its own; 0 for none. */
  readonly around: (key: K) => number;
  /** Of all destinations; counted anew for what changes. */
  readonly classes: ClassTable;
}

/**
 * @param gone prefixes of atoms that are not in force any more
 * @param come prefixes of atoms that are now
 * @param limit of prefixes to look at
 * @returns undefined beyond the limit: then nothing has been counted yet
 */
export function patch<K extends number | string>(
  now: Patched<K>,
  gone: readonly Mark<K>[],
  come: Mark<K>[],
  limit: number,
): Patch<K> | undefined {
  const { family, destinations, classes } = now;
  const reached = reach(now, [...gone, ...come], limit);
  if (!reached) return undefined;
  const active = new ActiveAtoms(come.sort((a, b) => ascending(a.key, b.key)));
  const classAfter = transitions(classes, new Set(gone.map((m) => m.atom)), active);
  const edits: (readonly [K, number | undefined])[] = [];
  const dropped: number[] = [];
  const stack: { key: K; was: number; will: number }[] = [];
  const outside = { was: 0, will: 0 };
  for (const key of reached.keys) {
    for (let top = stack.at(-1); top && !family.covers(top.key, key); top = stack.at(-1)) {
      stack.pop();
      active.leave(top.key);
    }
    if (stack.length === 0) outside.was = outside.will = now.around(key);
    const parent = stack.at(-1) ?? outside;
    const own = classAt(destinations, key);
    const was = own ?? parent.was;
    active.enter(key);
    const { id: will, atoms } = classAfter(was);
    // A prefix that says the same as the one around it says nothing.
    const wanted = will === parent.will ? undefined : will;
    if (wanted !== own) {
      edits.push([key, wanted]);
      if (wanted) classes.take(atoms);
      if (own) dropped.push(own);
    }
    stack.push({ key, was, will });
  }
  // Until here each class that a prefix had is known.
  for (const id of dropped) classes.drop({ id });
  return { edits, ranges: reached.ranges };
}

/** Every prefix that may have another class: those of changed atoms, and what destinations there are inside them. */
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

/** Which of the atoms that come hold where the walk stands. */
class ActiveAtoms<K extends number | string> {
  private readonly counts = new Map<number, number>();
  private readonly open: { key: K; from: number; to: number }[] = [];
  private at = 0;
  private list: readonly number[] | undefined = [];

  /** @param marks ascending by key */
  constructor(private readonly marks: readonly Mark<K>[]) {}

  /** Goes into a prefix; all that have marks must be gone into, in their order. */
  enter(key: K): void {
    const from = this.at;
    while (this.marks[this.at]?.key === key) this.count(this.at++, 1);
    if (this.at > from) this.open.push({ key, from, to: this.at });
  }

  leave(key: K): void {
    if (this.open.at(-1)?.key !== key) return;
    const { from, to } = this.open.pop() as { from: number; to: number };
    for (let i = from; i < to; i++) this.count(i, -1);
  }

  /** Ids, ascending; the same list until another atom begins or ends. */
  ids(): readonly number[] {
    this.list ??= [...this.counts.keys()].filter((id) => (this.counts.get(id) as number) > 0).sort(ascending);
    return this.list;
  }

  private count(index: number, by: 1 | -1): void {
    const { atom, sign } = this.marks[index] as Mark<K>;
    const before = this.counts.get(atom) ?? 0;
    const after = before + sign * by;
    this.counts.set(atom, after);
    if (before > 0 !== after > 0) this.list = undefined;
  }
}

interface ClassAfter {
  readonly id: number;
  readonly atoms: readonly number[];
}

/** From the class that a prefix had to the one that it will have, where the walk stands. */
function transitions<K extends number | string>(
  classes: ClassTable,
  gone: ReadonlySet<number>,
  active: ActiveAtoms<K>,
): (was: number) => ClassAfter {
  // Most prefixes go over from one of a few classes to one of a few others.
  const known = new Map<string, Map<number, ClassAfter>>();
  const empty: ClassAfter = { id: 0, atoms: [] };
  let come: readonly number[] | undefined;
  let here = new Map<number, ClassAfter>();
  return (was) => {
    if (active.ids() !== come) {
      come = active.ids();
      const text = come.join();
      here = known.get(text) ?? new Map<number, ClassAfter>();
      known.set(text, here);
    }
    let found = here.get(was);
    if (!found) {
      const kept = classes.atomsOf(was).filter((id) => !gone.has(id));
      const atoms = [...kept, ...come].sort(ascending);
      found = atoms.length === 0 ? empty : { id: classIdOf(atoms.join(',')), atoms };
      here.set(was, found);
    }
    return found;
  };
}
