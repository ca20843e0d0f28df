/**
 * Installs the CNI gate in the node's CNI configuration, keeps it there, and uninstalls it.
 *
 * The first configuration in the directory, by name, is in force. If it is a list, our plugin is appended. If it is a
 * single-plugin configuration, a list with it is written to a file of our own, whose name sorts before it; the CNI's
 * file stays unchanged. The program is installed before a configuration names it, and removed after the last one.
 */
import { type FSWatcher, readFileSync, type Stats, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../../../src/errors.js';
import type { Logger } from '../../../src/log.js';
import { type GateEntry, gateEntry, listOf, mentionsGate, withGate, withoutGate } from './conflist.js';
import { compareNames, configFiles, readConf, removeFile, removeLeftovers, replaceFile } from './files.js';

export interface GateOptions {
  /** Directory of the CNI programs, as the agent sees it. */
  binDir: string;
  /** Directory of the CNI configurations, as the agent sees it. */
  confDir: string;
  /** Path of the agent's socket on the host. */
  socket: string;
  /** Longest time for which the start of a pod is held, seconds. */
  timeoutSeconds: number;
  /** Whether pods start (`open`) or not (`closed`) while the agent does not answer, or refuses. */
  whenAgentDown: 'open' | 'closed';
  /** The compiled plugin. */
  binary: string;
}

export interface GateStatus {
  /** The configuration in force names the gate, and its program is installed. */
  installed: boolean;
  /** The configuration in force, as the agent sees it. */
  file?: string;
  error?: string;
}

const PROGRAM = 'egress-gate';
const OWN_SUFFIX = '-egress-gate.conflist';

/** Pause after a change in the directory, milliseconds: its writer may not have finished yet. */
const SETTLE_MS = 200;
/** Period of checks without an event, milliseconds: for a directory that is mounted or created later. */
const RESCAN_MS = 60_000;
/**
 * Period, milliseconds, in which each repair makes the next one wait longer: two programs that undo each other's
 * changes must not keep the node busy.
 */
const REPAIRS_MS = 600_000;
/** Repairs within that time after which another program is reported to undo them. */
const QUARREL_REPAIRS = 6;

export class GateInstaller {
  readonly #opts: GateOptions;
  readonly #entry: GateEntry;
  readonly #log: Logger;
  #status: GateStatus = { installed: false };
  #watcher: FSWatcher | undefined;
  #rescan: NodeJS.Timeout | undefined;
  #timer: NodeJS.Timeout | undefined;
  #repairs: number[] = [];

  /** @throws AgentError USAGE if the plugin does not accept the socket's path or the time limit */
  constructor(opts: GateOptions, log: Logger) {
    this.#opts = opts;
    this.#entry = gateEntry(opts);
    this.#log = log;
  }

  /**
   * Installs the program, then the configuration. If no CNI has written a configuration yet, `file` is undefined, and
   * watch() installs it later.
   * @throws AgentError GATE if a configuration cannot be read or written; it is unchanged then
   */
  install(): { changed: boolean; file: string | undefined } {
    try {
      const program = this.#installProgram();
      removeLeftovers(this.#opts.confDir);
      const { changed, file } = installConf(this.#opts.confDir, this.#entry);
      this.#status = { installed: file !== undefined, file };
      if (file === undefined) this.#status.error = `no CNI has a configuration in ${this.#opts.confDir} yet`;
      return { changed: program || changed, file };
    } catch (e) {
      this.#status = { installed: false, error: text(e) };
      throw e;
    }
  }

  #installProgram(): boolean {
    const { binDir, binary } = this.#opts;
    const path = join(binDir, PROGRAM);
    let content: Buffer;
    try {
      content = readFileSync(binary);
    } catch (cause) {
      throw new AgentError('GATE', `the CNI plugin ${binary} cannot be read: ${(cause as Error).message}`, { cause });
    }
    removeLeftovers(binDir);
    const existing = tryStat(path);
    const same =
      existing?.size === content.length && (existing.mode & 0o777) === 0o755 && readFileSync(path).equals(content);
    if (!same) replaceFile(path, { content, mode: 0o755 });
    return !same;
  }

  /** Installs the gate again whenever a CNI writes its configuration. Does not keep the process alive. */
  watch(): void {
    this.#rescan ??= setInterval(() => this.#rewatch(), RESCAN_MS).unref();
    this.#rewatch();
  }

  #rewatch(): void {
    // The directory may have been replaced. Watch it first and check it then, so that no change is missed in between.
    this.#watcher?.close();
    this.#watcher = undefined;
    try {
      this.#watcher = watch(this.#opts.confDir, { persistent: false }, () => this.#scheduleRepair());
      this.#watcher.on('error', () => undefined);
    } catch {
      // The directory does not exist yet.
    }
    this.#scheduleRepair();
  }

  #scheduleRepair(): void {
    if (this.#timer) return;
    const now = Date.now();
    this.#repairs = this.#repairs.filter((time) => now - time < REPAIRS_MS);
    const wait = Math.min(SETTLE_MS * 2 ** this.#repairs.length, RESCAN_MS);
    this.#timer = setTimeout(() => this.#repair(), wait).unref();
  }

  #repair(): void {
    this.#timer = undefined;
    const previousError = this.#status.error;
    try {
      const { changed, file } = this.install();
      if (!changed) return;
      this.#log.info('the CNI gate was added to the configuration', { file });
      if (this.#repairs.push(Date.now()) < QUARREL_REPAIRS) return;
      this.#status.error = `another program keeps removing the CNI gate from ${file}`;
      this.#log.warn(this.#status.error);
    } catch (e) {
      if (text(e) !== previousError) this.#log.warn(`the CNI gate is not in the configuration: ${text(e)}`);
    }
  }

  /** Stops watching; the gate stays installed. */
  close(): void {
    clearInterval(this.#rescan);
    clearTimeout(this.#timer);
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#rescan = undefined;
    this.#timer = undefined;
  }

  status(): GateStatus {
    return { ...this.#status };
  }
}

/** Adds the gate to the configuration in force. */
function installConf(confDir: string, entry: GateEntry): { changed: boolean; file: string | undefined } {
  const orphans = removeOrphans(confDir);
  const files = configFiles(confDir);
  const first = files[0];
  if (first === undefined) return { changed: orphans, file: undefined };
  const source = first.endsWith('.conflist') ? sourceOf(first, files) : first;
  if (source === undefined) {
    const path = join(confDir, first);
    const changed = edit(path, (text) => withGate(text, entry));
    return { changed: changed || orphans, file: path };
  }
  const own = ownName(source);
  if (compareNames(own, first) > 0) throw new AgentError('GATE', `${own} would not be read before ${first}`);
  const from = join(confDir, source);
  const path = join(confDir, own);
  const content = withFileName(from, () => listOf(readConf(from), entry));
  const current = files.includes(own) ? readConf(path) : undefined;
  if (current === content) return { changed: orphans, file: path };
  const { mode, uid, gid } = statSync(from);
  replaceFile(path, { content, mode: mode & 0o777, uid, gid });
  return { changed: true, file: path };
}

/** `10-x.conf` → `10-x-egress-gate.conflist`: `-` sorts before `.`. */
function ownName(source: string): string {
  return source.slice(0, source.lastIndexOf('.')) + OWN_SUFFIX;
}

/** The single-plugin configuration from which a list of ours was made. */
function sourceOf(own: string, files: readonly string[]): string | undefined {
  return files.find((name) => !name.endsWith('.conflist') && ownName(name) === own);
}

/** Removes lists of ours whose CNI's own file was deleted: such a configuration must not stay in force. */
function removeOrphans(confDir: string): boolean {
  const files = configFiles(confDir);
  const orphans = files.filter((name) => name.endsWith(OWN_SUFFIX) && sourceOf(name, files) === undefined);
  const generated = orphans.filter((name) => mentionsGate(readConf(join(confDir, name))));
  for (const name of generated) removeFile(join(confDir, name));
  return generated.length > 0;
}

/** Edits a file; its mode and owner stay. @returns whether anything changed */
function edit(path: string, change: (text: string) => string): boolean {
  const original = readConf(path);
  const content = withFileName(path, () => change(original));
  if (content === original) return false;
  const { mode, uid, gid } = statSync(path);
  replaceFile(path, { content, mode: mode & 0o7777, uid, gid, expected: original });
  return true;
}

/** Runs `read`, and adds the file's name to its errors. */
function withFileName<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (e) {
    if (!(e instanceof AgentError)) throw e;
    throw new AgentError(e.code, `${path}: ${e.message}`, {
      where: { file: path },
      hint: e.hint ?? 'correct the file, or remove it; the CNI gate has left it as it is',
      cause: e,
    });
  }
}

/**
 * Removes the gate from every configuration, then its program. The CNIs' own files become what they were, byte for
 * byte. The program stays if a configuration still names it (in a form that the agent does not write): pods could not
 * start without it. May be repeated.
 * @throws AgentError GATE if a configuration cannot be written
 */
export function uninstallGate(opts: { binDir: string; confDir: string }, log: Logger): void {
  const { binDir, confDir } = opts;
  const remaining: string[] = [];
  let failure: unknown;
  removeLeftovers(confDir);
  for (const name of configFiles(confDir)) {
    const path = join(confDir, name);
    try {
      if (!mentionsGate(readConf(path))) continue;
      if (name.endsWith(OWN_SUFFIX)) removeFile(path);
      else if (name.endsWith('.conflist')) edit(path, withoutGate);
      else remaining.push(path);
      if (name.endsWith('.conflist') && !name.endsWith(OWN_SUFFIX) && mentionsGate(readConf(path)))
        remaining.push(path);
      else log.info('the CNI gate was removed from the configuration', { file: path });
    } catch (e) {
      failure ??= e;
      remaining.push(path);
    }
  }
  if (remaining.length === 0) {
    removeLeftovers(binDir);
    removeFile(join(binDir, PROGRAM));
    return;
  }
  log.warn('the program of the CNI gate stays: configurations still name it', { files: remaining.join(' ') });
  if (failure !== undefined) throw failure;
}

function tryStat(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function text(e: unknown): string {
  if (!(e instanceof AgentError)) return e instanceof Error ? e.message : String(e);
  return e.hint ? `${e.message} — ${e.hint}` : e.message;
}
