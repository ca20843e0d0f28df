/** What the drawer is about, and the server's answer. */
import { computed, effect, signal } from '@preact/signals';
import type { WhyAnswer } from '../../src/ui/wire/explain.js';
import { decodeWhy, encodeWhy, whyOfEdge, whyOfFlow, type WhyRef } from '../../src/ui/wire/why.js';
import { ApiError, ask } from '../state/api.js';
import { edges, edgesHead, edgesTick, flows, flowsTick, policiesTick } from '../state/store.js';
import { param, set } from '../state/url.js';

/** Whoever goes through a list with a key asks for what it stops at. */
const PAUSE_MS = 120;

/** The parameter; null: the drawer is closed. */
const text = computed(() => param('why'));
export const isOpen = computed(() => text.value !== null);

/** undefined: it is looked for; null: it cannot be read, or is not there any more. */
export const why = computed<WhyRef | undefined | null>(() => {
  const value = text.value;
  if (value === null) return undefined;
  const [, kind, id] = /^(edge|flow):(\d{1,16})$/.exec(value) ?? [];
  if (kind === undefined) return decodeWhy(value) ?? null;
  if (kind === 'edge') {
    void edgesTick.value;
    const edge = edges.get(Number(id));
    return edge ? whyOfEdge(edge.info, edge.lastMs) : edgesHead.value.caughtUp ? null : undefined;
  }
  void flowsTick.value;
  const flow = flows.find((f) => f.id === Number(id));
  return flow ? whyOfFlow(flow) : null;
});

export const answer = signal<WhyAnswer | undefined>(undefined);
export const failure = signal<ApiError | undefined>(undefined);
export const isAsking = signal(false);
/** What the answer is for. */
export const answered = signal('');

export function close(): void {
  set({ why: undefined }, true);
}

/** Asks whenever the drawer is about something else, or the policies have changed. @returns what ends it */
export function followWhy(): () => void {
  let asked = '';
  let running: AbortController | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = effect(() => {
    const ref = why.value;
    const round = policiesTick.value;
    // Ids are of this page's stream alone: the address has all that somebody else needs.
    if (ref && /^(edge|flow):\d+$/.test(text.value ?? '')) {
      const full = encodeWhy(ref);
      queueMicrotask(() => set({ why: full }, true));
    }
    const question = ref ? questionOf(ref) : undefined;
    const wanted = question ? `${round} ${JSON.stringify(question)}` : '';
    if (wanted === asked) return;
    asked = wanted;
    running?.abort();
    clearTimeout(timer);
    if (!question || !ref) return;
    const own = new AbortController();
    running = own;
    isAsking.value = true;
    timer = setTimeout(() => void run(question, subjectOf(ref), own.signal), PAUSE_MS);
  });
  return () => {
    stop();
    running?.abort();
    clearTimeout(timer);
    answer.value = failure.value = undefined;
    answered.value = '';
  };
}

async function run(question: object, subject: string, signal: AbortSignal): Promise<void> {
  try {
    const got = await ask<WhyAnswer>('why', question, signal);
    if (signal.aborted) return;
    answer.value = got;
    failure.value = undefined;
  } catch (e) {
    if (signal.aborted) return;
    answer.value = undefined;
    failure.value = e instanceof ApiError ? e : new ApiError(0, { error: e instanceof Error ? e.message : String(e) });
  }
  answered.value = subject;
  isAsking.value = false;
}

/** The part that policies judge: the same for all flows of a connection. */
function questionOf({ from, to, address, port, protocol, query, servicePort, inbound }: WhyRef): object {
  return { from, to, address, port, protocol, query, servicePort, inbound };
}

export function subjectOf(ref: WhyRef): string {
  return JSON.stringify(questionOf(ref));
}
