/**
 * Plans the transition from the Image in force to the next one, so that no packet is judged by a mixture of both: the
 * entries to write before the endpoints flip, and those to settle afterwards. Pure functions.
 *
 * A destination whose class changes takes, while sets are flipped, a class with the union of its old and new atoms. The
 * old set finds its atoms in that class, and so does the new one. The destination settles to the new class when no
 * packet reads an old set any more.
 */
import { ascending, classAt, type Destinations, type Edits, edited4, edited6, stepBetween } from '../edited.js';
import { type Ids, PLAIN_IDS } from '../../ids.js';
import { type Family, IPV4, IPV6 } from '../prefix.js';
import type { Destinations4, Destinations6, Image } from '../types.js';
import { freeClassId } from './class-ids.js';

/** A prefix and the class to write. `key` is a number as in Destinations4 or a text as in Destinations6. */
export interface DestinationWrite<K> {
  readonly key: K;
  readonly classId: number;
}

export interface DestinationPlan<K> {
  /** Written before the endpoints flip. */
  readonly before: DestinationWrite<K>[];
  /** Written after the flip: classes without the old atoms. */
  readonly settle: DestinationWrite<K>[];
  /** Deleted after `settle`: prefixes with the same class as the prefix that covers them. */
  readonly remove: K[];
  /** What the maps show for the keys of `settle` and `remove` until then. */
  readonly shown: Map<K, number>;
}

/** Prefixes whose class in the maps differs from the Image in force, because an earlier update has not settled yet. */
export interface ShownDestinations {
  readonly destinations4: ReadonlyMap<number, number>;
  readonly destinations6: ReadonlyMap<string, number>;
}

/** The part of the maps' present content that planning needs. */
export interface InForce {
  readonly destinations4: Destinations4;
  readonly destinations6: Destinations6;
  readonly classes: ReadonlyMap<number, readonly string[]>;
}

export interface Plan {
  readonly destinations4: DestinationPlan<number>;
  readonly destinations6: DestinationPlan<string>;
  /** Classes that exist only during the transition. */
  readonly transitional: ReadonlyMap<number, readonly string[]>;
}

/**
 * Plans the writes for the destinations. A class of `now` and one of `next` with the same id must be the same class;
 * the caller ensures that.
 * @param flips whether any endpoint changes its set, or packets may still be judged by an endpoint's previous set; if
 * not, classes may change in one step
 * @param shown prefixes whose class in the maps differs from `now`; includes prefixes that `now` no longer has
 */
export function planDestinations(
  now: InForce,
  next: Image,
  flips: boolean,
  shown?: ShownDestinations,
  ids: Ids = PLAIN_IDS,
): Plan {
  const transitional = new Map<number, readonly string[]>();
  const atomsOf = (id: number): readonly string[] => now.classes.get(id) ?? next.classes.get(id) ?? [];
  const held = (id: number) => [now.classes.get(id), next.classes.get(id), transitional.get(id)];
  const unions = new Map<string, number>();
  const union = (from: number, to: number): number => {
    if (from === to || !flips) return to;
    const memo = `${from},${to}`;
    const known = unions.get(memo);
    if (known !== undefined) return known;
    const atoms = [...new Set([...atomsOf(from), ...atomsOf(to)])].sort(ascending);
    const id = atoms.length === 0 ? 0 : freeClassId(atoms, ids, held);
    if (id !== 0 && !next.classes.has(id)) transitional.set(id, atoms);
    unions.set(memo, id);
    return id;
  };
  return {
    destinations4: planFamily(now.destinations4, next.destinations4, IPV4, union, edited4, shown?.destinations4),
    destinations6: planFamily(now.destinations6, next.destinations6, IPV6, union, edited6, shown?.destinations6),
    transitional,
  };
}

interface Sorted<K> {
  readonly size: number;
  key(i: number): K;
  classId(i: number): number;
}

/** The transitional class of an address between two classes. */
type Union = (from: number, to: number) => number;

function planFamily<K extends number | string>(
  now: Destinations<K>,
  next: Destinations<K>,
  family: Family<K>,
  union: Union,
  edited: (from: Destinations<K>, edits: Edits<K>) => Destinations<K>,
  shown: ReadonlyMap<K, number> = new Map(),
): DestinationPlan<K> {
  const step = stepBetween(now, next);
  if (shown.size > 0) {
    const edits = [...shown].sort(([a], [b]) => ascending(a, b));
    const actual = edited(now, edits);
    if (step) {
      const keys = [...new Set([...step, ...shown.keys()])].sort(ascending);
      return planStep(actual, next, family, union, keys);
    }
    now = actual;
  }
  if (step) return planStep(now, next, family, union, step);
  const listed = (d: Destinations<K>): Sorted<K> => {
    const { keys, classes } = d as { keys: ArrayLike<number | string>; classes: Float64Array };
    return { size: keys.length, key: (i) => keys[i] as K, classId: (i) => classes[i] as number };
  };
  return merge(listed(now), listed(next), family, union);
}

/**
 * Compares two sorted lists in one pass, with a stack of covering prefixes for each list. Entries that both lists share
 * before the first difference and behind the last one need no writes.
 */
function merge<K extends number | string>(
  now: Sorted<K>,
  next: Sorted<K>,
  family: Family<K>,
  union: Union,
): DestinationPlan<K> {
  const { covers } = family;
  const plan: DestinationPlan<K> = { before: [], settle: [], remove: [], shown: new Map() };
  const equal = (i: number, j: number) => now.key(i) === next.key(j) && now.classId(i) === next.classId(j);
  const least = Math.min(now.size, next.size);
  let start = 0;
  while (start < least && equal(start, start)) start++;
  let common = 0;
  while (common < least - start && equal(now.size - 1 - common, next.size - 1 - common)) common++;
  const [nowEnd, nextEnd] = [now.size - common, next.size - common];
  if (start === nowEnd && start === nextEnd) return plan;
  const first = [start < nowEnd ? now.key(start) : undefined, start < nextEnd ? next.key(start) : undefined]
    .filter((k) => k !== undefined)
    // biome-ignore lint/complexity/useMathMinMax: keys may be texts
    .reduce((a, b) => (a < b ? a : b));
  const stackAt = (list: Sorted<K>) => {
    const stack: { key: K; classId: number }[] = [];
    for (const key of start === 0 ? [] : family.around(first)) {
      const at = find(list, key, start);
      if (at >= 0) stack.push({ key, classId: list.classId(at) });
    }
    return stack;
  };
  const nowStack = stackAt(now);
  const nextStack = stackAt(next);
  const top = (stack: { key: K; classId: number }[], key: K): number => {
    while (stack.length > 0 && !covers((stack[stack.length - 1] as { key: K }).key, key)) stack.pop();
    return stack[stack.length - 1]?.classId ?? 0;
  };
  for (let i = start, j = start; i < nowEnd || j < nextEnd; ) {
    const a = i < nowEnd ? now.key(i) : undefined;
    const b = j < nextEnd ? next.key(j) : undefined;
    const inNow = b === undefined || (a !== undefined && a <= b);
    const inNext = a === undefined || (b !== undefined && b <= a);
    const key = (inNow ? a : b) as K;
    // The class that the address has now, and the one that it shall have: that of its own entry, or of the closest
    // covering prefix.
    const from = inNow ? now.classId(i) : top(nowStack, key);
    const to = inNext ? next.classId(j) : top(nextStack, key);
    const between = union(from, to);
    // A new key must exist before the prefix that covers it changes. An existing key is written only if it differs.
    if (!inNow || between !== from) plan.before.push({ key, classId: between });
    if (inNext && between !== to) plan.settle.push({ key, classId: to });
    if (!inNext) plan.remove.push(key);
    if (!inNext || between !== to) plan.shown.set(key, between);
    if (inNow) {
      top(nowStack, key);
      nowStack.push({ key, classId: from });
      i++;
    }
    if (inNext) {
      top(nextStack, key);
      nextStack.push({ key, classId: to });
      j++;
    }
  }
  return plan;
}

/**
 * The same for a known set of keys that may differ. All other keys have the same class in both lists, whatever covers
 * them, so they need no writes.
 * @param keys ascending, so that a covering prefix precedes the prefixes inside it
 */
function planStep<K extends number | string>(
  now: Destinations<K>,
  next: Destinations<K>,
  { around }: Family<K>,
  union: Union,
  keys: readonly K[],
): DestinationPlan<K> {
  const plan: DestinationPlan<K> = { before: [], settle: [], remove: [], shown: new Map() };
  const covering = (d: Destinations<K>, key: K): number => {
    let classId = 0;
    for (const outer of around(key)) classId = classAt(d, outer) ?? classId;
    return classId;
  };
  for (const key of keys) {
    const [old, wanted] = [classAt(now, key), classAt(next, key)];
    if (old === undefined && wanted === undefined) continue;
    const from = old ?? covering(now, key);
    const to = wanted ?? covering(next, key);
    const between = union(from, to);
    if (old === undefined || between !== from) plan.before.push({ key, classId: between });
    if (wanted !== undefined && between !== to) plan.settle.push({ key, classId: to });
    if (wanted === undefined) plan.remove.push(key);
    if (wanted === undefined || between !== to) plan.shown.set(key, between);
  }
  return plan;
}

/** Index of a key among the first `end` entries, or -1. */
function find<K extends number | string>(list: Sorted<K>, key: K, end: number): number {
  let lo = 0;
  let hi = end - 1;
  while (lo <= hi) {
    const mid = (lo + hi) >>> 1;
    const at = list.key(mid);
    if (at === key) return mid;
    if (at < key) lo = mid + 1;
    else hi = mid - 1;
  }
  return -1;
}
