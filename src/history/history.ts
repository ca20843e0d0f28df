/** A cluster's history: its store, opened as soon as that can be, and what fills and tends it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DAY_MS, KEPT_DAYS } from '../edges/edge.js';
import { timestampOf } from '../edges/wire.js';
import { AgentError } from '../errors.js';
import type { Logger } from '../log.js';
import type { HistoryResponse } from '../proto/edges.js';
import type { GetRecordsResponse } from '../proto/messages.js';
import type { FlowRow, HistoryStore } from './base/store.js';
import { Collector, type LedgerSources } from './collector.js';
import { flowRowOf } from './flows.js';
import { type HistoryPlace, openStore, placeText } from './place.js';
import { HistoryWriter } from './writer.js';

export interface HistoryOptions {
  place: HistoryPlace;
  sources: LedgerSources;
  log: Logger;
  days?: number;
  /** Whole flows are kept for this long, milliseconds; 0: none are. */
  flowsMs?: number;
  maxBytes?: number;
  /** Opens a stream of all flows that begin from now on. Needed where flows are kept. */
  follow?: (signal: AbortSignal) => AsyncIterable<GetRecordsResponse>;
  /** Between two answers of an agent, milliseconds. */
  intervalMs?: number;
  retryMs?: number;
  now?: () => number;
}

const MAINTAIN_MS = 60_000;
const RETRY_MS = 5000;

export class History {
  readonly #opts: HistoryOptions;
  readonly #now: () => number;
  readonly #ended = new AbortController();
  readonly #writer: HistoryWriter;
  readonly #collector: Collector;
  readonly #keeping: Promise<void>[];
  #store: HistoryStore | undefined;
  #opening: Promise<HistoryStore> | undefined;
  #maintainFault = '';

  /** @throws AgentError USAGE if a later version wrote the history; a store that is away is tried again */
  static async start(options: HistoryOptions): Promise<History> {
    const history = new History(options);
    try {
      await history.store();
    } catch (e) {
      if (e instanceof AgentError && e.code === 'USAGE') {
        await history.close();
        throw e;
      }
      options.log.error((e as Error).message);
    }
    return history;
  }

  private constructor(options: HistoryOptions) {
    const { log, sources, days = KEPT_DAYS, now = Date.now, retryMs, intervalMs, flowsMs = 0 } = options;
    this.#opts = options;
    this.#now = now;
    const store = () => this.store();
    const retry = retryMs === undefined ? {} : { retryMs };
    const onLoss = (ledgers: ReadonlySet<number> | undefined) => this.#collector.again(ledgers);
    this.#writer = new HistoryWriter({ log, store, now, onLoss, ...retry, ...(retryMs ? { gatherMs: retryMs } : {}) });
    const interval = intervalMs === undefined ? {} : { intervalMs };
    this.#collector = new Collector({ sources, writer: this.#writer, store, log, days, now, ...retry, ...interval });
    this.#keeping = [this.#begin(), this.#maintain(), ...(flowsMs > 0 ? [this.#keepFlows()] : [])];
  }

  /** @throws AgentError HISTORY while it cannot be opened */
  store(): Promise<HistoryStore> {
    if (this.#store) return Promise.resolve(this.#store);
    const { place, days, flowsMs, maxBytes } = this.#opts;
    this.#opening ??= openStore(place, {
      ...(days === undefined ? {} : { days }),
      ...(flowsMs === undefined ? {} : { flowsMs }),
      ...(maxBytes === undefined ? {} : { maxBytes }),
    })
      .then((store) => {
        this.#store = store;
        return store;
      })
      .finally(() => {
        this.#opening = undefined;
      });
    return this.#opening;
  }

  /** Counts the writes: the same number, the same answers. */
  get version(): number {
    return this.#writer.counters.version;
  }

  /** Nodes whose ledgers are not read now. */
  get unheard(): string[] {
    return [...this.#collector.unheard.keys()].sort();
  }

  get keepsFlows(): boolean {
    return (this.#opts.flowsMs ?? 0) > 0;
  }

  async status(): Promise<HistoryResponse> {
    const c = this.#writer.counters;
    const answer: HistoryResponse = {
      place: placeText(this.#opts.place),
      rows_written: c.rowsWritten,
      rows_lost: c.rowsLost,
      ...(c.lostMs === undefined ? {} : { lost_at: timestampOf(c.lostMs) }),
      rows_early: this.#collector.rowsEarly,
      rows_late: this.#collector.rowsLate,
      ...(c.failingMs === undefined ? {} : { failing_since: timestampOf(c.failingMs) }),
      ...(c.error === '' ? {} : { error: c.error }),
      keeps_flows: this.keepsFlows,
      flows_written: c.flowsWritten,
      flows_lost: c.flowsLost,
    };
    try {
      const { days, edges, bytes, daysLost } = await (await this.store()).stats();
      const [oldest] = days;
      const own = { days: days.length, edges, bytes, days_lost: daysLost };
      return { ...answer, ...own, ...(oldest === undefined ? {} : { oldest_day: oldest }) };
    } catch (e) {
      return { ...answer, error: c.error || (e as Error).message };
    }
  }

  async close(): Promise<void> {
    this.#ended.abort();
    await this.#collector.close();
    await this.#writer.close();
    await Promise.all(this.#keeping);
    await this.#store?.close();
  }

  /** Follows the agents as soon as the store is open. */
  async #begin(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      try {
        await this.#collector.start();
        return;
      } catch (e) {
        this.#opts.log.debug((e as Error).message);
      }
      await sleep(this.#opts.retryMs ?? RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  async #maintain(): Promise<void> {
    const { signal } = this.#ended;
    for (;;) {
      await sleep(MAINTAIN_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      try {
        await this.#store?.maintain(this.#now());
        this.#maintainFault = '';
      } catch (e) {
        const { message } = e as Error;
        if (message !== this.#maintainFault) this.#opts.log.error(message);
        this.#maintainFault = message;
      }
    }
  }

  async #keepFlows(): Promise<void> {
    const { follow, log } = this.#opts;
    const { signal } = this.#ended;
    while (follow && !signal.aborted) {
      try {
        for await (const item of follow(signal)) {
          const row: FlowRow | undefined = flowRowOf(item);
          if (row) this.#writer.putFlow(row);
        }
      } catch (e) {
        log.warn(`history: flows: ${(e as Error).message}`);
      }
      await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }
}

/** `35d`, `24h`: a whole number of days, hours or minutes, in milliseconds; undefined: it is none. */
export function durationMs(text: string): number | undefined {
  const [, count, unit] = /^(\d{1,5})([dhm])$/.exec(text) ?? [];
  if (count === undefined) return undefined;
  return Number(count) * (unit === 'd' ? DAY_MS : unit === 'h' ? 3_600_000 : 60_000);
}
