/** Watchers of the directories with namespaces and with results of CNIs. */
import { type FSWatcher, readdirSync, watch } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { netnsAt, RUN_NETNS } from '../netlink/netns.js';

/**
 * Calls back when a file is created, removed or written. Does not keep the process alive. If the directory does not
 * exist yet, its parent is watched until it does.
 */
export class DirectoryWatcher {
  readonly #dir: string;
  readonly #isUnfinished: (path: string) => boolean;
  readonly #onChange: () => void;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** @param unfinished whether a file will still change without an event */
  constructor(onChange: () => void, dir: string, unfinished: (path: string) => boolean = () => false) {
    this.#dir = dir;
    this.#isUnfinished = unfinished;
    this.#onChange = onChange;
    this.#start();
  }

  #start(): void {
    if (this.#closed) return;
    this.#watcher?.close();
    this.#watcher = undefined;
    for (const [dir, parent] of [
      [this.#dir, false],
      [dirname(this.#dir), true],
    ] as const) {
      try {
        this.#watcher = watch(dir, { persistent: false }, (_kind, name) => {
          if (!parent) {
            // An event with the directory's own name: the directory was removed.
            if (name === basename(this.#dir)) this.#start();
            this.#scheduleCallback(1);
          } else if (name === basename(this.#dir)) {
            this.#start();
            this.#scheduleCallback(1);
          }
        });
        this.#watcher.on('error', () => this.#start());
        return;
      } catch {
        // The directory does not exist: try the parent.
      }
    }
  }

  /** Calls back after `delay` ms, and again after 4, 16 … times that while a file is unfinished. */
  #scheduleCallback(delay: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#closed) return;
      this.#onChange();
      if (delay < 2000 && this.#hasUnfinished()) this.#scheduleCallback(delay * 4);
    }, delay);
    this.#timer.unref();
  }

  #hasUnfinished(): boolean {
    try {
      return readdirSync(this.#dir).some((name) => this.#isUnfinished(join(this.#dir, name)));
    } catch {
      return false;
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#watcher?.close();
  }
}

/**
 * Calls back when a namespace is added or removed under /run/netns. The file is created first; the namespace is mounted
 * over it a little later, without an event.
 */
export class NetnsWatcher extends DirectoryWatcher {
  constructor(onChange: () => void, dir = RUN_NETNS) {
    super(onChange, dir, (path) => netnsAt(path) === undefined);
  }
}
