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
const SYMBOLS = new Map([...ALPHABET].map((char, i) => [char, i + 1]));

/** The symbol of a byte of a name, or undefined if no pattern matches names with it. */
export function symbolOf(char: string): number | undefined {
  return SYMBOLS.get(char);
}

/** The trie. Node 0 is its root, so that 0 means "none" in all lists but `parent`. Grows by add() only. */
export class Trie {
  readonly parent: number[] = [];
  /** The symbol that leads here from the parent; 0: another way does. */
  readonly symbol: number[] = [];
  /** The first of the nodes to which a symbol leads; the next one of the same parent. */
  readonly child: number[] = [];
  readonly sibling: number[] = [];
  /** The node where a star begins that may stand for nothing: whoever is here is there too. */
  readonly star: number[] = [];
  /** The node after one byte or more of a label `*`. */
  readonly label: number[] = [];
  /** The node after one byte or more of a label `**`. */
  readonly labels: number[] = [];
  /** Every label byte leads to this node: itself at a star, and the label's node from between two labels of a `**`. */
  readonly back: number[] = [];
  /** The dot leads to this node, too: between two labels of a `**`. */
  readonly between: number[] = [];
  /** The atoms whose pattern ends at a node. */
  readonly ends = new Map<number, string[]>();

  constructor() {
    this.#node(0, 0);
  }

  /** Number of nodes. */
  get size(): number {
    return this.parent.length;
  }

  /** Adds an atom under its pattern. @param pattern canonical */
  add(pattern: string, atom: string): void {
    if (pattern === EVERY_NAME) {
      this.#end(0, atom);
      this.#end(this.#labels(0), atom);
      return;
    }
    let at = 0;
    for (const [n, label] of pattern.split('.').reverse().entries()) {
      if (n > 0) at = this.#symbol(at, DOT);
      if (label === '**') at = this.#labels(at);
      else if (label === '*') at = this.label[at] ||= this.#loop(at);
      else
        for (let i = label.length - 1; i >= 0; i--)
          if (label[i] === '*') at = this.star[at] ||= this.#loop(at);
          else at = this.#symbol(at, SYMBOLS.get(label[i]!)!);
    }
    this.#end(at, atom);
  }

  #end(node: number, atom: string): void {
    const known = this.ends.get(node);
    if (known) known.push(atom);
    else this.ends.set(node, [atom]);
  }

  #symbol(from: number, symbol: number): number {
    for (let to = this.child[from]!; to !== 0; to = this.sibling[to]!) if (this.symbol[to] === symbol) return to;
    const to = this.#node(from, symbol);
    this.sibling[to] = this.child[from]!;
    return (this.child[from] = to);
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
    const node = this.parent.push(parent) - 1;
    this.symbol.push(symbol);
    this.child.push(0);
    this.sibling.push(0);
    this.star.push(0);
    this.label.push(0);
    this.labels.push(0);
    this.back.push(0);
    this.between.push(0);
    return node;
  }
}
