/**
 * The kernel's ring buffer, mmaped once and read without a system call. Layout: kernel
 * documentation, bpf/ringbuf.rst: a consumer page that we write, then a producer page and the
 * data, read only, the data mapped twice in a row so that no record is ever split.
 *
 * Nobody is woken for an event: the agent looks on a timer. Nothing is copied: a
 * record is decoded where it lies, then the consumer position moves past it.
 */
import type { EventSource, FlowEvent } from '../src/flow/types.js';
import { decodeEvent } from '../src/flow/decode.js';
import { ENUMS, STRUCTS } from '../src/image/layout.gen.js';
import type { BpfMap } from './libbpf/map.js';
import { PROT_READ, PROT_WRITE, sys } from './libbpf/sys.js';

const BUSY = 0x8000_0000;
const DISCARD = 0x4000_0000;
const HEADER = 8;

export class RingReader implements EventSource {
  private readonly consumer: Int32Array;
  private readonly producer: Int32Array;
  private readonly words: Int32Array;
  private readonly data: Buffer;
  private readonly mask: number;
  /** Bytes read so far, as far as a double counts exactly: 2^53. */
  private position: number;
  /** Records that were not a struct ea_event; none but by a fault. */
  unreadable = 0;

  /** @param counters per-CPU counters of the programs */
  constructor(
    events: BpfMap,
    private readonly counters: BpfMap,
  ) {
    const size = events.maxEntries;
    const page = sys.pageSize;
    const own = sys.mmap(events.fd, page, PROT_READ | PROT_WRITE, 0);
    const shared = sys.mmap(events.fd, page + 2 * size, PROT_READ, page);
    this.consumer = new Int32Array(own.buffer, own.byteOffset, 2);
    this.producer = new Int32Array(shared.buffer, shared.byteOffset, 2);
    this.data = shared.subarray(page);
    this.words = new Int32Array(shared.buffer, shared.byteOffset + page, (2 * size) / 4);
    this.mask = size - 1;
    this.position = read64(this.consumer);
  }

  /** A `deliver` that throws ends the drain; its event is not handed over again. */
  drain(deliver: (e: FlowEvent) => void, max = Number.POSITIVE_INFINITY): number {
    return this.records((buf, at) => deliver(decodeEvent(buf, at)), max);
  }

  /** The same without decoding: struct ea_event stands in the buffer, aligned to 8 bytes, until `deliver` returns. */
  records(deliver: (buf: Buffer, at: number) => void, max = Number.POSITIVE_INFINITY): number {
    let n = 0;
    const end = read64(this.producer);
    let published = this.position;
    try {
      while (this.position < end && n < max) {
        const at = this.position & this.mask;
        // Atomics: the kernel stores the length last, with release semantics.
        const head = Atomics.load(this.words, at >> 2) >>> 0;
        if ((head & BUSY) !== 0) break; // reserved, not written yet
        const length = head & ~DISCARD;
        this.position += (length + HEADER + 7) & ~7;
        if ((head & DISCARD) !== 0) continue;
        if (length !== STRUCTS.ea_event.size) {
          this.unreadable++;
          continue;
        }
        n++;
        deliver(this.data, at + HEADER);
        // Room for the kernel while a long drain goes on, but not a shared cache line for each event.
        if (this.position - published > this.mask >> 4) {
          write64(this.consumer, this.position);
          published = this.position;
        }
      }
    } finally {
      if (this.position !== published) write64(this.consumer, this.position);
    }
    return n;
  }

  lost(): number[] {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(ENUMS.ea_counter.EA_COUNT_EVENTS_LOST);
    return this.counters.lookupPerCpu(key).map((v) => Number(v.readBigUInt64LE(0)));
  }

  close(): void {
    // The mapping lives as long as the process; the position stands in it for the next reader.
  }
}

/** Positions are 64 bits wide. High word first and again: a carry between two loads is seen. */
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
