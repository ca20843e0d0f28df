/**
 * The journal: a file copy of the sets and classes that the maps may contain, by id, written
 * before the maps. Maps hold bitmaps; the next agent needs the rules and atoms behind them to
 * plan an update without a gap. Content is immutable, so a set is a file that is written once,
 * and classes are lines that are appended. If the journal is lost, only the atomicity of the
 * next agent's first update is lost.
 */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PolicySet } from '../../../src/image/types.js';
import type { RuleRef } from '../../../src/ir/types.js';

export interface JournalContent {
  sets: Map<number, PolicySet>;
  classes: Map<number, readonly string[]>;
  rules: Map<number, RuleRef>;
}

interface SetFile {
  set: PolicySet;
  rules: [number, RuleRef][];
}

export class Journal {
  readonly #setsDir: string;
  readonly #classesFile: string;
  #lines = 0;

  /** @param dir created if missing, mode 0700 */
  constructor(dir: string) {
    this.#setsDir = join(dir, 'sets');
    this.#classesFile = join(dir, 'classes');
    mkdirSync(this.#setsDir, { recursive: true, mode: 0o700 });
  }

  /** Reads the journal; a damaged file or line counts as missing. */
  read(): JournalContent {
    const content: JournalContent = { sets: new Map(), classes: new Map(), rules: new Map() };
    for (const name of readdirSync(this.#setsDir)) {
      const file = tryParse<SetFile>(() => readFileSync(join(this.#setsDir, name), 'utf8'));
      // Files of old versions, which numbered atoms, have no name.
      if (file?.set?.id === undefined || String(file.set.id) !== name || typeof file.set.name !== 'string') continue;
      content.sets.set(file.set.id, file.set);
      for (const [id, ref] of file.rules) content.rules.set(id, ref);
    }
    // Many classes have the same atoms: keep each atom's text once in memory.
    const texts = new Map<string, string>();
    const shared = (text: string) => {
      const existing = texts.get(text);
      if (existing === undefined) texts.set(text, text);
      return existing ?? text;
    };
    for (const line of readLines(this.#classesFile)) {
      this.#lines++;
      const entry = tryParse<[number, string[]]>(() => line);
      if (!Array.isArray(entry) || typeof entry[0] !== 'number' || !Array.isArray(entry[1])) continue;
      if (entry[1].every((atom) => typeof atom === 'string')) content.classes.set(entry[0], entry[1].map(shared));
    }
    return content;
  }

  /** Writes new sets with their rules' names, and appends new classes. */
  add(
    sets: readonly PolicySet[],
    classes: readonly (readonly [number, readonly string[]])[],
    rules: ReadonlyMap<number, RuleRef>,
  ): void {
    for (const set of sets) {
      const ids = new Set(set.rules.map((r) => r.id));
      const ruleRefs = [...ids].flatMap((id): [number, RuleRef][] => {
        const ref = rules.get(id);
        return ref ? [[id, ref]] : [];
      });
      this.#replace(join(this.#setsDir, String(set.id)), JSON.stringify({ set, rules: ruleRefs } satisfies SetFile));
    }
    if (classes.length === 0) return;
    appendFileSync(this.#classesFile, classes.map((c) => `${JSON.stringify(c)}\n`).join(''), { mode: 0o600 });
    this.#lines += classes.length;
  }

  /** Removes everything that is not in the maps any more. */
  keep(sets: ReadonlyMap<number, unknown>, classes: ReadonlyMap<number, readonly string[]>): void {
    for (const name of readdirSync(this.#setsDir))
      if (!sets.has(Number(name))) rmSync(join(this.#setsDir, name), { force: true });
    if (this.#lines <= classes.size * 2 + 64) return;
    this.#replace(this.#classesFile, [...classes].map((c) => `${JSON.stringify(c)}\n`).join(''));
    this.#lines = classes.size;
  }

  #replace(path: string, text: string): void {
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
