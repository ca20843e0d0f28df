/**
 * What may stand in the maps, on disk: sets and classes by id, written before the
 * maps are. Maps hold bitmaps; only with the rules and atoms behind them can the next
 * agent plan an update without a gap. Content is immutable, so a set is a file that is
 * written once, and classes are lines that are appended. Loss of it costs the next
 * agent's first update its atomicity, nothing else.
 */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PolicySet } from '../src/image/types.js';
import type { RuleRef } from '../src/ir/types.js';

export interface JournalContent {
  sets: Map<number, PolicySet>;
  classes: Map<number, readonly number[]>;
  rules: Map<number, RuleRef>;
}

interface SetFile {
  set: PolicySet;
  rules: [number, RuleRef][];
}

export class Journal {
  private readonly setsDir: string;
  private readonly classesFile: string;
  private lines = 0;

  /** @param dir created if missing, mode 0700 */
  constructor(dir: string) {
    this.setsDir = join(dir, 'sets');
    this.classesFile = join(dir, 'classes');
    mkdirSync(this.setsDir, { recursive: true, mode: 0o700 });
  }

  /** Everything readable; a damaged file or line is as if it were not there. */
  read(): JournalContent {
    const content: JournalContent = { sets: new Map(), classes: new Map(), rules: new Map() };
    for (const name of readdirSync(this.setsDir)) {
      const file = tryParse<SetFile>(() => readFileSync(join(this.setsDir, name), 'utf8'));
      if (file?.set?.id === undefined || String(file.set.id) !== name) continue;
      content.sets.set(file.set.id, file.set);
      for (const [id, ref] of file.rules) content.rules.set(id, ref);
    }
    for (const line of readLines(this.classesFile)) {
      this.lines++;
      const entry = tryParse<[number, number[]]>(() => line);
      if (Array.isArray(entry) && typeof entry[0] === 'number' && Array.isArray(entry[1]))
        content.classes.set(entry[0], entry[1]);
    }
    return content;
  }

  add(
    sets: readonly PolicySet[],
    classes: readonly (readonly [number, readonly number[]])[],
    rules: ReadonlyMap<number, RuleRef>,
  ): void {
    for (const set of sets) {
      const ids = new Set(set.rules.map((r) => r.id));
      const named = [...ids].flatMap((id): [number, RuleRef][] => {
        const ref = rules.get(id);
        return ref ? [[id, ref]] : [];
      });
      this.replace(join(this.setsDir, String(set.id)), JSON.stringify({ set, rules: named } satisfies SetFile));
    }
    if (classes.length === 0) return;
    appendFileSync(this.classesFile, classes.map((c) => `${JSON.stringify(c)}\n`).join(''), { mode: 0o600 });
    this.lines += classes.length;
  }

  /** Forgets what the maps no longer hold. */
  keep(sets: ReadonlyMap<number, unknown>, classes: ReadonlyMap<number, readonly number[]>): void {
    for (const name of readdirSync(this.setsDir))
      if (!sets.has(Number(name))) rmSync(join(this.setsDir, name), { force: true });
    if (this.lines <= classes.size * 2 + 64) return;
    this.replace(this.classesFile, [...classes].map((c) => `${JSON.stringify(c)}\n`).join(''));
    this.lines = classes.size;
  }

  private replace(path: string, text: string): void {
    writeFileSync(`${path}.new`, text, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean);
  } catch {
    return [];
  }
}

function tryParse<T>(text: () => string): T | undefined {
  try {
    return JSON.parse(text()) as T;
  } catch {
    return undefined;
  }
}
