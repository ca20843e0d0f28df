/** Ids of classes that no Image names: those of a transition, and those of names. */
import { AgentError } from '../../errors.js';
import type { Ids } from '../../ids.js';
import { contents, sameAtoms } from '../fault.js';

/** Number of ids that are tried. */
const TRIES = 1000;

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
  const content = contents.class(atoms);
  for (let n = 0; n < TRIES; n++) {
    const id = ids.of(n === 0 ? content : `${content}|${n}`);
    if (fits(id) && held(id).every((other) => !other || sameAtoms(other, atoms))) return id;
  }
  throw new AgentError('HASH_COLLISION', 'no free id for a destination class');
}
