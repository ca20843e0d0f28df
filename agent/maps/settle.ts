/** Phase 4 of an update (store.ts): what becomes final, and what is deleted, when the programs that ran have ended. */
import { classAt } from '../../src/image/edited.js';
import type { DestinationWrite } from '../../src/image/plan/plan.js';
import type { Ids } from '../../src/ids.js';
import type { Image, PolicySet } from '../../src/image/types.js';
import type { OutdatedEntries } from './books/leftovers.js';
import { addToBooks, type Books, isClassInUse, leaveClasses } from './commit.js';
import type { StateWords } from './tables/state-words.js';
import { rowsFit } from './room.js';
import { namesBatch } from './step.js';
import type { MapWriter } from './writer.js';

export interface SettleParts {
  readonly books: Books;
  readonly writer: MapWriter;
  readonly state: StateWords;
  readonly image: Image;
}

/** Settles what was written up to a moment: entries become as in the Image in force. @returns how many changed */
export function settle({ books, writer, state, image }: SettleParts, moment: number): number {
  const { inMaps, leftovers, addressMaps } = books;
  const settled4 = planSettle(leftovers.destinations4, moment, (key) => classAt(image.destinations4, key));
  const settled6 = planSettle(leftovers.destinations6, moment, (key) => classAt(image.destinations6, key));
  for (const id of [...settled4.shown, ...settled6.shown]) {
    // Packets that found this class must be judged before its rows are deleted.
    if (!isClassInUse(books, image, id) && inMaps.classes.has(id)) leftovers.classes.set(id, leftovers.moment + 1);
  }
  let n = writer.writeDestinations(settled4.writes, settled6.writes);
  n += writer.removeDestinations(settled4.removals, settled6.removals);
  const services = leftovers.services.takeUntil(moment);
  state.forgetClasses(n, services);
  n += writer.writeServices(services.flatMap(([key]) => image.services.get(key) ?? []));
  n += addressMaps.settle(moment);
  n += writer.removeServices(services.filter(([key]) => !image.services.has(key)).map(([, service]) => service));
  leftovers.next(false);
  // Flows that were judged while destinations still had their old atoms are judged again.
  if (n > 0) state.bumpEpoch();
  return n;
}

/** Deletes the sets and classes that nothing refers to since a moment, and what is unknown. @returns how many entries */
export function removeUnused({ books, writer, image }: SettleParts, moment: number): number {
  const { inMaps, leftovers, journal } = books;
  let n = 0;
  const sets = [...leftovers.sets].filter(([, since]) => since <= moment).map(([id]) => id);
  for (const id of sets) {
    const set = inMaps.sets.get(id);
    if (set) n += writer.removeSet(set, inMaps.rows.get(id) ?? new Set());
    inMaps.sets.delete(id);
    inMaps.rows.delete(id);
    leftovers.sets.delete(id);
  }
  const inUse = leftovers.outdatedClasses();
  const classes = [...leftovers.classes].filter(([id, since]) => since <= moment && !inUse.has(id)).map(([id]) => id);
  for (const [id, have] of classes.length > 0 ? inMaps.rows : []) {
    const removable = classes.filter((c) => have.has(c));
    n += writer.removeClassRows(inMaps.sets.get(id) as PolicySet, removable);
    for (const c of removable) have.delete(c);
  }
  for (const id of classes) {
    inMaps.classes.delete(id);
    leftovers.classes.delete(id);
  }
  for (const stranger of inMaps.strangers) if (!image.sets.has(stranger.set)) n += stranger.remove();
  inMaps.strangers = [];
  if (sets.length + classes.length > 0) journal?.keep(inMaps.sets, inMaps.classes);
  if (leftovers.sets.size === 0) inMaps.rules.keepOnly(image.rules);
  return n;
}

/**
 * Shows packets a matcher without the patterns that no set in the maps has any more. If its rows do not fit, the matcher
 * in force stays: it is right for all sets. @returns how many rows were written
 */
export function dropPatterns({ books, writer, image }: SettleParts, ids: Ids, maxOf: (name: string) => number): number {
  const { inMaps, leftovers, names } = books;
  const plan = names.planSmaller(inMaps, image, ids);
  if (!plan) return 0;
  const batch = namesBatch(inMaps, plan);
  if (!rowsFit(batch, inMaps, maxOf) || names.chunks + names.missing(plan) > maxOf('name_cells')) return 0;
  names.makeRoom(plan);
  addToBooks(books, image, batch);
  const n = writer.writeClassRows(batch.rows);
  names.show(plan);
  leaveClasses(books, image, names.commit(plan, image), leftovers.next(false));
  return n;
}

/**
 * Removes the destinations that may be settled from the leftovers, and plans their final state.
 * @param wanted the final class of a destination; undefined: it is to be deleted
 * @returns entries to write and to delete, and the classes that these have in the maps until then
 */
function planSettle<K extends number | string>(
  from: OutdatedEntries<K, number>,
  moment: number,
  wanted: (key: K) => number | undefined,
): { writes: DestinationWrite<K>[]; removals: K[]; shown: number[] } {
  const out: ReturnType<typeof planSettle<K>> = { writes: [], removals: [], shown: [] };
  for (const [key, classId] of from.takeUntil(moment)) {
    const target = wanted(key);
    if (target === undefined) out.removals.push(key);
    else if (target !== classId) out.writes.push({ key, classId: target });
    out.shown.push(classId);
  }
  return out;
}
