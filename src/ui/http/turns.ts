/**
 * Bounds how many tokens are tried, since each try has the API server review one. A token is a long secret, which nobody
 * guesses: nobody is locked out for wrong ones. Whoever comes while others try waits for a turn, and addresses take
 * turns, so that one of them does not take all.
 */
import { tryParseAddr } from '../../net/addr.js';

export interface TurnLimits {
  /** Tries a second, of all addresses. */
  readonly perSecond: number;
  /** Tries that are made at once before that counts. */
  readonly burst: number;
  /** Tries that are being made at most. */
  readonly running: number;
  /** Tries that wait: of one address, and in all. */
  readonly own: number;
  readonly all: number;
}

/** @returns false: it has to give way to another one */
type Told = (isTurn: boolean) => void;

export class Turns {
  readonly #limits: TurnLimits;
  readonly #now: () => number;
  /** By place; the first one is next. */
  readonly #places = new Map<string, Told[]>();
  #waiting = 0;
  #running = 0;
  #left: number;
  #countedMs: number;
  #timer: NodeJS.Timeout | undefined;

  /** @param now milliseconds, of any origin */
  constructor(limits: TurnLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
    this.#left = limits.burst;
    this.#countedMs = now();
  }

  /**
   * Makes a try when its turn has come.
   * @returns what it returns; undefined: too many others are waiting, and it was not made
   */
  async take<A>(address: string, work: () => Promise<A>): Promise<{ done: A } | undefined> {
    const isTurn = await new Promise<boolean>((told) => this.#queue(placeOf(address), told));
    if (!isTurn) return undefined;
    try {
      return { done: await work() };
    } finally {
      this.#running--;
      this.#serve();
    }
  }

  #queue(place: string, told: Told): void {
    const own = this.#places.get(place) ?? [];
    own.push(told);
    this.#places.set(place, own);
    this.#waiting++;
    this.#serve();
    if (own.length > this.#limits.own) this.#drop(place);
    else if (this.#waiting > this.#limits.all) this.#drop(this.#longest());
  }

  /** Any of a place: who sends many has no better chance with each of them than who sends one. */
  #drop(place: string): void {
    const own = this.#places.get(place) ?? [];
    const [told] = own.splice(Math.floor(Math.random() * own.length), 1);
    if (own.length === 0) this.#places.delete(place);
    this.#waiting--;
    told?.(false);
  }

  #longest(): string {
    const most = Math.max(...[...this.#places.values()].map((own) => own.length));
    const longest = [...this.#places].filter(([, own]) => own.length === most);
    return longest[Math.floor(Math.random() * longest.length)]?.[0] ?? '';
  }

  #serve(): void {
    clearTimeout(this.#timer);
    const { perSecond, burst, running } = this.#limits;
    const now = this.#now();
    this.#left = Math.min(burst, this.#left + ((now - this.#countedMs) / 1000) * perSecond);
    this.#countedMs = now;
    for (const [place, own] of this.#places) {
      if (this.#running >= running || this.#left < 1) break;
      this.#left--;
      this.#running++;
      this.#waiting--;
      // Behind all others; the loop comes to it again after them.
      this.#places.delete(place);
      const told = own.shift();
      if (own.length > 0) this.#places.set(place, own);
      told?.(true);
    }
    if (this.#waiting === 0 || this.#running >= running) return;
    this.#timer = setTimeout(() => this.#serve(), ((1 - this.#left) / perSecond) * 1000 + 1);
  }
}

/** Whoever has an IPv6 address has all of its /64. */
function placeOf(address: string): string {
  const bytes = tryParseAddr(address);
  return bytes?.family === 6 ? Buffer.from(bytes.bytes.subarray(0, 8)).toString('hex') : address;
}

/** A clock here and one there may differ, seconds. */
const SKEW_S = 300;

/** Whether a token is a JWT that says itself that it is not good now, so that nobody has to be asked. */
export function isOver(token: string, nowMs: number): boolean {
  const parts = token.split('.');
  if (parts.length !== 3) return false;
  let claims: unknown;
  try {
    claims = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString('utf8'));
  } catch {
    return false; // the API server decides what it is
  }
  const { exp, nbf } = Object(claims) as { exp?: unknown; nbf?: unknown };
  const now = nowMs / 1000;
  return (typeof exp === 'number' && exp < now - SKEW_S) || (typeof nbf === 'number' && nbf > now + SKEW_S);
}
