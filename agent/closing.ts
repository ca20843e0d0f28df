import type { Logger } from '../src/log.js';
import type { DirectoryLock } from './kernel/lock.js';

/** The timers, resources and locks that end with the agent. Resources are closed in reverse order of add(). */
export class Closing {
  readonly #log: Logger;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #closers: (() => void)[] = [];
  readonly #locks: DirectoryLock[] = [];

  constructor(log: Logger) {
    this.#log = log;
  }

  add(close: () => void): void {
    this.#closers.push(close);
  }

  /** A lock that release() gives up, after everything else is closed. */
  holdLock(lock: DirectoryLock): void {
    this.#locks.push(lock);
  }

  /** Runs a task every `ms` milliseconds. The first of consecutive faults is logged; the agent goes on. */
  every(ms: number, task: () => unknown): void {
    let failing = false;
    const timer = setInterval(() => {
      try {
        task();
        failing = false;
      } catch (e) {
        if (!failing) this.#log.error((e as Error).message);
        failing = true;
      }
    }, ms);
    this.#timers.push(timer);
  }

  /** Stops the timers and closes the resources; the locks stay. */
  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
    for (const close of this.#closers.splice(0).reverse()) {
      try {
        close();
      } catch (e) {
        this.#log.debug((e as Error).message);
      }
    }
  }

  /** Releases the locks. */
  release(): void {
    for (const lock of this.#locks.splice(0)) lock.release();
  }
}
