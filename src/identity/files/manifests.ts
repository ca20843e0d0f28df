/**
 * The source of Snapshots without a cluster: a directory of ordinary Kubernetes YAML.
 *
 * The state is kept per file and per document, so an update parses only what changed. A document that becomes invalid,
 * a file that becomes unreadable, or a directory that cannot be listed keep their last valid content. Without it, a
 * typing mistake in a policy would open the network.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError, type Problem } from '../../errors.js';
import { SnapshotBuilder } from '../builder.js';
import { isRecord, type ParsedObject } from '../fields.js';
import type { Snapshot } from '../snapshot.js';
import { type Found, isManifestName, signatureOf, walk } from './walk.js';
import { DirectoryWatcher } from './watch.js';
import { type ManifestDocument, parseManifest } from './yaml.js';

export interface ManifestOptions {
  readonly nodeName: string;
  /** Addresses of this node's interfaces; called by each load(). */
  readonly ownNodeIps: () => readonly string[];
  /** Milliseconds between scans of the whole directory, for changes without an event. Default: 10,000. */
  readonly rescanMs?: number;
}

/** Maximum size of a file: a million CIDRs have about 30 MB. */
const MAX_FILE_BYTES = 64 << 20;
/**
 * Resolution of file times in milliseconds (jiffies). A file that changed within this time before it was read may have
 * changed again without a new time.
 */
const RACY_MS = 20;
/**
 * Time for which the old content of a file stays valid after it became empty, in milliseconds: most likely it is being
 * written.
 */
const EMPTY_GRACE_MS = 100;
/** A scan yields to the rest of the agent after this time, in milliseconds. */
const SLICE_MS = 4;

interface FileState {
  readonly signature: string;
  /** Whether it was read so soon after its change that an equal signature proves nothing. */
  readonly racy: boolean;
  readonly documents: readonly ManifestDocument[];
  /** Objects of earlier states whose documents cannot be read now. */
  readonly kept: readonly ParsedObject[];
  readonly problems: readonly Problem[];
  /** When it became empty (performance.now()), while its old content is still valid. */
  readonly emptySince?: number;
}

/** Loads Snapshots from a directory, and watches it for changes. */
export class ManifestSource {
  readonly #dir: string;
  readonly #options: ManifestOptions;
  readonly #builder = new SnapshotBuilder();
  readonly #files = new Map<string, FileState>();
  /** Paths in order; undefined after a file was added or deleted. */
  #order: readonly string[] | undefined;
  /** Files that became empty, while their old content is still valid. */
  readonly #emptied = new Set<string>();
  readonly #dirty = new Set<string>();
  #everything = true;
  #scanned = false;
  #scanProblems: readonly Problem[] = [];
  #directories: readonly Extract<Found, { type: 'directory' }>[] = [];
  #watcher: DirectoryWatcher | undefined;
  #rescanTimer: NodeJS.Timeout | undefined;
  #emptyTimer: NodeJS.Timeout | undefined;

  constructor(dir: string, options: ManifestOptions) {
    this.#dir = dir;
    this.#options = options;
  }

  /**
   * The Snapshot of the files. Without watch(), each call scans the whole directory; with it, only what changed.
   * @throws AgentError MANIFEST at the first call if the directory cannot be read
   */
  load(): Snapshot {
    if (this.#everything || !this.#watcher) this.#scan();
    else for (const path of this.#dirty) this.#refresh(path);
    this.#dirty.clear();
    this.#order ??= [...this.#files.keys()].sort();
    const problems = [...this.#scanProblems, ...this.#watchProblems()];
    const objects: ParsedObject[] = [];
    for (const path of this.#order) {
      const state = this.#files.get(path) as FileState;
      problems.push(...state.problems);
      for (const d of state.documents) {
        if (d.problems.length > 0) problems.push(...d.problems);
        for (const o of d.objects) objects.push(o);
      }
      for (const o of state.kept) objects.push(o);
    }
    this.#expectEmptyFiles();
    return this.#builder.build(objects, {
      nodeName: this.#options.nodeName,
      ownNodeIps: this.#options.ownNodeIps(),
      problems,
    });
  }

  /** Calls `onChange` some milliseconds after files changed; load() then returns the new state. */
  watch(onChange: () => void): void {
    this.#watcher = new DirectoryWatcher((directory, name) => this.#noticed(directory, name), onChange);
    this.#watcher.set(this.#directories);
    // Changes between the last load() and now were not watched.
    this.#everything = true;
    this.#watcher.stir();
    const every = this.#options.rescanMs ?? 10_000;
    const again = () => {
      this.#rescanTimer = setTimeout(() => void this.#rescan().finally(() => this.#watcher && again()), every);
      this.#rescanTimer.unref();
    };
    again();
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    clearTimeout(this.#rescanTimer);
    clearTimeout(this.#emptyTimer);
  }

  #noticed(directory: string, name: string | null): boolean {
    const searched = this.#directories.some((d) => d.path === directory && !d.linked);
    if (name === null || !searched || name.startsWith('..')) {
      this.#everything = true; // `..data`: the content of a ConfigMap mount was replaced
      return true;
    }
    if (name.startsWith('.')) return false;
    const path = join(directory, name);
    if (isManifestName(name)) {
      this.#dirty.add(path);
      return true;
    }
    // Any other name matters only if it is, or was, a directory: writers create and rename files of other names.
    if (!this.#directories.some((d) => d.path === path) && !isDirectory(path)) return false;
    this.#everything = true;
    return true;
  }

  #scan(): void {
    const present = new Set<string>();
    const problems: Problem[] = [];
    const unreadable: string[] = [];
    const directories: Extract<Found, { type: 'directory' }>[] = [];
    this.#everything = false;
    for (const found of walk(this.#dir)) {
      if (found.type === 'directory') {
        // The watch starts before the directory is read, so that no change in between is missed.
        this.#watcher?.add(found);
        directories.push(found);
      } else if (found.type === 'problem') {
        if (found.path === this.#dir && !this.#scanned)
          throw new AgentError('MANIFEST', found.message, { where: { file: this.#dir } });
        unreadable.push(found.path);
        problems.push({
          severity: 'error',
          where: { file: found.path },
          message: found.message,
          hint: 'until then its last state counts',
        });
      } else {
        present.add(found.path);
        const state = this.#files.get(found.path);
        const same = state && !state.racy && state.signature === found.signature && state.emptySince === undefined;
        if (!same || this.#dirty.has(found.path)) this.#refresh(found.path);
      }
    }
    for (const path of this.#files.keys()) {
      const hidden = unreadable.some((p) => path.startsWith(`${p}/`));
      if (!present.has(path) && !hidden) this.#forget(path);
    }
    this.#directories = directories;
    this.#watcher?.set(directories);
    this.#scanProblems = problems;
    this.#scanned = true;
  }

  #keep(path: string, state: FileState): void {
    if (!this.#files.has(path)) this.#order = undefined;
    this.#files.set(path, state);
    if (state.emptySince === undefined) this.#emptied.delete(path);
    else this.#emptied.add(path);
  }

  #forget(path: string): void {
    if (this.#files.delete(path)) this.#order = undefined;
    this.#emptied.delete(path);
  }

  /** Reads one file again, whatever its signature. */
  #refresh(path: string): void {
    const before = this.#files.get(path);
    let fd: number;
    try {
      // Without O_NONBLOCK, opening a FIFO of that name would block the agent.
      fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (e) {
      if (isGone(path)) this.#forget(path);
      else this.#keep(path, unreadableState(path, before, `cannot be read: ${(e as Error).message}`));
      return;
    }
    try {
      const stat = fstatSync(fd);
      if (stat.isDirectory()) {
        this.#forget(path);
        this.#everything = true;
        this.#watcher?.stir();
        return;
      }
      if (!stat.isFile() || stat.size > MAX_FILE_BYTES) {
        const message = stat.isFile() ? `is larger than ${MAX_FILE_BYTES >> 20} MiB` : 'is not a regular file';
        this.#keep(path, unreadableState(path, before, message));
        return;
      }
      const text = readFileSync(fd, 'utf8');
      const signature = signatureOf(stat);
      const racy = Date.now() - stat.ctimeMs < RACY_MS;
      if (text === '' && before && objectsOf(before).length > 0) {
        const since = before.emptySince ?? performance.now();
        if (performance.now() - since < EMPTY_GRACE_MS) {
          this.#keep(path, { ...before, signature, racy: true, emptySince: since });
          return;
        }
      }
      const documents = parseManifest(path, text, before?.documents);
      const broken = documents.some((d) => d.broken);
      this.#keep(path, {
        signature,
        racy,
        documents,
        kept: broken && before ? survivors(before, documents) : [],
        problems: [],
      });
    } catch (e) {
      this.#keep(path, unreadableState(path, before, `cannot be read: ${(e as Error).message}`));
    } finally {
      closeSync(fd);
    }
  }

  /**
   * Compares the directory with the known state, in slices, and triggers a load() if they differ. It finds changes
   * without events.
   */
  async #rescan(): Promise<void> {
    let files = 0;
    let directories = 0;
    let differs = false;
    let sliceEnd = performance.now() + SLICE_MS;
    for (const found of walk(this.#dir)) {
      if (found.type === 'file') {
        files++;
        const state = this.#files.get(found.path);
        if (!state || state.racy || state.signature !== found.signature) {
          this.#dirty.add(found.path);
          differs = true;
        }
      } else if (found.type === 'directory') {
        directories++;
        if (!this.#directories.some((d) => d.path === found.path && d.inode === found.inode))
          this.#everything = differs = true;
      }
      if (performance.now() > sliceEnd) {
        await new Promise((resolve) => setImmediate(resolve));
        if (!this.#watcher) return;
        sliceEnd = performance.now() + SLICE_MS;
      }
    }
    if (files !== this.#files.size || directories !== this.#directories.length) this.#everything = differs = true;
    if (differs) this.#watcher?.stir();
  }

  /** Rechecks files that became empty, since a file that stays empty causes no event. */
  #expectEmptyFiles(): void {
    clearTimeout(this.#emptyTimer);
    if (this.#emptied.size === 0 || !this.#watcher) return;
    this.#emptyTimer = setTimeout(() => {
      for (const path of this.#emptied) this.#dirty.add(path);
      this.#watcher?.stir();
    }, EMPTY_GRACE_MS + 5);
    this.#emptyTimer.unref();
  }

  #watchProblems(): Problem[] {
    const seconds = (this.#options.rescanMs ?? 10_000) / 1000;
    return [...(this.#watcher?.failures ?? [])].map(([file, message]) => ({
      severity: 'warning',
      where: { file },
      message: `cannot be watched (${message}): changes are noticed within ${seconds} s`,
      hint: 'raise fs.inotify.max_user_watches and max_user_instances',
    }));
  }
}

function objectsOf(state: FileState): ParsedObject[] {
  return [...state.documents.flatMap((d) => d.objects), ...state.kept];
}

/** The previous state with a problem. */
function unreadableState(path: string, before: FileState | undefined, message: string): FileState {
  const hint = before && objectsOf(before).length > 0 ? 'until then its last state counts' : undefined;
  const problem: Problem = { severity: 'error', where: { file: path }, message, hint };
  let signature = '';
  try {
    signature = signatureOf(statSync(path));
  } catch {
    // A link without a target has none, as in walk().
  }
  return { signature, racy: false, documents: before?.documents ?? [], kept: before?.kept ?? [], problems: [problem] };
}

/** Whether nothing has that name. A link without a target counts as something. */
function isGone(path: string): boolean {
  try {
    lstatSync(path);
    return false;
  } catch {
    return true;
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** Objects that the file contained before and no longer does: one of its invalid documents may define them. */
function survivors(before: FileState, documents: readonly ManifestDocument[]): ParsedObject[] {
  const defined = new Set(documents.flatMap((d) => d.objects.map(identity)));
  return objectsOf(before).filter((o) => !defined.has(identity(o)));
}

function identity({ object }: ParsedObject): string {
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  return JSON.stringify([object.kind, metadata.namespace, metadata.name]);
}
