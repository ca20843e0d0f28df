/**
 * Plans the matcher of names: the automaton of all patterns, and the class of each accepting state. A name class is the
 * set of patterns that a name matches. Its content has an id, and sets have rows for it, as for a destination class.
 * Pure functions.
 */
import type { Ids } from '../../ids.js';
import type { Automaton } from '../../names/automaton.js';
import { ENUMS } from '../layout.gen.js';
import { matcherOf } from '../names.js';
import { freeClassId } from './class-ids.js';

const { EA_CELL_CHUNKS, EA_CELL_CHUNK_BITS } = ENUMS.ea_cells;
/** No state has this number, or a greater one. */
const STATES = EA_CELL_CHUNKS * 2 ** EA_CELL_CHUNK_BITS;

/** The class ids of a name that ends in a state; 0: none. */
export interface StateClasses {
  readonly state: number;
  /** Of a name that was asked for, of an alias, and of the name in a query. */
  readonly name: number;
  readonly alias: number;
  readonly query: number;
  /** Of a server name, and of the host of a request. */
  readonly server: number;
  readonly host: number;
}

export interface MatcherPlan {
  /** All patterns, ascending. */
  readonly patterns: readonly string[];
  readonly automaton: Pick<Automaton, 'cells' | 'size' | 'root'>;
  readonly accepts: readonly StateClasses[];
  /** Class id → its atoms, ascending. */
  readonly classes: ReadonlyMap<number, readonly string[]>;
}

/** What is in force while no set has patterns. */
const NO_MATCHER: MatcherPlan = {
  patterns: [],
  automaton: { cells: new Uint32Array(0), size: 0, root: 0 },
  accepts: [],
  classes: new Map(),
};

/**
 * Plans the matcher of these patterns. The same patterns give the same automaton.
 * @param patterns ascending
 * @param held the atoms of the classes that have an id already
 * @throws PatternFault (TOO_LARGE) if the patterns need too many states; AgentError HASH_COLLISION
 */
export function planMatcher(
  patterns: readonly string[],
  ids: Ids,
  held: (id: number) => readonly (readonly string[] | undefined)[],
): MatcherPlan {
  if (patterns.length === 0) return NO_MATCHER;
  const { accepts, cells, size, root } = matcherOf(patterns).automaton;
  const classes = new Map<number, readonly string[]>();
  const idByList = new Map<readonly string[], number>();
  const idOf = (atoms: readonly string[]): number => {
    if (atoms.length === 0) return 0;
    let id = idByList.get(atoms);
    if (id !== undefined) return id;
    // The same atoms in another list get the same id.
    id = freeClassId(atoms, ids, (taken) => [...held(taken), classes.get(taken)], looksLikeNoState);
    classes.set(id, atoms);
    idByList.set(atoms, id);
    return id;
  };
  return {
    patterns,
    automaton: { cells, size, root },
    accepts: accepts.map(({ state, names, aliases, queries, servers, hosts }) => ({
      state,
      name: idOf(names),
      alias: idOf(aliases),
      query: idOf(queries),
      server: idOf(servers),
      host: idOf(hosts),
    })),
    classes,
  };
}

/**
 * A class id stands in a cell, whose low half is the owner's number in other cells. A state that looks for a cell of its
 * own there must not find its own number.
 */
function looksLikeNoState(id: number): boolean {
  return id % 2 ** 32 >= STATES;
}
