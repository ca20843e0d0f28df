/** Questions whose answer a screen shows. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Fault } from '../../src/ui/wire/messages.js';
import { ApiError, ask } from './api.js';

export interface Answer<A> {
  /** The newest answer; it stays while another one is asked for. */
  readonly value: A | undefined;
  readonly fault: Fault | undefined;
  readonly isAsking: boolean;
  /** When the answer came, by this clock. */
  readonly atMs: number;
}

const NOTHING = { value: undefined, fault: undefined, isAsking: true, atMs: 0 };

/**
 * Asks, and asks again when the question or `again` changes; an earlier question is taken back.
 * @param body undefined: nothing is asked
 * @param pauseMs how long to wait for the next change
 */
export function useAnswer<A>(name: string, body: object | undefined, again: unknown = 0, pauseMs = 0): Answer<A> {
  const [answer, take] = useState<Answer<A>>(NOTHING);
  const text = body === undefined ? '' : JSON.stringify(body);
  const before = useRef(text);
  useEffect(() => {
    if (text === '') return;
    const leaving = new AbortController();
    take((old) => ({ ...old, isAsking: true }));
    const timer = setTimeout(
      () =>
        void ask<A>(name, JSON.parse(text), leaving.signal).then(
          (value) => leaving.signal.aborted || take({ value, fault: undefined, isAsking: false, atMs: Date.now() }),
          (e: unknown) => {
            if (leaving.signal.aborted) return;
            const fault = e instanceof ApiError ? e.fault : { error: e instanceof Error ? e.message : String(e) };
            take((old) => ({ ...old, fault, isAsking: false }));
          },
        ),
      before.current === text ? 0 : pauseMs,
    );
    before.current = text;
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [name, text, again]);
  return answer;
}
