/**
 * The standalone source of Snapshots: a directory of ordinary Kubernetes YAML.
 *
 * What is known is kept per file and per document: a look at the directory parses only
 * what changed. A document that turns unparsable, a file that turns unreadable or a directory
 * that cannot be listed keep what they last held: a typing mistake must not open a network.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError, type Problem } from '../errors.js';
import { SnapshotBuilder } from './builder.js';
import { isRecord, type ParsedObject } from './fields.js';
import type { Snapshot } from './snapshot.js';
import { type Found, isManifestName, signatureOf, walk } from './walk.js';
import { DirectoryWatcher } from './watch.js';
import { type ManifestDocument, parseManifest } from './yaml.js';

export interface ManifestOptions {
  readonly nodeName: string;
  /** Addresses of this node's interfaces, asked for at each load. */
  readonly ownNodeIps: () => readonly string[];
  /** Milliseconds between looks at the whole directory, for what no event told. Default 10,000. */
  readonly rescanMs?: number;
}

/** Largest file that is read: a million CIDRs have about 30 MB. */
const MAX_FILE_BYTES = 64 << 20;
/** File times tick in jiffies: a file that changed this shortly before it was read may have changed again unseen. */
const RACY_MS = 20;
/** An empty file that was not empty before is most likely being written: so long is it given to become something. */
const EMPTY_GRACE_MS = 100;
/** A rescan yields to the rest of the agent after this long. */
const SLICE_MS = 4;

interface FileState {
  readonly signature: string;
  /** Read so soon after its change that the signature proves nothing. */
  readonly racy: boolean;
  readonly documents: readonly ManifestDocument[];
  /** Objects of earlier states whose documents cannot be read now. */
  readonly kept: readonly ParsedObject[];
  readonly problems: readonly Problem[];
  /** Became empty at this time (performance.now()), not believed yet. */
  readonly emptySince?: number;
}

export class ManifestSource {
  private readonly builder = new SnapshotBuilder();
  private readonly files = new Map<string, FileState>();
  /** Paths in order; undefined when a file came or went. */
  private order: readonly string[] | undefined;
  /** Files that became empty and are not believed yet. */
  private readonly emptied = new Set<string>();
  private readonly dirty = new Set<string>();
  private everything = true;
  private scanned = false;
  private scanProblems: readonly Problem[] = [];
  private directories: readonly Extract<Found, { type: 'directory' }>[] = [];
  private watcher: DirectoryWatcher | undefined;
  private rescanTimer: NodeJS.Timeout | undefined;
  private emptyTimer: NodeJS.Timeout | undefined;

  constructor(
    private readonly dir: string,
    private readonly options: ManifestOptions,
  ) {}

  /**
   * The world as the files say it. Without watch() each call looks at the whole directory; with it, at what changed.
   * @throws AgentError MANIFEST at the first call if the directory cannot be read
   */
  load(): Snapshot {
    if (this.everything || !this.watcher) this.scan();
    else for (const path of this.dirty) this.refresh(path);
    this.dirty.clear();
    this.order ??= [...this.files.keys()].sort();
    const problems = [...this.scanProblems, ...this.watchProblems()];
    const objects: ParsedObject[] = [];
    for (const path of this.order) {
      const state = this.files.get(path) as FileState;
      problems.push(...state.problems);
      for (const d of state.documents) {
        if (d.problems.length > 0) problems.push(...d.problems);
        for (const o of d.objects) objects.push(o);
      }
      for (const o of state.kept) objects.push(o);
    }
    this.expectEmptyFiles();
    return this.builder.build(objects, {
      nodeName: this.options.nodeName,
      ownNodeIps: this.options.ownNodeIps(),
      problems,
    });
  }

  /** Calls back some milliseconds after files changed; load() then tells what is there now. */
  watch(onChange: () => void): void {
    this.watcher = new DirectoryWatcher((directory, name) => this.noticed(directory, name), onChange);
    this.watcher.set(this.directories);
    // Changes between the last load() and now had no watch to see them.
    this.everything = true;
    this.watcher.stir();
    const every = this.options.rescanMs ?? 10_000;
    const again = () => {
      this.rescanTimer = setTimeout(() => void this.rescan().finally(() => this.watcher && again()), every);
      this.rescanTimer.unref();
    };
    again();
  }

  close(): void {
    this.watcher?.close();
    this.watcher = undefined;
    clearTimeout(this.rescanTimer);
    clearTimeout(this.emptyTimer);
  }

  private noticed(directory: string, name: string | null): boolean {
    const searched = this.directories.some((d) => d.path === directory && !d.linked);
    if (name === null || !searched || name.startsWith('..')) {
      this.everything = true; // `..data`: a ConfigMap mount was swapped
      return true;
    }
    if (name.startsWith('.')) return false;
    const path = join(directory, name);
    if (isManifestName(name)) {
      this.dirty.add(path);
      return true;
    }
    // Anything else matters if it is, or was, a directory; writers leave and rename files of other names.
    if (!this.directories.some((d) => d.path === path) && !isDirectory(path)) return false;
    this.everything = true;
    return true;
  }

  private scan(): void {
    const present = new Set<string>();
    const problems: Problem[] = [];
    const unreadable: string[] = [];
    const directories: Extract<Found, { type: 'directory' }>[] = [];
    this.everything = false;
    for (const found of walk(this.dir)) {
      if (found.type === 'directory') {
        // Watch first, read then: what changes in between is seen by one of the two.
        this.watcher?.add(found);
        directories.push(found);
      } else if (found.type === 'problem') {
        if (found.path === this.dir && !this.scanned)
          throw new AgentError('MANIFEST', found.message, { where: { file: this.dir } });
        unreadable.push(found.path);
        problems.push({
          severity: 'error',
          where: { file: found.path },
          message: found.message,
          hint: 'until then its last state counts',
        });
      } else {
        present.add(found.path);
        const state = this.files.get(found.path);
        const same = state && !state.racy && state.signature === found.signature && state.emptySince === undefined;
        if (!same || this.dirty.has(found.path)) this.refresh(found.path);
      }
    }
    for (const path of this.files.keys()) {
      const hidden = unreadable.some((p) => path.startsWith(`${p}/`));
      if (!present.has(path) && !hidden) this.forget(path);
    }
    this.directories = directories;
    this.watcher?.set(directories);
    this.scanProblems = problems;
    this.scanned = true;
  }

  private keep(path: string, state: FileState): void {
    if (!this.files.has(path)) this.order = undefined;
    this.files.set(path, state);
    if (state.emptySince === undefined) this.emptied.delete(path);
    else this.emptied.add(path);
  }

  private forget(path: string): void {
    if (this.files.delete(path)) this.order = undefined;
    this.emptied.delete(path);
  }

  /** Reads one file again, whatever its signature says. */
  private refresh(path: string): void {
    const before = this.files.get(path);
    let fd: number;
    try {
      // Without O_NONBLOCK a FIFO of that name would hold the agent.
      fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (e) {
      if (isGone(path)) this.forget(path);
      else this.keep(path, unreadableState(path, before, `cannot be read: ${(e as Error).message}`));
      return;
    }
    try {
      const stat = fstatSync(fd);
      if (stat.isDirectory()) {
        this.forget(path);
        this.everything = true;
        this.watcher?.stir();
        return;
      }
      if (!stat.isFile() || stat.size > MAX_FILE_BYTES) {
        const message = stat.isFile() ? `is larger than ${MAX_FILE_BYTES >> 20} MiB` : 'is not a regular file';
        this.keep(path, unreadableState(path, before, message));
        return;
      }
      const text = readFileSync(fd, 'utf8');
      const signature = signatureOf(stat);
      const racy = Date.now() - stat.ctimeMs < RACY_MS;
      if (text === '' && before && objectsOf(before).length > 0) {
        const since = before.emptySince ?? performance.now();
        if (performance.now() - since < EMPTY_GRACE_MS) {
          this.keep(path, { ...before, signature, racy: true, emptySince: since });
          return;
        }
      }
      const documents = parseManifest(path, text, before?.documents);
      const broken = documents.some((d) => d.broken);
      this.keep(path, {
        signature,
        racy,
        documents,
        kept: broken && before ? survivors(before, documents) : [],
        problems: [],
      });
    } catch (e) {
      this.keep(path, unreadableState(path, before, `cannot be read: ${(e as Error).message}`));
    } finally {
      closeSync(fd);
    }
  }

  /** The safety net: compares what is there with what is known, in slices, and calls for a load() if it differs. */
  private async rescan(): Promise<void> {
    let files = 0;
    let directories = 0;
    let differs = false;
    let sliceEnd = performance.now() + SLICE_MS;
    for (const found of walk(this.dir)) {
      if (found.type === 'file') {
        files++;
        const state = this.files.get(found.path);
        if (!state || state.racy || state.signature !== found.signature) {
          this.dirty.add(found.path);
          differs = true;
        }
      } else if (found.type === 'directory') {
        directories++;
        if (!this.directories.some((d) => d.path === found.path && d.inode === found.inode))
          this.everything = differs = true;
      }
      if (performance.now() > sliceEnd) {
        await new Promise((resolve) => setImmediate(resolve));
        if (!this.watcher) return;
        sliceEnd = performance.now() + SLICE_MS;
      }
    }
    if (files !== this.files.size || directories !== this.directories.length) this.everything = differs = true;
    if (differs) this.watcher?.stir();
  }

  /** No event will come for a file that is empty and stays so. */
  private expectEmptyFiles(): void {
    clearTimeout(this.emptyTimer);
    if (this.emptied.size === 0 || !this.watcher) return;
    this.emptyTimer = setTimeout(() => {
      for (const path of this.emptied) this.dirty.add(path);
      this.watcher?.stir();
    }, EMPTY_GRACE_MS + 5);
    this.emptyTimer.unref();
  }

  private watchProblems(): Problem[] {
    const seconds = (this.options.rescanMs ?? 10_000) / 1000;
    return [...(this.watcher?.failures ?? [])].map(([file, message]) => ({
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

/** Everything stays as it was but for the problem. */
function unreadableState(path: string, before: FileState | undefined, message: string): FileState {
  const hint = before && objectsOf(before).length > 0 ? 'until then its last state counts' : undefined;
  const problem: Problem = { severity: 'error', where: { file: path }, message, hint };
  let signature = '';
  try {
    signature = signatureOf(statSync(path));
  } catch {
    // A link to nothing has none; walk() gives it none either.
  }
  return { signature, racy: false, documents: before?.documents ?? [], kept: before?.kept ?? [], problems: [problem] };
}

/** Nothing of that name: a link to nothing is something. */
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

/** What the file held before and does not define any more: one of the broken documents may have. */
function survivors(before: FileState, documents: readonly ManifestDocument[]): ParsedObject[] {
  const defined = new Set(documents.flatMap((d) => d.objects.map(identity)));
  return objectsOf(before).filter((o) => !defined.has(identity(o)));
}

function identity({ object }: ParsedObject): string {
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  return JSON.stringify([object.kind, metadata.namespace, metadata.name]);
}
