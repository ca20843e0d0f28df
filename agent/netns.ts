/**
 * Network namespaces as files: /run/netns/NAME and /proc/PID/ns/net. One namespace
 * may have many files; its inode tells. No file descriptor is kept open: it
 * would keep the namespace alive after its pod has gone.
 */
import { type FSWatcher, readdirSync, statfsSync, statSync, watch } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { AgentError } from '../src/errors.js';

/** f_type of nsfs (linux/magic.h). */
const NSFS_MAGIC = 0x6e736673;

export const RUN_NETNS = '/run/netns';

/** A network namespace and one of the files by which to open it. */
export interface Netns {
  /** `dev:inode`: the namespace's identity while it lives. */
  readonly id: string;
  readonly path: string;
}

/** The namespace behind a file; undefined where there is none, or the file is no namespace. */
export function netnsAt(path: string): Netns | undefined {
  try {
    // `ip netns add` makes an empty file first and mounts the namespace over it.
    if (statfsSync(path).type !== NSFS_MAGIC) return undefined;
    const s = statSync(path);
    return { id: `${s.dev}:${s.ino}`, path };
  } catch {
    return undefined;
  }
}

/** The agent's own namespace. */
export function ownNetns(): Netns {
  const own = netnsAt('/proc/self/ns/net');
  if (!own) throw new AgentError('NETNS', '/proc/self/ns/net cannot be read', { hint: 'mount /proc' });
  return own;
}

/** The file that an `egress-agent.io/netns` annotation names: a path, or a name under /run/netns. */
export function annotationPath(value: string, runDir = RUN_NETNS): string {
  if (value.startsWith('/')) return resolve(value);
  if (value === '' || value === '.' || value === '..' || value.includes('/')) {
    throw new AgentError('NETNS', `"${value}" is neither an absolute path nor a name under ${runDir}`);
  }
  return join(runDir, value);
}

/** Processes whose namespace cannot be told (they have ended, or we may not) are passed over. */
function processNamespaces(procDir: string): Netns[] {
  const out: Netns[] = [];
  for (const pid of readdirSync(procDir)) {
    if (!/^[0-9]+$/.test(pid)) continue;
    const path = join(procDir, pid, 'ns/net');
    try {
      const s = statSync(path);
      out.push({ id: `${s.dev}:${s.ino}`, path });
    } catch {
      // gone
    }
  }
  return out;
}

/**
 * Every network namespace that has a file, each once: those under /run/netns
 * first (their names outlive processes), then those of processes. Seeing other
 * containers' processes needs the host's PID namespace.
 */
export function listNamespaces(opts: { runDir?: string; procDir?: string } = {}): Netns[] {
  const runDir = opts.runDir ?? RUN_NETNS;
  const out = new Map<string, Netns>();
  let names: string[] = [];
  try {
    names = readdirSync(runDir).sort();
  } catch {
    // No such directory: no named namespaces.
  }
  for (const name of names) {
    const ns = netnsAt(join(runDir, name));
    if (ns && !out.has(ns.id)) out.set(ns.id, ns);
  }
  for (const ns of processNamespaces(opts.procDir ?? '/proc')) if (!out.has(ns.id)) out.set(ns.id, ns);
  return [...out.values()];
}

/**
 * Calls back when a namespace comes or goes under /run/netns. Does not keep the
 * process alive. Where the directory does not exist yet its parent is watched until it does.
 */
export class NetnsWatcher {
  readonly #dir: string;
  readonly #onChange: () => void;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(onChange: () => void, dir = RUN_NETNS) {
    this.#dir = dir;
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
            // The directory itself was removed: inotify says so with its own name.
            if (name === basename(this.#dir)) this.#start();
            this.#changed(1);
          } else if (name === basename(this.#dir)) {
            this.#start();
            this.#changed(1);
          }
        });
        this.#watcher.on('error', () => this.#start());
        return;
      } catch {
        // Not there: try the parent.
      }
    }
  }

  /**
   * The event comes when the file is made, the namespace is mounted over it a little
   * later and without an event: look again after 1, 4, 16 … ms while a file is still empty.
   */
  #changed(delay: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#closed) return;
      this.#onChange();
      if (delay < 2000 && this.#unmounted()) this.#changed(delay * 4);
    }, delay);
    this.#timer.unref();
  }

  #unmounted(): boolean {
    try {
      return readdirSync(this.#dir).some((name) => netnsAt(join(this.#dir, name)) === undefined);
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
