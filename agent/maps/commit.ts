/** The bookkeeping of an update: what is in the maps, before it is written, and what is left over afterwards. */
import { classAt } from '../../src/image/edited.js';
import type { Image } from '../../src/image/types.js';
import type { AddressMaps } from './address-maps.js';
import type { Journal } from './books/journal.js';
import type { Leftovers } from './books/leftovers.js';
import type { NameMaps } from './name-maps.js';
import type { RecoveredMaps } from './recovery.js';
import type { Batch, Step } from './step.js';

/** What is known of the maps' content. */
export interface Books {
  readonly inMaps: RecoveredMaps;
  readonly leftovers: Leftovers;
  readonly addressMaps: AddressMaps;
  readonly names: NameMaps;
  readonly journal: Journal | undefined;
}

/** Records new content, in the journal first: after a crash, the next agent must know what the maps may contain. */
export function addToBooks({ inMaps, journal }: Books, image: Image, batch: Batch): void {
  const { sets, classes, rows } = inMaps;
  journal?.add(batch.sets, [...batch.classes], image.rules);
  for (const set of batch.sets) {
    sets.set(set.id, set);
    rows.set(set.id, new Set());
  }
  for (const [id, atoms] of batch.classes) classes.set(id, atoms);
  for (const { set, classId } of batch.rows) (rows.get(set.id) as Set<number>).add(classId);
  inMaps.rules.add(image.rules);
}

/** Whether packets may find a class once nothing is left over. */
export function isClassInUse({ names }: Books, image: Image, id: number): boolean {
  return image.classes.has(id) || names.classes.has(id);
}

/** Records which classes are left over since a moment, of those that may be. */
export function leaveClasses(books: Books, image: Image, unused: Iterable<number>, moment: number): void {
  const { inMaps, leftovers } = books;
  for (const id of leftovers.classes.keys()) if (isClassInUse(books, image, id)) leftovers.classes.delete(id);
  for (const id of unused)
    if (inMaps.classes.has(id) && !isClassInUse(books, image, id)) leftovers.classes.set(id, moment);
}

/**
 * Records an Image that is in force, and the leftovers in the maps.
 * @param afterRestart its previous Image is unknown
 * @returns number of entries to delete
 */
export function commit(books: Books, image: Image, step: Step, afterRestart: boolean): number {
  const { inMaps, leftovers, addressMaps, names } = books;
  const { plan, services, places, flips, changed } = step;
  const moment = leftovers.next(flips);
  const same4 = (key: number) => classAt(inMaps.destinations4, key) === classAt(image.destinations4, key);
  const same6 = (key: string) => classAt(inMaps.destinations6, key) === classAt(image.destinations6, key);
  const unusedClasses = [
    ...leftovers.destinations4.replace(plan.destinations4.shown, moment, same4),
    ...leftovers.destinations6.replace(plan.destinations6.shown, moment, same6),
    ...(afterRestart ? inMaps.classes.keys() : changed),
    ...plan.transitional.keys(),
    ...names.commit(step.names, image),
  ];
  addressMaps.commit(places, image, moment);
  leftovers.services.replace(services.shown, moment, (key) => inMaps.services.get(key) === image.services.get(key));
  leaveClasses(books, image, unusedClasses, moment);
  for (const id of inMaps.sets.keys()) {
    if (image.sets.has(id)) leftovers.sets.delete(id);
    else if (!leftovers.sets.has(id)) leftovers.sets.set(id, moment);
  }
  inMaps.destinations4 = image.destinations4;
  inMaps.destinations6 = image.destinations6;
  inMaps.services = image.services;
  return plan.destinations4.remove.length + plan.destinations6.remove.length + services.remove.length;
}
