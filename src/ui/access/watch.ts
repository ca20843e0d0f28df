/** Follows what a viewer may see while a stream goes on. */
import { NOTHING, type Scope, SignedOut, type Viewer } from './viewer.js';

/** Pause between two questions, and the time after which a right that nobody confirms is none, milliseconds. */
const TIMES = { everyMs: 1000, silentMs: 3000 };

/** What may be seen now. Nothing, as long as nobody can say. Ends with the signal. */
export class ScopeWatch {
  readonly #viewer: Viewer;
  readonly #silentMs: number;
  readonly #ending: AbortSignal;
  readonly #listeners = new Set<() => void>();
  readonly #over = new AbortController();
  #scope: Scope;
  #key: string;

  /** @throws AgentError AGENT, SignedOut: if nothing can be said at the beginning */
  static async start(viewer: Viewer, signal: AbortSignal, times = TIMES): Promise<ScopeWatch> {
    const watch = new ScopeWatch(viewer, await viewer.scope(), signal, times.silentMs);
    const timer = setInterval(() => void watch.#ask(), times.everyMs);
    timer.unref();
    const end = () => clearInterval(timer);
    signal.addEventListener('abort', end, { once: true });
    if (signal.aborted) end();
    return watch;
  }

  private constructor(viewer: Viewer, scope: Scope, signal: AbortSignal, silentMs: number) {
    this.#viewer = viewer;
    this.#ending = signal;
    this.#silentMs = silentMs;
    this.#scope = scope;
    this.#key = keyOf(scope);
  }

  get scope(): Scope {
    return this.#scope;
  }

  /** The viewer's credentials are not good any more. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** @param listener called after each change @returns stops it */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #asking = false;

  async #ask(): Promise<void> {
    if (this.#asking || this.#ending.aborted) return;
    this.#asking = true;
    // An answer that is late is as good as none; when it comes, it counts again.
    const late = setTimeout(() => this.#set(NOTHING), this.#silentMs);
    try {
      this.#set(await this.#viewer.scope());
    } catch (e) {
      this.#set(NOTHING);
      if (e instanceof SignedOut) this.#over.abort();
    } finally {
      clearTimeout(late);
      this.#asking = false;
    }
  }

  #set(scope: Scope): void {
    const key = keyOf(scope);
    if (key === this.#key || this.#ending.aborted) return;
    this.#scope = scope;
    this.#key = key;
    for (const listener of this.#listeners) listener();
  }
}

function keyOf(scope: Scope): string {
  return scope === undefined ? '*' : [...scope].sort().join('\n');
}
