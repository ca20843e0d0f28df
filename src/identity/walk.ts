/** Which manifest files there are under a directory, with what tells a changed file from an unchanged one. */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

export type Found =
  /** `signature` is empty where the file cannot be looked at: reading it will tell why. */
  | { readonly type: 'file'; readonly path: string; readonly signature: string }
  /** `inode` tells a directory from another of the same name. `linked`: holds the target of a link, not searched itself. */
  | { readonly type: 'directory'; readonly path: string; readonly inode: string; readonly linked: boolean }
  /** A directory that cannot be listed. */
  | { readonly type: 'problem'; readonly path: string; readonly message: string };

export function isManifestName(name: string): boolean {
  return !name.startsWith('.') && /\.ya?ml$/i.test(name);
}

/**
 * Depth first, in order of names. Names that begin with a dot are passed over: editors' and
 * version control's, and the `..data` of a ConfigMap mount, whose files are linked from beside it.
 * Links are followed; a directory that was visited is not visited again, so that links cannot go round.
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
      // Gone since it was listed, a link to nothing, or forbidden.
    }
    if (isManifestName(entry.name)) yield { type: 'file', path: inner, signature };
  }
}

/** Two states of a file with the same signature have the same content, unless both lie within one tick of the clock. */
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
