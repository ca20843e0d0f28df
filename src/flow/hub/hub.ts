/**
 * Keeps the most recent flows, and serves readers. One ring is shared by all: a reader is a position in it. A reader
 * that is overtaken gets the number of flows that it missed. No reader can slow down the agent, and memory does not
 * grow with the number or the slowness of readers.
 */
import { AgentError } from '../../errors.js';
import type { GetFlowsRequest, Timestamp } from '../../proto/messages.js';
import { compileFilter, wantedKinds } from '../filter/filter.js';
import { History, type Records } from './history.js';
import { type Lost, Losses, Marks } from './losses.js';
import { NamedFlow } from '../names/named.js';
import { Namespaces } from './namespaces.js';
import { Rate } from './rate.js';
import { FlowReader, type Readable, type Wants, wanted } from './reader.js';
import { latest, Sampler, type SamplerOptions, type SampleWants } from './sampler.js';
import type { Flow } from '../event/types.js';

export type { Records } from './history.js';
export type { HubItem } from './reader.js';

export interface HubOptions {
  nodeName: string;
  /** Number of flows that are kept. */
  capacity?: number;
  /** Wall clock, nanoseconds since 1970. */
  now?: () => bigint;
  /** How to read the records given to note(). */
  records?: Records;
}

export interface HubStats {
  numFlows: number;
  maxFlows: number;
  seenFlows: number;
  flowsPerSecond: number;
  /** Flows that readers missed because they were too slow. */
  queueLost: number;
  /** Events for which the kernel's ring had no room. */
  ringLost: number;
  uptimeNs: number;
}

/** A flow takes about 1 KiB, less as long as nobody has read it. */
const DEFAULT_CAPACITY = 8191;
const SECOND = 1_000_000_000n;
/**
 * Maximum number of records examined for their namespaces in one turn, once a second: about two milliseconds if all of
 * them become flows.
 */
const MAX_EXAMINED = 2048;

/** The ring of recent flows with its readers, losses and rates. */
export class FlowHub {
  readonly nodeName: string;
  readonly #capacity: number;
  readonly #now: () => bigint;
  readonly #records: Records | undefined;
  readonly #history: History;
  readonly #marks: Marks;
  readonly #started: bigint;
  #queueLost = 0;
  readonly #losses = new Losses();
  readonly #rate = new Rate();
  readonly #waiting = new Set<() => void>();
  readonly #namespaces = new Namespaces();
  /** Records before this number have been examined for their namespaces. */
  #examined = 0;
  #readers = 0;

  constructor(opts: HubOptions) {
    this.nodeName = opts.nodeName;
    this.#capacity = opts.capacity ?? DEFAULT_CAPACITY;
    this.#now = opts.now ?? (() => (BigInt(Date.now()) * SECOND) / 1000n);
    this.#records = opts.records;
    this.#marks = new Marks(Math.max(this.#capacity >> 4, 1));
    this.#history = new History(this.#capacity, opts.records, {
      rate: this.#rate,
      marks: this.#marks,
      made: (flow, timeNs) => this.#made(flow, timeNs),
    });
    this.#started = this.#now();
  }

  /** Publishes a flow that is made with the number of its place among all flows. */
  publishNext(make: (number: number) => Flow): void {
    this.publish(make(this.#history.written + 1));
  }

  publish(flow: Flow): void {
    this.#history.put(flow);
    this.#wake();
  }

  /**
   * Adds records, which are copied. They become flows when somebody reads them.
   * @param count number of records, one stride apart, the first at offset `at`
   */
  note(buf: Buffer, at: number, count = 1): void {
    this.#history.note(buf, at, count);
    this.#wake();
  }

  /** Applies a change of names: records from now on are read after it, earlier ones as if it had not happened. */
  turn(change: () => void): void {
    this.#history.turn(() => {
      change();
      this.#namespaces.forgetPairs();
    });
  }

  /**
   * Extracts what must be known of records before they are overwritten, even if nobody reads them. To be called about
   * once a second.
   */
  examinePending(): void {
    if (this.#history.catchUp(MAX_EXAMINED) < MAX_EXAMINED) this.#examine(MAX_EXAMINED);
  }

  /** Whether there are readers. A reader wants a turn of the event loop after about a thousand flows. */
  get isRead(): boolean {
    return this.#readers > 0;
  }

  #examine(most: number): void {
    const history = this.#history;
    const namespaces = this.#namespaces;
    const first = Math.max(this.#examined, history.oldest);
    const end = Math.min(first + most, history.written);
    if (first < end) namespaces.nextPeriod();
    for (let n = first; n < end; n++) {
      if (history.isMade(n)) continue;
      const parties = history.parties(n);
      const known = parties < 0 ? undefined : namespaces.of(parties);
      if (known) {
        const second = Math.floor(history.timeNs(n) / 1e9);
        for (const namespace of known) namespaces.seen(namespace, second);
      } else {
        const flow = history.flow(n);
        if (parties >= 0) namespaces.between(parties, namespacesOf(flow));
      }
    }
    this.#examined = end;
  }

  #made(flow: Flow, timeNs: number): void {
    const second = Math.floor(timeNs / 1e9);
    for (const namespace of namespacesOf(flow)) this.#namespaces.seen(namespace, second);
  }

  /**
   * Reports events that never arrived to all readers, independently of their filters. To be called about once a second.
   * @param pod `namespace/name` of the pod that caused the events
   */
  lostInRing(count: number, cpu?: number, pod?: string): void {
    const now = this.#now();
    this.#losses.add(this.#history.written, { count, cpu, pod, firstNs: now - SECOND, lastNs: now });
    this.#wake();
  }

  stats(): HubStats {
    return {
      numFlows: this.#history.written - this.#history.oldest,
      maxFlows: this.#capacity,
      seenFlows: this.#history.written,
      flowsPerSecond: this.#rate.perSecond(this.#second()),
      queueLost: this.#queueLost,
      ringLost: this.#losses.total,
      uptimeNs: Number(this.#now() - this.#started),
    };
  }

  /** Namespaces with flows within the last hour, sorted; if there are very many, the latest. */
  namespaces(): { namespace: string }[] {
    this.#examine(Number.POSITIVE_INFINITY);
    return this.#namespaces.list(this.#second());
  }

  /**
   * The flows that a request asks for, oldest first. It ends with the request's last flow, or with the signal. The
   * range is fixed when this is called.
   *
   * `number` flows that pass the filters: the last ones, or with `first` the first ones. 0 means all, and with `follow`
   * none of the past. `since` has precedence over `number` (but not over `first`). Losses are reported independently of
   * the filters: those of the kernel, those of this reader, and flows since `since` that are no longer in the ring.
   * @throws AgentError USAGE, before the first item
   */
  read(req: GetFlowsRequest, signal: AbortSignal): FlowReader {
    if (req.first && req.follow) {
      throw new AgentError('USAGE', 'first and follow exclude each other', { where: { field: 'first' } });
    }
    const passes = compileFilter(req.whitelist, req.blacklist);
    const kinds = wantedKinds(req.whitelist);
    const since = nanos(req.since, 'since');
    const until = nanos(req.until, 'until');
    const number = limit(req.number);
    const follow = req.follow ?? false;
    const { oldest, written } = this.#history;
    let start = oldest;
    if (!req.first && since === undefined) {
      if (number > 0) start = this.#rewind({ since, until, passes, kinds }, number);
      else if (follow) start = written;
    }
    const request = {
      start,
      // Without follow, flows that are written during the read are not part of the answer.
      end: follow ? Number.POSITIVE_INFINITY : written,
      most: req.first && number > 0 ? number : Number.POSITIVE_INFINITY,
      since,
      until,
      follow,
      passes,
      kinds,
      signal,
    };
    return new FlowReader(request, this.#readable());
  }

  /** Begins a sample of the flows from now on, which is a reader until its end. */
  sample(options: SamplerOptions): Sampler {
    return new Sampler(this.#readable(), options);
  }

  /**
   * Gives the last flows that match to `keep`, the latest first, until it wants no more (false).
   * @returns the number of the flow that came next when this was called
   */
  async latest(wants: SampleWants, most: number, keep: (flow: Flow) => boolean, signal: AbortSignal): Promise<number> {
    const end = this.#history.written;
    await latest(this.#history, wants, most, keep, signal);
    return end;
  }

  #readable(): Readable {
    return {
      history: this.#history,
      losses: this.#losses,
      now: this.#now,
      missing: (from, next) => this.#missing(from, next),
      overtaken: (count) => {
        this.#queueLost += count;
      },
      begins: (wake) => {
        this.#readers++;
        return {
          sleep: () => this.#waiting.add(wake),
          rouse: () => this.#waiting.delete(wake),
          end: () => {
            this.#readers--;
            this.#waiting.delete(wake);
          },
        };
      },
    };
  }

  /** The position from which the last `number` flows start. */
  #rewind(wants: Wants, number: number): number {
    const { oldest, written } = this.#history;
    let at = written;
    for (let remaining = number; remaining > 0 && at > oldest; at--) {
      if (wanted(this.#history, at - 1, wants)) remaining--;
    }
    return at;
  }

  /** The flows since a time that are no longer in the ring. */
  #missing(since: bigint, oldest: number): Lost | undefined {
    if (oldest === 0) return undefined;
    const flow = this.#history.flow(oldest);
    const count = this.#marks.evictedSince(Number(since - leadOf(flow)), oldest);
    return count === 0 ? undefined : { source: 'HUBBLE_RING_BUFFER', count, firstNs: since, lastNs: flow.timeNs };
  }

  /** The present time in seconds of CLOCK_MONOTONIC, as in the flows. */
  #second(): number {
    const { written } = this.#history;
    if (written === 0) return 0;
    const lead = this.#records?.lead?.() ?? leadOf(this.#history.flow(written - 1));
    return Math.floor(Number(this.#now() - lead) / 1e9);
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}

/** Wall clock minus CLOCK_MONOTONIC, nanoseconds. */
function leadOf({ timeNs, event }: Flow): bigint {
  return timeNs - BigInt(event.timeNs);
}

function namespacesOf(flow: Flow): readonly [string, string] {
  if (flow instanceof NamedFlow) return [flow.sourceNamespace, flow.destinationNamespace];
  return [flow.source.namespace, flow.destination.namespace];
}

function nanos(t: Timestamp | undefined | null, field: string): bigint | undefined {
  if (t === undefined || t === null) return undefined;
  try {
    return BigInt(t.seconds ?? 0) * SECOND + BigInt(t.nanos ?? 0);
  } catch {
    throw new AgentError('USAGE', `${field} is not a point in time`, { where: { field } });
  }
}

/** 2^64 - 1 means all flows. */
function limit(value: GetFlowsRequest['number']): number {
  const n = Number(value ?? 0);
  if (Number.isNaN(n) || n < 0) {
    throw new AgentError('USAGE', `number: "${value}" is not a number of flows`, { where: { field: 'number' } });
  }
  return n;
}
