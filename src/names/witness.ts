/** Names that show what an automaton tells apart. */
import type { Accepts, Automaton } from './automaton.js';
import { DOT, LAST_SYMBOL, textOf } from './trie.js';

/** What is true of some names, and one of them. */
export interface Witness {
  readonly name: string;
  readonly accepts: Omit<Accepts, 'state'>;
}

const CELL_ACCEPTS = 0x80000000;
/** The letter x: stands for any byte where no pattern has it. */
const FILLER = 25;

/** A shortest name for each different content of accepting states. None for names that no pattern matches. */
export function witnesses({ cells, root, size, accepts }: Automaton): Witness[] {
  const wanted = new Map(accepts.map((one) => [one.state, one]));
  /** By state: where it was first reached from, and by which symbol. */
  const from = new Int32Array(size).fill(-1);
  const by = new Uint8Array(size);
  const seen = new Set<string>();
  const found: Witness[] = [];
  const nameTo = (state: number): string => {
    let name = '';
    for (let at = state; at !== root; at = from[at]!) name += textOf(by[at]!);
    return name;
  };
  const queue = [root];
  from[root] = 0;
  function reach(to: number, state: number, symbol: number): void {
    if (to === 0 || from[to] !== -1) return;
    from[to] = state;
    by[to] = symbol;
    queue.push(to);
  }
  for (const state of queue) {
    const accepted = (cells[2 * state]! & CELL_ACCEPTS) === 0 ? undefined : wanted.get(state);
    if (accepted) {
      const { state: _, ...accepts } = accepted;
      const key = JSON.stringify(Object.values(accepts));
      if (!seen.has(key)) found.push({ name: nameTo(state), accepts });
      seen.add(key);
    }
    // Bytes that no pattern has first: a name of letters that mean nothing reads best.
    const isOwn = (symbol: number) => cells[2 * (state + symbol)] === state;
    let filler = isOwn(FILLER) ? DOT + 1 : FILLER;
    while (filler <= LAST_SYMBOL && isOwn(filler)) filler++;
    if (filler <= LAST_SYMBOL) reach(cells[2 * state + 1]!, state, filler);
    for (let symbol = DOT; symbol <= LAST_SYMBOL; symbol++)
      if (isOwn(symbol)) reach(cells[2 * (state + symbol) + 1]!, state, symbol);
  }
  return found;
}
