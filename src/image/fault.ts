/** Faults that a policy set causes. Everything else can be put in force once that set is left out. */
import { AgentError, type ErrorCode } from '../errors.js';

/**
 * The sets that cause a fault: one of several sets, the first one preferred; or one that distinguishes two destination
 * classes, which are given by their atoms.
 */
export type Blamed =
  | { readonly sets: readonly number[] }
  | { readonly classes: readonly [readonly string[], readonly string[]] };

/** The error, with the sets that cause it. */
export class SetFault extends AgentError {
  constructor(
    code: ErrorCode,
    message: string,
    readonly blamed: Blamed,
    opts: { hint?: string } = {},
  ) {
    super(code, message, opts);
    this.name = 'SetFault';
  }
}

/** The fault of two destination classes with the same id. */
export function classClash(id: number, one: readonly string[], other: readonly string[]): SetFault {
  return new SetFault('HASH_COLLISION', `two destination classes have the id ${id}`, { classes: [one, other] });
}

/** Whether two lists of atoms are equal. Both must be in the same order. */
export function sameAtoms(a: readonly string[], b: readonly string[]): boolean {
  return a === b || (a.length === b.length && a.every((atom, i) => atom === b[i]));
}

/** The content from which the ids of sets, classes and rules are hashed. */
export const contents = {
  /** @param name hash of the whole content of the set */
  set: (name: string) => `set|${name}`,
  /** @param atoms ascending */
  class: (atoms: readonly string[]) => `class|${atoms.join()}`,
};
