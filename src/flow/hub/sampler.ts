/**
 * A reader for people who look: once a second it yields some of the flows, and how many there were. It looks at a few
 * bytes of each record. Flows are made of those that are chosen, and of those that a filter must read, in short turns.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { KINDS } from '../event/kind.js';
import type { Flow } from '../event/types.js';
import { Choice, RANKS, rankOf } from './choice.js';
import type { History } from './history.js';
import type { Readable } from './reader.js';

const PERIOD_MS = 1000;
/** Time between two looks, unless flows come so fast that the ring would overtake. */
const LOOK_MS = 100;
/** Number of new flows that are looked at without waiting. */
const MANY = 1024;
/** Milliseconds of a turn of the event loop, and after how many records the clock is read. */
const TURN_MS = 5;
const CLOCK_EVERY = 64;
/** Empty periods after which the reader is told that there was nothing. */
const QUIET_PERIODS = 10;

/** Samplers that have something to do: one in each turn of the event loop. */
const waiting: (() => void)[] = [];

function inTurn(work: () => void): void {
  if (waiting.push(work) === 1) setImmediate(nextTurn);
}

function nextTurn(): void {
  waiting[0]?.();
  waiting.shift();
  if (waiting.length > 0) setImmediate(nextTurn);
}

const RANK_OF_KIND = Uint8Array.from(KINDS, rankOf);

export interface SampleWants {
  /** undefined: every flow passes, and none has to be made to know. */
  passes: ((flow: Flow) => boolean) | undefined;
  /** Kinds of events that may pass; undefined: all. */
  kinds: Uint8Array | undefined;
}

/** A flow of a period. */
export interface Sampled {
  /** Its number among all flows. */
  number: number;
  /** CLOCK_MONOTONIC. */
  timeNs: number;
  /** What was kept of it. */
  bytes: Buffer;
}

export interface Period {
  /** In order of time. */
  sampled: Sampled[];
  /** Number of flows that matched, and of those that nobody looked at. */
  seen: number;
  lost: number;
}

export interface SamplerOptions {
  wants: SampleWants;
  /** Most flows in a period. */
  most: number;
  /** Most bytes of a period, and of the chosen flows of each rank before its end. */
  mostBytes: number;
  /** The bytes that are kept of a flow; undefined: it is left out. */
  keep: (flow: Flow) => Buffer | undefined;
  /** Gets each period. */
  put: (period: Period) => void;
  /** Told what went wrong with a flow; the sampler has ended then. */
  fail: (e: unknown) => void;
  /** Number of flows a second that may be made for the filter alone. May change. */
  examine: () => number;
  /** From 0 to before 1. */
  random?: () => number;
}

type Chosen = Omit<Sampled, 'bytes'> & { rank: number; bytes: Buffer | undefined; isOver: boolean };

/** Samples a hub's flows until its end. */
export class Sampler {
  readonly #of: Readable;
  readonly #opts: SamplerOptions;
  readonly #choice: Choice<Chosen>;
  readonly #place: ReturnType<Readable['begins']>;
  readonly #timer: NodeJS.Timeout;
  /** Bytes of the chosen flows of each rank. */
  readonly #bytes = new Float64Array(RANKS);
  #next: number;
  #lossesReported: number;
  #seen = 0;
  #lost = 0;
  #quiet = 0;
  #periodEnds: number;
  /** Flows that may be made for the filter until `#filledMs` has passed. */
  #tokens: number;
  #filledMs: number;
  /** The period that is being kept, and how far. */
  #closing: (Period & { chosen: Chosen[]; at: number; bytes: number }) | undefined;
  #again = false;
  #isOver = false;

  constructor(of: Readable, opts: SamplerOptions) {
    this.#of = of;
    this.#opts = opts;
    this.#choice = new Choice(opts.most, opts.random ?? Math.random);
    this.#next = of.history.written;
    this.#lossesReported = of.losses.total;
    this.#filledMs = performance.now();
    this.#periodEnds = this.#filledMs + PERIOD_MS;
    this.#tokens = opts.examine() / 2;
    this.#place = of.begins(() => this.#wake());
    this.#place.sleep();
    this.#timer = setInterval(() => this.#later(), LOOK_MS);
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearInterval(this.#timer);
    this.#place.end();
  }

  #wake(): void {
    if (this.#of.history.written - this.#next >= MANY) this.#later();
  }

  #later(): void {
    if (this.#again) return;
    this.#again = true;
    inTurn(() => {
      this.#again = false;
      if (this.#isOver) return;
      try {
        this.#work();
      } catch (e) {
        this.end();
        this.#opts.fail(e);
      }
    });
  }

  #work(): void {
    const now = performance.now();
    const end = now + TURN_MS;
    const isDone = this.#close(end) && this.#look(now, end) && this.#keepOld(end);
    if (!isDone) this.#later();
    else if (now >= this.#periodEnds) this.#endPeriod(now);
  }

  /** Looks at what is new. @returns whether it is done */
  #look(now: number, end: number): boolean {
    const { history, losses } = this.#of;
    const { passes, kinds } = this.#opts.wants;
    this.#fill(now);
    this.#lost += losses.total - this.#lossesReported;
    this.#lossesReported = losses.total;
    if (this.#next < history.oldest) {
      const missed = history.oldest - this.#next;
      this.#of.overtaken(missed);
      this.#lost += missed;
      this.#next = history.oldest;
    }
    for (let looked = 1; this.#next < history.written; looked++) {
      const number = this.#next++;
      const kind = history.kind(number);
      if (kinds && kinds[kind] === 0) continue;
      if (passes) {
        if (this.#tokens < 1) this.#lost++;
        else {
          this.#tokens--;
          if (passes(history.flow(number))) this.#offer(number, kind);
        }
      } else this.#offer(number, kind);
      if (looked % CLOCK_EVERY === 0 && performance.now() >= end) return false;
    }
    return true;
  }

  #offer(number: number, kind: number): void {
    const { history } = this.#of;
    this.#seen++;
    const rank = RANK_OF_KIND[kind] ?? rankOf(history.flow(number).event);
    this.#choice.offer(
      rank,
      () => ({ number, timeNs: history.timeNs(number), rank, bytes: undefined, isOver: false }),
      this.#left,
    );
  }

  readonly #left = (chosen: Chosen) => {
    this.#bytes[chosen.rank] = (this.#bytes[chosen.rank] as number) - (chosen.bytes?.length ?? 0);
  };

  #fill(now: number): void {
    const perSecond = this.#opts.examine();
    this.#tokens = Math.min(this.#tokens + ((now - this.#filledMs) / 1000) * perSecond, perSecond / 2);
    this.#filledMs = now;
  }

  /** Keeps the chosen flows that will soon be overwritten. @returns whether it is done */
  #keepOld(end: number): boolean {
    const { history } = this.#of;
    const old = history.written - history.capacity / 2;
    for (const chosen of this.#choice.items()) {
      if (chosen.number >= old || chosen.isOver) continue;
      const held = this.#bytes[chosen.rank] as number;
      this.#keep(chosen, held);
      this.#bytes[chosen.rank] = held + (chosen.bytes?.length ?? 0);
      if (performance.now() >= end) return false;
    }
    return true;
  }

  /** @param held bytes that count for its limit */
  #keep(chosen: Chosen, held: number): void {
    if (chosen.isOver) return;
    chosen.isOver = true;
    const { history } = this.#of;
    if (chosen.number < history.oldest) return;
    const bytes = this.#opts.keep(history.flow(chosen.number));
    if (bytes && held + bytes.length <= this.#opts.mostBytes) chosen.bytes = bytes;
  }

  #endPeriod(now: number): void {
    // After a pause, there is no period for each second that was missed.
    this.#periodEnds = Math.max(this.#periodEnds + PERIOD_MS, now + PERIOD_MS / 2);
    const { seen, lost } = { seen: this.#seen, lost: this.#lost };
    if (seen === 0 && lost === 0 && ++this.#quiet < QUIET_PERIODS) return;
    this.#quiet = 0;
    this.#seen = this.#lost = 0;
    this.#bytes.fill(0);
    this.#closing = { chosen: this.#choice.take(), at: 0, bytes: 0, sampled: [], seen, lost };
    if (!this.#close(performance.now() + TURN_MS)) this.#later();
  }

  /** Keeps the flows of the last period, the lowest rank first, and gives it away. @returns whether it is done */
  #close(end: number): boolean {
    const closing = this.#closing;
    if (!closing) return true;
    const { chosen, sampled, seen, lost } = closing;
    while (closing.at < chosen.length) {
      const one = chosen[closing.at++] as Chosen;
      this.#keep(one, closing.bytes);
      const { number, timeNs, bytes } = one;
      if (bytes && closing.bytes + bytes.length <= this.#opts.mostBytes) {
        sampled.push({ number, timeNs, bytes });
        closing.bytes += bytes.length;
      }
      if (performance.now() >= end) return false;
    }
    this.#closing = undefined;
    sampled.sort((a, b) => a.timeNs - b.timeNs || a.number - b.number);
    this.#opts.put({ sampled, seen, lost });
    return true;
  }
}

/** Reads backwards through a history. @param keep gets the flows that match; false: no more */
export async function latest(
  history: History,
  { passes, kinds }: SampleWants,
  most: number,
  keep: (flow: Flow) => boolean,
  signal: AbortSignal,
): Promise<void> {
  let end = performance.now() + TURN_MS;
  for (let number = history.written - 1, found = 0; number >= history.oldest && found < most; number--) {
    if (kinds?.[history.kind(number)] !== 0) {
      const flow = history.flow(number);
      if (!passes || passes(flow)) {
        found++;
        if (!keep(flow)) return;
      }
    }
    if (performance.now() < end) continue;
    await turn();
    if (signal.aborted) return;
    end = performance.now() + TURN_MS;
  }
}
