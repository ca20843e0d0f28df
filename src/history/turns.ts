/**
 * Turns to read first answers of ledgers: each has up to megabytes, and whoever reads those of a thousand agents at once
 * has no time for its connections.
 */

export interface TurnLimits {
  /** Answers that are read at the same time. */
  atOnce: number;
  /** One that says nothing for so long makes room for others, milliseconds … */
  silentMs: number;
  /** … and so does one that is not done after so long. */
  slowMs: number;
}

/** A turn to read a first answer. */
export interface Turn {
  /** Gives it to the next; a second time it does nothing. */
  leave(): void;
  /** To be called with each message. */
  heard(): void;
}

export class Turns {
  readonly #limits: TurnLimits;
  #reading = 0;
  /** In the order in which they came. */
  readonly #waiting = new Set<() => void>();

  constructor(limits: TurnLimits) {
    this.#limits = limits;
  }

  /** Waits for a turn. Who is aborted gets one at once, and has to leave it too. */
  async enter(signal: AbortSignal): Promise<Turn> {
    const { atOnce, silentMs, slowMs } = this.#limits;
    while (this.#reading >= atOnce && !signal.aborted)
      await new Promise<void>((resolve) => {
        const done = () => {
          signal.removeEventListener('abort', done);
          this.#waiting.delete(done);
          resolve();
        };
        signal.addEventListener('abort', done);
        this.#waiting.add(done);
      });
    this.#reading++;
    let isIn = true;
    const leave = () => {
      if (!isIn) return;
      isIn = false;
      clearTimeout(timer);
      this.#reading--;
      for (const next of this.#waiting) return next();
    };
    let isHeard = false;
    let timer = setTimeout(leave, silentMs).unref();
    const heard = () => {
      if (isHeard || !isIn) return;
      isHeard = true;
      clearTimeout(timer);
      timer = setTimeout(leave, slowMs).unref();
    };
    return { leave, heard };
  }
}
