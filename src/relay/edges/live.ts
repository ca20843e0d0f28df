/**
 * Edges of a relay as its agents say them, for those who look at them. Who asks for the same shares streams of the agents:
 * an agent has a few for all of its readers. Who comes later needs a beginning, and the agents describe an edge once for
 * each stream: so he gets streams of his own, and takes the earlier readers over as soon as they have begun.
 */
import { createHash } from 'node:crypto';
import { Metadata, type ServerWritableStream, status } from '@grpc/grpc-js';
import { DAY_MS } from '../../edges/edge.js';
import { edgeQueryOf } from '../../edges/query.js';
import { timestampOf } from '../../edges/wire.js';
import { AgentError } from '../../errors.js';
import type { LedgerSources } from '../../history/collector.js';
import { Turns } from '../../history/turns.js';
import type { Logger } from '../../log.js';
import type { EdgesRequest } from '../../proto/edges.js';
import { intervalOf } from '../../rpc/ask/edges.js';
import { drained } from '../../rpc/transport/drained.js';
import { serviceError } from '../../rpc/transport/unary.js';
import { Budget } from '../merge/memory.js';
import { Ending, LiveReader } from './reader.js';
import { Upstream, type UpstreamOptions } from './upstream.js';

export interface LiveEdgesOptions extends Partial<Omit<UpstreamOptions, 'mostBytes'>> {
  /** Memory of what waits for all readers, bytes, and the most for those of one upstream. */
  bytes?: { total: number; each: number };
  readers?: number;
  upstreams?: number;
}

/** Readers, and sets of streams at all agents: an agent has 32 followers of its edges, of all relays. */
const DEFAULTS = {
  ...{ retryMs: 250, openMs: 2000, beginMs: 30_000, holdUpMs: 20_000 },
  ...{ readers: 128, upstreams: 12, bytes: { total: 64 << 20, each: 16 << 20 } },
};
/** The first answers of a thousand agents are read one after the other, these at the same time; milliseconds. */
const TURNS = { atOnce: 16, silentMs: 1000, slowMs: 30_000 };
/** Who comes within this time after the first shares its beginning, milliseconds. */
const GATHER_MS = 50;
/** Readers of requests with a longer interval keep their own streams, milliseconds. */
const LONGEST_INTERVAL_MS = 5000;
const LOOK_MS = 500;
/** If streams cannot take over the readers of others for so long, those begin anew, milliseconds. */
const TAKE_OVER_MS = 60_000;
const LATE = 'agents were lost and found again: begin anew';
/** Namespaces may be many. */
const LONGEST_REQUEST = 256 << 10;

/** The readers of equal requests. */
interface Group {
  readonly request: EdgesRequest;
  /** Those whose beginning is over. */
  readonly upstreams: Set<Upstream>;
  /** What gathers its first readers, or is beginning; undefined: nothing does. */
  starting: { readers: Set<LiveReader>; upstream?: Upstream; timer?: NodeJS.Timeout } | undefined;
  /** They share the next beginning. */
  readonly waiting: Set<LiveReader>;
}

/** The live Edges of a relay. */
export class LiveEdges {
  readonly #sources: LedgerSources;
  readonly #log: Logger;
  readonly #opts: Required<LiveEdgesOptions>;
  readonly #turns = new Turns(TURNS);
  readonly #groups = new Map<string, Group>();
  readonly #upstreams = new Set<Upstream>();
  readonly #readers = new Set<LiveReader>();
  readonly #memory: Budget;

  constructor(sources: LedgerSources, log: Logger, options: LiveEdgesOptions = {}) {
    this.#sources = sources;
    this.#log = log;
    this.#opts = { ...DEFAULTS, ...options };
    this.#memory = new Budget(this.#opts.bytes.total, this.#opts.bytes.each);
  }

  /** Sets of streams at the agents. */
  get upstreams(): number {
    return this.#upstreams.size;
  }

  /** Serves one call of Edges that follows. Its messages are bytes: see encodedOnce(). */
  async serve(call: ServerWritableStream<EdgesRequest, unknown>): Promise<void> {
    const reader = new LiveReader();
    const { signal } = reader;
    for (const event of ['cancelled', 'close', 'error']) call.on(event, () => reader.leave());
    let leave = () => {};
    try {
      const request = requestOf(call.request);
      if (this.#readers.size >= this.#opts.readers) throw full(`more than ${this.#opts.readers} readers of edges`);
      this.#readers.add(reader);
      leave = this.#join(request, reader);
      call.sendMetadata(new Metadata());
      while (!signal.aborted)
        for (const message of await reader.next()) {
          if (!signal.aborted && !call.write(message)) await drained(call, signal);
          reader.sent(message);
        }
      if (reader.ending) throw reader.ending;
      if (!call.cancelled) call.end();
    } catch (e) {
      if (!call.cancelled) call.emit('error', e instanceof Ending ? e : serviceError(e));
    } finally {
      leave();
      this.#readers.delete(reader);
    }
  }

  close(): void {
    for (const reader of this.#readers) reader.leave();
  }

  /** @returns leaves it @throws Ending */
  #join(request: EdgesRequest, reader: LiveReader): () => void {
    const key = keyOf(request);
    let group = this.#groups.get(key);
    if (!group) {
      group = { request, upstreams: new Set(), starting: undefined, waiting: new Set() };
      this.#groups.set(key, group);
    }
    const own = group;
    if (!own.starting && this.#isFull()) {
      this.#tidy(key, own);
      throw this.#refusal();
    }
    if (own.starting?.upstream) own.waiting.add(reader);
    else if (own.starting) own.starting.readers.add(reader);
    else this.#gather(key, own, new Set([reader]));
    return () => {
      own.waiting.delete(reader);
      own.starting?.readers.delete(reader);
      const { starting } = own;
      for (const upstream of [...own.upstreams, ...(starting?.upstream ? [starting.upstream] : [])])
        upstream.readers.delete(reader);
      this.#tidy(key, own);
    };
  }

  /** Those who come at the same time begin together. */
  #gather(key: string, group: Group, readers: Set<LiveReader>): void {
    group.starting = { readers, timer: setTimeout(() => this.#start(key, group), GATHER_MS) };
  }

  #start(key: string, group: Group): void {
    const { starting } = group;
    if (!starting) return;
    if (this.#isFull()) {
      group.starting = undefined;
      for (const reader of [...starting.readers, ...group.waiting]) reader.fail(this.#refusal());
      group.waiting.clear();
      this.#tidy(key, group);
      return;
    }
    this.#memory.enter();
    const [sources, log, turns] = [this.#sources, this.#log, this.#turns];
    const { retryMs, openMs, beginMs, holdUpMs } = this.#opts;
    const begun = () => setImmediate(() => this.#begun(key, group, upstream));
    const upstream: Upstream = new Upstream(
      { sources, request: group.request, turns, log, begun, readers: starting.readers },
      { retryMs, openMs, beginMs, holdUpMs, mostBytes: () => this.#memory.share },
    );
    this.#upstreams.add(upstream);
    starting.upstream = upstream;
  }

  /** The beginning of an upstream is over: it takes over earlier readers, and others may begin. */
  #begun(key: string, group: Group, upstream: Upstream): void {
    if (group.starting?.upstream !== upstream) return;
    const earlier = [...group.upstreams];
    group.starting = undefined;
    group.upstreams.add(upstream);
    const { interval_ms = 0 } = group.request;
    if (!upstream.isCut && interval_ms <= LONGEST_INTERVAL_MS)
      for (const older of earlier) if (!older.isCut && !older.isLeaving) this.#takeOver(key, group, older, upstream);
    if (group.waiting.size > 0) {
      this.#gather(key, group, new Set(group.waiting));
      group.waiting.clear();
    }
    this.#tidy(key, group);
  }

  /** Moves the readers of one upstream to a newer one. */
  #takeOver(key: string, group: Group, older: Upstream, newer: Upstream): void {
    newer.adopt(older);
    const begunMs = performance.now();
    // What the newer one had described before now comes from the older one after the next interval, or the one after.
    const graceMs = 2 * (group.request.interval_ms ?? 0) + 1000;
    const look = () => {
      if (!this.#upstreams.has(older)) return;
      const ms = performance.now() - begunMs;
      if (ms > graceMs && older.hasToldAllOf(newer, graceMs)) older.readers.clear();
      else if (ms > TAKE_OVER_MS) for (const reader of older.readers) reader.fail(new Ending(status.ABORTED, LATE));
      this.#tidy(key, group);
      if (this.#upstreams.has(older)) setTimeout(look, LOOK_MS);
    };
    setTimeout(look, LOOK_MS);
  }

  /** Ends what nobody reads any more. */
  #tidy(key: string, group: Group): void {
    const { starting } = group;
    if (starting && starting.readers.size === 0) {
      clearTimeout(starting.timer);
      group.starting = undefined;
      if (starting.upstream) this.#end(starting.upstream);
      if (group.waiting.size > 0) {
        this.#gather(key, group, new Set(group.waiting));
        group.waiting.clear();
      }
    }
    for (const upstream of group.upstreams)
      if (upstream.readers.size === 0) {
        group.upstreams.delete(upstream);
        this.#end(upstream);
      }
    if (!group.starting && group.upstreams.size === 0 && this.#groups.get(key) === group) this.#groups.delete(key);
  }

  #end(upstream: Upstream): void {
    if (!this.#upstreams.delete(upstream)) return;
    upstream.end();
    this.#memory.leave();
  }

  #isFull(): boolean {
    return this.#upstreams.size >= this.#opts.upstreams;
  }

  #refusal(): Ending {
    return full(`more than ${this.#opts.upstreams} different live requests for edges`);
  }
}

/** What is asked of each agent. Requests for the same days are equal. @throws AgentError USAGE */
function requestOf(given: EdgesRequest): EdgesRequest {
  const { sinceMs, untilMs, namespaces, workload, verdicts } = edgeQueryOf(given);
  const sorted = (list: readonly string[]) => [...new Set(list)].sort();
  const [since, until] = [wholeDays(sinceMs, Math.floor), wholeDays(untilMs, Math.ceil)];
  return {
    follow: true,
    interval_ms: intervalOf(given),
    ...(since === undefined ? {} : { since: timestampOf(since) }),
    ...(until === undefined ? {} : { until: timestampOf(until) }),
    ...(namespaces ? { namespaces: sorted(namespaces) } : {}),
    ...(workload === undefined ? {} : { workload }),
    ...(verdicts ? { verdicts: sorted(verdicts) } : {}),
    ...(given.limit ? { limit: given.limit } : {}),
  };
}

/** The bound of the same days: a day is asked for whole (dayMatches). */
function wholeDays(ms: number | undefined, round: (days: number) => number): number | undefined {
  return ms === undefined ? undefined : round(ms / DAY_MS) * DAY_MS;
}

function full(details: string): Ending {
  return new Ending(status.RESOURCE_EXHAUSTED, details);
}

/** @throws AgentError USAGE if it is too long to be kept */
function keyOf(request: EdgesRequest): string {
  const text = JSON.stringify(request);
  if (text.length > LONGEST_REQUEST)
    throw new AgentError('USAGE', `the request is longer than ${LONGEST_REQUEST} bytes`, {
      hint: 'name fewer namespaces',
    });
  return createHash('sha256').update(text).digest('base64');
}
