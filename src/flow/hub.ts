/**
 * The last flows, and who reads them. One ring for all: a reader is a position in it. Who is overtaken is told how many
 * flows passed by; nobody makes the agent wait, and memory does not grow with the number of readers or their slowness.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { AgentError } from '../errors.js';
import type { GetFlowsRequest, Timestamp } from '../rpc/messages.js';
import { compileFilter } from './filter.js';
import { type Lost, Losses, Marks, Notices } from './losses.js';
import { Rate } from './rate.js';
import type { Flow } from './types.js';

export type HubItem = { flow: Flow } | { lost: Lost };

export interface HubOptions {
  nodeName: string;
  /** Flows that are kept. */
  capacity?: number;
  /** Nanoseconds since 1970. */
  now?: () => bigint;
  /** How to read what note() is given. */
  records?: Records;
}

/** Events as they come from the kernel. */
export interface Records {
  /** Bytes, a multiple of 4. */
  readonly size: number;
  /** CLOCK_MONOTONIC. */
  timeNs(buf: Buffer, at: number): number;
  flow(buf: Buffer, at: number): Flow;
}

export interface HubStats {
  numFlows: number;
  maxFlows: number;
  seenFlows: number;
  flowsPerSecond: number;
  /** Flows that readers were too slow for. */
  queueLost: number;
  /** Events that the kernel had no room for. */
  ringLost: number;
  uptimeNs: number;
}

/** About 1 KiB each, less as long as nobody reads them. */
const DEFAULT_CAPACITY = 8191;
const SECOND = 1_000_000_000n;
const NAMESPACE_SECONDS = 3600;
const MAX_NAMESPACES = 10_000;
/** Flows that a reader may pass over before others have their turn. */
const FLOWS_A_TURN = 1024;
const MAX_TIMER_MS = 2 ** 31 - 1;

interface Reading {
  /** Number of the first flow to look at, and of the first one behind the last. */
  start: number;
  end: number;
  most: number;
  since: bigint | undefined;
  until: bigint | undefined;
  follow: boolean;
  passes: (flow: Flow) => boolean;
  signal: AbortSignal;
}

export class FlowHub {
  readonly nodeName: string;
  readonly #capacity: number;
  readonly #now: () => bigint;
  /** Flow n is at n % capacity; undefined: what there is of it is a record. */
  readonly #ring: (Flow | undefined)[];
  /** CLOCK_MONOTONIC of each. */
  readonly #times: Float64Array;
  readonly #records: Records | undefined;
  readonly #bytes: Buffer;
  readonly #words: Int32Array;
  /** From this number on flows may be records. */
  #unread = 0;
  readonly #started: bigint;
  /** Flows ever written: the next one's number. */
  #written = 0;
  #queueLost = 0;
  readonly #losses = new Losses();
  readonly #marks: Marks;
  readonly #rate = new Rate();
  readonly #waiting = new Set<() => void>();
  /** Namespaces and the second (of CLOCK_MONOTONIC) of their last flow, the longest ago first. */
  readonly #namespaces = new Map<string, number>();

  constructor(opts: HubOptions) {
    this.nodeName = opts.nodeName;
    this.#capacity = opts.capacity ?? DEFAULT_CAPACITY;
    this.#now = opts.now ?? (() => (BigInt(Date.now()) * SECOND) / 1000n);
    this.#ring = new Array<Flow | undefined>(this.#capacity);
    this.#times = new Float64Array(this.#capacity);
    this.#records = opts.records;
    this.#bytes = Buffer.from(new ArrayBuffer(this.#capacity * (opts.records?.size ?? 0)));
    this.#words = new Int32Array(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length / 4);
    this.#marks = new Marks(Math.max(this.#capacity >> 4, 1));
    this.#started = this.#now();
  }

  publish(flow: Flow): void {
    this.#ring[this.#next(flow.event.timeNs)] = flow;
    this.#look(flow);
    if (this.#waiting.size > 0) this.#wake();
  }

  /**
   * The same with a record, which is copied: it becomes a flow when somebody asks. Most never do, where there are many and nobody
   * reads them. Whoever changes what records are read by calls settle() before.
   * @param buf aligned to 4 bytes, as `at` is
   */
  note(buf: Buffer, at: number): void {
    const { size, timeNs } = this.#records as Records;
    const slot = this.#next(timeNs(buf, at));
    this.#ring[slot] = undefined;
    // A view is cheaper than a copy by the library, for so few words.
    const words = wordsOf(buf);
    const from = (buf.byteOffset + at) / 4;
    const to = (slot * size) / 4;
    for (let i = 0; i < size / 4; i++) this.#words[to + i] = words[from + i] as number;
    if (this.#waiting.size > 0) this.#wake();
  }

  /** Makes flows of the records that there are. */
  settle(): void {
    const { size, flow } = this.#records ?? { size: 0 };
    for (let n = Math.max(this.#unread, this.#oldest); flow && n < this.#written; n++) {
      const slot = n % this.#capacity;
      if (this.#ring[slot]) continue;
      const made = flow(this.#bytes, slot * size);
      this.#ring[slot] = made;
      this.#look(made);
    }
    this.#unread = this.#written;
  }

  /** The slot of the flow that comes now. */
  #next(timeNs: number): number {
    this.#rate.count(Math.floor(timeNs / 1e9));
    const slot = this.#written % this.#capacity;
    const before = this.#written - this.#capacity;
    if (before >= 0) this.#marks.evicted(before, this.#times[slot] as number);
    this.#times[slot] = timeNs;
    this.#written++;
    return slot;
  }

  #look({ event, source, destination }: Flow): void {
    const second = Math.floor(event.timeNs / 1e9);
    this.#seen(source.namespace, second);
    this.#seen(destination.namespace, second);
  }

  /** Events that never arrived: readers are told, whatever their filters. To be called about once a second. */
  lostInRing(count: number, cpu?: number): void {
    const now = this.#now();
    this.#losses.add(this.#written, { count, cpu, firstNs: now - SECOND, lastNs: now });
    this.#wake();
  }

  stats(): HubStats {
    return {
      numFlows: this.#written - this.#oldest,
      maxFlows: this.#capacity,
      seenFlows: this.#written,
      flowsPerSecond: this.#rate.perSecond(this.#second()),
      queueLost: this.#queueLost,
      ringLost: this.#losses.total,
      uptimeNs: Number(this.#now() - this.#started),
    };
  }

  /** Namespaces with flows within the last hour, sorted; of very many, the latest. */
  namespaces(): { namespace: string }[] {
    this.settle();
    const oldest = this.#second() - NAMESPACE_SECONDS;
    return [...this.#namespaces]
      .filter(([, second]) => second >= oldest)
      .map(([namespace]) => ({ namespace }))
      .sort((a, b) => (a.namespace < b.namespace ? -1 : 1));
  }

  /**
   * Flows as a request asks for them, oldest first; ends with the request's last flow, or with the signal. What is
   * asked for is fixed when this is called.
   *
   * `number` flows that pass the filters: the last ones, with `first` the first ones; 0 is all there are, and with
   * `follow` none of the past. `since` beats `number` (but not with `first`). Losses are told whatever the filters
   * are: of the kernel, of this reader, and of what `since` asks for and the ring no longer has.
   * @throws AgentError USAGE, before the first item
   */
  read(req: GetFlowsRequest, signal: AbortSignal): AsyncIterable<HubItem> {
    if (req.first && req.follow) {
      throw new AgentError('USAGE', 'first and follow exclude each other', { where: { field: 'first' } });
    }
    const passes = compileFilter(req.whitelist, req.blacklist);
    this.settle();
    const since = nanos(req.since, 'since');
    const until = nanos(req.until, 'until');
    const number = limit(req.number);
    const follow = req.follow ?? false;
    let start = this.#oldest;
    if (!req.first && since === undefined) {
      if (number > 0) start = this.#rewind(number, until, passes);
      else if (follow) start = this.#written;
    }
    return this.#items({
      start,
      // Without follow, what is written while the reader reads is not part of the answer.
      end: follow ? Number.POSITIVE_INFINITY : this.#written,
      most: req.first && number > 0 ? number : Number.POSITIVE_INFINITY,
      since,
      until,
      follow,
      passes,
      signal,
    });
  }

  async *#items(r: Reading): AsyncGenerator<HubItem> {
    const notices = new Notices();
    let next = r.start;
    let told = 0;
    let passed = 0;
    let lossesTold = this.#losses.totalBefore(next);
    if (r.since !== undefined) {
      const missing = this.#missing(r.since, next);
      if (missing) yield { lost: missing };
    }
    while (!r.signal.aborted && told < r.most) {
      if (this.#unread < this.#written) this.settle();
      if (next < this.#oldest) {
        const missed = Math.min(this.#oldest, r.end) - next;
        const now = this.#now();
        this.#queueLost += missed;
        notices.add({ source: 'HUBBLE_RING_BUFFER', count: missed, firstNs: now, lastNs: now });
        next += missed;
      }
      if (this.#losses.total > lossesTold) {
        const lost = this.#losses.between(lossesTold, next);
        if (lost) {
          lossesTold += lost.count;
          if (isWithin(lost, r)) notices.add(lost);
        }
      }
      const notice = notices.pending ? notices.due(this.#now()) : undefined;
      if (notice) {
        yield { lost: notice };
        continue;
      }
      if (next >= r.end) break;
      if (next >= this.#written) {
        const left =
          r.until === undefined ? Number.POSITIVE_INFINITY : Number((r.until - this.#now()) / 1_000_000n) + 1;
        if (left <= 0) break;
        await this.#more(r.signal, notices.pending ? Math.min(left, 1000) : left);
        continue;
      }
      const flow = this.#ring[next % this.#capacity] as Flow;
      next++;
      if (this.#wanted(flow, r)) {
        told++;
        yield { flow };
      } else if (++passed % FLOWS_A_TURN === 0) {
        await turn();
      }
    }
    if (!r.signal.aborted) for (const lost of notices.rest()) yield { lost };
  }

  #wanted(flow: Flow, { since, until, passes }: Reading): boolean {
    if (since !== undefined || until !== undefined) {
      const at = flow.timeNs;
      if ((since !== undefined && at < since) || (until !== undefined && at > until)) return false;
    }
    return passes(flow);
  }

  /** Where to start for the last `number` flows. */
  #rewind(number: number, until: bigint | undefined, passes: (flow: Flow) => boolean): number {
    const oldest = this.#oldest;
    let at = this.#written;
    for (let wanted = number; wanted > 0 && at > oldest; at--) {
      const flow = this.#ring[(at - 1) % this.#capacity] as Flow;
      if ((until === undefined || flow.timeNs <= until) && passes(flow)) wanted--;
    }
    return at;
  }

  /** How far back the answer reaches: what there was since then and has left the ring. */
  #missing(since: bigint, oldest: number): Lost | undefined {
    const flow = this.#ring[oldest % this.#capacity];
    if (oldest === 0 || !flow) return undefined;
    const lead = flow.timeNs - BigInt(flow.event.timeNs);
    const count = this.#marks.evictedSince(Number(since - lead), oldest);
    return count === 0 ? undefined : { source: 'HUBBLE_RING_BUFFER', count, firstNs: since, lastNs: flow.timeNs };
  }

  get #oldest(): number {
    return Math.max(this.#written - this.#capacity, 0);
  }

  /** Now, in seconds of CLOCK_MONOTONIC as the flows have them. */
  #second(): number {
    this.settle();
    const last = this.#ring[(this.#written - 1) % this.#capacity];
    if (!last) return 0;
    return Math.floor((Number(this.#now() - last.timeNs) + last.event.timeNs) / 1e9);
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }

  /** Resolves when something was written, the signal came, or the time is over. */
  #more(signal: AbortSignal, timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        signal.removeEventListener('abort', done);
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer =
        timeoutMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(done, Math.min(timeoutMs, MAX_TIMER_MS));
      signal.addEventListener('abort', done);
      this.#waiting.add(done);
      if (signal.aborted) done();
    });
  }

  #seen(namespace: string, second: number): void {
    if (namespace === '' || this.#namespaces.get(namespace) === second) return;
    this.#namespaces.delete(namespace);
    this.#namespaces.set(namespace, second);
    if (this.#namespaces.size > MAX_NAMESPACES) this.#namespaces.delete(this.#namespaces.keys().next().value as string);
  }
}

const views = new WeakMap<ArrayBufferLike, Int32Array>();

/** The whole memory that a buffer lies in. */
function wordsOf({ buffer }: Buffer): Int32Array {
  let view = views.get(buffer);
  if (!view) views.set(buffer, (view = new Int32Array(buffer, 0, Math.floor(buffer.byteLength / 4))));
  return view;
}

function isWithin(lost: Lost, { since, until }: Reading): boolean {
  return (since === undefined || lost.lastNs >= since) && (until === undefined || lost.firstNs <= until);
}

function nanos(t: Timestamp | undefined | null, field: string): bigint | undefined {
  if (t === undefined || t === null) return undefined;
  try {
    return BigInt(t.seconds ?? 0) * SECOND + BigInt(t.nanos ?? 0);
  } catch {
    throw new AgentError('USAGE', `${field} is not a point in time`, { where: { field } });
  }
}

/** 2^64 - 1 means all there are. */
function limit(value: GetFlowsRequest['number']): number {
  const n = Number(value ?? 0);
  if (Number.isNaN(n) || n < 0) {
    throw new AgentError('USAGE', `number: "${value}" is not a number of flows`, { where: { field: 'number' } });
  }
  return n;
}
