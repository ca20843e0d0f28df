/**
 * The last flows, and who reads them. One ring for all: a reader is a position in it. Who is overtaken is told how many
 * flows passed by; nobody makes the agent wait, and memory does not grow with the number of readers or their slowness.
 */
import { AgentError } from '../errors.js';
import type { GetFlowsRequest, Timestamp } from '../rpc/messages.js';
import { compileFilter } from './filter.js';
import type { Flow } from './types.js';

export interface Lost {
  source: 'PERF_EVENT_RING_BUFFER' | 'HUBBLE_RING_BUFFER';
  count: number;
  cpu?: number;
  /** Nanoseconds since 1970: between which the events were lost. */
  firstNs: bigint;
  lastNs: bigint;
}

export type HubItem = { flow: Flow } | { lost: Lost };

export interface HubOptions {
  nodeName: string;
  /** Flows that are kept. */
  capacity?: number;
  /** Nanoseconds since 1970. */
  now?: () => bigint;
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

/** About 1 KiB each. */
export const DEFAULT_CAPACITY = 16383;
const SECOND = 1_000_000_000n;
const RATE_SECONDS = 10;
const NAMESPACE_NS = 3600n * SECOND;
const MAX_NAMESPACES = 10_000;

export class FlowHub {
  readonly #capacity: number;
  readonly #now: () => bigint;
  readonly #ring: (HubItem | undefined)[];
  readonly #started: bigint;
  /** Items ever written: the next one's number. */
  #written = 0;
  #flows = 0;
  #queueLost = 0;
  #ringLost = 0;
  #waiting: (() => void)[] = [];
  readonly #rate = new Float64Array(RATE_SECONDS + 1);
  #rateSecond = 0;
  readonly #namespaces = new Map<string, bigint>();
  readonly nodeName: string;

  constructor(opts: HubOptions) {
    this.nodeName = opts.nodeName;
    this.#capacity = opts.capacity ?? DEFAULT_CAPACITY;
    this.#now = opts.now ?? (() => BigInt(Date.now()) * 1_000_000n);
    this.#ring = new Array<HubItem | undefined>(this.#capacity);
    this.#started = this.#now();
  }

  publish(flow: Flow): void {
    this.#flows++;
    this.#count(Number(flow.timeNs / SECOND));
    this.#seen(flow.source.namespace, flow.timeNs);
    this.#seen(flow.destination.namespace, flow.timeNs);
    this.#put({ flow });
  }

  /** Events that never arrived: their readers are told, whatever their filters. To be called at most once a second. */
  lostInRing(count: number, cpu?: number): void {
    this.#ringLost += count;
    const now = this.#now();
    this.#put({
      lost: {
        source: 'PERF_EVENT_RING_BUFFER',
        count,
        ...(cpu === undefined ? {} : { cpu }),
        firstNs: now - SECOND,
        lastNs: now,
      },
    });
  }

  stats(): HubStats {
    const second = Number(this.#now() / SECOND);
    this.#count(second, 0);
    let recent = 0;
    for (let i = 1; i <= RATE_SECONDS; i++) recent += this.#rate[(second - i) % this.#rate.length] ?? 0;
    return {
      numFlows: Math.min(this.#written, this.#capacity),
      maxFlows: this.#capacity,
      seenFlows: this.#flows,
      flowsPerSecond: recent / RATE_SECONDS,
      queueLost: this.#queueLost,
      ringLost: this.#ringLost,
      uptimeNs: Number(this.#now() - this.#started),
    };
  }

  /** Namespaces with flows within the last hour. */
  namespaces(): { namespace: string }[] {
    const oldest = this.#now() - NAMESPACE_NS;
    return [...this.#namespaces]
      .filter(([, at]) => at >= oldest)
      .map(([namespace]) => ({ namespace }))
      .sort((a, b) => (a.namespace < b.namespace ? -1 : 1));
  }

  /**
   * Flows as a request asks for them, oldest first; ends with the request's last flow, or with the signal.
   * `number` counts flows that pass the filters; `since` beats it; 0 is no limit.
   * @throws AgentError USAGE, before the first item
   */
  read(req: GetFlowsRequest, signal: AbortSignal): AsyncIterable<HubItem> {
    const passes = compileFilter(req.whitelist, req.blacklist);
    const since = nanos(req.since, 'since');
    const until = nanos(req.until, 'until');
    const number = limit(req.number);
    if (req.first && req.follow) throw new AgentError('USAGE', 'first and follow exclude each other');
    const start = this.#start({ ...req, number }, since, passes);
    const max = req.first && number > 0 ? number : Number.POSITIVE_INFINITY;
    return this.#items(start, max, since, until, req.follow ?? false, passes, signal);
  }

  async *#items(
    start: number,
    max: number,
    since: bigint | undefined,
    until: bigint | undefined,
    follow: boolean,
    passes: (flow: Flow) => boolean,
    signal: AbortSignal,
  ): AsyncGenerator<HubItem> {
    let next = start;
    let told = 0;
    let missed = 0;
    let missedSince = 0n;
    let noticeAt = 0n;
    // Without follow, what is written while the reader reads is not part of the answer.
    const end = follow ? Number.POSITIVE_INFINITY : this.#written;
    while (!signal.aborted && told < max) {
      const oldest = Math.max(this.#written - this.#capacity, 0);
      if (next < oldest) {
        if (missed === 0) missedSince = this.#now();
        missed += oldest - next;
        this.#queueLost += oldest - next;
        next = oldest;
      }
      const now = missed > 0 ? this.#now() : 0n;
      if (missed > 0 && now - noticeAt >= SECOND) {
        yield { lost: { source: 'HUBBLE_RING_BUFFER', count: missed, firstNs: missedSince, lastNs: now } };
        missed = 0;
        noticeAt = now;
        continue;
      }
      if (next >= end) break;
      if (next >= this.#written) {
        await this.#more(signal, missed > 0 ? 1000 : undefined);
        continue;
      }
      const item = this.#ring[next % this.#capacity] as HubItem;
      next++;
      if ('lost' in item) {
        yield item;
        continue;
      }
      if (until !== undefined && item.flow.timeNs > until) {
        if (!follow) continue;
        break;
      }
      if (since !== undefined && item.flow.timeNs < since) continue;
      if (!passes(item.flow)) continue;
      told++;
      yield item;
    }
    if (missed > 0 && !signal.aborted) {
      yield { lost: { source: 'HUBBLE_RING_BUFFER', count: missed, firstNs: missedSince, lastNs: this.#now() } };
    }
  }

  /** Number of the first item that a reader is to look at. */
  #start(req: { number: number; follow?: boolean; first?: boolean }, since: bigint | undefined, passes: (f: Flow) => boolean): number {
    const oldest = Math.max(this.#written - this.#capacity, 0);
    if (req.first || since !== undefined) return oldest;
    if (req.number === 0) return req.follow ? this.#written : oldest;
    let at = this.#written;
    for (let wanted = req.number; wanted > 0 && at > oldest; ) {
      const item = this.#ring[(at - 1) % this.#capacity] as HubItem;
      at--;
      if ('flow' in item && passes(item.flow)) wanted--;
    }
    return at;
  }

  #put(item: HubItem): void {
    this.#ring[this.#written % this.#capacity] = item;
    this.#written++;
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  /** Resolves when something was written, the signal came, or the time is over. */
  #more(signal: AbortSignal, timeoutMs?: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        signal.removeEventListener('abort', done);
        clearTimeout(timer);
        resolve();
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(done, timeoutMs);
      signal.addEventListener('abort', done);
      this.#waiting.push(done);
      if (signal.aborted) done();
    });
  }

  #count(second: number, flows = 1): void {
    const slots = this.#rate.length;
    if (second > this.#rateSecond) {
      for (let s = Math.max(this.#rateSecond + 1, second - slots + 1); s <= second; s++) this.#rate[s % slots] = 0;
      this.#rateSecond = second;
    }
    if (second > this.#rateSecond - slots) this.#rate[second % slots] = (this.#rate[second % slots] ?? 0) + flows;
  }

  #seen(namespace: string, at: bigint): void {
    if (namespace === '') return;
    if (!this.#namespaces.has(namespace) && this.#namespaces.size >= MAX_NAMESPACES) {
      this.#namespaces.delete(this.#namespaces.keys().next().value as string);
    }
    this.#namespaces.set(namespace, at);
  }
}

function nanos(t: Timestamp | undefined, field: string): bigint | undefined {
  if (t === undefined) return undefined;
  try {
    return BigInt(t.seconds ?? 0) * SECOND + BigInt(t.nanos ?? 0);
  } catch {
    throw new AgentError('USAGE', `${field} is not a point in time`, { where: { field } });
  }
}

/** 2^64 - 1 means all there are. */
function limit(value: GetFlowsRequest['number']): number {
  const n = Number(value ?? 0);
  return Number.isFinite(n) && n > 0 ? n : 0;
}
