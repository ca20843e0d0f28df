/** The counters of one export. */

/**
 * Where flows were lost. `source`: before they reached this export. `queue`: it was full. `refused`: by the collector.
 * `unreadable`: they cannot be put into the output's form. `shutdown`: there was no more time.
 */
export const LOST_AT = ['source', 'queue', 'refused', 'unreadable', 'shutdown'] as const;
export type LostAt = (typeof LOST_AT)[number];

export interface ExportStatus {
  /** The URL without parameters. */
  readonly target: string;
  /** Records that the collector has taken: flows, or sums. */
  readonly exported: number;
  readonly lost: Readonly<Partial<Record<LostAt, number>>>;
  /** Flows that sampling has left out, and those that went into sums. */
  readonly leftOut: number;
  readonly summed: number;
  /** Times that the export went on after a failure. */
  readonly reconnects: number;
  readonly queued: number;
  readonly queuedBytes: number;
  /** Milliseconds since 1970; undefined while it works. */
  readonly failingSince: number | undefined;
  readonly lastError: string | undefined;
}

export class Counts {
  exported = 0;
  leftOut = 0;
  summed = 0;
  reconnects = 0;
  readonly #lost: Partial<Record<LostAt, number>> = {};
  #failingSince: number | undefined;
  #lastError: string | undefined;

  get isFailing(): boolean {
    return this.#failingSince !== undefined;
  }

  get lastError(): string | undefined {
    return this.#lastError;
  }

  lose(at: LostAt, count: number): void {
    if (count > 0) this.#lost[at] = (this.#lost[at] ?? 0) + count;
  }

  /** @returns whether it worked before */
  fails(why: string): boolean {
    const first = this.#failingSince === undefined;
    this.#failingSince ??= Date.now();
    this.#lastError = why;
    return first;
  }

  /** @returns whether it did not work before */
  succeeds(): boolean {
    if (this.#failingSince === undefined) return false;
    this.#failingSince = undefined;
    this.reconnects++;
    return true;
  }

  status(target: string, queued: number, queuedBytes: number): ExportStatus {
    const { exported, leftOut, summed, reconnects } = this;
    const state = { failingSince: this.#failingSince, lastError: this.#lastError };
    return { target, exported, leftOut, summed, reconnects, queued, queuedBytes, lost: { ...this.#lost }, ...state };
  }
}
