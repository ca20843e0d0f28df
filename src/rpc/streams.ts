/** Flow streams: send items to a caller, no faster than it reads. */
import { Metadata, type ServerWritableStream, status } from '@grpc/grpc-js';
import type { HubItem } from '../flow/hub/hub.js';
import type { GetFlowsRequest } from '../proto/messages.js';
import { drained } from './transport/drained.js';
import { serviceError } from './transport/unary.js';

/** Maximum number of readers. Each has a buffer in the transport, and more readers than this are a bug somewhere. */
const MAX_READERS = 128;
/** Maximum number of items between two turns of the event loop, so that a long answer does not block the agent. */
const ITEMS_A_TURN = 256;

/** A stream whose available items can be taken without a promise for each. */
interface Taken<I> {
  /** The next item; undefined if there is none now. */
  take(): I | undefined;
  /** Resolves when take() should be called again; to false at the end. */
  wait(): Promise<boolean>;
  end(): void;
}

/** A source of flows: the hub, or the merge of several agents. The range of a request is fixed when `read` returns. */
export interface FlowSource<I> {
  read(request: GetFlowsRequest, signal: AbortSignal): AsyncIterable<I> | Taken<I>;
}

/** The streams of all callers of one server, with a limit of their number. */
export class FlowStreams<I = HubItem> {
  readonly #source: FlowSource<I>;
  readonly #most: number;
  readonly #readers = new Set<AbortController>();

  /** @param most maximum number of simultaneous readers */
  constructor(source: FlowSource<I>, most: number = MAX_READERS) {
    this.#source = source;
    this.#most = most;
  }

  /** Serves one GetFlows call. @param message makes a response of an item */
  async serve<T>(call: ServerWritableStream<GetFlowsRequest, T>, message: (item: I) => T): Promise<void> {
    const reader = new AbortController();
    const stop = () => reader.abort();
    call.on('cancelled', stop);
    call.on('close', stop);
    call.on('error', stop);
    try {
      if (this.#readers.size >= this.#most) {
        call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: `more than ${this.#most} readers of flows` });
        return;
      }
      this.#readers.add(reader);
      const items = this.#source.read(call.request, reader.signal);
      // Tells the caller that it misses no flow from here on. A relay asks for past flows after that.
      call.sendMetadata(new Metadata());
      let n = 0;
      /** Sends an item. The promise, if any, resolves when the caller has caught up, or others have had a turn. */
      const put = (item: I): Promise<unknown> | undefined => {
        const taken = call.write(message(item));
        const pause = ++n % ITEMS_A_TURN === 0 ? new Promise((resolve) => setImmediate(resolve)) : undefined;
        return taken ? pause : drained(call, reader.signal).then(() => pause);
      };
      if ('take' in items) await takeAll(items, put, reader.signal);
      else {
        for await (const item of items) {
          await put(item);
          if (reader.signal.aborted) break;
        }
      }
      if (!call.cancelled) call.end();
    } catch (e) {
      if (!call.cancelled) call.emit('error', serviceError(e));
    } finally {
      this.#readers.delete(reader);
    }
  }

  close(): void {
    for (const reader of this.#readers) reader.abort();
  }
}

async function takeAll<I>(
  items: Taken<I>,
  put: (item: I) => Promise<unknown> | undefined,
  signal: AbortSignal,
): Promise<void> {
  try {
    while (!signal.aborted) {
      const item = items.take();
      if (item === undefined) {
        if (!(await items.wait())) break;
        continue;
      }
      const pause = put(item);
      if (pause) await pause;
    }
  } finally {
    items.end();
  }
}
