/** Bounds of what is imported, so that a hostile file costs a message and not the machine. */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { AgentError } from '../../errors.js';

/** Bytes of one file, and of all. */
export const MAX_BYTES = 64 * 1024 * 1024;
/** Rules of a source, after all of its lines and lists were read. */
export const MAX_RULES = 20_000;
/** Names of a source. */
export const MAX_NAMES = 500_000;

/** Throws if there are too many. @param what in plural */
export function bound(count: number, most: number, what: string, file?: string): void {
  if (count <= most) return;
  throw new AgentError('TOO_LARGE', `more than ${most} ${what}`, {
    ...(file === undefined ? {} : { where: { file } }),
    hint: 'import it in parts',
  });
}

/**
 * Reads a text file. A Latin-1 byte or any other that is no UTF-8 becomes a character that no name has.
 * @throws AgentError MANIFEST if it cannot be read, or TOO_LARGE
 */
export function readList(file: string, from?: string): string {
  const suffix = from === undefined ? '' : `, which ${from} names`;
  let fd: number | undefined;
  try {
    fd = openSync(file, 'r');
    const stat = fstatSync(fd);
    if (stat.isDirectory()) throw new Error('is a directory');
    bound(stat.size, MAX_BYTES, 'bytes', file);
    const text = readFileSync(fd, 'utf8');
    return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  } catch (e) {
    if (e instanceof AgentError) throw e;
    const reason = (e as Error).message;
    throw new AgentError('MANIFEST', `${file}${suffix} cannot be read: ${reason}`, { where: { file } });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
