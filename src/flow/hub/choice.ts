/**
 * Which items of a period are shown to people who look: those of the lowest rank first, so that one denied flow is not
 * hidden by a thousand allowed ones, and of each rank an even choice, so that a burst at the beginning of the period does
 * not hide the rest.
 */
import type { Kind } from '../event/kind.js';

/** Ranks of flows: denied; denied by the audit verdict; partial; the rest. */
export const RANKS = 4;

/** The rank of a flow, 0 to RANKS - 1. */
export function rankOf({ verdict, auditVerdict }: Pick<Kind, 'verdict' | 'auditVerdict'>): number {
  if (verdict === 'deny') return 0;
  if (auditVerdict === 'deny') return 1;
  return verdict === 'partial' || auditVerdict === 'partial' ? 2 : 3;
}

/** An even choice of `most` items of each rank among those that were offered (reservoir sampling). */
export class Choice<T> {
  readonly #most: number;
  readonly #random: () => number;
  readonly #ranks: T[][] = Array.from({ length: RANKS }, () => []);
  readonly #offered = new Float64Array(RANKS);

  /** @param random from 0 to before 1 */
  constructor(most: number, random: () => number) {
    this.#most = most;
    this.#random = random;
  }

  /**
   * Offers an item. @param rank 0 to RANKS - 1 @param make makes it, if it is chosen; undefined: it is not to be had
   * @param left gets the item that it replaces
   */
  offer(rank: number, make: () => T | undefined, left?: (item: T) => void): void {
    const chosen = this.#ranks[rank] as T[];
    const offered = ((this.#offered[rank] as number) += 1);
    const place = chosen.length < this.#most ? chosen.length : Math.floor(this.#random() * offered);
    if (place >= this.#most) return;
    const item = make();
    if (item === undefined) return;
    const before = chosen[place];
    if (before !== undefined) left?.(before);
    chosen[place] = item;
  }

  /** All items that are chosen now, of all ranks. */
  *items(): Generator<T> {
    for (const chosen of this.#ranks) yield* chosen;
  }

  /** The best `most` items, in no order. Begins anew. */
  take(): T[] {
    const taken: T[] = [];
    for (const chosen of this.#ranks) {
      const room = this.#most - taken.length;
      // A reservoir has an order, so that those that are left out are chosen at random.
      for (let n = 0; n < room && room < chosen.length; n++) {
        const at = n + Math.floor(this.#random() * (chosen.length - n));
        [chosen[n], chosen[at]] = [chosen[at] as T, chosen[n] as T];
      }
      for (let n = 0; n < room && n < chosen.length; n++) taken.push(chosen[n] as T);
      chosen.length = 0;
    }
    this.#offered.fill(0);
    return taken;
  }
}
