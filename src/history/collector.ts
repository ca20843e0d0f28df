/**
 * Follows the ledgers of all agents. An agent is asked for its days since it was last heard of, and for everything
 * if its ledger is another one, or rows were lost.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { DAY_MS, dayOf } from '../edges/edge.js';
import { timestampOf } from '../edges/wire.js';
import type { Logger } from '../log.js';
import type { EdgesRequest } from '../proto/edges.js';
import type { HistoryStore, LedgerNote } from './base/store.js';
import { type DecodedEdges, decodeEdges } from './decode.js';
import { EdgeNames } from './edge-names.js';
import { type Turn, Turns } from './turns.js';
import type { HistoryWriter } from './writer.js';

/** Whoever has a ledger. */
export interface LedgerSource {
  readonly id: string;
  readonly name: string;
  edgeBytes(request: EdgesRequest, signal: AbortSignal): AsyncIterable<Buffer>;
}

export interface LedgerSources {
  list(): readonly LedgerSource[];
  /** @returns a function that ends it */
  onChange(listener: () => void): () => void;
}

export interface CollectorOptions {
  sources: LedgerSources;
  writer: HistoryWriter;
  store: () => Promise<HistoryStore>;
  log: Logger;
  /** Days that are kept. */
  days: number;
  now?: () => number;
  /** A clock that nobody sets, milliseconds. */
  steady?: () => number;
  /** Between two answers of an agent, milliseconds. */
  intervalMs?: number;
  /** First delay before an agent is tried again, milliseconds; doubled up to 30 times as much. */
  retryMs?: number;
}

const DEFAULTS = { now: Date.now, steady: () => performance.now(), intervalMs: 60_000, retryMs: 1000 };
/** Days of an agent's clock end a day before or after ours, and what is being written when we end may be lost. */
const AGAIN_MS = 26 * 3_600_000;
/** A clock that moves by more was set: what it refused before is asked for again. */
const JUMP_MS = 3_600_000;
/** Agents whose first answers are read at the same time, and when one makes room for others, milliseconds. */
const TURNS = { atOnce: 8, silentMs: 5000, slowMs: 60_000 };

export class Collector {
  readonly #opts: Required<CollectorOptions>;
  readonly #following = new Map<string, AbortController>();
  readonly #running = new Set<Promise<void>>();
  /** Node → its ledger, and through when it is written. */
  readonly #notes = new Map<string, LedgerNote>();
  readonly #unheard = new Map<string, string>();
  readonly #stop: () => void;
  readonly #timer: NodeJS.Timeout;
  #clock: number;
  #isReady = false;
  #naming: Promise<void> = Promise.resolve();
  readonly #turns = new Turns(TURNS);
  /** Rows of days that cannot be. */
  rowsEarly = 0;
  rowsLate = 0;

  constructor(options: CollectorOptions) {
    this.#opts = { ...DEFAULTS, ...options };
    this.#clock = this.#offset();
    this.#stop = this.#opts.sources.onChange(() => this.#update());
    this.#timer = setInterval(() => this.watchClock(), 60_000).unref();
  }

  /** Begins, as soon as it is known what is written already. */
  async start(): Promise<void> {
    for (const note of await (await this.#opts.store()).ledgers()) {
      const { throughMs = -1 } = this.#notes.get(note.node) ?? {};
      if (note.throughMs > throughMs) this.#notes.set(note.node, note);
    }
    this.#isReady = true;
    this.#update();
  }

  /** The nodes that are not heard, with the reasons. */
  get unheard(): ReadonlyMap<string, string> {
    return this.#unheard;
  }

  /** Asks for these ledgers from their beginning; without them for all. */
  again(ledgers?: ReadonlySet<number>): void {
    for (const [node, note] of this.#notes) if (!ledgers || ledgers.has(note.ledger)) this.#notes.delete(node);
    for (const source of this.#opts.sources.list()) {
      if (ledgers && this.#notes.has(source.name)) continue;
      this.#following.get(source.id)?.abort();
      this.#following.delete(source.id);
    }
    this.#update();
  }

  /** Notices that the clock was set. Called every minute. */
  watchClock(): void {
    const offset = this.#offset();
    const moved = offset - this.#clock;
    this.#clock = offset;
    if (Math.abs(moved) < JUMP_MS) return;
    this.#opts.log.warn('history: the clock was set; all ledgers are read again', {
      seconds: Math.round(moved / 1000),
    });
    this.again();
  }

  async close(): Promise<void> {
    this.#stop();
    clearInterval(this.#timer);
    this.#isReady = false;
    for (const end of this.#following.values()) end.abort();
    await Promise.all(this.#running);
  }

  #offset(): number {
    return this.#opts.now() - this.#opts.steady();
  }

  #update(): void {
    if (!this.#isReady) return;
    const sources = this.#opts.sources.list();
    const ids = new Set(sources.map((s) => s.id));
    for (const [id, end] of this.#following) {
      if (ids.has(id)) continue;
      end.abort();
      this.#following.delete(id);
    }
    for (const source of sources) {
      if (this.#following.has(source.id)) continue;
      const end = new AbortController();
      this.#following.set(source.id, end);
      const running: Promise<void> = this.#follow(source, end.signal).finally(() => {
        this.#running.delete(running);
      });
      this.#running.add(running);
    }
  }

  async #follow(source: LedgerSource, signal: AbortSignal): Promise<void> {
    const { retryMs, log } = this.#opts;
    let delay = 0;
    let tried = retryMs;
    while (!signal.aborted) {
      await sleep(delay, undefined, { signal }).catch(() => {});
      if (signal.aborted) break;
      try {
        for await (const _ of this.#read(source, signal)) {
          tried = retryMs;
          if (this.#unheard.delete(source.name)) log.info('history: heard again', { node: source.name });
        }
      } catch (e) {
        const why = (e as Error).message;
        if (!this.#unheard.has(source.name)) log.warn('history: not heard', { node: source.name, why });
        this.#unheard.set(source.name, why);
      }
      // Many agents that come back at once are not asked at once.
      delay = tried * (0.5 + Math.random());
      tried = Math.min(tried * 2, 30 * retryMs);
    }
    this.#unheard.delete(source.name);
  }

  /** One stream, an item for each message. It ends where another has to begin. */
  async *#read(source: LedgerSource, signal: AbortSignal): AsyncGenerator<void> {
    const { intervalMs } = this.#opts;
    const store = await this.#opts.store();
    const note = this.#notes.get(source.name);
    const since = note && note.throughMs > AGAIN_MS ? note.throughMs - AGAIN_MS : undefined;
    const request = {
      follow: true,
      interval_ms: intervalMs,
      ...(since === undefined ? {} : { since: timestampOf(since) }),
    };
    const turn = await this.#turns.enter(signal);
    try {
      yield* this.#messages(source, signal, request, { store, note, turn });
    } finally {
      turn.leave();
    }
  }

  async *#messages(
    source: LedgerSource,
    signal: AbortSignal,
    request: EdgesRequest,
    { store, note, turn }: { store: HistoryStore; note: LedgerNote | undefined; turn: Turn },
  ): AsyncGenerator<void> {
    const { writer, now, days } = this.#opts;
    const knows = (id: number, mark: number) => store.knows(id, mark) || writer.describes(id, mark);
    const names = new EdgeNames(store, writer);
    let isCaughtUp = false;
    for await (const bytes of source.edgeBytes(request, signal)) {
      turn.heard();
      const message: DecodedEdges = decodeEdges(bytes, knows);
      const { ledger, beganMs, overflow, described, rows } = message;
      if (ledger === 0) throw new Error('it has no ledger of its own: it is no agent');
      if (request.since !== undefined && ledger !== note?.ledger) {
        // It began anew, so the days before are in it too.
        this.#notes.delete(source.name);
        return;
      }
      isCaughtUp ||= message.caughtUp;
      const at = now();
      const today = dayOf(at);
      const { early, late } = rows.clamp(today - days, dayOf(at + DAY_MS));
      this.rowsEarly += early;
      this.rowsLate += late;
      const next = { ledger, node: source.name, beganMs, overflow, throughMs: isCaughtUp ? at : 0 };
      if (described.length > 0)
        await this.#oneByOne(async () => {
          const edges = await names.take(described);
          names.rename(rows);
          await writer.put({ edges, rows, notes: [next] }, signal);
        });
      else if (rows.size > 0 || message.caughtUp) {
        names.rename(rows);
        await writer.put({ edges: [], rows, notes: [next] }, signal);
      }
      if (isCaughtUp) {
        this.#notes.set(source.name, next);
        turn.leave();
      }
      yield;
    }
  }

  /** What has new edges is taken one after the other, so that no two of them take the same id. */
  #oneByOne(work: () => Promise<void>): Promise<void> {
    const result = this.#naming.then(work);
    this.#naming = result.catch(() => {});
    return result;
  }
}
