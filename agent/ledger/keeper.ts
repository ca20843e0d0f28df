/** Keeps the ledger of edges: counts, saves, and notes the connections that are open. */
import { join } from 'node:path';
import { EdgeCounter } from '../../src/edges/counter.js';
import type { Ledger } from '../../src/edges/ledger.js';
import type { EnricherOptions } from '../../src/flow/names/enrich.js';
import type { Logger } from '../../src/log.js';
import type { FlowMemory } from '../events/flow-table.js';
import { LEDGER_FILE, loadLedger, saveLedger, saveLedgerNow } from './file.js';
import { OpenFlows } from './open-flows.js';

/** Period of saving; a save that took long makes the next one later. Milliseconds. */
const SAVE_MS = 60_000;
const REST_PER_WORK = 100;
/** Period of noting open connections, so that each hour shows them. */
const OPEN_MS = 600_000;
const PRUNE_MS = 3_600_000;

export interface LedgerInputs extends EnricherOptions {
  readonly runDir: string;
  readonly stride: number;
  readonly table: FlowMemory;
  /** CLOCK_MONOTONIC, nanoseconds. */
  readonly nowNs: () => number;
  readonly log: Logger;
}

export class LedgerKeeper {
  readonly ledger: Ledger;
  readonly counter: EdgeCounter;
  readonly #path: string;
  readonly #open: OpenFlows;
  readonly #nowNs: () => number;
  readonly #log: Logger;
  readonly #ended = new AbortController();
  #isSaving = false;
  #saveAt = 0;
  #openAt = 0;
  #pruned: { wall: number; mono: number };
  #isKnown = false;

  constructor(inputs: LedgerInputs) {
    const { runDir, log, nowNs } = inputs;
    this.#path = join(runDir, LEDGER_FILE);
    this.#nowNs = nowNs;
    this.#log = log;
    this.ledger = loadLedger(this.#path, Date.now(), log);
    this.counter = new EdgeCounter(this.ledger, inputs);
    this.#open = new OpenFlows(inputs.table, this.counter);
    this.#pruned = { wall: Date.now(), mono: performance.now() };
  }

  /** Policies and pods are known: open connections can be noted. */
  known(): void {
    this.#isKnown = true;
  }

  /** Does the periodic work; to be called several times a second, before events are read. */
  tick(): void {
    const now = performance.now();
    this.counter.tick(now);
    if (this.#isKnown && now >= this.#openAt) {
      this.#openAt = now + OPEN_MS;
      this.#open.begin();
    }
    this.#open.tick(this.#nowNs);
    if (now >= this.#saveAt) {
      if (this.#saveAt > 0) void this.#save();
      this.#saveAt = now + SAVE_MS;
    }
    this.#prune(now);
  }

  /** Saves what there is, before the agent ends. */
  close(): void {
    this.#ended.abort();
    try {
      saveLedgerNow(this.#path, this.ledger);
    } catch (e) {
      this.#log.warn('the ledger cannot be saved', { path: this.#path, error: (e as Error).message });
    }
  }

  async #save(): Promise<void> {
    if (this.#isSaving) return;
    this.#isSaving = true;
    const began = performance.now();
    try {
      await saveLedger(this.#path, this.ledger, this.#ended.signal);
    } catch (e) {
      this.#log.warn('the ledger cannot be saved', { path: this.#path, error: (e as Error).message });
    }
    const end = performance.now();
    this.#saveAt = Math.max(this.#saveAt, end + (end - began) * REST_PER_WORK);
    this.#isSaving = false;
  }

  /** Forgets what is too old, but never because a clock was set: then the time of both clocks differs. */
  #prune(now: number): void {
    const elapsed = now - this.#pruned.mono;
    if (elapsed < PRUNE_MS) return;
    const wall = Date.now();
    if (Math.abs(wall - this.#pruned.wall - elapsed) < PRUNE_MS) this.ledger.prune(wall);
    this.#pruned = { wall, mono: now };
  }
}
