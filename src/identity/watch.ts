/** Noticing changes of directories: inotify through fs.watch, gathered for a few milliseconds. */
import { type FSWatcher, watch } from 'node:fs';

/** A writer that truncates and writes again is waited for this long after its last event … */
const QUIET_MS = 3;
/** … but no longer than this after its first. */
const PATIENCE_MS = 20;

export interface Watched {
  readonly path: string;
  /** A directory that was replaced by another of the same name needs a new watch. */
  readonly inode: string;
}

export class DirectoryWatcher {
  private readonly watchers = new Map<string, { inode: string; watcher: FSWatcher }>();
  private timer: NodeJS.Timeout | undefined;
  private firstEvent = 0;
  /** Directories that cannot be watched, and why; the slow rescan still sees their files. */
  readonly failures = new Map<string, string>();

  /**
   * @param onEvent a name in a directory changed; null where the kernel does not say which. Returns whether it matters
   * @param onQuiet some events mattered, and then it was quiet
   */
  constructor(
    private readonly onEvent: (directory: string, name: string | null) => boolean,
    private readonly onQuiet: () => void,
  ) {}

  /** Watches exactly these directories. */
  set(directories: readonly Watched[]): void {
    const wanted = new Map(directories.map((d) => [d.path, d]));
    for (const [path, { inode, watcher }] of this.watchers) {
      if (wanted.get(path)?.inode === inode) continue;
      watcher.close();
      this.watchers.delete(path);
    }
    this.failures.clear();
    for (const directory of directories) this.add(directory);
  }

  /** Watches this one too. */
  add({ path, inode }: Watched): void {
    const known = this.watchers.get(path);
    if (known?.inode === inode) return;
    known?.watcher.close();
    this.watchers.delete(path);
    try {
      const watcher = watch(path, { persistent: false }, (_, name) => {
        if (this.onEvent(path, name)) this.stir();
      });
      // The directory went away: its parent's watch, or the rescan, finds out what is there now.
      watcher.on('error', () => this.stir());
      this.watchers.set(path, { inode, watcher });
    } catch (e) {
      this.failures.set(path, (e as Error).message);
    }
  }

  /** As if an event had come that matters. */
  stir(): void {
    const now = performance.now();
    if (this.timer === undefined) this.firstEvent = now;
    else if (now - this.firstEvent > PATIENCE_MS - QUIET_MS) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.onQuiet();
    }, QUIET_MS);
  }

  close(): void {
    clearTimeout(this.timer);
    for (const { watcher } of this.watchers.values()) watcher.close();
    this.watchers.clear();
  }
}
