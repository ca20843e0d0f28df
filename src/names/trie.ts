/**
 * All patterns as one nondeterministic automaton over a name's bytes, from the last to the first. Patterns share what
 * they have in common at their ends. Its nodes are numbers, and what is known of a node stands in one list for each
 * field: there are hundreds of thousands.
 */
import { EVERY_NAME } from './pattern.js';

/** The symbol of the dot. Symbols are numbers from 1 to LAST_SYMBOL, see enum ea_cells in bpf/name_types.h. */
export const DOT = 1;
const ALPHABET = '.abcdefghijklmnopqrstuvwxyz0123456789-_';
export const LAST_SYMBOL = ALPHABET.length;
const STAR = '*'.charCodeAt(0);
/** By the code of an ASCII character; 0: it has none. */
const SYMBOLS = new Uint8Array(128);
for (let i = 0; i < LAST_SYMBOL; i++) SYMBOLS[ALPHABET.charCodeAt(i)] = i + 1;

/** The symbol of a byte of a name, or undefined if no pattern matches names with it. */
export function symbolOf(char: string): number | undefined {
  return SYMBOLS[char.charCodeAt(0)] || undefined;
}

/** The byte of a symbol. */
export function textOf(symbol: number): string {
  return ALPHABET[symbol - 1]!;
}

/** The trie. Node 0 is its root, so that 0 means "none" in all lists but `parent`. */
export class Trie {
  readonly parent: Int32Array;
  /** The symbol that leads here from the parent; 0: another way does. */
  readonly symbol: Uint8Array;
  /** The first of the nodes to which a symbol leads; the next one of the same parent. */
  readonly child: Int32Array;
  readonly sibling: Int32Array;
  /** The node where a star begins that may stand for nothing: whoever is here is there too. */
  readonly star: Int32Array;
  /** The node after one byte or more of a label `*`. */
  readonly label: Int32Array;
  /** The node after one byte or more of a label `**`. */
  readonly labels: Int32Array;
  /** Every label byte leads to this node: itself at a star, and the label's node from between two labels of a `**`. */
  readonly back: Int32Array;
  /** The dot leads to this node, too: between two labels of a `**`. */
  readonly between: Int32Array;
  /** The atoms whose pattern ends at a node; and 1 for each node with some. */
  readonly ends = new Map<number, string[]>();
  readonly hasEnds: Uint8Array;

  #size = 0;

  /** @param atoms with their patterns, which are canonical */
  constructor(atoms: readonly { readonly atom: string; readonly pattern: string }[]) {
    // No byte of a pattern needs more than one node.
    const most = atoms.reduce((sum, { pattern }) => sum + pattern.length, 1);
    this.parent = new Int32Array(most);
    this.symbol = new Uint8Array(most);
    this.child = new Int32Array(most);
    this.sibling = new Int32Array(most);
    this.star = new Int32Array(most);
    this.label = new Int32Array(most);
    this.labels = new Int32Array(most);
    this.back = new Int32Array(most);
    this.between = new Int32Array(most);
    this.hasEnds = new Uint8Array(most);
    this.#node(0, 0);
    for (const { atom, pattern } of atoms) this.#add(pattern, atom);
  }

  /** Number of nodes. */
  get size(): number {
    return this.#size;
  }

  #add(pattern: string, atom: string): void {
    if (pattern === EVERY_NAME) {
      this.#end(0, atom);
      this.#end(this.#labels(0), atom);
      return;
    }
    let at = 0;
    // Whether a label ends behind the byte, and so whether a star that begins one is all of it.
    let ends = true;
    for (let i = pattern.length - 1; i >= 0; i--) {
      const code = pattern.charCodeAt(i);
      if (code !== STAR) {
        const symbol = SYMBOLS[code]!;
        at = this.#symbol(at, symbol);
        ends = symbol === DOT;
        continue;
      }
      if (i > 0 && pattern.charCodeAt(i - 1) === STAR) {
        at = this.#labels(at);
        i--;
      } else if (ends && (i === 0 || SYMBOLS[pattern.charCodeAt(i - 1)] === DOT)) {
        at = this.label[at] ||= this.#loop(at);
      } else {
        at = this.star[at] ||= this.#loop(at);
      }
      ends = false;
    }
    this.#end(at, atom);
  }

  #end(node: number, atom: string): void {
    const known = this.ends.get(node);
    if (known) known.push(atom);
    else this.ends.set(node, [atom]);
    this.hasEnds[node] = 1;
  }

  #symbol(from: number, symbol: number): number {
    const { symbol: symbols, sibling } = this;
    for (let to = this.child[from]!; to !== 0; to = sibling[to]!) if (symbols[to] === symbol) return to;
    const to = this.#node(from, symbol);
    this.sibling[to] = this.child[from]!;
    return (this.child[from] = to);
  }

  /** Whether all that leads on from a node are symbols. */
  isPlain(node: number): boolean {
    return (this.label[node]! | this.labels[node]! | this.back[node]! | this.between[node]!) === 0;
  }

  #labels(from: number): number {
    const known = this.labels[from]!;
    if (known !== 0) return known;
    const within = (this.labels[from] = this.#loop(from));
    const between = (this.between[within] = this.#node(within, 0));
    this.back[between] = within;
    return within;
  }

  #loop(from: number): number {
    const node = this.#node(from, 0);
    return (this.back[node] = node);
  }

  #node(parent: number, symbol: number): number {
    const node = this.#size++;
    this.parent[node] = parent;
    this.symbol[node] = symbol;
    return node;
  }
}
