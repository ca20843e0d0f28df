/** Makes an automaton deterministic: a state is the set of the places where one can be. */
import { KIND, type Nfa, TooLarge } from './nfa.js';

/** States before those that accept the same are one: half as many again as a table may have. */
const MAX_RAW_STATES = 3072;
/** Places that are looked at, sorted ones fourfold, and cells that are filled: some 20 ms. */
const MAX_WORK = 700_000;

/** Ascending. */
type Places = Uint16Array;

/** A table with one state for each set of places: state 0 is dead, state 1 the start. */
export interface RawTable {
  readonly classes: number;
  readonly classOf: Uint8Array;
  /** At `state * classes + class`. */
  readonly next: readonly number[];
  readonly accepts: readonly boolean[];
}

/** @throws TooLarge */
export function determine(nfa: Nfa): RawTable {
  const { classes, classOf, members } = classify(nfa);
  const search = new Search(nfa);
  const states: Places[] = [Uint16Array.of(), search.from([nfa.start], true)];
  const accepts = [false, search.ends(states[1]!, true)];
  const next: number[] = [];
  const numbers = new Map([['', 0]]);
  const numberOf = (places: Places) => {
    const key = String.fromCharCode(...places);
    let number = numbers.get(key);
    if (number === undefined) {
      if (states.length === MAX_RAW_STATES) throw new TooLarge();
      accepts.push(search.ends(places, false));
      numbers.set(key, (number = states.push(places) - 1));
    }
    return number;
  };
  // By the places where bytes lead: most classes and states lead where others do.
  const known = new Map([['', 0]]);
  const targets: number[][] = Array.from({ length: classes }, () => []);
  for (const places of states) {
    for (const place of places) {
      if (nfa.kinds[place] !== KIND.BYTE) continue;
      const by = members[nfa.setOf[place]!]!;
      search.spend(by.length);
      for (const c of by) targets[c]!.push(nfa.to[place]!);
    }
    search.spend(classes);
    for (const reached of targets) {
      const key = String.fromCharCode(...reached);
      let number = known.get(key);
      if (number === undefined) known.set(key, (number = numberOf(search.from(reached, false))));
      next.push(number);
      reached.length = 0;
    }
  }
  return { classes, classOf, next, accepts };
}

/** Bytes that no set tells apart are one class. `members`: the classes of each set. */
function classify({ sets }: Nfa) {
  let [classOf, classes] = [new Uint8Array(256), 1];
  for (const set of sets) {
    const split = new Map<number, number>();
    const finer = new Uint8Array(256);
    for (let byte = 0; byte < 256; byte++) {
      const key = classOf[byte]! * 2 + (includes(set, byte) ? 1 : 0);
      if (!split.has(key)) split.set(key, split.size);
      finer[byte] = split.get(key)!;
    }
    [classOf, classes] = [finer, split.size];
  }
  const firsts = Array.from({ length: classes }, (_, c) => classOf.indexOf(c));
  const members = sets.map((set) => firsts.flatMap((byte, c) => (includes(set, byte) ? [c] : [])));
  return { classes, classOf, members };
}

function includes(set: readonly number[], byte: number): boolean {
  for (let i = 0; i < set.length; i += 2) if (set[i]! <= byte && byte <= set[i + 1]!) return true;
  return false;
}

/** Finds where one can be without a byte more. */
class Search {
  readonly #nfa: Nfa;
  /** By place: the search that met it last. */
  readonly #met: Int32Array;
  #search = 0;
  #work = 0;

  constructor(nfa: Nfa) {
    this.#nfa = nfa;
    this.#met = new Int32Array(nfa.kinds.length).fill(-1);
  }

  spend(work: number): void {
    this.#work += work;
    if (this.#work > MAX_WORK) throw new TooLarge();
  }

  /** The places that read a byte, wait for the end or match, ascending. */
  from(places: readonly number[], isStart: boolean): Places {
    const found = this.#closure(places, isStart, false);
    this.spend(4 * found.length);
    return Uint16Array.from(found).sort();
  }

  /** Whether a text that ends here matches. */
  ends(places: Places, isStart: boolean): boolean {
    const { kinds } = this.#nfa;
    if (places.some((place) => kinds[place] === KIND.MATCH)) return true;
    const open = places.filter((place) => kinds[place] === KIND.END);
    return open.length > 0 && this.#closure(open, isStart, true).some((place) => kinds[place] === KIND.MATCH);
  }

  #closure(places: ArrayLike<number>, isStart: boolean, isEnd: boolean): number[] {
    const { kinds, to, ways } = this.#nfa;
    const search = this.#search++;
    const found: number[] = [];
    const open = Array.from(places);
    for (let place = open.pop(); place !== undefined; place = open.pop()) {
      this.spend(1);
      if (this.#met[place] === search) continue;
      this.#met[place] = search;
      const kind = kinds[place];
      if (kind === KIND.SPLIT) for (const way of ways[place]!) open.push(way);
      else if ((kind === KIND.BEGIN && isStart) || (kind === KIND.END && isEnd)) open.push(to[place]!);
      else if (kind !== KIND.BEGIN) found.push(place);
    }
    return found;
  }
}
