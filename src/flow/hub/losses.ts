/** Lost events: how many, where, and when readers are informed. All of it bounded. */

export interface Lost {
  /** PERF_EVENT_RING_BUFFER: lost in the kernel's ring. HUBBLE_RING_BUFFER: overwritten before it was read. */
  source: 'PERF_EVENT_RING_BUFFER' | 'HUBBLE_RING_BUFFER';
  count: number;
  /** Absent if several CPUs lost events. */
  cpu?: number;
  /** `namespace/name` of the pod that caused the events, if known. */
  pod?: string;
  /** The period in which the events were lost, nanoseconds since 1970. */
  firstNs: bigint;
  lastNs: bigint;
}

interface Entry {
  /** Number of the flow that was written next. */
  at: number;
  /** Total of lost events up to and including this entry. */
  total: number;
  count: number;
  cpu: number | undefined;
  pod: string | undefined;
  firstNs: bigint;
  lastNs: bigint;
}

/** A loss as reported to the hub. */
type Loss = Pick<Entry, 'count' | 'firstNs' | 'lastNs'> & Partial<Pick<Entry, 'cpu' | 'pod'>>;

const MAX_ENTRIES = 256;

/** Losses in the kernel's ring, by position among the flows. The counts of dropped entries remain in the totals. */
export class Losses {
  readonly #entries: Entry[] = [];
  total = 0;

  add(at: number, { count, cpu, pod, firstNs, lastNs }: Loss): void {
    this.total += count;
    this.#entries.push({ at, total: this.total, count, cpu, pod, firstNs, lastNs });
    if (this.#entries.length > MAX_ENTRIES) this.#entries.shift();
  }

  /** Number of events lost before flow `at` was written. */
  totalBefore(at: number): number {
    return this.#entries.findLast((e) => e.at <= at)?.total ?? 0;
  }

  /** The losses to report to a reader at flow `at` that knows of `reported` losses, separately for each pod. */
  between(reported: number, at: number): Lost[] {
    const last = this.#entries.findLast((e) => e.at <= at);
    if (!last || last.total <= reported) return [];
    const news = this.#entries.filter((e) => e.total > reported && e.at <= at);
    const [first] = news as [Entry];
    const sums = new Map<string, Lost>();
    for (const e of news) sum(sums, e.pod ?? '', lostOf(e));
    // Losses of entries that were dropped, computed from the totals.
    const dropped = first.total - first.count - reported;
    if (dropped > 0) sum(sums, '', lostOf({ ...first, count: dropped, cpu: undefined, pod: undefined }));
    return [...sums.values()];
  }
}

function lostOf({ count, cpu, pod, firstNs, lastNs }: Entry): Lost {
  const where = { ...(cpu === undefined ? {} : { cpu }), ...(pod === undefined ? {} : { pod }) };
  return { source: 'PERF_EVENT_RING_BUFFER', count, ...where, firstNs, lastNs };
}

/** Adds up losses with the same key. The CPU remains set as long as it is the same. */
function sum(sums: Map<string, Lost>, key: string, lost: Lost): void {
  const before = sums.get(key);
  if (!before) {
    sums.set(key, lost);
    return;
  }
  const { cpu, ...rest } = before;
  sums.set(key, {
    ...rest,
    ...(cpu !== undefined && cpu === lost.cpu ? { cpu } : {}),
    count: before.count + lost.count,
    lastNs: lost.lastNs,
  });
}

const NOTICE_NS = 1_000_000_000n;

/** The notices for one reader. Losses of one source and pod are added up, and reported once a second at most. */
export class Notices {
  readonly #pending = new Map<string, Lost>();
  #going: Lost[] = [];
  #last: bigint | undefined;

  get pending(): boolean {
    return this.#pending.size > 0 || this.#going.length > 0;
  }

  add(lost: Lost): void {
    sum(this.#pending, `${lost.source} ${lost.pod ?? ''}`, lost);
  }

  /** The notice that is due now, if any. */
  due(now: bigint): Lost | undefined {
    if (this.#going.length === 0) {
      // The wall clock may have been set back.
      if (this.#last !== undefined && now - this.#last < NOTICE_NS && now >= this.#last) return undefined;
      this.#going = [...this.#pending.values()];
      this.#pending.clear();
      if (this.#going.length > 0) this.#last = now;
    }
    return this.#going.shift();
  }

  /** All unreported losses, at the end of a stream. */
  rest(): Lost[] {
    return [...this.#going, ...this.#pending.values()];
  }
}

const MAX_MARKS = 4096;

/** Approximate times at which flows left the ring: one mark for every `step` flows. */
export class Marks {
  readonly #step: number;
  readonly #marks: { number: number; timeNs: number }[] = [];
  #lastNs = Number.NEGATIVE_INFINITY;

  constructor(step: number) {
    this.#step = step;
  }

  /**
   * Records the eviction of flows from number `first` to before `end`, at least one. @param timeNs returns the
   * CLOCK_MONOTONIC time of a flow
   */
  evicted(first: number, end: number, timeNs: (number: number) => number): void {
    this.#lastNs = timeNs(end - 1);
    for (let number = Math.ceil(first / this.#step) * this.#step; number < end; number += this.#step) {
      this.#marks.push({ number, timeNs: timeNs(number) });
      if (this.#marks.length > MAX_MARKS) this.#marks.shift();
    }
  }

  /**
   * The number of flows before `oldest` that are not older than `sinceNs`. It is too high by less than `step`, and not
   * too low as long as the marks reach that far back.
   */
  evictedSince(sinceNs: number, oldest: number): number {
    if (this.#lastNs < sinceNs) return 0;
    const before = this.#marks.findLast((m) => m.timeNs < sinceNs);
    return oldest - (before ? before.number + 1 : (this.#marks[0]?.number ?? 0));
  }
}
