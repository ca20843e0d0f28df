/** Texts at the boundaries of regular expressions, for tools that compare policies, or examine them. */
import { type Dfa, sizeOf, walk } from './dfa.js';

/** How many of each kind there are at most, and from how many states on they are tried. */
const MAX_SAMPLES = 32;

/** Bytes in the order in which samples have them, if there is a choice: what can stand in a request comes first. */
const PREFERRED = Buffer.from(
  'xabcdefghijklmnopqrstuvwyz0123456789XABCDEFGHIJKLMNOPQRSTUVWYZ/-_.~:@!$&\'()*+,;=%?#[]|{}^`"<>\\ \t',
);
/** First bytes of characters, and one that continues each of them. */
const BEYOND_ASCII = [0xc3, 0xe2, 0xf1, 0xa9];

export interface Samples {
  /** Texts that match one regular expression at least, the shortest first. */
  readonly matching: readonly string[];
  /** Texts that match none: most of them would with one byte less, more, or another. */
  readonly missing: readonly string[];
}

/**
 * Texts that try ways through the table, as far as there is room for them: from each state on, or from some of many, each
 * class of bytes. The same table gives the same texts.
 */
export function samples(dfa: Dfa): Samples {
  const paths = new Paths(dfa);
  const found = { matching: new Set<string>(), missing: new Set<string>() };
  const add = (bytes: readonly number[] | undefined) => {
    const text = bytes && decode(bytes);
    if (text === undefined) return;
    const list = walk(dfa, Uint8Array.from(bytes!)).length > 0 ? found.matching : found.missing;
    if (list.size < MAX_SAMPLES) list.add(text);
  };
  add(paths.through(dfa.start));
  add([]);
  const step = Math.ceil(paths.order.length / MAX_SAMPLES);
  const some = paths.order
    .filter((_, i) => i % step === 0)
    .map((state) => {
      return { state, before: paths.to(state), after: paths.through(state) };
    });
  for (const { before } of some) add(before);
  for (const byte of paths.bytes) {
    for (const { state, before, after = [] } of some) {
      add(paths.through(paths.next(state, byte), [...before, byte]));
      // A byte more, another byte, a byte less.
      add([...before, byte, ...after]);
      add([...before, byte, ...after.slice(1)]);
      add([...before, ...after.slice(1)]);
    }
    if (found.matching.size === MAX_SAMPLES && found.missing.size === MAX_SAMPLES) break;
  }
  const byLength = (list: Set<string>) => [...list].sort((a, b) => a.length - b.length);
  return { matching: byLength(found.matching), missing: byLength(found.missing) };
}

/** For each set of the table that some text of UTF-8 meets, by its number, a shortest one; the empty set is among them. */
export function witnesses(dfa: Dfa): ReadonlyMap<number, string> {
  const paths = new Paths(dfa);
  const found = new Map<number, string>();
  const add = (bytes: readonly number[], state: number) => {
    const set = dfa.accepts[state]!;
    const text = found.has(set) ? undefined : decode(bytes);
    if (text !== undefined) found.set(set, text);
  };
  add([], dfa.start);
  for (const state of paths.order) add(paths.to(state), state);
  for (const state of paths.order)
    for (const byte of paths.bytes) if (paths.next(state, byte) === 0) add([...paths.to(state), byte], 0);
  return found;
}

/** Shortest ways to and from the states of a table. */
class Paths {
  /** States that a walk reaches and that are not dead, the nearest first. */
  readonly order: readonly number[];
  /** One byte of each class, the preferred ones first. */
  readonly bytes: readonly number[];
  readonly #dfa: Dfa;
  /** By state: the state before it, and the byte between. */
  readonly #before = new Map<number, readonly [number, number]>();
  /** By state: the byte that leads nearest to a match; -1: a text may end here. Dead states have none. */
  readonly #onward = new Map<number, number>();

  constructor(dfa: Dfa) {
    this.#dfa = dfa;
    const all = [...PREFERRED, ...BEYOND_ASCII, ...Array.from({ length: 256 }, (_, byte) => byte)];
    const classes = new Set<number>();
    this.bytes = all.filter((byte) => !classes.has(dfa.classOf[byte]!) && classes.add(dfa.classOf[byte]!));
    this.order = this.#search();
    this.#turnBack();
  }

  /** The bytes that lead to a state. */
  to(state: number): number[] {
    const bytes: number[] = [];
    for (let at = this.#before.get(state); at; at = this.#before.get(at[0])) bytes.push(at[1]);
    return bytes.reverse();
  }

  /** The shortest text that begins with some bytes, which lead to a state, and matches. */
  through(state: number, bytes: readonly number[] = []): number[] | undefined {
    const out = [...bytes];
    for (let at = state; ; ) {
      const byte = this.#onward.get(at);
      if (byte === undefined) return undefined;
      if (byte < 0) return out;
      out.push(byte);
      at = this.next(at, byte);
    }
  }

  /** The state behind a state and a byte. */
  next(state: number, byte: number): number {
    return this.#dfa.next[state * this.#dfa.classes + this.#dfa.classOf[byte]!]!;
  }

  #search(): number[] {
    const { start } = this.#dfa;
    const order = start === 0 ? [] : [start];
    const met = new Set([0, start]);
    for (const state of order) {
      for (const byte of this.bytes) {
        const to = this.next(state, byte);
        if (met.has(to)) continue;
        met.add(to);
        order.push(to);
        this.#before.set(to, [state, byte]);
      }
    }
    return order;
  }

  #turnBack(): void {
    const into = Array.from({ length: sizeOf(this.#dfa) }, (): [number, number][] => []);
    for (const state of this.order) for (const byte of this.bytes) into[this.next(state, byte)]!.push([state, byte]);
    const open = this.order.filter((state) => this.#dfa.accepts[state] !== 0);
    for (const state of open) this.#onward.set(state, -1);
    for (const state of open) {
      for (const [from, byte] of into[state]!) {
        if (this.#onward.has(from)) continue;
        this.#onward.set(from, byte);
        open.push(from);
      }
    }
  }
}

/** undefined: it is no UTF-8, so that no text of a policy or a tool can say it. */
function decode(bytes: readonly number[]): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return undefined;
  }
}
