/** Ids of classes that no Image names: those of a transition, and those of names. */
import { AgentError } from '../../errors.js';
import type { Ids } from '../../ids.js';
import { contents, sameAtoms } from '../fault.js';

/** Number of ids that are tried. */
const TRIES = 1000;

/** The ids of lists that were asked for before: an automaton has mostly the lists of the one before. */
const known = new WeakMap<Ids, WeakMap<readonly string[], number>>();

/** The id that these atoms get if it is free. */
function ownId(atoms: readonly string[], ids: Ids): number {
  let ofIds = known.get(ids);
  if (!ofIds) known.set(ids, (ofIds = new WeakMap()));
  let id = ofIds.get(atoms);
  if (id === undefined) ofIds.set(atoms, (id = ids.of(contents.class(atoms))));
  return id;
}

/**
 * An id for these atoms. Such a class may have any id that no other atoms have; it is the same each time, unless other
 * classes come in between.
 * @param atoms ascending
 * @param held the atoms of the classes that have an id already
 * @param fits whether an id may be used
 * @throws AgentError HASH_COLLISION
 */
export function freeClassId(
  atoms: readonly string[],
  ids: Ids,
  held: (id: number) => readonly (readonly string[] | undefined)[],
  fits: (id: number) => boolean = () => true,
): number {
  for (let n = 0; n < TRIES; n++) {
    const id = n === 0 ? ownId(atoms, ids) : ids.of(`${contents.class(atoms)}|${n}`);
    if (fits(id) && held(id).every((other) => !other || sameAtoms(other, atoms))) return id;
  }
  throw new AgentError('HASH_COLLISION', 'no free id for a destination class');
}
