/** Flow streams: the hub's items to one caller, no faster than it reads. */
import { type ServerWritableStream, type ServiceError, status } from '@grpc/grpc-js';
import { AgentError, type ErrorCode } from '../errors.js';
import type { FlowHub, HubItem } from '../flow/hub.js';
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

export class FlowStreams {
  readonly #hub: FlowHub;
  readonly #readers = new Set<AbortController>();

  constructor(hub: FlowHub) {
    this.#hub = hub;
  }

  /** Serves one GetFlows; `message` makes a response of an item. */
  async serve<T>(call: ServerWritableStream<GetFlowsRequest, T>, message: (item: HubItem) => T): Promise<void> {
    const reader = new AbortController();
    const stop = () => reader.abort();
    call.on('cancelled', stop);
    call.on('close', stop);
    call.on('error', stop);
    try {
      if (this.#readers.size >= MAX_READERS) {
        call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: `more than ${MAX_READERS} readers of flows` });
        return;
      }
      this.#readers.add(reader);
      let n = 0;
      for await (const item of this.#hub.read(call.request, reader.signal)) {
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
