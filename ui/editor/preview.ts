/** What the text would change: asked a moment after typing stops; the question before is taken back. */
import { useEffect, useState } from 'preact/hooks';
import type { Fault } from '../../src/ui/wire/messages.js';
import type { PreviewAnswer } from '../../src/ui/wire/policies.js';
import { ask } from '../state/api.js';
import { policiesTick } from '../state/store.js';
import { faultOf } from './steps.js';

const PAUSE_MS = 400;
/** Bytes. */
export const MOST_TEXT = 1 << 20;

export interface Preview {
  /** Of the text as it was then; undefined: none yet. */
  readonly answer: PreviewAnswer | undefined;
  readonly fault: Fault | undefined;
  /** The answer is of another text. */
  readonly isBusy: boolean;
  readonly again: () => void;
}

/** @returns undefined: it is short enough */
export function tooLong(text: string): Fault | undefined {
  // A character has three bytes at most, for each of its UTF-16 units.
  const bytes = text.length * 3 > MOST_TEXT ? new TextEncoder().encode(text).length : 0;
  if (bytes <= MOST_TEXT) return undefined;
  return {
    error: `the text has ${bytes.toLocaleString('en')} bytes, of ${MOST_TEXT.toLocaleString('en')} at most`,
    hint: 'the API server would not take it: split the policy',
  };
}

export function usePreview(text: string | undefined): Preview {
  const [answer, setAnswer] = useState<PreviewAnswer>();
  const [fault, setFault] = useState<Fault>();
  const [isBusy, setBusy] = useState(true);
  const [tries, setTries] = useState(0);
  // Another policy may have changed meanwhile.
  const tick = policiesTick.value;
  useEffect(() => {
    if (text === undefined) return;
    const long = tooLong(text);
    if (long || text.trim() === '') {
      setFault(long ?? { error: 'the text is empty' });
      setAnswer(undefined);
      setBusy(false);
      return;
    }
    const leaving = new AbortController();
    setBusy(true);
    const timer = setTimeout(() => {
      ask<PreviewAnswer>('preview', { manifests: text }, leaving.signal).then(
        (found) => {
          setAnswer(found);
          setFault(undefined);
          setBusy(false);
        },
        (e: unknown) => {
          if (leaving.signal.aborted) return;
          setFault(faultOf(e));
          setBusy(false);
        },
      );
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [text, tick, tries]);
  return { answer, fault, isBusy, again: () => setTries(tries + 1) };
}
