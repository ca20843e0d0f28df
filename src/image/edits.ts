/**
 * What one value was made from, by a few single addresses: so that whoever compares the two need not look for them among
 * a hundred thousand. Only a shortcut: where nothing is noted, comparing tells the same.
 */
import type { Destinations4, Destinations6 } from './types.js';

type Keys<D> = D extends Destinations4 ? readonly number[] : readonly string[];

const notes = new WeakMap<object, { from: object; keys: readonly (number | string)[] }>();

/** @param keys of all that differs, ascending: of addresses by themselves (/32, /128) only */
export function noteEdits<D extends Destinations4 | Destinations6>(next: D, from: D, keys: Keys<D>): void {
  // Or each would keep all that were before it.
  notes.delete(from);
  notes.set(next, { from, keys });
}

/** Keys of all that may differ; undefined: not known. */
export function editsOf<D extends Destinations4 | Destinations6>(from: D, next: D): Keys<D> | undefined {
  if (from === next) return [] as unknown as Keys<D>;
  const note = notes.get(next);
  return note?.from === from ? (note.keys as Keys<D>) : undefined;
}
