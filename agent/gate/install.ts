/**
 * Puts the CNI gate into the node's CNI configuration, keeps it there, and takes it out.
 *
 * In force is the first configuration in the directory, by name. A list gets our plugin as its last. A
 * configuration of one plugin becomes a list in a file of our own, whose name sorts before it; the CNI's stays as it
 * was. The program is there before a configuration names it, and goes after the last one that does.
 */
import { type FSWatcher, readFileSync, type Stats, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../../src/errors.js';
import type { Logger } from '../../src/log.js';
import { type GateEntry, gateEntry, listOf, mentionsGate, withGate, withoutGate } from './conflist.js';
import { compareNames, configFiles, readConf, removeFile, removeLeftovers, replaceFile } from './files.js';

export interface GateOptions {
  /** Directory of the CNI programs, as the agent sees it. */
  binDir: string;
  /** Directory of the CNI configurations, as the agent sees it. */
  confDir: string;
  /** The agent's socket as the host sees it. */
  socket: string;
  /** How long the start of a pod is held at most, in seconds. */
  timeoutSeconds: number;
  /** What becomes of pods that start while the agent does not answer, or says no. */
  whenAgentDown: 'open' | 'closed';
  /** The compiled plugin. */
  binary: string;
}

export interface GateStatus {
  /** The configuration in force names the gate, and its program is there. */
  installed: boolean;
  /** The configuration in force, as the agent sees it. */
  file?: string;
  error?: string;
}

const PROGRAM = 'egress-gate';
const OWN_SUFFIX = '-egress-gate.conflist';

/** After a change in the directory: its writer may not be done yet. */
const SETTLE_MS = 200;
/** Without an event: what another mount of the directory changed, or one that came later. */
const RESCAN_MS = 60_000;
/** Repairs within this time make the next one wait longer: two who correct each other must not keep the node busy. */
const REPAIRS_MS = 600_000;
/** So many are no accident. */
const QUARREL = 6;

export class GateInstaller {
  readonly #opts: GateOptions;
  readonly #entry: GateEntry;
  readonly #log: Logger;
  #status: GateStatus = { installed: false };
  #watcher: FSWatcher | undefined;
  #rescan: NodeJS.Timeout | undefined;
  #timer: NodeJS.Timeout | undefined;
  #repairs: number[] = [];

  /** @throws AgentError USAGE where socket or time limit are not ones that the plugin takes */
  constructor(opts: GateOptions, log: Logger) {
    this.#opts = opts;
    this.#entry = gateEntry(opts);
    this.#log = log;
  }

  /**
   * Program first, configuration second. Where no CNI has written a configuration yet, `file` is undefined and
   * `watch` does the rest.
   * @throws AgentError GATE where a configuration cannot be read or written; then it is as it was
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
    const there = tryStat(path);
    const same = there?.size === content.length && (there.mode & 0o777) === 0o755 && readFileSync(path).equals(content);
    if (!same) replaceFile(path, { content, mode: 0o755 });
    return !same;
  }

  /** Puts the gate back whenever a CNI writes its configuration, and in where it comes later. Does not keep the process alive. */
  watch(): void {
    this.#rescan ??= setInterval(() => this.#again(), RESCAN_MS).unref();
    this.#again();
  }

  #again(): void {
    // The directory may be another by now: watched anew, then looked at, so that nothing is missed in between.
    this.#watcher?.close();
    this.#watcher = undefined;
    try {
      this.#watcher = watch(this.#opts.confDir, { persistent: false }, () => this.#soon());
      this.#watcher.on('error', () => undefined);
    } catch {
      // Not there yet.
    }
    this.#soon();
  }

  #soon(): void {
    if (this.#timer) return;
    const now = Date.now();
    this.#repairs = this.#repairs.filter((time) => now - time < REPAIRS_MS);
    const wait = Math.min(SETTLE_MS * 2 ** this.#repairs.length, RESCAN_MS);
    this.#timer = setTimeout(() => this.#repair(), wait).unref();
  }

  #repair(): void {
    this.#timer = undefined;
    const before = this.#status.error;
    try {
      const { changed, file } = this.install();
      if (!changed) return;
      this.#log.info('the CNI gate was put into the configuration', { file });
      if (this.#repairs.push(Date.now()) < QUARREL) return;
      this.#status.error = `another program keeps taking the CNI gate out of ${file}`;
      this.#log.warn(this.#status.error);
    } catch (e) {
      if (text(e) !== before) this.#log.warn(`the CNI gate is not in the configuration: ${text(e)}`);
    }
  }

  /** Ends watching; the gate stays where it is. */
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

/** The configuration in force gets the gate. */
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
  const content = named(from, () => listOf(readConf(from), entry));
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

/** The configuration of one plugin that a list of ours was made of. */
function sourceOf(own: string, files: readonly string[]): string | undefined {
  return files.find((name) => !name.endsWith('.conflist') && ownName(name) === own);
}

/** Lists of ours whose CNI has gone: a configuration that only we still have must not stay in force. */
function removeOrphans(confDir: string): boolean {
  const files = configFiles(confDir);
  const orphans = files.filter((name) => name.endsWith(OWN_SUFFIX) && sourceOf(name, files) === undefined);
  const ours = orphans.filter((name) => mentionsGate(readConf(join(confDir, name))));
  for (const name of ours) removeFile(join(confDir, name));
  return ours.length > 0;
}

/** Mode and owner stay. Whether anything changed. */
function edit(path: string, change: (text: string) => string): boolean {
  const before = readConf(path);
  const content = named(path, () => change(before));
  if (content === before) return false;
  const { mode, uid, gid } = statSync(path);
  replaceFile(path, { content, mode: mode & 0o7777, uid, gid, expected: before });
  return true;
}

/** Errors of the text get the name of its file. */
function named<T>(path: string, read: () => T): T {
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
 * Takes the gate out of every configuration, then its program away. The CNIs' own files are as they were, byte for
 * byte. The program stays where a configuration still names it (in a way that we do not write): pods could not
 * start without it. May be repeated.
 * @throws AgentError GATE where a configuration cannot be written
 */
export function uninstallGate(opts: { binDir: string; confDir: string }, log: Logger): void {
  const { binDir, confDir } = opts;
  const naming: string[] = [];
  let failure: unknown;
  removeLeftovers(confDir);
  for (const name of configFiles(confDir)) {
    const path = join(confDir, name);
    try {
      if (!mentionsGate(readConf(path))) continue;
      if (name.endsWith(OWN_SUFFIX)) removeFile(path);
      else if (name.endsWith('.conflist')) edit(path, withoutGate);
      else naming.push(path);
      if (name.endsWith('.conflist') && !name.endsWith(OWN_SUFFIX) && mentionsGate(readConf(path))) naming.push(path);
      else log.info('the CNI gate was taken out of the configuration', { file: path });
    } catch (e) {
      failure ??= e;
      naming.push(path);
    }
  }
  if (naming.length === 0) {
    removeLeftovers(binDir);
    removeFile(join(binDir, PROGRAM));
    return;
  }
  log.warn('the program of the CNI gate stays: configurations name it still', { files: naming.join(' ') });
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
