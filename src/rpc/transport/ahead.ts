/** Limits how far a stream of responses is read ahead of its consumer. */
import { InterceptingCall } from '@grpc/grpc-js';

/** Bytes on the wire after which the consumer must catch up. Usual messages never reach this. */
const AHEAD_BYTES = 64 << 10;

type NextCall = ConstructorParameters<typeof InterceptingCall>[0];

/**
 * The transport reads 16 messages ahead, whatever their size. Without this limit, whoever can make a node's messages
 * large could fill the memory of a client with many streams, such as the relay.
 */
export class ReadAhead {
  #bytes = 0;
  #call: GatedCall | undefined;

  /** Puts the call between the stream and the transport. */
  intercept(call: NextCall): InterceptingCall {
    this.#call = new GatedCall(call, () => this.#bytes < AHEAD_BYTES);
    return this.#call;
  }

  received(bytes: number): void {
    this.#bytes += bytes;
  }

  /** To be called when the consumer has taken all messages. */
  caughtUp(): void {
    this.#bytes = 0;
    this.#call?.proceed();
  }
}

class GatedCall extends InterceptingCall {
  readonly #next: NextCall;
  readonly #isOpen: () => boolean;
  #isHeld = false;

  constructor(call: NextCall, isOpen: () => boolean) {
    super(call);
    this.#next = call;
    this.#isOpen = isOpen;
  }

  /** Responses go from the transport to the stream directly: a step between them would cost time for each. */
  override start(...args: Parameters<NextCall['start']>): void {
    this.#next.start(...args);
  }

  override startRead(): void {
    this.#isHeld = !this.#isOpen();
    if (!this.#isHeld) super.startRead();
  }

  proceed(): void {
    if (this.#isHeld) this.startRead();
  }
}
