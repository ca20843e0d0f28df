/** What was lost, where, and when a reader is told of it. All of it bounded. */

export interface Lost {
  /** PERF_EVENT_RING_BUFFER: in the kernel's ring. HUBBLE_RING_BUFFER: overwritten before it was read. */
  source: 'PERF_EVENT_RING_BUFFER' | 'HUBBLE_RING_BUFFER';
  count: number;
  /** Absent where several lost some. */
  cpu?: number;
  /** Nanoseconds since 1970: between which the events were lost. */
  firstNs: bigint;
  lastNs: bigint;
}

interface Entry {
  /** Number of the flow that was written next. */
  at: number;
  /** Events lost ever, up to and with this entry. */
  total: number;
  cpu: number | undefined;
  firstNs: bigint;
  lastNs: bigint;
}

const MAX_ENTRIES = 256;

/** Losses in the kernel's ring, between the flows. When old entries are gone, their counts are still in the totals. */
export class Losses {
  readonly #entries: Entry[] = [];
  total = 0;

  add(at: number, lost: { count: number; cpu?: number | undefined; firstNs: bigint; lastNs: bigint }): void {
    this.total += lost.count;
    this.#entries.push({ at, total: this.total, cpu: lost.cpu, firstNs: lost.firstNs, lastNs: lost.lastNs });
    if (this.#entries.length > MAX_ENTRIES) this.#entries.shift();
  }

  /** Lost before flow `at` was written. */
  totalBefore(at: number): number {
    return this.#entries.findLast((e) => e.at <= at)?.total ?? 0;
  }

  /** What a reader who knows of `told` losses and stands at flow `at` has to be told. */
  between(told: number, at: number): Lost | undefined {
    const last = this.#entries.findLast((e) => e.at <= at);
    if (!last || last.total <= told) return undefined;
    const news = this.#entries.filter((e) => e.total > told && e.at <= at);
    const { firstNs } = news[0] as Entry;
    const { lastNs, cpu } = last;
    const one = cpu !== undefined && news.every((e) => e.cpu === cpu);
    return { source: 'PERF_EVENT_RING_BUFFER', count: last.total - told, ...(one ? { cpu } : {}), firstNs, lastNs };
  }
}

const NOTICE_NS = 1_000_000_000n;

/** One reader's notices: those of one source are added up, and at most one a second goes out. */
export class Notices {
  readonly #pending = new Map<Lost['source'], Lost>();
  #last: bigint | undefined;

  get pending(): boolean {
    return this.#pending.size > 0;
  }

  add(lost: Lost): void {
    const before = this.#pending.get(lost.source);
    if (!before) {
      this.#pending.set(lost.source, lost);
      return;
    }
    const { cpu, ...sum } = before;
    this.#pending.set(lost.source, {
      ...sum,
      ...(cpu !== undefined && cpu === lost.cpu ? { cpu } : {}),
      count: before.count + lost.count,
      lastNs: lost.lastNs,
    });
  }

  /** The notice to give now. */
  due(now: bigint): Lost | undefined {
    // The wall clock may have been set back.
    if (this.#last !== undefined && now - this.#last < NOTICE_NS && now >= this.#last) return undefined;
    const [source, lost] = this.#pending.entries().next().value ?? [];
    if (source === undefined) return undefined;
    this.#pending.delete(source);
    this.#last = now;
    return lost;
  }

  /** At the end: what has not been told. */
  rest(): Lost[] {
    return [...this.#pending.values()];
  }
}

const MAX_MARKS = 4096;

/** When flows left the ring, roughly: a mark every `step` flows. */
export class Marks {
  readonly #step: number;
  readonly #marks: { number: number; timeNs: number }[] = [];
  #lastNs = Number.NEGATIVE_INFINITY;

  constructor(step: number) {
    this.#step = step;
  }

  /** @param timeNs CLOCK_MONOTONIC */
  evicted(number: number, timeNs: number): void {
    this.#lastNs = timeNs;
    if (number % this.#step !== 0) return;
    this.#marks.push({ number, timeNs });
    if (this.#marks.length > MAX_MARKS) this.#marks.shift();
  }

  /**
   * How many of the flows before number `oldest` are not older than `sinceNs`: fewer than `step` too many, and none too
   * few as long as the marks reach that far.
   */
  evictedSince(sinceNs: number, oldest: number): number {
    if (this.#lastNs < sinceNs) return 0;
    const before = this.#marks.findLast((m) => m.timeNs < sinceNs);
    return oldest - (before ? before.number + 1 : (this.#marks[0]?.number ?? 0));
  }
}
