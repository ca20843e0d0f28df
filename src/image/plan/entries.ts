/**
 * Plans changes to a map whose entries are looked up one by one. New content is written before the endpoints flip. Old
 * content, of deleted and of changed entries, stays until no packet is judged by an old set. Pure functions.
 */
import { changedKeys } from '../../identity/shared-map.js';

/** Operations on the entries of one map. */
export interface EntryKind<V> {
  same(a: V, b: V): boolean;
  /** The content of an entry during the transition between two values. */
  both(from: V, to: V): V;
}

export interface EntryPlan<V> {
  /** Written before the endpoints flip. */
  readonly before: (readonly [key: string, value: V])[];
  /** What the map shows until they settle, for entries that will then change or be deleted. */
  readonly shown: Map<string, V>;
  /** Number of entries that do not exist now. */
  readonly added: number;
}

/**
 * @param shown entries whose content in the map differs from `now`, because an earlier update has not settled yet;
 * includes entries that `now` no longer has
 */
export function planEntries<V>(
  now: ReadonlyMap<string, V>,
  next: ReadonlyMap<string, V>,
  shown: ReadonlyMap<string, V>,
  { same, both }: EntryKind<V>,
): EntryPlan<V> {
  const plan = { before: [] as (readonly [string, V])[], shown: new Map<string, V>(), added: 0 };
  const keys = changedKeys(now, next);
  for (const key of shown.size === 0 ? keys : new Set([...keys, ...shown.keys()])) {
    const [from, to] = [shown.get(key) ?? now.get(key), next.get(key)];
    if (to === undefined) {
      if (from !== undefined) plan.shown.set(key, from);
      continue;
    }
    const transitional = from === undefined ? to : both(from, to);
    if (from === undefined) plan.added++;
    if (from === undefined || !same(from, transitional)) plan.before.push([key, transitional]);
    if (!same(transitional, to)) plan.shown.set(key, transitional);
  }
  return plan;
}
