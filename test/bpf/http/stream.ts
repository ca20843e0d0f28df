/** A connection as the hooks read it: what has arrived of a head is kept in a buffer, and what passed is not. */
import { type Head, HttpKernel } from './kernel.js';

export type Event =
  | { readonly kind: 'request'; readonly head: Head; readonly start: number }
  | { readonly kind: 'other' }
  | { readonly kind: 'denied'; readonly why: string }
  /** Bytes after a request that is to be answered first. */
  | { readonly kind: 'early' };

export class KernelStream {
  readonly #kernel: HttpKernel;
  /** Where the head begins, in the buffer and in the stream, and where the bytes in the buffer end. */
  #from = 0;
  #to = 0;
  #shifted = 0;
  #isOver = false;

  /** @param kernel used by one stream at a time */
  constructor(kernel: HttpKernel) {
    this.#kernel = kernel;
    kernel.connect();
  }

  /** enum http_part; OVER if nothing may follow any more. */
  get part(): string {
    return this.#isOver ? 'OVER' : this.#kernel.part.part;
  }

  /** What more bytes tell, HttpKernel.BUFFER / 2 at most. */
  push(bytes: Uint8Array): Event[] {
    const events: Event[] = [];
    if (this.#isOver) return events;
    if (this.#to + bytes.length > HttpKernel.BUFFER) this.#shift();
    this.#kernel.put(bytes, this.#to);
    this.#to += bytes.length;
    while (!this.#isOver && this.#from < this.#to) {
      if (this.part === 'OPAQUE') return events;
      const event = this.part === 'IN_HEAD' ? this.#head() : this.#rest();
      if (event === 'more') break;
      if (event === undefined) continue;
      events.push(event);
      this.#isOver = event.kind !== 'request';
    }
    return events;
  }

  /** What the server sends from the start of its stream on, in pieces. @returns the part of the client's stream */
  answer(bytes: Uint8Array, step = bytes.length): string {
    for (let at = 0; at < bytes.length && this.part === 'AWAIT'; at += step) {
      const piece = bytes.subarray(at, at + step);
      this.#kernel.put(piece);
      this.#kernel.answer(0, piece.length);
    }
    return this.part;
  }

  /** Moves the head to the beginning of the buffer. */
  #shift(): void {
    this.#kernel.move(this.#from, this.#to);
    this.#shifted += this.#from;
    this.#to -= this.#from;
    this.#from = 0;
  }

  #head(): Event | 'more' {
    const head = this.#kernel.head(this.#from, this.#to - this.#from, true);
    if (head.result === 'more') return 'more';
    if (head.result === 'other') return { kind: 'other' };
    if (head.result === 'refused') return { kind: 'denied', why: head.why };
    const start = this.#shifted + this.#from;
    this.#from += head.length;
    return { kind: 'request', head, start };
  }

  #rest(): Event | undefined {
    this.#from += this.#kernel.follow(this.#from, this.#to - this.#from);
    const { part, why } = this.#kernel.part;
    if (part === 'BROKEN') return { kind: 'denied', why };
    return part === 'AWAIT' && this.#from < this.#to ? { kind: 'early' } : undefined;
  }
}
