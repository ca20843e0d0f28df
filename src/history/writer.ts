/**
 * Between the agents and the store: few large writes, tried again while the store fails. What waits is bounded: whoever
 * has more waits too, and an agent that waits loses nothing, since its ledger goes on. A store that fails for long loses
 * what waited, which is counted, and comes again with the whole of its ledgers.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Edge } from '../edges/edge.js';
import type { Logger } from '../log.js';
import { Rows } from './base/rows.js';
import type { DescribedEdge, FlowRow, HistoryBatch, HistoryStore, LedgerNote } from './base/store.js';

export interface WriterOptions {
  log: Logger;
  /** The store as soon as it is open. @throws AgentError while it cannot be opened */
  store: () => Promise<HistoryStore>;
  /**
   * These ledgers have to be read from their beginning: rows of them were lost. undefined: all of them, since the
   * descriptions of edges were lost on which others rely.
   */
  onLoss: (ledgers: ReadonlySet<number> | undefined) => void;
  now?: () => number;
  /** Rows that wait for the next write before they are written at once; as many may wait while that is done. */
  batchRows?: number;
  /** How long rows wait for others, milliseconds. */
  gatherMs?: number;
  /** First delay after a failed write, milliseconds; doubled up to 30 times as much. */
  retryMs?: number;
  /** A write that fails for so long is given up, milliseconds. */
  giveUpMs?: number;
}

const DEFAULTS = { now: Date.now, batchRows: 200_000, gatherMs: 5000, retryMs: 1000, giveUpMs: 300_000 };
/** A description takes as much memory as so many rows. */
const ROWS_AN_EDGE = 20;
/** Bytes of whole flows that wait. Flows do not wait for the store: what finds no room is lost, and counted. */
const FLOW_BYTES = 16 << 20;

export interface WriterCounters {
  rowsWritten: number;
  rowsLost: number;
  lostMs: number | undefined;
  flowsWritten: number;
  flowsLost: number;
  /** Since when nothing can be written, milliseconds since 1970, and why. */
  failingMs: number | undefined;
  error: string;
  /** Counts the writes. */
  version: number;
}

class Pending {
  readonly edges = new Map<number, DescribedEdge>();
  readonly rows = new Rows();
  readonly notes = new Map<number, LedgerNote>();

  add({ edges, rows, notes }: HistoryBatch): void {
    for (const one of edges) this.edges.set(one.edge.id, one);
    this.rows.addAll(rows);
    for (const note of notes) this.notes.set(note.ledger, note);
  }

  /** Rows, and what else takes memory as rows. */
  get size(): number {
    return this.rows.size + ROWS_AN_EDGE * this.edges.size;
  }

  get isEmpty(): boolean {
    return this.rows.size === 0 && this.notes.size === 0 && this.edges.size === 0;
  }

  get batch(): HistoryBatch {
    return { edges: [...this.edges.values()], rows: this.rows, notes: [...this.notes.values()] };
  }
}

export class HistoryWriter {
  readonly #opts: Required<WriterOptions>;
  readonly #ended = new AbortController();
  readonly #counters: WriterCounters = {
    ...{ rowsWritten: 0, rowsLost: 0, lostMs: undefined, flowsWritten: 0, flowsLost: 0 },
    ...{ failingMs: undefined, error: '', version: 0 },
  };
  #pending = new Pending();
  #writing: Pending | undefined;
  #flows: FlowRow[] = [];
  #flowBytes = 0;
  /** Those that wait for room, and for rows. */
  #waiters: (() => void)[] = [];
  #wake: () => void = () => {};
  readonly #running: Promise<void>;

  constructor(options: WriterOptions) {
    this.#opts = { ...DEFAULTS, ...options };
    this.#running = this.#run();
  }

  get counters(): Readonly<WriterCounters> {
    return this.#counters;
  }

  /** Whether a description waits to be written. */
  describes(id: number, mark: number): boolean {
    return this.#waiting(id)?.mark === mark;
  }

  /** The edge under this id that waits to be written. */
  edge(id: number): Edge | undefined {
    return this.#waiting(id)?.edge;
  }

  #waiting(id: number): DescribedEdge | undefined {
    return this.#pending.edges.get(id) ?? this.#writing?.edges.get(id);
  }

  /** Takes rows, as soon as there is room for them. */
  async put(batch: HistoryBatch, signal: AbortSignal): Promise<void> {
    while (this.#pending.size >= this.#opts.batchRows && !signal.aborted && !this.#ended.signal.aborted)
      await this.#room(signal);
    if (signal.aborted || this.#ended.signal.aborted) return;
    this.#pending.add(batch);
    if (this.#pending.size >= this.#opts.batchRows) this.#wake();
  }

  /** Takes a whole flow, or counts it as lost. */
  putFlow(flow: FlowRow): void {
    if (this.#flowBytes + flow.message.length > FLOW_BYTES) {
      this.#counters.flowsLost++;
      return;
    }
    this.#flows.push(flow);
    this.#flowBytes += flow.message.length;
  }

  /** Writes what waits, once, and ends. */
  async close(): Promise<void> {
    this.#ended.abort();
    this.#wake();
    this.#letIn();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      if (this.#pending.size < this.#opts.batchRows) await this.#gather();
      await this.#writeAll();
    }
    await this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    const pending = this.#pending;
    if (!pending.isEmpty) {
      this.#pending = new Pending();
      this.#writing = pending;
      this.#letIn();
      await this.#write(pending);
      this.#writing = undefined;
    }
    if (this.#flows.length > 0) await this.#writeFlows();
  }

  async #write(pending: Pending): Promise<void> {
    const { store, now, retryMs, giveUpMs, log } = this.#opts;
    const { signal } = this.#ended;
    const c = this.#counters;
    const began = performance.now();
    for (let delay = retryMs; ; delay = Math.min(delay * 2, 30 * retryMs)) {
      try {
        await (await store()).write(pending.batch);
        if (c.failingMs !== undefined) log.info('the history is written again');
        c.failingMs = undefined;
        c.error = '';
        c.rowsWritten += pending.rows.size;
        c.version++;
        return;
      } catch (e) {
        const error = (e as Error).message;
        if (c.failingMs === undefined || error !== c.error) log.error(error);
        c.failingMs ??= now();
        c.error = error;
      }
      if (signal.aborted || performance.now() - began > giveUpMs) break;
      await sleep(delay, undefined, { signal }).catch(() => {});
    }
    c.rowsLost += pending.rows.size;
    c.lostMs = now();
    log.warn('history: rows lost', { rows: pending.rows.size, all: c.rowsLost });
    const ledgers = new Set([...pending.rows.column('ledger'), ...pending.notes.keys()]);
    this.#opts.onLoss(pending.edges.size > 0 ? undefined : ledgers);
  }

  async #writeFlows(): Promise<void> {
    const flows = this.#flows;
    this.#flows = [];
    this.#flowBytes = 0;
    try {
      await (await this.#opts.store()).writeFlows(flows);
      this.#counters.flowsWritten += flows.length;
    } catch (e) {
      this.#counters.flowsLost += flows.length;
      this.#opts.log.warn((e as Error).message, { flowsLost: this.#counters.flowsLost });
    }
  }

  /** Until there is a batch, or it is time. */
  async #gather(): Promise<void> {
    const enough = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const timer = new AbortController();
    await Promise.race([enough, sleep(this.#opts.gatherMs, undefined, { signal: timer.signal }).catch(() => {})]);
    timer.abort();
  }

  #room(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        signal.removeEventListener('abort', done);
        resolve();
      };
      signal.addEventListener('abort', done);
      this.#waiters.push(done);
    });
  }

  #letIn(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }
}
