/**
 * The node's secret, with which ids are hashed (src/ids.ts). Without it, the author of a policy could search for
 * content whose id collides with another's.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Name of the file in the run directory. */
export const KEY_FILE = 'ids.key';

/** Size of the secret in bytes; the file contains it in hexadecimal. */
const SIZE = 32;
const OTHERS = 0o077;

export interface NodeKey {
  readonly key: string;
  /** The secret is new: there was none, or none that could be used. */
  readonly fresh: boolean;
}

/** The secret in a directory, created if there is none. A damaged one, or one that others can read, is replaced. */
export function nodeKey(dir: string): NodeKey {
  const path = join(dir, KEY_FILE);
  const existing = read(path);
  if (existing !== undefined) return { key: existing, fresh: false };
  const key = randomBytes(SIZE).toString('hex');
  const { O_CREAT, O_TRUNC, O_WRONLY, O_NOFOLLOW } = constants;
  const file = openSync(`${path}.new`, O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW, 0o600);
  try {
    writeFileSync(file, `${key}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.new`, path);
  const directory = openSync(dir, constants.O_RDONLY);
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
  return { key, fresh: true };
}

function read(path: string): string | undefined {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return undefined;
  }
  try {
    const { mode, uid } = fstatSync(file);
    const key = readFileSync(file, 'latin1').trim();
    const isPrivate = (mode & OTHERS) === 0 && uid === process.geteuid?.();
    return isPrivate && key.length === SIZE * 2 && /^[0-9a-f]+$/.test(key) ? key : undefined;
  } finally {
    closeSync(file);
  }
}
