/**
 * Makes the trie of patterns deterministic: a state is the set of the trie's nodes where one can be after the bytes read
 * so far. Nearly all states have one node, and lead where its symbols lead: they have a way of their own.
 */
import { AgentError } from '../errors.js';
import { NumberSets } from './number-sets.js';
import { type AtomKind, HOSTS_MARK, NAMES_MARK, QUERIES_MARK, readAtom, SERVERS_MARK } from './pattern.js';
import { Numbers } from './numbers.js';
import { Rows } from './rows.js';
import { DOT, LAST_SYMBOL, type Trie } from './trie.js';

/** The atoms of the classes of names that end in a state. */
export interface Lists {
  readonly names: readonly string[];
  readonly aliases: readonly string[];
  readonly queries: readonly string[];
  readonly servers: readonly string[];
  readonly hosts: readonly string[];
}

/** The lists of the latest automata, by their atoms: the next one has mostly the same, as the same objects. */
const lately = new Map<string, Lists>();
/** How many there may be beside those of the last automaton. */
const SPARE_LISTS = 4096;

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
  /** States of several nodes. */
  readonly #sets = new NumberSets();
  /** Their rows. */
  readonly #rowOfSet = new Numbers();
  /** The row of the state that is a node alone, plus 1; 0: there is none yet. */
  readonly #rowOfNode: Int32Array;
  /** By row: the state's only node, or the number of its set as -1 - number. */
  readonly #states: Numbers;
  readonly #rows: Rows;
  /** By the nodes with ends among a state's, if there are several. */
  readonly #lists = new Map<string, Lists>();
  /** Where the symbols of one row lead, by symbol. Empty between rows. */
  readonly #leads: number[][] = Array.from({ length: LAST_SYMBOL + 1 }, () => []);
  readonly #maxStates: number;
  readonly #maxTotal: number;

  constructor(trie: Trie) {
    this.#trie = trie;
    this.#rows = new Rows(trie.size);
    this.#rowOfNode = new Int32Array(trie.size);
    this.#states = new Numbers(trie.size);
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
    for (let row = 0; row < this.#states.length; row++) {
      const node = this.#states.at(row);
      if (node >= 0 && this.#trie.special[node] === 0) {
        const lists = this.#trie.hasEnds[node] === 1 ? this.#listsOf(this.#trie.ends.get(node)!) : undefined;
        if (lists) accepting.push({ row, lists });
        this.#followSymbols(node);
        this.#rows.end(-1, lists !== undefined);
        continue;
      }
      this.#read(row, set);
      const lists = this.#accepted(set);
      if (lists) accepting.push({ row, lists });
      this.#rows.end(this.#follow(set), lists !== undefined);
    }
    if (lately.size > 2 * accepting.length + SPARE_LISTS) lately.clear();
    return { rows: this.#rows, accepting };
  }

  /** Copies the nodes of a state, ascending, into `into`, which has only them then. */
  #read(row: number, into: number[]): void {
    const node = this.#states.at(row);
    if (node < 0) {
      this.#sets.read(-1 - node, into);
      return;
    }
    into.length = 0;
    into.push(node);
  }

  /** Adds the targets of a node to its row, which has no others. */
  #followSymbols(node: number): void {
    const { child, sibling, symbol, special } = this.#trie;
    for (let to = child[node]!; to !== 0; to = sibling[to]!)
      this.#rows.target(symbol[to]!, special[to] === 0 ? this.#rowOfOne(to) : this.#rowOf([to]));
  }

  /** Adds the targets of a set's symbols to its row. @returns the row of all other label bytes, or -1 */
  #follow(set: readonly number[]): number {
    const { child, sibling, symbol, special, label, labels, back, between } = this.#trie;
    const touched: number[] = [];
    const anyway: number[] = [];
    const lead = (by: number, to: number) => {
      const targets = this.#leads[by]!;
      if (targets.push(to) === 1) touched.push(by);
    };
    for (const node of set) {
      for (let to = child[node]!; to !== 0; to = sibling[to]!) lead(symbol[to]!, to);
      const at = special[node]!;
      if (at === 0) continue;
      if (between.at(at) !== 0) lead(DOT, between.at(at));
      for (const leads of [back, label, labels]) if (leads.at(at) !== 0) anyway.push(leads.at(at));
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
    const { special, star } = this.#trie;
    for (let i = reached.length - 1; i >= 0; i--) {
      const to = star.at(special[reached[i]!]!);
      if (to !== 0) reached.push(to);
    }
    if (reached.length > 1) {
      reached.sort((a, b) => a - b);
      let kept = 1;
      for (let i = 1; i < reached.length; i++) if (reached[i] !== reached[i - 1]) reached[kept++] = reached[i]!;
      reached.length = kept;
    }
    if (reached.length === 1) return this.#rowOfOne(reached[0]!);
    const set = this.#sets.number(reached);
    if (set === this.#rowOfSet.length) this.#rowOfSet.push(this.#newRow(-1 - set));
    return this.#rowOfSet.at(set);
  }

  #rowOfOne(node: number): number {
    const known = this.#rowOfNode[node]!;
    if (known !== 0) return known - 1;
    const row = this.#newRow(node);
    this.#rowOfNode[node] = row + 1;
    return row;
  }

  #newRow(state: number): number {
    const row = this.#states.length;
    this.#states.push(state);
    const total = row + 1 - this.#sets.size + this.#sets.total;
    if (row >= this.#maxStates || total > this.#maxTotal) throw this.#tooLarge();
    return row;
  }

  #accepted(set: readonly number[]): Lists | undefined {
    const { ends, hasEnds } = this.#trie;
    const own = set.filter((node) => hasEnds[node] === 1);
    if (own.length === 0) return undefined;
    if (own.length === 1) return this.#listsOf(ends.get(own[0]!)!);
    const key = own.join();
    let lists = this.#lists.get(key);
    if (!lists) {
      lists = this.#listsOf(own.flatMap((node) => ends.get(node)!));
      this.#lists.set(key, lists);
    }
    return lists;
  }

  #listsOf(ends: readonly string[]): Lists {
    const atoms = ends.length === 1 ? ends : [...ends].sort();
    const key = ends.length === 1 ? ends[0]! : atoms.join();
    let lists = lately.get(key);
    if (!lists) lately.set(key, (lists = listsOf(atoms)));
    return lists;
  }

  /** Blames the patterns whose nodes are in most states: they are pursued beside many others. */
  #tooLarge(): PatternFault {
    const { parent, ends } = this.#trie;
    const states = new Float64Array(this.#trie.size);
    const set: number[] = [];
    for (let row = 0; row < this.#states.length; row++) {
      this.#read(row, set);
      for (const node of set) states[node]!++;
    }
    const scores = new Map<string, number>();
    for (const [end, atoms] of ends) {
      let score = 0;
      for (let node = end; node !== 0; node = parent[node]!) score += states[node]!;
      for (const atom of atoms) scores.set(readAtom(atom)!.pattern, score);
    }
    const worst = [...scores].sort((a, b) => b[1] - a[1]).map(([pattern]) => pattern);
    return new PatternFault(`the patterns of names need more than ${this.#states.length - 1} states`, worst);
  }
}

/** @param atoms ascending */
function listsOf(atoms: readonly string[]): Lists {
  const of: Record<AtomKind, string[]> = { name: [], alias: [], query: [], server: [], host: [] };
  for (const atom of atoms) of[atom.slice(0, atom.indexOf(':')) as AtomKind].push(atom);
  const marked = (mark: string, list: readonly string[]) => (list.length > 0 ? [mark, ...list] : []);
  return {
    // A name that was asked for is what an alias would be, too.
    names: marked(NAMES_MARK, [...of.alias, ...of.name]),
    aliases: marked(NAMES_MARK, of.alias),
    queries: marked(QUERIES_MARK, of.query),
    servers: marked(SERVERS_MARK, of.server),
    hosts: marked(HOSTS_MARK, of.host),
  };
}
