/** Flow streams: items to one caller, no faster than it reads. */
import { Metadata, type ServerWritableStream, type ServiceError, status } from '@grpc/grpc-js';
import { AgentError, type ErrorCode } from '../errors.js';
import type { HubItem } from '../flow/hub.js';
import type { GetFlowsRequest } from './messages.js';

/** Each has a buffer in the transport; more readers than this are a fault somewhere. */
const MAX_READERS = 128;
/** Items between two turns of the event loop: a long answer must not hold up the agent. */
const ITEMS_A_TURN = 256;

const CODES: Partial<Record<ErrorCode, status>> = {
  USAGE: status.INVALID_ARGUMENT,
  AGENT: status.FAILED_PRECONDITION,
};

/** What the caller is told of a fault. */
export function serviceError(e: unknown): Partial<ServiceError> {
  if (e instanceof AgentError) {
    const details = e.hint === undefined ? e.message : `${e.message} — ${e.hint}`;
    return { code: CODES[e.code] ?? status.INTERNAL, details };
  }
  return { code: status.INTERNAL, details: e instanceof Error ? e.message : String(e) };
}

/** Where flows are read: the hub, or the merge of several. What is asked for is fixed when `read` returns. */
export interface FlowSource<I> {
  read(request: GetFlowsRequest, signal: AbortSignal): AsyncIterable<I>;
}

export class FlowStreams<I = HubItem> {
  readonly #source: FlowSource<I>;
  readonly #most: number;
  readonly #readers = new Set<AbortController>();

  /** @param most readers at a time */
  constructor(source: FlowSource<I>, most: number = MAX_READERS) {
    this.#source = source;
    this.#most = most;
  }

  /** Serves one GetFlows; `message` makes a response of an item. */
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
      // Tells the caller that from here on it misses nothing: a relay asks for the past after that.
      call.sendMetadata(new Metadata());
      let n = 0;
      for await (const item of items) {
        if (!call.write(message(item))) await drained(call, reader.signal);
        if (++n % ITEMS_A_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
        if (reader.signal.aborted) break;
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

function drained(call: NodeJS.EventEmitter, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      call.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    call.on('drain', done);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}
