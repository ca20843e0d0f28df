/** Handlers of unary calls, and the status that a caller gets for an exception. */
import { type handleUnaryCall, type ServiceError, status } from '@grpc/grpc-js';
import { AgentError, type ErrorCode } from '../../errors.js';
import { nextTurn } from './turns.js';

const CODES: Partial<Record<ErrorCode, status>> = {
  USAGE: status.INVALID_ARGUMENT,
  AGENT: status.FAILED_PRECONDITION,
  HISTORY: status.FAILED_PRECONDITION,
};

/** The error that a caller gets for an exception. */
export function serviceError(e: unknown): Partial<ServiceError> {
  if (e instanceof AgentError) {
    const details = e.hint === undefined ? e.message : `${e.message} — ${e.hint}`;
    return { code: CODES[e.code] ?? status.INTERNAL, details };
  }
  return { code: status.INTERNAL, details: e instanceof Error ? e.message : String(e) };
}

/**
 * Makes the handler of a unary call; an exception becomes its status. Each answer has its own turn of the event loop
 * (turns.ts), even one that many callers share. A call that was cancelled before its turn is not answered.
 */
export function unary<Q, A>(answer: (request: Q) => A | Promise<A>): handleUnaryCall<Q, A> {
  return async (call, callback) => {
    const takenBack = () => {
      if (call.cancelled) callback({ code: status.CANCELLED, details: 'cancelled' }, null);
      return call.cancelled;
    };
    let response: A;
    await nextTurn();
    if (takenBack()) return;
    try {
      const made = answer(call.request);
      response = made instanceof Promise ? await made.finally(nextTurn) : made;
    } catch (e) {
      callback(serviceError(e), null);
      return;
    }
    if (!takenBack()) callback(null, response);
  };
}
