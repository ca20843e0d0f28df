/** The messages that wait for one reader. All readers of an upstream share their memory. */
import { status } from '@grpc/grpc-js';

/** Why a reader is ended: the status that it gets. */
export class Ending extends Error {
  readonly code: status;
  readonly details: string;

  constructor(code: status, details: string) {
    super(details);
    this.code = code;
    this.details = details;
  }
}

const SLOW = 'edges change faster than this reader reads: it has to begin anew';

export class LiveReader {
  readonly #stop = new AbortController();
  #messages: Buffer[] = [];
  #bytes = 0;
  #heldUpMs = 0;
  #ending: Ending | undefined;
  #wake = () => {};

  constructor() {
    this.signal.addEventListener('abort', () => this.#wake());
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Aborted when it has left, or has been ended. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Why it was ended; undefined: it was not. */
  get ending(): Ending | undefined {
    return this.#ending;
  }

  /** @param most bytes that may wait; a reader with more is ended */
  add(message: Buffer, most: number): void {
    if (this.signal.aborted) return;
    if (this.#bytes + message.length > most) this.fail(new Ending(status.ABORTED, SLOW));
    else {
      this.#messages.push(message);
      this.#bytes += message.length;
      this.#wake();
    }
  }

  /** It has made others wait. @param most milliseconds that it may do so in all */
  holdsUp(ms: number, most: number): void {
    this.#heldUpMs += ms;
    if (this.#heldUpMs > most) this.fail(new Ending(status.ABORTED, SLOW));
  }

  /** Ends it. What waits is not sent any more: the reader has to begin anew. */
  fail(ending: Ending): void {
    if (!this.signal.aborted) this.#ending = ending;
    this.leave();
  }

  leave(): void {
    this.#messages = [];
    this.#bytes = 0;
    this.#stop.abort();
  }

  /** What waits, in order; empty after its end. */
  async next(): Promise<Buffer[]> {
    if (this.#messages.length === 0 && !this.signal.aborted)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    const messages = this.#messages;
    this.#messages = [];
    return messages;
  }

  /** A message has been taken by the transport. */
  sent(message: Buffer): void {
    this.#bytes = Math.max(this.#bytes - message.length, 0);
  }
}
