/** The file that says since when policies have their present contents. */
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { isRecord } from '../../src/identity/fields.js';
import type { Seen } from '../../src/tools/policies/since.js';

export const AGES_FILE = 'policy-ages';

/** More than the policies of any cluster take. */
const MOST_BYTES = 32 << 20;

/** What was saved; nothing if the file cannot be read: the time begins anew then. */
export function readAges(path: string): [string, Seen][] {
  try {
    if (statSync(path).size > MOST_BYTES) return [];
    const all: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return Array.isArray(all) ? all.filter(isAge) : [];
  } catch {
    return [];
  }
}

/** Replaces the file in one step. @throws if the disk is full */
export function writeAges(path: string, ages: ReadonlyMap<string, Seen>): void {
  writeFileSync(`${path}.new`, JSON.stringify([...ages]), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function isAge(entry: unknown): entry is [string, Seen] {
  const [key, seen] = Array.isArray(entry) ? (entry as unknown[]) : [];
  if (typeof key !== 'string' || !isRecord(seen)) return false;
  return Number.isSafeInteger(seen.generation) && typeof seen.isStaged === 'boolean' && Number.isFinite(seen.ms);
}
