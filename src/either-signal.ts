/** Signals that are sent with the first of several. */

/** One that holds its parts, and lets go of them. */
export interface EitherSignal {
  readonly signal: AbortSignal;
  /** Lets go of the parts and of the timer. To be called when nobody waits any more. */
  end(): void;
}

/**
 * A signal that is sent with the first of some signals, or after a time. That of AbortSignal.any is never sent on
 * Node.js 20 once the garbage collector has taken a part that nobody else holds, such as that of AbortSignal.timeout.
 * @param ms milliseconds; undefined: no time
 */
export function eitherSignal(parts: readonly AbortSignal[], ms?: number): EitherSignal {
  const own = new AbortController();
  const send = () => own.abort();
  const timer = ms === undefined ? undefined : setTimeout(send, ms);
  for (const part of parts) part.addEventListener('abort', send);
  if (parts.some((part) => part.aborted)) send();
  return {
    signal: own.signal,
    end: () => {
      clearTimeout(timer);
      for (const part of parts) part.removeEventListener('abort', send);
    },
  };
}
