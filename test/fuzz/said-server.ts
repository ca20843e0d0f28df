/**
 * A server behind the hooks, as TCP has it (RFC 9293, 3.10): what it puts together of the segments that reach it. Where
 * segments overlap, some keep what came first and others what came last, so both are kept, until it is acknowledged.
 */
import { ACK, FIN, RST, SYN } from '../attacks/craft.js';

/** Bytes of a stream that are looked at; what is behind is not kept. */
const WINDOW = 40_000;

export interface Arrived {
  readonly at: number;
  readonly flags: number;
  readonly data: Buffer;
}

/** What it answers: its SYN and the end of what it has. */
export interface Reply {
  readonly flags: number;
  readonly at: number;
  readonly ack: number;
}

export class SaidServer {
  #state: 'listens' | 'accepts' | 'open' = 'listens';
  /** Place of the stream's first byte. */
  #start = 0;
  #there = Buffer.alloc(0);
  #first = Buffer.alloc(0);
  #last = Buffer.alloc(0);
  /** Bytes without a gap, and those of them that the pod's side was told of. */
  #size = 0;
  #told = 0;
  #fin: number | undefined;

  /** What applications may read: by those who keep what came first, and by those who keep what came last. */
  get streams(): readonly Buffer[] {
    return [this.#first.subarray(0, this.#size), this.#last.subarray(0, this.#size)];
  }

  /** The place behind what it has. */
  get next(): number {
    return this.#start + this.#size;
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  arrive({ at, flags, data }: Arrived): Reply | undefined {
    if (flags & RST) {
      if (this.#state !== 'listens' && at === this.next) this.#state = 'listens';
      return undefined;
    }
    if (flags & SYN) {
      if (this.#state === 'open') return this.acknowledge();
      if (this.#state === 'listens') this.#begin(at + 1);
      else if (at + 1 !== this.#start) return this.acknowledge();
      // Data in a SYN (RFC 7413).
      this.#put(at + 1, data);
      return { flags: SYN | ACK, at: -1, ack: this.#start };
    }
    if (this.#state === 'listens' || !(flags & ACK)) return undefined;
    this.#state = 'open';
    this.#put(at, data);
    if (flags & FIN) this.#fin ??= at + data.length;
    return undefined;
  }

  acknowledge(): Reply | undefined {
    if (this.#state === 'listens') return undefined;
    this.#told = this.#size;
    return { flags: ACK, at: 0, ack: this.next + (this.#fin === this.next ? 1 : 0) };
  }

  #begin(start: number): void {
    this.#state = 'accepts';
    this.#start = start;
    this.#size = this.#told = 0;
    this.#fin = undefined;
    this.#there = Buffer.alloc(WINDOW);
    this.#first = Buffer.alloc(WINDOW);
    this.#last = Buffer.alloc(WINDOW);
  }

  #put(at: number, data: Buffer): void {
    for (let i = 0; i < data.length; i++) {
      const place = at - this.#start + i;
      if (place < this.#told || place >= WINDOW) continue;
      // Behind its end, a stream has nothing.
      if (this.#fin !== undefined && at + i >= this.#fin) break;
      if (!this.#there[place]) this.#first[place] = data[i] as number;
      this.#last[place] = data[i] as number;
      this.#there[place] = 1;
    }
    while (this.#size < WINDOW && this.#there[this.#size]) this.#size++;
  }
}
