/** The page's one stream: asks for what the screen shows, and puts what comes into the store. */
import { effect, signal } from '@preact/signals';
import type { StreamMessage, View } from '../../src/ui/wire/messages.js';
import { ApiError, locked, post, session } from './api.js';
import { chips, namespaces, param, screen, window_ } from './url.js';
import { begin, receive } from './store.js';

/** Pauses before a lost stream is asked for again, milliseconds. */
const PAUSE = { first: 500, most: 10_000 };
/** The server says something at least each 15 s. */
const SILENCE_MS = 40_000;

/** connecting, live, paused (the tab is hidden), lost */
export const streamState = signal<'connecting' | 'live' | 'paused' | 'lost'>('connecting');
/** The last error of the stream; empty: none. */
export const streamError = signal('');
/** When a lost stream is asked for again, by this clock; 0: it is not. */
export const retryAtMs = signal(0);
/** How long the tab was hidden, when it is shown again, milliseconds; 0: it was not, or that was said. */
export const wasHiddenMs = signal(0);

let wake: () => void = () => {};
/** Asks again for a lost stream, without waiting. */
export function retryNow(): void {
  wake();
}

/** What this page wants to see now. */
function view(): View {
  const raw = screen.value === 'flows' && param('mode') !== 'sums';
  return {
    window: window_.value,
    namespaces: namespaces.value,
    chips: chips.value,
    edges: screen.value !== 'status',
    ...(raw ? { flows: { last: 500 } } : {}),
  };
}

/** Opens the stream, and opens it anew whenever the page wants something else. Call it once. */
export function follow(): void {
  let running: AbortController | undefined;
  let last = '';
  const restart = () => {
    running?.abort();
    running = undefined;
    if (!session.peek() || locked.peek()) return;
    if (document.hidden) {
      streamState.value = 'paused';
      return;
    }
    running = new AbortController();
    void run(JSON.parse(last) as View, running.signal);
  };
  effect(() => {
    const wanted = JSON.stringify(view());
    const ready = session.value !== undefined && locked.value === undefined;
    if (!ready || wanted === last) return;
    last = wanted;
    restart();
  });
  let hiddenAtMs = 0;
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) hiddenAtMs = Date.now();
    else if (hiddenAtMs > 0) wasHiddenMs.value = Date.now() - hiddenAtMs;
    if (last !== '') restart();
  });
}

async function run(wanted: View, signal: AbortSignal): Promise<void> {
  let pause = PAUSE.first;
  while (!signal.aborted) {
    streamState.value = 'connecting';
    try {
      const response = await post('stream', wanted, signal);
      begin(wanted);
      streamState.value = 'live';
      streamError.value = '';
      pause = PAUSE.first;
      await read(response, signal);
    } catch (e) {
      if (signal.aborted) return;
      streamError.value = e instanceof Error ? e.message : String(e);
      // What is asked for cannot be answered, whenever it is asked.
      if (e instanceof ApiError && e.status >= 400 && e.status < 500 && e.status !== 429) {
        streamState.value = 'lost';
        return;
      }
    }
    if (signal.aborted) return;
    streamState.value = 'lost';
    await rest(pause, signal);
    pause = Math.min(pause * 2, PAUSE.most);
  }
}

/** Waits, but not longer than until somebody asks for it, or the stream is not wanted any more. */
async function rest(pause: number, signal: AbortSignal): Promise<void> {
  retryAtMs.value = Date.now() + pause;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, pause);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener('abort', wake, { once: true });
  });
  if (!signal.aborted) retryAtMs.value = 0;
}

async function read(response: Response, signal: AbortSignal): Promise<void> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await within(reader.read());
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
        const line = rest.slice(0, end);
        rest = rest.slice(end + 2);
        if (line.startsWith('data: ') && !signal.aborted) receive(JSON.parse(line.slice(6)) as StreamMessage);
      }
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
}

async function within<T>(promise: Promise<T>): Promise<T> {
  let timer = 0;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('the server is silent')), SILENCE_MS) as unknown as number;
  });
  return Promise.race([promise, silence]).finally(() => clearTimeout(timer));
}
