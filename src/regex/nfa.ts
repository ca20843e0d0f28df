/** Writes a regular expression out as a nondeterministic automaton over the bytes of UTF-8. */
import { MAX_CHAR, type Ranges, ranges } from './ranges.js';
import type { Node } from './syntax.js';

/** `.{1000}` has 8,000, and twice as many states as a table may have. */
const MAX_PLACES = 1 << 13;

/** Too many places. */
export class TooLarge extends Error {}

/** What one can do at a place. */
export const KIND = {
  /** Read a byte of a set, and be at `to`. */
  BYTE: 0,
  /** Be at each of `ways` at once. */
  SPLIT: 1,
  /** Be at `to`, before the first byte only. */
  BEGIN: 2,
  /** Be at `to`, behind the last byte only. */
  END: 3,
  MATCH: 4,
} as const;

/** An automaton: places by number, the last one is where it starts. */
export class Nfa {
  readonly kinds: number[] = [];
  readonly to: number[] = [];
  /** By place: the number of its set of bytes. */
  readonly setOf: number[] = [];
  readonly ways: (readonly number[])[] = [];
  /** Different sets of bytes, each as `lo, hi, lo, hi …`. */
  readonly sets: Ranges[] = [];
  readonly #setNumbers = new Map<string, number>();
  /** BYTE places, by set and target. */
  readonly #places = new Map<number, number>();
  /** Parts that were written; it grows where no place does, too, and so bounds the time. */
  #written = 0;

  /** @throws TooLarge */
  constructor(root: Node) {
    const match = this.#add(KIND.MATCH, 0);
    this.#add(KIND.SPLIT, 0, 0, [this.#write(root, match)]);
  }

  get start(): number {
    return this.kinds.length - 1;
  }

  #add(kind: number, to: number, set = 0, ways: readonly number[] = []): number {
    if (this.kinds.length >= MAX_PLACES) throw new TooLarge();
    this.to.push(to);
    this.setOf.push(set);
    this.ways.push(ways);
    return this.kinds.push(kind) - 1;
  }

  /** @returns the place where a part begins behind which one is at `to` */
  #write(node: Node, to: number): number {
    if (++this.#written > 4 * MAX_PLACES) throw new TooLarge();
    switch (node.kind) {
      case 'set':
        return this.#chars(node.ranges, to);
      case 'begin':
        return this.#add(KIND.BEGIN, to);
      case 'end':
        return this.#add(KIND.END, to);
      case 'all':
        return node.parts.reduceRight((at, part) => this.#write(part, at), to);
      case 'any':
        return this.#any(node.options, to);
      case 'repeat':
        return this.#repeat(node.node, node.min, node.max, to);
    }
  }

  /** Options of one character are one set. */
  #any(options: readonly Node[], to: number): number {
    const chars = options.flatMap((option) => (option.kind === 'set' ? option.ranges : []));
    const others = options.filter((option) => option.kind !== 'set').map((option) => this.#write(option, to));
    return this.#split(chars.length > 0 ? [...others, this.#chars(ranges(chars), to)] : others);
  }

  #repeat(node: Node, min: number, max: number, to: number): number {
    let at = to;
    let left = min;
    if (max === Infinity) {
      const ways = [to];
      const again = this.#split(ways);
      const once = this.#write(node, again);
      ways.push(once);
      // x+ goes around as x* does, and begins with x: a copy for each + would double what is in several of them.
      at = min > 0 ? once : again;
      left = Math.max(0, min - 1);
    }
    // Each further one is only possible behind the one before: x{0,2} is (x(x)?)?, so that few places are held at once.
    else for (let i = min; i < max; i++) at = this.#split([this.#write(node, at), to]);
    for (let i = 0; i < left; i++) at = this.#write(node, at);
    return at;
  }

  #split(ways: readonly number[]): number {
    return this.#add(KIND.SPLIT, 0, 0, ways);
  }

  /** Places that read the same and lead to the same are one. */
  #byte(set: Ranges, to: number): number {
    const key = set.join();
    let number = this.#setNumbers.get(key);
    if (number === undefined) this.#setNumbers.set(key, (number = this.sets.push(set) - 1));
    const place = number * MAX_PLACES + to;
    const known = this.#places.get(place);
    if (known !== undefined) return known;
    const added = this.#add(KIND.BYTE, to, number);
    this.#places.set(place, added);
    return added;
  }

  /** One character of a set, as its bytes. */
  #chars(set: Ranges, to: number): number {
    const ascii: number[] = [];
    const ways = new Set<number>();
    for (let i = 0; i < set.length; i += 2) {
      const [lo, hi] = [set[i]!, set[i + 1]!];
      if (lo < 0x80) ascii.push(lo, Math.min(hi, 0x7f));
      if (hi < 0x80) continue;
      for (const sequence of sequences(Math.max(lo, 0x80), hi))
        ways.add(sequence.reduceRight((at, bytes) => this.#byte(bytes, at), to));
    }
    if (ascii.length > 0) ways.add(this.#byte(ascii, to));
    const [way] = ways;
    return ways.size === 1 ? way! : this.#split([...ways]);
  }
}

/** The last characters of one, two and three bytes. */
const LAST = [0x7f, 0x7ff, 0xffff];

/**
 * The bytes of all characters from one to another, each sequence as one range for each byte. All characters beyond ASCII
 * together are written as RE2 does it, with sequences that are no valid UTF-8 (E0 80 80) for the sake of few states.
 */
function sequences(lo: number, hi: number): Ranges[][] {
  const rest = [0x80, 0xbf];
  if (lo === 0x80 && hi === MAX_CHAR) {
    return [
      [[0xc2, 0xdf], rest],
      [[0xe0, 0xef], rest, rest],
      [[0xf0, 0xf4], rest, rest, rest],
    ];
  }
  for (const last of LAST) if (lo <= last && last < hi) return [...sequences(lo, last), ...sequences(last + 1, hi)];
  const length = LAST.findIndex((last) => hi <= last) + 1 || 4;
  // A range of sequences is the product of ranges of bytes where all later bytes go from 80 to BF.
  for (let bits = 6; bits < 6 * length; bits += 6) {
    const mask = 2 ** bits - 1;
    if (lo >> bits === hi >> bits) continue;
    if ((lo & mask) !== 0) return [...sequences(lo, lo | mask), ...sequences((lo | mask) + 1, hi)];
    if ((hi & mask) !== mask) return [...sequences(lo, (hi & ~mask) - 1), ...sequences(hi & ~mask, hi)];
  }
  const [from, upTo] = [bytesOf(lo, length), bytesOf(hi, length)];
  return [Array.from({ length }, (_, i) => [from[i]!, upTo[i]!])];
}

/** UTF-8, for halves of surrogate pairs too. */
function bytesOf(char: number, length: number): number[] {
  const bytes: number[] = [];
  for (let i = 1, left = char; i < length; i++, left >>= 6) bytes.unshift(0x80 | (left & 0x3f));
  const lead = [0, 0, 0xc0, 0xe0, 0xf0][length]!;
  return [lead | (char >> (6 * (length - 1))), ...bytes];
}
