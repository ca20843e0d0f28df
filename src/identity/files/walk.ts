/** Finds the manifest files under a directory, with a signature that changes with a file. */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

export type Found =
  /** `signature` is empty if the file cannot be examined. Reading it will report the reason. */
  | { readonly type: 'file'; readonly path: string; readonly signature: string }
  /**
   * `inode` distinguishes the directory from another one with the same name. `linked`: it contains the target of a link
   * and is not searched itself.
   */
  | { readonly type: 'directory'; readonly path: string; readonly inode: string; readonly linked: boolean }
  /** A directory that cannot be listed. */
  | { readonly type: 'problem'; readonly path: string; readonly message: string };

/** Whether a file of this name is read as a manifest. */
export function isManifestName(name: string): boolean {
  return !name.startsWith('.') && /\.(ya?ml|json)$/i.test(name);
}

/**
 * Walks depth first, in order of names. Names that begin with a dot are skipped: those of editors and version control,
 * and `..data` of a ConfigMap mount, whose files are also linked from outside. Links are followed. A directory is
 * visited only once, so that links cannot form a loop.
 */
export function* walk(root: string): Generator<Found> {
  const visited = new Set<string>();
  const linked = new Set<string>();
  yield* walkDirectory(root, visited, linked);
  for (const path of linked) {
    const inode = inodeOf(path);
    if (inode !== undefined && !visited.has(inode)) yield { type: 'directory', path, inode, linked: true };
  }
}

function* walkDirectory(path: string, visited: Set<string>, linked: Set<string>): Generator<Found> {
  const inode = inodeOf(path);
  if (inode !== undefined && visited.has(inode)) return;
  let entries: { name: string; isSymbolicLink(): boolean; isDirectory(): boolean }[];
  try {
    entries = readdirSync(path, { withFileTypes: true });
  } catch (e) {
    yield { type: 'problem', path, message: `directory cannot be read: ${(e as Error).message}` };
    return;
  }
  visited.add(inode ?? path);
  yield { type: 'directory', path, inode: inode ?? '', linked: false };
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue;
    const inner = join(path, entry.name);
    if (!entry.isDirectory() && !entry.isSymbolicLink() && !isManifestName(entry.name)) continue;
    let signature = '';
    try {
      const stat = statSync(inner);
      if (stat.isDirectory()) {
        yield* walkDirectory(inner, visited, linked);
        continue;
      }
      signature = signatureOf(stat);
      if (entry.isSymbolicLink()) linked.add(dirname(realpathSync(inner)));
    } catch {
      // Deleted since it was listed, a link without a target, or not permitted.
    }
    if (isManifestName(entry.name)) yield { type: 'file', path: inner, signature };
  }
}

/**
 * The signature of a file. Two states with the same signature have the same content, unless both are within one tick of
 * the clock.
 */
export function signatureOf(stat: {
  dev: number;
  ino: number;
  size: number;
  mtimeMs: number;
  ctimeMs: number;
}): string {
  return `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeMs}:${stat.ctimeMs}`;
}

function inodeOf(path: string): string | undefined {
  try {
    const stat = statSync(path);
    return `${stat.dev}:${stat.ino}`;
  } catch {
    return undefined;
  }
}
