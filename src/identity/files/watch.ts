/** Detects changes of directories with inotify (fs.watch), and groups them for a few milliseconds. */
import { type FSWatcher, watch } from 'node:fs';

/**
 * Time without events after which changes are reported, in milliseconds. It covers a writer that truncates a file and
 * writes it again …
 */
const QUIET_MS = 3;
/** … and the maximum time after the first event. */
const PATIENCE_MS = 20;

export interface Watched {
  readonly path: string;
  /** A directory that was replaced by another one with the same name needs a new watch. */
  readonly inode: string;
}

/** Watches a set of directories. */
export class DirectoryWatcher {
  readonly #onEvent: (directory: string, name: string | null) => boolean;
  readonly #onQuiet: () => void;
  readonly #watchers = new Map<string, { inode: string; watcher: FSWatcher }>();
  #timer: NodeJS.Timeout | undefined;
  #firstEvent = 0;
  /** Directories that cannot be watched, with the reasons. Periodic scans still find their changes. */
  readonly failures = new Map<string, string>();

  /**
   * @param onEvent a name in a directory changed; null if the kernel does not say which. Returns whether the change
   * matters
   * @param onQuiet called when no more events arrive after some that matter
   */
  constructor(onEvent: (directory: string, name: string | null) => boolean, onQuiet: () => void) {
    this.#onEvent = onEvent;
    this.#onQuiet = onQuiet;
  }

  /** Sets the directories to watch. */
  set(directories: readonly Watched[]): void {
    const wanted = new Map(directories.map((d) => [d.path, d]));
    for (const [path, { inode, watcher }] of this.#watchers) {
      if (wanted.get(path)?.inode === inode) continue;
      watcher.close();
      this.#watchers.delete(path);
    }
    this.failures.clear();
    for (const directory of directories) this.add(directory);
  }

  /** Adds a directory to watch. */
  add({ path, inode }: Watched): void {
    const known = this.#watchers.get(path);
    if (known?.inode === inode) return;
    known?.watcher.close();
    this.#watchers.delete(path);
    try {
      const watcher = watch(path, { persistent: false }, (_, name) => {
        if (this.#onEvent(path, name)) this.stir();
      });
      // The directory was deleted. The watch of its parent, or a scan, finds the new state.
      watcher.on('error', () => this.stir());
      this.#watchers.set(path, { inode, watcher });
    } catch (e) {
      this.failures.set(path, (e as Error).message);
    }
  }

  /** Acts as if an event that matters had arrived. */
  stir(): void {
    const now = performance.now();
    if (this.#timer === undefined) this.#firstEvent = now;
    else if (now - this.#firstEvent > PATIENCE_MS - QUIET_MS) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#onQuiet();
    }, QUIET_MS);
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const { watcher } of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }
}
