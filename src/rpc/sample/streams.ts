/** The callers of SampleFlows: those who ask for the same share one sample, and a slow one is only told how many there were. */
import { Metadata, type ServerWritableStream, status } from '@grpc/grpc-js';
import type { SampleFlowsRequest } from '../../proto/messages.js';
import { drained } from '../transport/drained.js';
import { serviceError } from '../transport/unary.js';
import { type SampleQuery, sampleQueryOf } from './query.js';
import { type SampleRecord, writeSample } from './wire.js';

/** What a sample says of a second. */
export interface SamplePeriod {
  /** In order of time. */
  records: readonly SampleRecord[];
  seen: number;
  lost: number;
  /** Names of nodes that do not answer. */
  unavailable: readonly string[];
}

export interface SamplePast extends Pick<SamplePeriod, 'records' | 'unavailable'> {
  /** Whether it has a record, which is then not sent again. */
  has(record: SampleRecord): boolean;
}

/** Makes samples: of the agent's own flows, or of those of other agents. */
export interface SampleSource {
  /** Begins a sample. @param put gets each period @param fail gets what has ended it @returns ends it */
  start(query: SampleQuery, put: (period: SamplePeriod) => void, fail: (e: unknown) => void): () => void;
  /** The most recent flows, `query.last` at most. @throws AgentError */
  past(query: SampleQuery, signal: AbortSignal): Promise<SamplePast>;
}

export interface SampleLimits {
  /** Most callers. */
  callers: number;
  /** Most samples at the same time, by what their callers ask for. */
  samples: () => number;
}

/** Periods that wait for a caller. Callers of one sample share their memory. */
const MOST_WAITING = 3;
/** Periods after the past in which its records may come again. */
const OVERLAP = 5;

interface Shared {
  callers: Set<Waiting>;
  end(): void;
}

/** The streams of all callers of a server. */
export class SampleStreams {
  readonly #source: SampleSource;
  readonly #limits: SampleLimits;
  readonly #shared = new Map<string, Shared>();
  readonly #callers = new Set<AbortController>();
  /** The messages of periods that are the same for all callers. */
  readonly #messages = new WeakMap<SamplePeriod, Buffer>();

  constructor(source: SampleSource, limits: SampleLimits) {
    this.#source = source;
    this.#limits = limits;
  }

  /** Serves one call of SampleFlows. */
  async serve(call: ServerWritableStream<SampleFlowsRequest, Buffer>): Promise<void> {
    const caller = new AbortController();
    const { signal } = caller;
    for (const event of ['cancelled', 'close', 'error']) call.on(event, () => caller.abort());
    let leave = () => {};
    try {
      const { callers } = this.#limits;
      if (this.#callers.size >= callers) return refuse(call, `more than ${callers} readers of samples`);
      this.#callers.add(caller);
      const query = sampleQueryOf(call.request);
      const samples = this.#limits.samples();
      if (!this.#shared.has(query.key) && this.#shared.size >= samples)
        return refuse(call, `more than ${samples} different samples`);
      const waiting = new Waiting();
      leave = this.#join(query, waiting);
      signal.addEventListener('abort', () => waiting.wake());
      call.sendMetadata(new Metadata());
      const send = async (message: Buffer) => {
        if (!signal.aborted && !call.write(message)) await drained(call, signal);
      };
      const past = query.last > 0 ? await this.#source.past(query, signal) : undefined;
      if (past) await send(writeSample(past.records, { ...missing(past), past: true }));
      for (let n = 0; !signal.aborted; ) {
        const period = await waiting.next(signal);
        if (period) await send(past && n++ < OVERLAP ? messageOf(without(period, past)) : this.#message(period));
      }
      if (!call.cancelled) call.end();
    } catch (e) {
      if (!call.cancelled) call.emit('error', serviceError(e));
    } finally {
      leave();
      this.#callers.delete(caller);
    }
  }

  close(): void {
    for (const caller of this.#callers) caller.abort();
  }

  /** @returns leaves it */
  #join(query: SampleQuery, caller: Waiting): () => void {
    const { key } = query;
    let shared = this.#shared.get(key);
    if (!shared) {
      const callers = new Set<Waiting>();
      const put = (period: SamplePeriod) => {
        for (const each of callers) each.add(period);
      };
      const fail = (e: unknown) => {
        this.#shared.delete(key);
        for (const each of callers) each.fail(e);
      };
      shared = { callers, end: this.#source.start(query, put, fail) };
      this.#shared.set(key, shared);
    }
    const { callers, end } = shared;
    callers.add(caller);
    return () => {
      callers.delete(caller);
      if (callers.size > 0) return;
      // After a failure, there may be another one.
      if (this.#shared.get(key)?.callers === callers) this.#shared.delete(key);
      end();
    };
  }

  #message(period: SamplePeriod): Buffer {
    let message = this.#messages.get(period);
    if (!message) this.#messages.set(period, (message = messageOf(period)));
    return message;
  }
}

/** The periods that wait for one caller. Of those that are too many, only the numbers remain. */
class Waiting {
  readonly #periods: SamplePeriod[] = [];
  #fault: { error: unknown } | undefined;
  #wake = () => {};

  add(period: SamplePeriod): void {
    this.#periods.push(period);
    if (this.#periods.length > MOST_WAITING) {
      const [first, second] = this.#periods as [SamplePeriod, SamplePeriod];
      const [seen, lost] = [first.seen + second.seen, first.lost + second.lost];
      this.#periods.splice(0, 2, { ...second, seen, lost });
    }
    this.#wake();
  }

  fail(error: unknown): void {
    this.#fault = { error };
    this.#wake();
  }

  /** Lets next() return. */
  wake(): void {
    this.#wake();
  }

  /** The next period; undefined if it was woken before there is one. @throws what has ended the sample */
  async next(signal: AbortSignal): Promise<SamplePeriod | undefined> {
    if (this.#periods.length === 0 && !this.#fault && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const period = this.#periods.shift();
    if (!period && this.#fault) throw this.#fault.error;
    return period;
  }
}

function messageOf(period: SamplePeriod): Buffer {
  const { records, seen, lost } = period;
  return writeSample(records, { seen, lost, ...missing(period) });
}

function missing({ unavailable }: Pick<SamplePeriod, 'unavailable'>): { unavailable_nodes?: string[] } {
  return unavailable.length === 0 ? {} : { unavailable_nodes: [...unavailable] };
}

function without(period: SamplePeriod, past: SamplePast): SamplePeriod {
  return { ...period, records: period.records.filter((record) => !past.has(record)) };
}

function refuse(call: ServerWritableStream<SampleFlowsRequest, Buffer>, details: string): void {
  call.emit('error', { code: status.RESOURCE_EXHAUSTED, details });
}
