/**
 * All patterns as one nondeterministic automaton over a name's bytes, from the last to the first. Patterns share what
 * they have in common at their ends. Its nodes are numbers, and what is known of a node stands in one list for each
 * field: there are hundreds of thousands.
 */
import { Numbers } from './numbers.js';
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
  parent: Int32Array;
  /** The symbol that leads here from the parent; 0: another way does. */
  symbol: Uint8Array;
  /** The first of the nodes to which a symbol leads; the next one of the same parent. */
  child: Int32Array;
  sibling: Int32Array;
  /** The atoms whose pattern ends at a node; and 1 for each node with some. */
  readonly ends = new Map<number, string[]>();
  hasEnds: Uint8Array;
  /** Of a node from which more leads on than symbols: its place in the lists below. */
  special: Int32Array;
  /** The node where a star begins that may stand for nothing: whoever is here is there too. */
  readonly star = new Numbers(1 << 12);
  /** The node after one byte or more of a label `*`. */
  readonly label = new Numbers(1 << 12);
  /** The node after one byte or more of a label `**`. */
  readonly labels = new Numbers(1 << 12);
  /** Every label byte leads to this node: itself at a star, and the label's node from between two labels of a `**`. */
  readonly back = new Numbers(1 << 12);
  /** The dot leads to this node, too: between two labels of a `**`. */
  readonly between = new Numbers(1 << 12);

  #size = 0;

  /** @param atoms with their patterns, which are canonical */
  constructor(atoms: readonly { readonly atom: string; readonly pattern: string }[]) {
    // No byte of a pattern needs more than one node, and many patterns share half of theirs.
    const most = atoms.reduce((sum, { pattern }) => sum + pattern.length, 1);
    const expected = most < 1 << 16 ? most : most >> 1;
    this.parent = new Int32Array(expected);
    this.symbol = new Uint8Array(expected);
    this.child = new Int32Array(expected);
    this.sibling = new Int32Array(expected);
    this.special = new Int32Array(expected);
    this.hasEnds = new Uint8Array(expected);
    for (const list of this.#specials) list.push(0);
    this.#node(0, 0);
    for (const { atom, pattern } of atoms) this.#add(pattern, atom);
  }

  get #specials(): readonly Numbers[] {
    return [this.star, this.label, this.labels, this.back, this.between];
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
        at = this.#loopOf(this.label, at);
      } else {
        at = this.#loopOf(this.star, at);
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

  /** The place of a node in the lists of special nodes. */
  #specialOf(node: number): number {
    const known = this.special[node]!;
    if (known !== 0) return known;
    const at = this.star.length;
    for (const list of this.#specials) list.push(0);
    return (this.special[node] = at);
  }

  #labels(from: number): number {
    const known = this.labels.at(this.#specialOf(from));
    if (known !== 0) return known;
    const within = this.#loopOf(this.labels, from);
    const between = this.#node(within, 0);
    this.between.set(this.#specialOf(within), between);
    this.back.set(this.#specialOf(between), within);
    return within;
  }

  /** The node that one of the lists has for a node; a new one, to which every label byte leads again, if none. */
  #loopOf(list: Numbers, from: number): number {
    const at = this.#specialOf(from);
    const known = list.at(at);
    if (known !== 0) return known;
    const node = this.#node(from, 0);
    list.set(at, node);
    this.back.set(this.#specialOf(node), node);
    return node;
  }

  #node(parent: number, symbol: number): number {
    const node = this.#size++;
    if (node === this.parent.length) this.#grow();
    this.parent[node] = parent;
    this.symbol[node] = symbol;
    return node;
  }

  #grow(): void {
    const words = (list: Int32Array) => {
      const larger = new Int32Array(2 * list.length);
      larger.set(list);
      return larger;
    };
    const bytes = (list: Uint8Array) => {
      const larger = new Uint8Array(2 * list.length);
      larger.set(list);
      return larger;
    };
    this.parent = words(this.parent);
    this.child = words(this.child);
    this.sibling = words(this.sibling);
    this.special = words(this.special);
    this.symbol = bytes(this.symbol);
    this.hasEnds = bytes(this.hasEnds);
  }
}
