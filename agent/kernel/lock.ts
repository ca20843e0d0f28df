/**
 * Locks on the run directory and the pin directory, so that each has one agent: two would take each other's maps and
 * hooks for their own. The kernel holds the locks (flock) exactly as long as the process lives, however it ends.
 */
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, statSync, writeSync, ftruncateSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../../src/errors.js';
import { sys } from './libbpf/sys.js';

/** Name of the lock file in the run directory. It contains the holder's process id, for people. */
export const LOCK_FILE = 'agent.lock';

export class DirectoryLock {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Locks a run directory and creates it if needed. @throws AgentError AGENT if another process holds it */
  static run(dir: string): DirectoryLock {
    mkdirSync(dir, { recursive: true, mode: 0o750 });
    const path = join(dir, LOCK_FILE);
    const fd = acquire(`run directory ${dir}`, '--run-dir', () => openSync(path, 'a+', 0o600), path);
    ftruncateSync(fd);
    writeSync(fd, `${process.pid}\n`);
    return new DirectoryLock(fd);
  }

  /**
   * Locks a pin directory and creates it if needed. A BPF file system has no ordinary files: the directory itself is
   * locked. @throws AgentError AGENT if another process holds it
   */
  static pins(dir: string): DirectoryLock {
    const open = () => {
      mkdirSync(dir, { recursive: true });
      return openSync(dir, 'r');
    };
    return new DirectoryLock(acquire(`pin directory ${dir}`, '--pin-dir', open, dir));
  }

  release(): void {
    closeSync(this.#fd);
  }
}

function acquire(what: string, option: string, open: () => number, path: string): number {
  for (;;) {
    const fd = open();
    try {
      if (!sys.lock(fd)) throw inUseError(what, option, fd);
      // The last holder (`detach`) may have removed the file after it was opened here: another process would then
      // lock a new file of that name.
      if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) return fd;
      closeSync(fd);
    } catch (e) {
      closeSync(fd);
      throw e;
    }
  }
}

function inUseError(what: string, option: string, fd: number): AgentError {
  const pid = holder(fd);
  const who = pid === undefined ? 'a process that is not seen from here' : `process ${pid}`;
  return new AgentError('AGENT', `the ${what} is in use by ${who}`, {
    hint: `an agent is running already: end it first, or give this one a ${option} of its own`,
  });
}

/** Id of the process that holds the lock; undefined: it is in another PID namespace, or has ended. */
function holder(fd: number): number | undefined {
  const { dev, ino } = fstatSync(fd);
  // These file systems have no large device numbers.
  const hex = (n: number) => n.toString(16).padStart(2, '0');
  const file = `${hex((dev >> 8) & 0xfff)}:${hex((dev & 0xff) | ((dev >> 12) & 0xfff00))}:${ino}`;
  try {
    // 1: FLOCK  ADVISORY  WRITE 4711 00:1a:9876 0 EOF
    const line = readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .find((l) => / FLOCK +ADVISORY +WRITE /.test(l) && l.includes(` ${file} `));
    const pid = Number(line?.trim().split(/ +/)[4]);
    return pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}
