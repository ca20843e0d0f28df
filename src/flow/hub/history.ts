/**
 * The most recent flows in one ring. A kernel event is stored as bytes, and becomes a flow only when somebody reads it;
 * under load most are never read. A flow gets the names that were known when its event arrived: later changes of names
 * are queued behind it (`turn`).
 */
import type { Marks } from './losses.js';
import type { Rate } from './rate.js';
import type { Flow } from '../event/types.js';

/** How to read events in the kernel's format. */
export interface Records {
  /** Size of a record in bytes. */
  readonly size: number;
  /** Bytes from the start of one record to the next, a multiple of 8; `size` if absent. */
  readonly stride?: number;
  /** CLOCK_MONOTONIC. */
  timeNs(buf: Buffer, at: number): number;
  /** Makes a flow. @param n number of the flow, counted from 0 */
  flow(buf: Buffer, at: number, n: number): Flow;
  /** Whether a flow keeps reading the bytes from which it was made, so that they must not be overwritten. */
  readonly kept?: boolean;
  /** A number by which filters can reject a record without making a flow (eventKind); negative: unknown. */
  kind?(buf: Buffer, at: number): number;
  /** A number that is equal for records between the same two parties; negative: unknown. */
  parties?(buf: Buffer, at: number): number;
  /** Wall clock minus CLOCK_MONOTONIC, nanoseconds. */
  lead?(): bigint;
}

/** Number of adjacent records in one buffer. They are copied together if one is overwritten that a flow still reads. */
const SLAB = 128;

/** The state of a slot: a record, a record whose bytes a flow reads, or no record. */
const RECORD = 0;
const READ = 1;
const PUT = 2;

/** Maximum number of queued name changes. Each holds a whole snapshot of the cluster in memory. */
const MOST_PAGES = 8;

interface Page {
  /** Number of the first flow that is read after the change. */
  at: number;
  change: () => void;
}

/** Receives what happens in History: when flows arrive, when they are evicted, and which are made. */
export interface Recorder {
  readonly rate: Rate;
  readonly marks: Marks;
  /** @param timeNs CLOCK_MONOTONIC */
  made(flow: Flow, timeNs: number): void;
}

/** The ring of records and flows. */
export class History {
  readonly #capacity: number;
  readonly #recorder: Recorder;
  readonly #records: Records | undefined;
  readonly #stride: number;
  /** Flow n is at index n % capacity; undefined if only its record exists. */
  readonly #flows: (Flow | undefined)[];
  /** Record n is in slab n / SLAB. */
  readonly #slabs: Buffer[] = [];
  readonly #is: Uint8Array;
  /** Number of flows ever written, which is the number of the next one. */
  #written = 0;
  /** Flows from this number on may be records only. */
  #unread = 0;
  /** Queued name changes, oldest first. */
  readonly #pages: Page[] = [];

  constructor(capacity: number, records: Records | undefined, recorder: Recorder) {
    this.#capacity = capacity;
    this.#records = records;
    this.#recorder = recorder;
    this.#stride = records?.stride ?? records?.size ?? 0;
    this.#flows = new Array<Flow | undefined>(capacity).fill(undefined);
    this.#is = new Uint8Array(capacity).fill(records ? RECORD : PUT);
    for (let i = 0; i < capacity && records; i += SLAB) this.#slabs.push(this.#slab());
  }

  get written(): number {
    return this.#written;
  }

  /** Number of flows that are kept. */
  get capacity(): number {
    return this.#capacity;
  }

  get oldest(): number {
    return Math.max(this.#written - this.#capacity, 0);
  }

  put(flow: Flow): void {
    this.#evict(1);
    this.#recorder.rate.count(Math.floor(flow.event.timeNs / 1e9));
    const slot = this.#written % this.#capacity;
    // Keeps the bytes of this slot for the flow that still reads them.
    if (this.#is[slot] === READ) this.#writable(slot, 1);
    this.#flows[slot] = flow;
    this.#is[slot] = PUT;
    this.#written++;
    this.#recorder.made(flow, flow.event.timeNs);
  }

  /** Copies `count` records, one stride apart, the first at offset `at`. */
  note(buf: Buffer, at: number, count: number): void {
    const capacity = this.#capacity;
    const stride = this.#stride;
    for (let done = 0; done < count; ) {
      const slot = this.#written % capacity;
      const first = slot % SLAB;
      const n = Math.min(count - done, capacity - slot, SLAB - first);
      const from = at + done * stride;
      this.#evict(n);
      this.#count(buf, from, n);
      this.#flows.fill(undefined, slot, slot + n);
      const slab = this.#writable(slot, n);
      buf.copy(slab, first * stride, from, from + (n - 1) * stride + (this.#records as Records).size);
      this.#is.fill(RECORD, slot, slot + n);
      this.#written += n;
      done += n;
    }
  }

  /**
   * Queues a change. Records from now on are read after it. It is applied as soon as no earlier record needs the
   * previous state, or when somebody reads a later record.
   */
  turn(change: () => void): void {
    if (this.#pages.length === 0 && this.#unread === this.#written) {
      change();
      return;
    }
    this.#pages.push({ at: this.#written, change });
    if (this.#pages.length <= MOST_PAGES) return;
    this.#turnPage();
    // Also applies changes that were queued without a record in between.
    while (this.#pages[0] && this.#pages[0].at <= this.#unread) this.#turnPage();
  }

  /** @param n at least `oldest`, less than `written` */
  flow(n: number): Flow {
    return this.#flows[n % this.#capacity] ?? this.#make(n);
  }

  isMade(n: number): boolean {
    return this.#flows[n % this.#capacity] !== undefined;
  }

  /** The kind of a record, whether its flow was made or not; negative: unknown. */
  kind(n: number): number {
    const slot = n % this.#capacity;
    if (this.#is[slot] === PUT) return -1;
    return this.#records?.kind?.(this.#slabOf(slot), this.#place(slot)) ?? -1;
  }

  /** The parties of a record without a flow; negative: unknown. */
  parties(n: number): number {
    const slot = n % this.#capacity;
    return this.#records?.parties?.(this.#slabOf(slot), this.#place(slot)) ?? -1;
  }

  /** CLOCK_MONOTONIC. */
  timeNs(n: number): number {
    const slot = n % this.#capacity;
    if (this.#is[slot] === PUT) return (this.#flows[slot] as Flow).event.timeNs;
    return (this.#records as Records).timeNs(this.#slabOf(slot), this.#place(slot));
  }

  /**
   * Makes flows of records that were written before a queued change, so that the previous state can be released.
   * @param most maximum number of flows
   * @returns the number made; if less than `most`, no change is queued any more
   */
  catchUp(most: number): number {
    let made = 0;
    for (let page = this.#pages[0]; page; page = this.#pages[0]) {
      for (let n = Math.max(this.#unread, this.oldest); n < page.at; n++) {
        if (made >= most) return made;
        this.#unread = n + 1;
        if (this.isMade(n)) continue;
        this.flow(n);
        made++;
      }
      this.#turnPage();
    }
    return made;
  }

  #slab(): Buffer {
    // Own memory: a slice of the pool would keep the whole pool alive.
    return Buffer.allocUnsafeSlow(SLAB * this.#stride);
  }

  #slabOf(slot: number): Buffer {
    return this.#slabs[Math.floor(slot / SLAB)] as Buffer;
  }

  /** Offset within its slab. */
  #place(slot: number): number {
    return (slot % SLAB) * this.#stride;
  }

  /** The slab of `count` slots that will be written. It is replaced by a copy if flows read those bytes. */
  #writable(slot: number, count: number): Buffer {
    const i = Math.floor(slot / SLAB);
    const slab = this.#slabs[i] as Buffer;
    if (!this.#is.subarray(slot, slot + count).includes(READ)) return slab;
    const copy = this.#slab();
    slab.copy(copy);
    this.#slabs[i] = copy;
    // Flows of the other slots keep reading the old slab.
    for (let s = i * SLAB; s < Math.min((i + 1) * SLAB, this.#capacity); s++)
      if (this.#is[s] === READ) this.#is[s] = RECORD;
    return copy;
  }

  #make(n: number): Flow {
    for (let page = this.#pages[0]; page && page.at <= n; page = this.#pages[0]) this.#turnPage();
    const slot = n % this.#capacity;
    const records = this.#records as Records;
    const slab = this.#slabOf(slot);
    const made = records.flow(slab, this.#place(slot), n);
    this.#flows[slot] = made;
    if (records.kept) this.#is[slot] = READ;
    this.#recorder.made(made, records.timeNs(slab, this.#place(slot)));
    return made;
  }

  /** Applies the oldest change, after the records before it have become flows. */
  #turnPage(): void {
    const { at, change } = this.#pages[0] as Page;
    for (let n = Math.max(this.#unread, this.oldest); n < at; n++) if (!this.isMade(n)) this.#make(n);
    this.#unread = Math.max(this.#unread, at);
    this.#pages.shift();
    change();
  }

  /** Evicts the flows that the next `count` records will overwrite; `count` is at most the capacity. */
  #evict(count: number): void {
    const first = Math.max(this.#written - this.#capacity, 0);
    const end = this.#written + count - this.#capacity;
    if (end > first) this.#recorder.marks.evicted(first, end, (n) => this.timeNs(n));
  }

  #count(buf: Buffer, at: number, count: number): void {
    const { rate } = this.#recorder;
    const { timeNs } = this.#records as Records;
    let second = Number.NaN;
    let n = 0;
    for (let i = 0; i < count; i++) {
      const s = Math.floor(timeNs(buf, at + i * this.#stride) / 1e9);
      if (s !== second) {
        if (n > 0) rate.count(second, n);
        second = s;
        n = 0;
      }
      n++;
    }
    if (n > 0) rate.count(second, n);
  }
}
