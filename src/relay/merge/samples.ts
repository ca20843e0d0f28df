/** SampleFlows over several nodes: each gives its share of what a caller wants, and the best of each second are taken. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Choice, RANKS } from '../../flow/hub/choice.js';
import { mostBytes, type SampleQuery } from '../../rpc/sample/query.js';
import type { SamplePeriod, SampleSource } from '../../rpc/sample/streams.js';
import {
  compareTimes,
  type RecordTime,
  rankOfRecord,
  readSample,
  type SampleRecord,
  timeOfRecord,
} from '../../rpc/sample/wire.js';
import type { SampleNode, SampleNodes } from '../nodes/nodes.js';
import { SAMPLE_BYTES } from './memory.js';
import { pastOf } from './past.js';

export interface MergedSamplesOptions {
  /** First delay before a lost node is tried again, in milliseconds. */
  retryMs?: number;
  /** Time after which a node that has not answered yet is named, in milliseconds. */
  openMs?: number;
  /** Time that the past waits for a node, in milliseconds. */
  pastMs?: number;
}

const DEFAULTS = { retryMs: 1000, openMs: 3000, pastMs: 2000 };
const PERIOD_MS = 1000;
/** Empty periods after which the caller is told that there was nothing. */
const QUIET_PERIODS = 10;
const LONGEST_RETRY_MS = 15_000;
/** Time after which a node that says nothing is given up: an agent says something every ten seconds. */
const SILENT_MS = 25_000;

/** Samples the flows of all nodes. */
export function mergedSamples(nodes: SampleNodes, options: MergedSamplesOptions = {}): SampleSource {
  const opts = { ...DEFAULTS, ...options };
  return {
    start: (query, put) => {
      const sample = new MergedSample(nodes, query, put, opts);
      return () => sample.end();
    },
    past: pastOf(nodes, opts.pastMs),
  };
}

interface Following {
  node: SampleNode;
  /** Ends it, or its stream alone. */
  end: AbortController;
  stream: AbortController;
  /** Records a second that it was asked for. */
  share: number;
  isOpen: boolean;
  sinceMs: number;
  heardMs: number;
}

interface Held extends SampleRecord {
  rank: number;
  time: RecordTime;
}

/** One sample of all nodes, for however many callers. */
class MergedSample {
  readonly #nodes: SampleNodes;
  readonly #query: SampleQuery;
  readonly #put: (period: SamplePeriod) => void;
  readonly #opts: Required<MergedSamplesOptions>;
  readonly #following = new Map<string, Following>();
  readonly #choice: Choice<Held>;
  readonly #bytes = new Float64Array(RANKS);
  readonly #timer: NodeJS.Timeout;
  readonly #stop: () => void;
  #seen = 0;
  #lost = 0;
  #quiet = 0;
  #named = '';

  constructor(
    nodes: SampleNodes,
    query: SampleQuery,
    put: (period: SamplePeriod) => void,
    opts: Required<MergedSamplesOptions>,
  ) {
    this.#nodes = nodes;
    this.#query = query;
    this.#put = put;
    this.#opts = opts;
    this.#choice = new Choice(query.perSecond, Math.random);
    SAMPLE_BYTES.enter();
    this.#stop = nodes.onChange(() => this.#update());
    this.#update();
    this.#timer = setInterval(() => this.#endPeriod(), PERIOD_MS);
  }

  end(): void {
    clearInterval(this.#timer);
    this.#stop();
    for (const f of this.#following.values()) f.end.abort();
    this.#following.clear();
    SAMPLE_BYTES.leave();
  }

  /** Follows nodes that were added, and no longer those that are gone. */
  #update(): void {
    const now = new Map(this.#nodes.list().map((node) => [node.id, node]));
    for (const [id, f] of this.#following) {
      if (now.has(id)) continue;
      this.#following.delete(id);
      f.end.abort();
    }
    const { perSecond } = this.#query;
    const share = Math.min(Math.max(Math.ceil((2 * perSecond) / Math.max(now.size, 1)), 1), perSecond);
    for (const f of this.#following.values()) {
      // With fewer nodes, those that are left must give more.
      if (share <= f.share * 2) continue;
      f.share = share;
      f.stream.abort();
    }
    for (const [id, node] of now) {
      if (this.#following.has(id)) continue;
      const ms = performance.now();
      const [end, stream] = [new AbortController(), new AbortController()];
      const f: Following = { node, end, stream, share, isOpen: false, sinceMs: ms, heardMs: ms };
      this.#following.set(id, f);
      void this.#follow(f);
    }
  }

  async #follow(f: Following): Promise<void> {
    let retryMs = this.#opts.retryMs;
    const stop = () => f.stream.abort();
    f.end.signal.addEventListener('abort', stop);
    while (!f.end.signal.aborted) {
      f.stream = new AbortController();
      const { signal } = f.stream;
      const opened = () => {
        f.isOpen = true;
        retryMs = this.#opts.retryMs;
        f.heardMs = performance.now();
      };
      try {
        const request = { ...this.#query.request, per_second: f.share };
        for await (const bytes of f.node.sampleBytes(request, signal, opened)) {
          f.heardMs = performance.now();
          if (!f.end.signal.aborted) this.#take(bytes);
        }
        if (signal.aborted && f.isOpen) continue;
      } catch {
        // It is named as long as it does not answer; the relay's status says why.
      }
      f.isOpen = false;
      f.heardMs = performance.now();
      await sleep(retryMs * (0.5 + Math.random()), undefined, { signal: f.end.signal }).catch(() => {});
      retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
    }
  }

  /** @throws Error if the bytes are no response */
  #take(bytes: Buffer): void {
    const { records, seen, lost } = readSample(bytes);
    this.#seen += seen;
    this.#lost += lost;
    for (const record of records) {
      const rank = rankOfRecord(record);
      this.#choice.offer(rank, () => this.#hold(record, rank), this.#left);
    }
  }

  /** A copy, since the record is a part of a message; undefined: there is no room for it. */
  #hold(record: Buffer, rank: number): Held | undefined {
    const held = (this.#bytes[rank] as number) + record.length;
    if (held > Math.min(SAMPLE_BYTES.share, mostBytes(this.#query.perSecond))) return undefined;
    this.#bytes[rank] = held;
    return { bytes: Buffer.from(record), rank, time: timeOfRecord(record) };
  }

  readonly #left = ({ rank, bytes }: Held) => {
    this.#bytes[rank] = (this.#bytes[rank] as number) - bytes.length;
  };

  #endPeriod(): void {
    const unavailable = this.#unavailable();
    const named = unavailable.join();
    const [seen, lost] = [this.#seen, this.#lost];
    if (seen === 0 && lost === 0 && named === this.#named && ++this.#quiet < QUIET_PERIODS) return;
    this.#quiet = 0;
    this.#named = named;
    this.#seen = this.#lost = 0;
    this.#bytes.fill(0);
    const records = this.#choice.take().sort((a, b) => compareTimes(a.time, b.time));
    this.#put({ records, seen, lost, unavailable });
  }

  /** The names of the nodes that do not answer. Streams that are silent for too long are opened again. */
  #unavailable(): string[] {
    const now = performance.now();
    const names: string[] = [];
    for (const f of this.#following.values()) {
      if (f.isOpen && now - f.heardMs > SILENT_MS) {
        f.isOpen = false;
        f.stream.abort();
      }
      if (!f.isOpen && now - f.sinceMs > this.#opts.openMs) names.push(f.node.name);
    }
    return names.sort();
  }
}
