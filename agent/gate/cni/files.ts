/** Replaces files of the host atomically: readers see the old content or the new one. */
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AgentError } from '../../../src/errors.js';

/** Suffix of temporary files, which CNIs ignore: they read .conf, .conflist and .json. */
const TEMPORARY = '.egress-gate-new';
const MAX_CONF_BYTES = 1 << 20;

/** Names of network configurations as by libcni's ConfFiles(), in its order: sorted by bytes. */
export function configFiles(confDir: string): string[] {
  return names(confDir)
    .filter((name) => /\.(?:conf|conflist|json)$/.test(name))
    .sort(compareNames);
}

export function compareNames(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Names in a directory, except of subdirectories; none if it does not exist. @throws AgentError GATE */
function names(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((e) => !e.isDirectory())
      .map((e) => e.name);
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fileError(`${dir} cannot be read`, e);
  }
}

/** Reads a configuration. @throws AgentError GATE if it cannot be read, is longer than 1 MiB, or is not UTF-8 */
export function readConf(path: string): string {
  try {
    if (statSync(path).size > MAX_CONF_BYTES) throw new Error('it is longer than 1 MiB');
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(readFileSync(path));
  } catch (e) {
    throw fileError(`${path} cannot be read`, e);
  }
}

export interface Replacement {
  content: string | Buffer;
  mode: number;
  /** Owner; by default the agent's. */
  uid?: number;
  gid?: number;
  /** The content that was read before: if another program has changed it since, the file is not replaced. */
  expected?: string;
}

/**
 * Writes a temporary file beside the file, syncs it to disk, and renames it. If the path is a symbolic link, its target
 * is replaced, and the link stays.
 * @throws AgentError GATE
 */
export function replaceFile(path: string, by: Replacement): void {
  let target = path;
  try {
    target = realpathSync(path);
  } catch {
    // The file does not exist yet.
  }
  const dir = dirname(target);
  const temporary = join(dir, `.${basename(target)}.${process.pid}${TEMPORARY}`);
  try {
    rmSync(temporary, { force: true });
    writeNewFile(temporary, by);
    if (by.expected !== undefined && readFileSync(target, 'utf8') !== by.expected) {
      throw new Error('it was changed by another at the same time');
    }
    renameSync(temporary, target);
    syncDirectory(dir);
  } catch (e) {
    const hint = target === path ? undefined : `it is a symbolic link to ${target}: mount that directory too, writable`;
    throw fileError(`${path} cannot be written`, e, hint);
  } finally {
    rmSync(temporary, { force: true });
  }
}

function writeNewFile(path: string, { content, mode, uid, gid }: Replacement): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    const bytes = Buffer.from(content as Buffer);
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    const created = fstatSync(fd);
    // chown needs a capability: call it only if the owner differs.
    if ((uid ?? created.uid) !== created.uid || (gid ?? created.gid) !== created.gid)
      fchownSync(fd, uid ?? created.uid, gid ?? created.gid);
    fchmodSync(fd, mode);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Removes a file, if it exists. @throws AgentError GATE */
export function removeFile(path: string): void {
  try {
    rmSync(path, { force: true });
    syncDirectory(dirname(path));
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'ENOENT') throw fileError(`${path} cannot be removed`, e);
  }
}

/** Removes the temporary files of a process that was killed while it wrote. @throws AgentError GATE */
export function removeLeftovers(dir: string): void {
  for (const name of names(dir)) if (name.endsWith(TEMPORARY)) removeFile(join(dir, name));
}

function syncDirectory(dir: string): void {
  const fd = openSync(dir, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function fileError(message: string, cause: unknown, hint?: string): AgentError {
  const e = cause as NodeJS.ErrnoException;
  return new AgentError('GATE', `${message}: ${e.message}`, { hint, errno: e.code, cause });
}
