/**
 * One export: reads flows from a stream, and writes them to a sink. Whatever the sink does, the stream is read on: what
 * finds no room in the queue is lost, counted, and told of in the output, at the place where it is missing.
 */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../log.js';
import type { GetFlowsRequest, GetRecordsResponse, Timestamp } from '../proto/messages.js';
import { Aggregator } from './aggregator.js';
import { type Item, lostItem, type Sum, toldBy, weightOf } from './base/item.js';
import type { Outcome, Sink } from './base/sink.js';
import { whyOf } from './base/sink.js';
import type { ExportSpec } from './base/spec.js';
import { Counts, type ExportStatus } from './counts.js';
import { Queue, type Queued } from './queue.js';
import { Sampler } from './sampler.js';

/** Reads flows. The stream goes on until the signal comes. */
export type FlowSource = (request: GetFlowsRequest, signal: AbortSignal) => AsyncIterable<GetRecordsResponse>;

export interface ExporterParts {
  readonly spec: ExportSpec;
  readonly sink: Sink;
  readonly source: FlowSource;
  /** Node of all flows; empty: of several. */
  readonly node: string;
  readonly log: Logger;
  /** First pause after a failure, in milliseconds. */
  readonly retryMs?: number;
  /** Room of the queue in bytes. */
  readonly mostBytes?: number;
}

/** Milliseconds of work on flows after which other work runs: an interface that appears is closed no later. */
const SLICE_MS = 2;
const RETRY_MS = 500;
const LONGEST_RETRY_MS = 30_000;
const QUEUE_BYTES = 32 << 20;
/** Milliseconds for a connection to be ended in its own form. */
const FAREWELL_MS = 300;
/** Turns of the event loop without a flow after which the stream is taken to be read to its end. */
const QUIET_TURNS = 12;
/** How often the log tells that flows are lost. */
const TELL_LOST_MS = 60_000;
/** How often the end of a window, and a gap that no later flow has told of, are looked at. */
const TICK_MS = 250;

export class Exporter {
  readonly #parts: ExporterParts;
  readonly #queue: Queue<unknown>;
  readonly #sampler: Sampler | undefined;
  readonly #aggregator: Aggregator | undefined;
  readonly #counts = new Counts();
  /** Ends the reading; ends the writing. */
  readonly #stop = new AbortController();
  readonly #abort = new AbortController();
  readonly #timers: NodeJS.Timeout[] = [];
  #reading: Promise<void> = Promise.resolve();
  #writing: Promise<void> = Promise.resolve();
  #ending = false;
  #taken = 0;
  /** Flows that were lost here since the last notice. */
  #gap: { count: number; first: Timestamp; last: Timestamp } | undefined;
  #windowEnd = 0;
  /** Of windows that are over; not queued yet. */
  readonly #sums: Sum[] = [];
  #wake: () => void = () => {};
  #toldLost = Number.NEGATIVE_INFINITY;

  constructor(parts: ExporterParts) {
    this.#parts = parts;
    const { spec } = parts;
    this.#queue = new Queue(spec.queue, parts.mostBytes ?? QUEUE_BYTES);
    if (spec.sample > 1 || spec.sampleDenied > 1) this.#sampler = new Sampler(spec.sample, spec.sampleDenied);
    if (spec.aggregateMs !== undefined) this.#aggregator = new Aggregator();
  }

  /** Begins with the flows from now on. */
  start(): void {
    this.#windowEnd = this.#nextWindow();
    this.#timers.push(setInterval(() => this.#tick(), TICK_MS));
    this.#reading = this.#read();
    this.#writing = this.#write();
  }

  status(): ExportStatus {
    return this.#counts.status(this.#parts.spec.target, this.#queue.length, this.#queue.bytes);
  }

  /**
   * Reads what has come by now, writes it and ends. What is not written within the time is lost, and logged.
   * @param limitMs milliseconds
   */
  async close(limitMs: number): Promise<void> {
    const deadline = Date.now() + limitMs;
    for (let quiet = 0, taken = this.#taken; quiet < QUIET_TURNS && Date.now() < deadline; quiet++) {
      await turn();
      if (taken !== this.#taken) quiet = 0;
      taken = this.#taken;
    }
    this.#stop.abort();
    for (const timer of this.#timers) clearInterval(timer);
    const limit = setTimeout(() => this.#abort.abort(), Math.max(deadline - Date.now(), 1));
    this.#flushWindow();
    this.#tellGap();
    this.#ending = true;
    this.#wake();
    // A disk that hangs must not hold the end of the process either.
    await Promise.race([this.#writing, aborted(this.#abort.signal)]);
    clearTimeout(limit);
    const { sink, log, spec } = this.#parts;
    const rest = this.#queue.peek(this.#queue.length, Number.POSITIVE_INFINITY).reduce((n, q) => n + q.weight, 0);
    this.#counts.lose('shutdown', rest);
    if (rest > 0) log.warn('flows were not exported before the end', { to: spec.target, flows: rest });
    await Promise.race([sink.close(), sleep(FAREWELL_MS)]);
    // A stream that does not end by its signal must not hold the end of the process.
    await Promise.race([this.#reading, sleep(50)]);
  }

  async #read(): Promise<void> {
    const { spec, source, log, retryMs = RETRY_MS } = this.#parts;
    const signal = this.#stop.signal;
    const request = { follow: true, ...spec.filters };
    while (!signal.aborted) {
      try {
        let sliceEnd = performance.now() + SLICE_MS;
        for await (const response of source(request, signal)) {
          if (signal.aborted) return;
          this.#taken++;
          this.#take(response);
          if (performance.now() < sliceEnd) continue;
          await turn();
          sliceEnd = performance.now() + SLICE_MS;
        }
        if (!signal.aborted) log.warn('the stream of flows to export has ended', { to: spec.target });
      } catch (e) {
        if (!signal.aborted) log.warn('flows to export cannot be read', { to: spec.target, error: whyOf(e) });
      }
      await sleep(retryMs * (0.5 + Math.random()) * 4, undefined, { signal }).catch(() => {});
    }
  }

  #take(response: GetRecordsResponse): void {
    const { record, lost_events } = response;
    const time = response.time ?? now();
    if (lost_events) {
      const count = Number(lost_events.num_events_lost);
      this.#counts.lose('source', count);
      if (!this.#push({ kind: 'lost', response })) this.#widen(count, time);
      return;
    }
    // The state of nodes is nothing that was seen of flows.
    if (!record) return;
    if (this.#aggregator) {
      this.#counts.summed++;
      this.#aggregator.add(record, time);
      return;
    }
    const sample = this.#sampler?.stands(record) ?? 1;
    if (sample === 0) {
      this.#counts.leftOut++;
      return;
    }
    this.#offer({ kind: 'flow', response: { ...response, record }, sample }, time);
  }

  /** Queues an item, or counts it as lost. */
  #offer(item: Item, time: Timestamp): void {
    this.#tellGap();
    if (this.#push(item)) return;
    this.#counts.lose('queue', weightOf(item));
    this.#widen(weightOf(item), time);
    this.#tellLost();
  }

  /** Queues an item if there is room. While flows are missing in front of it, it must wait for their notice. */
  #push(item: Item): boolean {
    const { sink } = this.#parts;
    if (!this.#queue.fits(1, 0) || (this.#gap && item.kind !== 'lost')) return false;
    let data: unknown;
    let size: number;
    try {
      data = sink.encode(item);
      size = sink.sizeOf(data);
    } catch (e) {
      // Nothing that another program sends may end this one.
      this.#counts.lose('unreadable', weightOf(item));
      this.#parts.log.debug('a flow cannot be exported', { error: whyOf(e) });
      return true;
    }
    if (!this.#queue.fits(1, size)) return false;
    this.#queue.push({ data, weight: weightOf(item), told: toldBy(item), size });
    if (this.#queue.length === 1 || this.#queue.length >= sink.most) this.#wake();
    return true;
  }

  #widen(count: number, time: Timestamp): void {
    if (count === 0) return;
    if (this.#gap) {
      this.#gap.count += count;
      this.#gap.last = time;
    } else this.#gap = { count, first: time, last: time };
  }

  /** Queues the notice of what is missing, if there is room for it and for a good number of flows behind it. */
  #tellGap(): void {
    const gap = this.#gap;
    const behind = this.#ending || this.#stop.signal.aborted ? 1 : Math.min(64, this.#parts.spec.queue >> 2);
    if (!gap || !this.#queue.fits(behind, 4096)) return;
    this.#gap = undefined;
    const notice = lostItem(gap.count, 'OBSERVER_EVENTS_QUEUE', this.#parts.node, [gap.first, gap.last]);
    if (!this.#push(notice)) this.#gap = gap;
  }

  #tick(): void {
    if (Date.now() >= this.#windowEnd) this.#flushWindow();
    // To a collector that refuses, a notice goes with the next flow, and not by itself again and again.
    if (!this.#counts.isFailing) this.#tellGap();
  }

  #flushWindow(): void {
    const { aggregateMs } = this.#parts.spec;
    this.#windowEnd = this.#nextWindow();
    if (!this.#aggregator || aggregateMs === undefined) return;
    this.#sums.push(...this.#aggregator.take());
    this.#offerSums();
  }

  /** Queues the sums of a window: a slice now, the rest in the next turns. All of them at the end. */
  #offerSums(): void {
    const { node, spec } = this.#parts;
    const { aggregateMs: windowMs = 0 } = spec;
    const end = this.#stop.signal.aborted ? Number.POSITIVE_INFINITY : performance.now() + SLICE_MS;
    while (this.#sums.length > 0 && performance.now() < end) {
      const sum = this.#sums.shift() as Sum;
      this.#offer({ kind: 'sum', sum, windowMs, node }, sum.last);
    }
    if (this.#sums.length > 0) setImmediate(() => this.#offerSums());
  }

  /** Windows end at round times, so that those of all nodes are the same. */
  #nextWindow(): number {
    const { aggregateMs } = this.#parts.spec;
    return aggregateMs === undefined
      ? Number.POSITIVE_INFINITY
      : (Math.floor(Date.now() / aggregateMs) + 1) * aggregateMs;
  }

  async #write(): Promise<void> {
    const { sink, retryMs = RETRY_MS } = this.#parts;
    const signal = this.#abort.signal;
    let pauseMs = retryMs;
    while (!signal.aborted) {
      if (this.#queue.length === 0) {
        // The queue had no room for the last notice until now.
        const isTold = !this.#gap || this.#counts.isFailing;
        if (this.#ending && isTold) return;
        if (this.#ending) this.#tellGap();
        else await this.#woken(Number.POSITIVE_INFINITY);
        continue;
      }
      if (this.#queue.length < sink.most && !this.#ending) await this.#woken(sink.lingerMs);
      const batch = this.#queue.peek(sink.most, sink.mostBytes);
      const data = batch.map((q) => q.data);
      const outcome = await sink.write(data, signal).catch((e: unknown) => failed(e));
      this.#settle(batch, outcome);
      if (outcome.done) {
        pauseMs = retryMs;
        continue;
      }
      if (outcome.delivered > 0) pauseMs = retryMs;
      const waitMs = this.#ending
        ? 100
        : Math.max(pauseMs * (0.5 + Math.random()), (outcome.afterMs ?? 0) * (1 + Math.random() / 4));
      pauseMs = Math.min(pauseMs * 2, LONGEST_RETRY_MS);
      await sleep(waitMs, undefined, { signal }).catch(() => {});
    }
  }

  /** Removes what is over, and counts it. */
  #settle(batch: readonly Queued<unknown>[], outcome: Outcome): void {
    const { log, spec } = this.#parts;
    const counts = this.#counts;
    if (!outcome.done) {
      for (const { weight } of batch.slice(0, outcome.delivered)) counts.exported += weight > 0 ? 1 : 0;
      this.#queue.drop(outcome.delivered);
      if (this.#abort.signal.aborted) return;
      if (counts.fails(outcome.why))
        log.warn('flows cannot be exported; trying again', { to: spec.target, error: outcome.why });
      return;
    }
    this.#queue.drop(batch.length);
    const refused = Math.min(outcome.refused, batch.length);
    const isAll = refused === batch.length;
    // Which of them were refused is not told. A sum then counts as the average of its batch.
    const weight = batch.reduce((n, q) => n + q.weight, 0);
    const lost = isAll ? weight : Math.round((weight * refused) / batch.length);
    counts.exported += isAll ? 0 : batch.reduce((n, q) => n + (q.weight > 0 ? 1 : 0), 0) - refused;
    if (outcome.reopened && !counts.isFailing) counts.reconnects++;
    if (refused > 0) {
      counts.lose('refused', lost);
      // Notices among them are told again.
      this.#widen(lost + (isAll ? batch.reduce((n, q) => n + q.told, 0) : 0), now());
      const told = { to: spec.target, flows: lost, error: outcome.why };
      if (counts.fails(outcome.why ?? 'refused')) log.warn('the collector refuses flows', told);
    }
    if (!isAll && refused === 0 && counts.succeeds()) log.info('flows are exported again', { to: spec.target });
  }

  #tellLost(): void {
    const { log, spec } = this.#parts;
    const time = performance.now();
    if (time - this.#toldLost < TELL_LOST_MS) return;
    this.#toldLost = time;
    log.warn('flows are lost: they come faster than they are exported', {
      to: spec.target,
      error: this.#counts.lastError,
    });
  }

  #woken(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === Number.POSITIVE_INFINITY ? undefined : setTimeout(() => this.#wake(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = () => {};
        resolve();
      };
      if (this.#ending) this.#wake();
    });
  }
}

/** Resolves some turns after the signal: what reacts to it at once has ended by then. */
async function aborted(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => signal.addEventListener('abort', resolve));
  await sleep(20);
}

function failed(e: unknown): Outcome {
  return { done: false, delivered: 0, why: whyOf(e) };
}

function now(): Timestamp {
  const ms = Date.now();
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
}
