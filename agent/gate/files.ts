/** Files of the host that are replaced in one step: whoever reads them sees the old content or the new one. */
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
import { AgentError } from '../../src/errors.js';

/** What CNIs pass over: they read .conf, .conflist and .json. */
const TEMPORARY = '.egress-gate-new';
const MAX_CONF_BYTES = 1 << 20;

/** libcni's ConfFiles(): what it takes for a network configuration, in the order in which it looks, by bytes. */
export function configFiles(confDir: string): string[] {
  return names(confDir)
    .filter((name) => /\.(?:conf|conflist|json)$/.test(name))
    .sort(compareNames);
}

export function compareNames(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Names of what is no directory; none where the directory is not there. @throws AgentError GATE */
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

/** @throws AgentError GATE where it cannot be read, is longer than 1 MiB, or is no UTF-8 */
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
  /** Owner; default: ours. */
  uid?: number;
  gid?: number;
  /** What was read from it: if another wrote it since, it is left alone. */
  expected?: string;
}

/**
 * Writes beside the file, to disk, and renames. A file that a symbolic link leads to is replaced where it is; the
 * link stays.
 * @throws AgentError GATE
 */
export function replaceFile(path: string, by: Replacement): void {
  let target = path;
  try {
    target = realpathSync(path);
  } catch {
    // It is not there yet.
  }
  const dir = dirname(target);
  const temporary = join(dir, `.${basename(target)}.${process.pid}${TEMPORARY}`);
  try {
    rmSync(temporary, { force: true });
    writeDown(temporary, by);
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

function writeDown(path: string, { content, mode, uid, gid }: Replacement): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    const bytes = Buffer.from(content as Buffer);
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    const now = fstatSync(fd);
    // Giving a file away needs a capability: only where it is another's.
    if ((uid ?? now.uid) !== now.uid || (gid ?? now.gid) !== now.gid) fchownSync(fd, uid ?? now.uid, gid ?? now.gid);
    fchmodSync(fd, mode);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** @throws AgentError GATE */
export function removeFile(path: string): void {
  try {
    rmSync(path, { force: true });
    syncDirectory(dirname(path));
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'ENOENT') throw fileError(`${path} cannot be removed`, e);
  }
}

/** What a process that was killed while it wrote has left. */
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
