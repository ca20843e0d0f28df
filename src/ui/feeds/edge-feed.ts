/** Keeps an EdgeTable up to date, through losses of the connection. */
import { setTimeout as sleep } from 'node:timers/promises';
import { eitherSignal } from '../../either-signal.js';
import { FullError } from '../../rpc/transport/client.js';
import { type EdgeSource, EdgeTable, MOST_REMEMBERED, requestOf } from './edges.js';
import type { Window } from '../wire/messages.js';

/** Pauses before a lost stream is opened again, milliseconds. */
const PAUSE = { first: 500, most: 5000 };
/** From time to time what has left the window is forgotten. */
const EXPIRE_MS = 10_000;
/** A relay that had no room for a live stream, and gave its history instead, is asked again after this time. */
const LIVE_AGAIN_MS = 60_000;

/** One stream of edges, for all pages with the same window and namespaces. */
export class EdgeFeed {
  readonly #source: EdgeSource;
  readonly #window: Window;
  readonly #namespaces: readonly string[];
  readonly #liveAgainMs: number;
  readonly #ending = new AbortController();
  /** Ends the stream, and another one is opened. */
  #anew = new AbortController();
  readonly #listeners = new Set<(gone: readonly number[]) => void>();
  readonly #timer: NodeJS.Timeout;
  /** Until then, a history has to do. Milliseconds since 1970. */
  #liveFromMs = 0;
  table: EdgeTable;
  /** Another number: the table has begun anew. */
  epoch = 0;
  /** Why the stream is interrupted; empty: it is not. */
  trouble = '';

  /** @param times.liveAgainMs see LIVE_AGAIN_MS */
  constructor(
    source: EdgeSource,
    window: Window,
    namespaces: readonly string[],
    { liveAgainMs = LIVE_AGAIN_MS }: { liveAgainMs?: number } = {},
  ) {
    this.#liveAgainMs = liveAgainMs;
    this.#source = source;
    this.#window = window;
    this.#namespaces = namespaces;
    this.table = new EdgeTable(window);
    this.#timer = setInterval(() => this.#expire(), EXPIRE_MS);
    this.#timer.unref();
    void this.#run();
  }

  /** @param listener called after each change, with the ids of edges that have left the window */
  onChange(listener: (gone: readonly number[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  end(): void {
    this.#ending.abort();
    clearInterval(this.#timer);
  }

  #tell(gone: readonly number[] = []): void {
    for (const listener of this.#listeners) listener(gone);
  }

  #expire(): void {
    const gone = this.table.expire(Date.now());
    if (gone.length > 0) this.#tell(gone);
    if (this.table.remembered > MOST_REMEMBERED) this.#anew.abort();
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    let pause = PAUSE.first;
    while (!signal.aborted) {
      // Until the new stream has caught up, the old table stays: pages keep what they show.
      const fresh = new EdgeTable(this.#window);
      const isFirst = this.epoch === 0;
      if (isFirst) this.#replace(fresh);
      this.#anew = new AbortController();
      const either = eitherSignal([signal, this.#anew.signal]);
      try {
        const isLive = this.#window === 'live' && Date.now() >= this.#liveFromMs;
        if (this.#window === 'live' && !isLive) this.#againSoon(this.#anew);
        const request = requestOf(this.#window, this.#namespaces, Date.now(), isLive);
        for await (const message of this.#source.edges(request, either.signal)) {
          fresh.add(message);
          if (message.gone_ledgers && this.table === fresh) this.#expire();
          if (fresh.caughtUp && this.table !== fresh) this.#replace(fresh);
          if (this.table !== fresh) continue;
          this.trouble = '';
          pause = PAUSE.first;
          this.#tell();
        }
        if (this.#anew.signal.aborted) continue;
        this.trouble = 'the stream of edges has ended';
      } catch (e) {
        if (e instanceof FullError && this.#window === 'live' && Date.now() >= this.#liveFromMs) {
          this.#liveFromMs = Date.now() + this.#liveAgainMs;
          continue;
        }
        this.trouble = (e as Error).message;
      } finally {
        either.end();
      }
      if (signal.aborted) return;
      this.#tell();
      await sleep(pause * (0.5 + Math.random()), undefined, { signal }).catch(() => {});
      pause = Math.min(pause * 2, PAUSE.most);
    }
  }

  /** Tries a live stream again in a while, instead of this one. */
  #againSoon(anew: AbortController): void {
    setTimeout(() => anew.abort(), Math.max(this.#liveFromMs - Date.now(), 0) + 1).unref();
  }

  #replace(table: EdgeTable): void {
    this.table = table;
    this.epoch++;
  }
}
