/**
 * From the Image in force to the next one without a moment in which a packet sees
 * a mixture: which entries to write before the endpoints flip, and which to settle
 * after. Pure.
 *
 * A destination whose class changes shows, while sets are flipped, the union of its
 * old and new atoms: the old set finds its atoms in it, and so does the new one.
 * Only when no packet reads an old set any more does it settle to the new class.
 */
import { ascending, classAt, type Destinations, type Edits, edited4, edited6, stepBetween } from './edited.js';
import { contentId } from './ids.js';
import { type Family, IPV4, IPV6 } from './prefix.js';
import type { Destinations4, Destinations6, Image } from './types.js';

/** A prefix and the class to write: `key` as in Destinations4 (number) or Destinations6 (text). */
export interface DestinationWrite<K> {
  readonly key: K;
  readonly classId: number;
}

export interface DestinationPlan<K> {
  /** Before the endpoints flip. */
  readonly before: DestinationWrite<K>[];
  /** After the flip: classes that drop old atoms. */
  readonly settle: DestinationWrite<K>[];
  /** After `settle`: prefixes that say no more than what covers them. */
  readonly remove: K[];
  /** What those of `settle` and `remove` show until then. */
  readonly shown: Map<K, number>;
}

/** Prefixes that show another class in the maps than the Image in force says: an earlier update has not settled yet. */
export interface ShownDestinations {
  readonly destinations4: ReadonlyMap<number, number>;
  readonly destinations6: ReadonlyMap<string, number>;
}

/** What the maps hold now, as far as planning must know it. */
export interface InForce {
  readonly destinations4: Destinations4;
  readonly destinations6: Destinations6;
  readonly classes: ReadonlyMap<number, readonly number[]>;
}

export interface Plan {
  readonly destinations4: DestinationPlan<number>;
  readonly destinations6: DestinationPlan<string>;
  /** Classes that exist during the transition only. */
  readonly transitional: ReadonlyMap<number, readonly number[]>;
}

/**
 * @param flips whether any endpoint changes its set, or packets may still be judged by a set that one had before: without,
 * classes may change in one step
 * @param shown where the maps are not as `now` says; also prefixes that `now` has no more
 */
export function planDestinations(now: InForce, next: Image, flips: boolean, shown?: ShownDestinations): Plan {
  const transitional = new Map<number, readonly number[]>();
  const atomsOf = (id: number): readonly number[] => now.classes.get(id) ?? next.classes.get(id) ?? [];
  const unions = new Map<string, number>();
  const union = (from: number, to: number): number => {
    if (from === to || !flips) return to;
    const memo = `${from},${to}`;
    const known = unions.get(memo);
    if (known !== undefined) return known;
    const atoms = [...new Set([...atomsOf(from), ...atomsOf(to)])].sort((a, b) => a - b);
    const id = atoms.length === 0 ? 0 : contentId(`class|${atoms.join(',')}`);
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

/** The class through which an address goes over from one to another. */
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
 * One pass over what differs of both sorted lists, with the stack of covering prefixes of each. Entries that both
 * have before the first difference, and behind the last, ask for nothing.
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
  let behind = 0;
  while (behind < least - start && equal(now.size - 1 - behind, next.size - 1 - behind)) behind++;
  const [nowEnd, nextEnd] = [now.size - behind, next.size - behind];
  if (start === nowEnd && start === nextEnd) return plan;
  const first = [start < nowEnd ? now.key(start) : undefined, start < nextEnd ? next.key(start) : undefined]
    .filter((k) => k !== undefined)
    // biome-ignore lint/complexity/useMathMinMax: of texts too
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
    // What the address reads now, and what it shall read: its own entry, or the closest that covers it.
    const from = inNow ? now.classId(i) : top(nowStack, key);
    const to = inNext ? next.classId(j) : top(nextStack, key);
    const between = union(from, to);
    // A key that is new must be there before what covers it changes; one that stays only if it differs.
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
 * The same where it is known which keys may differ. All others say in both what they say, whatever covers them: nothing
 * is asked of them, and each of these stands for itself.
 * @param keys ascending: what covers comes before what it covers
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

/** Index of a key among the first `end`; -1 if it is not there. */
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
