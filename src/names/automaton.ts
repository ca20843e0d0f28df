/**
 * The automaton that the kernel walks to find the class of a name: all patterns at once, one cell or two for each byte
 * of the name (bpf/name_types.h, `enum ea_cells`).
 */
import { AgentError } from '../errors.js';
import { readAtom } from './pattern.js';
import { Subsets } from './subsets.js';
import { DOT, symbolOf, Trie } from './trie.js';

/** What is true of all names that end in a state. Equal lists are one object. */
export interface Accepts {
  readonly state: number;
  /** Atoms of the class of a name that the endpoint asked for; empty: no class. Ascending. */
  readonly names: readonly string[];
  /** Atoms of its class as the target of an alias. */
  readonly aliases: readonly string[];
  /** Atoms of its class in a query. */
  readonly queries: readonly string[];
  /** Atoms of its class as a server name. */
  readonly servers: readonly string[];
  /** Atoms of its class as the host of a request. */
  readonly hosts: readonly string[];
}

export interface Automaton {
  /**
   * Pairs (owner, next) of each cell. Owner and next are states as numbered here: a writer that puts cell 0 elsewhere
   * adds that place to each of them that is not 0. Cell 0 belongs to no state, so that 0 means nowhere. No state reaches
   * over a border between two chunks of 2^EA_CELL_CHUNK_BITS cells. The cells of the classes belong to no state here:
   * they are free for the writer at each accepting state. What it writes there must not look like the cell of a symbol:
   * the owner must be none of the 39 numbers below the cell's.
   */
  readonly cells: Uint32Array;
  /** Number of cells. */
  readonly size: number;
  /** The state where a walk begins. */
  readonly root: number;
  readonly accepts: readonly Accepts[];
}

/**
 * Builds the automaton of atoms `name:P`, `alias:P`, `query:P`, `server:P`, `host:P`. The result depends on the set of atoms only, not on
 * their order.
 * @throws PatternFault (TOO_LARGE) if the patterns together need too many states; it names those that do
 * @throws AgentError INTERNAL if one is no atom of a pattern
 */
export function buildAutomaton(atoms: readonly string[]): Automaton {
  const patterns = ascending(atoms).map((atom) => {
    const read = readAtom(atom);
    if (!read) throw new AgentError('INTERNAL', `"${atom}" is no atom of a pattern of names`);
    return { atom, pattern: read.pattern };
  });
  const trie = new Trie(patterns);
  const { rows, accepting } = new Subsets(trie).build();
  const { cells, states } = rows.place();
  const accepts = accepting.map(({ row, lists: { names, aliases, queries, servers, hosts } }) => {
    return { state: states[row]!, names, aliases, queries, servers, hosts };
  });
  return { cells, size: cells.length / 2, root: states[0]!, accepts };
}

/** Each atom once, ascending. */
function ascending(atoms: readonly string[]): readonly string[] {
  for (let i = 1; i < atoms.length; i++) if (!(atoms[i - 1]! < atoms[i]!)) return [...new Set(atoms)].sort();
  return atoms;
}

const CELL_ACCEPTS = 0x80000000;

/** Walks as the kernel does. @returns the accepting state in which a name ends, 0 if none */
export function walk(automaton: Pick<Automaton, 'cells' | 'root'>, name: string): number {
  const { cells } = automaton;
  let state = automaton.root;
  for (let i = name.length - 1; i >= 0 && state !== 0; i--) {
    const symbol = symbolOf(name[i]!);
    if (symbol === undefined) return 0;
    const own = 2 * (state + symbol);
    if (cells[own] === state) state = cells[own + 1]!;
    else state = symbol === DOT ? 0 : cells[2 * state + 1]!;
  }
  return state !== 0 && cells[2 * state]! >= CELL_ACCEPTS ? state : 0;
}
