/**
 * The kernel's ring buffer, in shared memory, read without a system call. Layout (kernel
 * documentation, bpf/ringbuf.rst): a consumer page that the agent writes, then a producer page
 * and the data, read only. The data is mapped twice in a row, so that no record is ever split.
 *
 * Events wake no thread: the agent reads on a timer. Nothing is copied here: a callback gets a
 * record, or a run of them, in place; then the consumer position moves past it.
 */
import type { EventSource, FlowEvent } from '../../src/flow/event/types.js';
import { decodeEvent, EVENT_SIZE } from '../../src/flow/event/decode.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import { PROT_READ, PROT_WRITE, sys } from '../kernel/libbpf/sys.js';

const BUSY = 0x8000_0000;
const DISCARD = 0x4000_0000;
const HEADER = 8;
const strideOf = (size: number) => (size + HEADER + 7) & ~7;
/** Bytes from one struct ea_event to the next in a run. */
export const RECORD_STRIDE = strideOf(EVENT_SIZE);

/** What is in a ring: records of one size or two, and the counter of lost ones (enum ea_counter). */
export interface RingContent {
  readonly size: number;
  /** Records that end earlier. */
  readonly short?: number;
  readonly lost: number;
}
const EVENTS: RingContent = { size: EVENT_SIZE, lost: ENUMS.ea_counter.EA_COUNT_EVENTS_LOST };

export class RingReader implements EventSource {
  readonly #counters: BpfMap;
  readonly #consumer: Int32Array;
  readonly #producer: Int32Array;
  readonly #words: Int32Array;
  readonly #data: Buffer;
  readonly #mask: number;
  readonly #content: RingContent;
  /** Bytes from one record of full size to the next. */
  readonly #stride: number;
  /** Bytes read so far, as far as a double counts exactly: 2^53. */
  #position: number;
  /** Number of records of another size; 0 unless there is a bug. */
  unreadable = 0;

  /** @param counters per-CPU counters of the programs */
  constructor(events: BpfMap, counters: BpfMap, content: RingContent = EVENTS) {
    this.#counters = counters;
    this.#content = content;
    this.#stride = strideOf(content.size);
    const size = events.maxEntries;
    const page = sys.pageSize;
    const own = sys.mmap(events.fd, page, PROT_READ | PROT_WRITE, 0);
    const shared = sys.mmap(events.fd, page + 2 * size, PROT_READ, page);
    this.#consumer = new Int32Array(own.buffer, own.byteOffset, 2);
    this.#producer = new Int32Array(shared.buffer, shared.byteOffset, 2);
    this.#data = shared.subarray(page);
    this.#words = new Int32Array(shared.buffer, shared.byteOffset + page, (2 * size) / 4);
    this.#mask = size - 1;
    this.#position = read64(this.#consumer);
  }

  /** Decodes and delivers events. If `deliver` throws, the drain ends, and that event is not delivered again. */
  drain(deliver: (e: FlowEvent) => void, max = Number.POSITIVE_INFINITY): number {
    return this.records((buf, at) => deliver(decodeEvent(buf, at)), max);
  }

  /** The same without decoding: the record is in the buffer, aligned to 8 bytes, until `deliver` returns. */
  records(deliver: (buf: Buffer, at: number) => void, max = Number.POSITIVE_INFINITY): number {
    return this.#read(deliver, max, 1);
  }

  /**
   * The same in runs: `count` records of full size, one stride apart, the first at `at`, so that a caller can copy a run at once.
   * If `deliver` throws, the rest of its run is not delivered again either.
   */
  runs(deliver: (buf: Buffer, at: number, count: number) => void, max = Number.POSITIVE_INFINITY): number {
    // A run is a part of the ring: the kernel gets room during a long drain, without a shared cache line for each
    // event.
    return this.#read(deliver, max, Math.max(Math.floor((this.#mask >> 4) / this.#stride), 1));
  }

  /** @param maxRun of one run */
  #read(deliver: (buf: Buffer, at: number, count: number) => void, max: number, maxRun: number): number {
    let n = 0;
    const end = read64(this.#producer);
    let published = this.#position;
    try {
      while (this.#position < end && n < max) {
        const at = this.#position & this.#mask;
        const isShort = Atomics.load(this.#words, at >> 2) === this.#content.short;
        const stride = isShort ? strideOf(this.#content.short) : this.#stride;
        const count = isShort ? 1 : this.#run(at, Math.min(maxRun, max - n, (end - this.#position) / stride));
        if (count > 0) {
          this.#position += count * stride;
          n += count;
          deliver(this.#data, at + HEADER, count);
        } else if (!this.#skipRecord(at)) {
          break;
        }
        if (this.#position - published > this.#mask >> 4) {
          write64(this.#consumer, this.#position);
          published = this.#position;
        }
      }
    } finally {
      if (this.#position !== published) write64(this.#consumer, this.#position);
    }
    return n;
  }

  /** Number of complete, consecutive events at `at`. A run may continue in the second mapping of the data. */
  #run(at: number, max: number): number {
    const words = this.#words;
    const { size } = this.#content;
    const step = this.#stride >> 2;
    let count = 0;
    // Records are not busy, not discarded, and have this size. Atomics: the kernel stores the length last, with release
    // semantics.
    for (let i = at >> 2; count < max && Atomics.load(words, i) === size; i += step) count++;
    return count;
  }

  /** Skips a record of another size. False: it is not complete yet. */
  #skipRecord(at: number): boolean {
    const head = Atomics.load(this.#words, at >> 2) >>> 0;
    if ((head & BUSY) !== 0) return false;
    const length = head & ~DISCARD;
    // Completed since #run() read it: it is an event, for the next round.
    if (length === this.#content.size && head === length) return true;
    this.#position += (length + HEADER + 7) & ~7;
    if ((head & DISCARD) === 0) this.unreadable++;
    return true;
  }

  /** Events lost since the programs were loaded, by CPU. */
  lost(): number[] {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(this.#content.lost);
    return this.#counters.lookupPerCpu(key).map((v) => Number(v.readBigUInt64LE(0)));
  }

  close(): void {
    // The mapping lives as long as the process; the next reader finds the position in it.
  }
}

/** Reads a 64-bit position. The high word is read first and last, to detect a carry between the loads. */
function read64(words: Int32Array): number {
  for (;;) {
    const high = Atomics.load(words, 1);
    const low = Atomics.load(words, 0) >>> 0;
    if (Atomics.load(words, 1) === high) return (high >>> 0) * 0x1_0000_0000 + low;
  }
}

function write64(words: Int32Array, value: number): void {
  const big = new BigInt64Array(words.buffer, words.byteOffset, 1);
  Atomics.store(big, 0, BigInt(value));
}
