/** Things that several pages use at once: made for the first of them, ended some time after the last one has gone. */

/** Milliseconds that something is kept for the next page: a reload asks for the same again. */
const LINGER_MS = 5000;
/** Things that nobody uses any more, at most: else whoever opens and leaves pages would have a source serve them all. */
const MOST_LINGERING = 8;

interface Held<T> {
  readonly value: T;
  users: number;
  timer: NodeJS.Timeout | undefined;
}

/** By key. */
export class Shared<T extends { end(): void }> {
  readonly #held = new Map<string, Held<T>>();
  readonly #make: (key: string) => T;

  constructor(make: (key: string) => T) {
    this.#make = make;
  }

  /** How many there are. */
  get size(): number {
    return this.#held.size;
  }

  has(key: string): boolean {
    return this.#held.has(key);
  }

  /** Takes a part in the thing of this key. @returns it, and what gives it back */
  take(key: string): { value: T; leave: () => void } {
    let held = this.#held.get(key);
    if (!held) this.#held.set(key, (held = { value: this.#make(key), users: 0, timer: undefined }));
    const own = held;
    clearTimeout(own.timer);
    own.users++;
    let left = false;
    const leave = () => {
      if (left) return;
      left = true;
      if (--own.users > 0) return;
      own.timer = setTimeout(() => this.#end(key, own), LINGER_MS);
      own.timer.unref();
      // The last one is the one that was left last.
      if (this.#held.get(key) === own) {
        this.#held.delete(key);
        this.#held.set(key, own);
      }
      const idle = [...this.#held].filter(([, { users }]) => users === 0);
      for (const [old, gone] of idle.slice(0, Math.max(0, idle.length - MOST_LINGERING))) this.#end(old, gone);
    };
    return { value: own.value, leave };
  }

  close(): void {
    for (const [key, held] of [...this.#held]) this.#end(key, held);
  }

  #end(key: string, held: Held<T>): void {
    clearTimeout(held.timer);
    if (this.#held.get(key) === held) this.#held.delete(key);
    held.value.end();
  }
}
