/**
 * Makes the trie of patterns deterministic: a state is the set of the trie's nodes where one can be after the bytes read
 * so far.
 */
import { AgentError } from '../errors.js';
import { NumberSets } from './number-sets.js';
import { NAMES_MARK, QUERIES_MARK, readAtom } from './pattern.js';
import { Rows } from './rows.js';
import { DOT, LAST_SYMBOL, type Trie } from './trie.js';

/** The atoms of the classes of names that end in a state. */
export interface Lists {
  readonly names: readonly string[];
  readonly aliases: readonly string[];
  readonly queries: readonly string[];
}

/** Limits: how much larger than the trie all states together may be, counted in states and in nodes of states. */
const SPARE = 1 << 16;
const PER_NODE = 8;
const MAX_STATES = 1 << 20;
const MAX_TOTAL = 1 << 23;
/** Patterns that the text of an error names. */
const MAX_NAMED = 5;

/** Patterns that together need too many states. */
export class PatternFault extends AgentError {
  /** @param patterns those to which most states are due, the worst first */
  constructor(
    message: string,
    readonly patterns: readonly string[],
  ) {
    const named = patterns.slice(0, MAX_NAMED).join(', ');
    super('TOO_LARGE', message, { hint: `most are due to ${named}: write patterns with fewer stars` });
    this.name = 'PatternFault';
  }
}

export class Subsets {
  readonly #trie: Trie;
  /** The states: their numbers are their rows. */
  readonly #sets = new NumberSets();
  readonly #rows = new Rows();
  /** By the nodes with ends among a state's; and by their atoms. */
  readonly #lists = new Map<string, Lists>();
  readonly #byAtoms = new Map<string, Lists>();
  /** Where the symbols of one row lead, by symbol. Empty between rows. */
  readonly #leads: number[][] = Array.from({ length: LAST_SYMBOL + 1 }, () => []);
  readonly #maxStates: number;
  readonly #maxTotal: number;

  constructor(trie: Trie) {
    this.#trie = trie;
    this.#maxStates = Math.min(MAX_STATES, SPARE + PER_NODE * trie.size);
    this.#maxTotal = Math.min(MAX_TOTAL, 4 * this.#maxStates);
  }

  /**
   * The rows of all states, the root's first, and those that accept. Call it once.
   * @throws PatternFault
   */
  build(): { rows: Rows; accepting: readonly { row: number; lists: Lists }[] } {
    const accepting: { row: number; lists: Lists }[] = [];
    const set: number[] = [];
    this.#rowOf([0]);
    for (let row = 0; row < this.#sets.size; row++) {
      this.#sets.read(row, set);
      const lists = this.#accepted(set);
      if (lists) accepting.push({ row, lists });
      this.#rows.end(this.#follow(set), lists !== undefined);
    }
    return { rows: this.#rows, accepting };
  }

  /** Adds the targets of a set's symbols to its row. @returns the row of all other label bytes, or -1 */
  #follow(set: readonly number[]): number {
    const { child, sibling, symbol, label, labels, back, between } = this.#trie;
    const touched: number[] = [];
    const anyway: number[] = [];
    const lead = (by: number, to: number) => {
      const targets = this.#leads[by]!;
      if (targets.push(to) === 1) touched.push(by);
    };
    for (const node of set) {
      for (let to = child[node]!; to !== 0; to = sibling[to]!) lead(symbol[to]!, to);
      if (between[node] !== 0) lead(DOT, between[node]!);
      if (back[node] !== 0) anyway.push(back[node]!);
      if (label[node] !== 0) anyway.push(label[node]!);
      if (labels[node] !== 0) anyway.push(labels[node]!);
    }
    const otherwise = anyway.length === 0 ? -1 : this.#rowOf([...anyway]);
    for (const by of touched) {
      const targets = this.#leads[by]!;
      if (by !== DOT) for (const to of anyway) targets.push(to);
      const row = this.#rowOf(targets);
      targets.length = 0;
      if (by === DOT || row !== otherwise) this.#rows.target(by, row);
    }
    return otherwise;
  }

  /** The row of a set of nodes, and of the stars that begin at them. Changes `reached`. */
  #rowOf(reached: number[]): number {
    const { star } = this.#trie;
    for (let i = reached.length - 1; i >= 0; i--) if (star[reached[i]!] !== 0) reached.push(star[reached[i]!]!);
    if (reached.length > 1) {
      reached.sort((a, b) => a - b);
      let kept = 1;
      for (let i = 1; i < reached.length; i++) if (reached[i] !== reached[i - 1]) reached[kept++] = reached[i]!;
      reached.length = kept;
    }
    const row = this.#sets.number(reached);
    if (row >= this.#maxStates || this.#sets.total > this.#maxTotal) throw this.#tooLarge();
    return row;
  }

  #accepted(set: readonly number[]): Lists | undefined {
    const { ends } = this.#trie;
    const own = set.filter((node) => ends.has(node));
    if (own.length === 0) return undefined;
    const key = own.join();
    let lists = this.#lists.get(key);
    if (!lists) {
      const atoms = own.flatMap((node) => ends.get(node)!).sort();
      lists = this.#byAtoms.get(atoms.join()) ?? listsOf(atoms);
      this.#byAtoms.set(atoms.join(), lists);
      this.#lists.set(key, lists);
    }
    return lists;
  }

  /** Blames the patterns whose nodes are in most states: they are pursued beside many others. */
  #tooLarge(): PatternFault {
    const { parent, ends } = this.#trie;
    const states = new Float64Array(this.#trie.size);
    const set: number[] = [];
    for (let row = 0; row < this.#sets.size; row++) {
      this.#sets.read(row, set);
      for (const node of set) states[node]!++;
    }
    const scores = new Map<string, number>();
    for (const [end, atoms] of ends) {
      let score = 0;
      for (let node = end; node !== 0; node = parent[node]!) score += states[node]!;
      for (const atom of atoms) scores.set(readAtom(atom)!.pattern, score);
    }
    const worst = [...scores].sort((a, b) => b[1] - a[1]).map(([pattern]) => pattern);
    return new PatternFault(`the patterns of names need more than ${this.#sets.size - 1} states`, worst);
  }
}

/** @param atoms ascending */
function listsOf(atoms: readonly string[]): Lists {
  const of = (mark: string, ...kinds: readonly string[]) => {
    const own = atoms.filter((atom) => kinds.includes(readAtom(atom)!.kind));
    return own.length === 0 ? [] : [mark, ...own];
  };
  return {
    names: of(NAMES_MARK, 'name', 'alias'),
    aliases: of(NAMES_MARK, 'alias'),
    queries: of(QUERIES_MARK, 'query'),
  };
}
