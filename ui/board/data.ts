/** What the board shows: asked for while it is open, and again when policies have changed. */
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { Fault } from '../../src/ui/wire/messages.js';
import type { ActivityAnswer, PoliciesAnswer } from '../../src/ui/wire/policies.js';
import { ApiError, ask } from '../state/api.js';
import { policiesTick } from '../state/store.js';
import { window_ } from '../state/url.js';

/** Milliseconds between two questions for what policies decided, and between two for the policies themselves. */
const ACTIVITY_MS = 5000;
const POLICIES_MS = 2000;

export const policies = signal<PoliciesAnswer | undefined>(undefined);
export const activity = signal<ActivityAnswer | undefined>(undefined);
/** Why there is nothing newer. */
export const fault = signal<Fault | undefined>(undefined);
/** Another number: the policies are asked for at once, since something was written here. */
const wanted = signal(0);

/** Asks again: something was written. */
export function again(): void {
  wanted.value++;
}

/** Keeps the signals fresh while the component is shown. */
export function useBoard(): void {
  const [tick, window, own] = [policiesTick.value, window_.value, wanted.value];
  useEffect(() => {
    const leaving = new AbortController();
    const wait = Math.max(0, policiesAt + POLICIES_MS - Date.now());
    const timer = setTimeout(() => void readPolicies(leaving.signal), wait);
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [tick, own]);
  useEffect(() => {
    const leaving = new AbortController();
    const read = async () => {
      if (document.hidden) return;
      await into(() => ask<ActivityAnswer>('activity', { window }, leaving.signal), activity, leaving.signal);
    };
    void read();
    const timer = setInterval(() => void read(), ACTIVITY_MS);
    return () => {
      clearInterval(timer);
      leaving.abort();
    };
  }, [window, own]);
}

let policiesAt = 0;

async function readPolicies(signal: AbortSignal): Promise<void> {
  await into(() => ask<PoliciesAnswer>('policies', {}, signal), policies, signal);
  policiesAt = Date.now();
}

async function into<T>(question: () => Promise<T>, to: { value: T | undefined }, signal: AbortSignal): Promise<void> {
  try {
    to.value = await question();
    fault.value = undefined;
  } catch (e) {
    if (signal.aborted) return;
    fault.value = e instanceof ApiError ? e.fault : { error: e instanceof Error ? e.message : String(e) };
  }
}
