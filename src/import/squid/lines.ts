/** Reads squid.conf and the files that it includes as lines of words. */
import { dirname, resolve } from 'node:path';
import { AgentError } from '../../errors.js';
import { bound, readList } from '../base/limits.js';
import type { Place } from '../base/model.js';

export interface Line {
  readonly words: readonly string[];
  readonly where: Place;
}

const MAX_INCLUDES = 16;
const MAX_LINES = 1_000_000;

/** The lines of a file without comments; those that end with a backslash joined. */
function* logicalLines(text: string): Generator<{ text: string; line: number }> {
  let held = '';
  let first = 0;
  let number = 0;
  for (const raw of text.split('\n')) {
    number++;
    const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
    if (held === '') first = number;
    if (line.endsWith('\\')) {
      held += `${line.slice(0, -1)} `;
      continue;
    }
    yield { text: held + line, line: first };
    held = '';
  }
  if (held !== '') yield { text: held, line: first };
}

/** The words of a line up to one that begins with `#`. Quotes hold words with spaces together, and stay. */
export function wordsOf(line: string): string[] {
  const words: string[] = [];
  for (const [word] of line.matchAll(/"(?:[^"\\]|\\.)*"|\S+/g)) {
    if (word.startsWith('#')) break;
    words.push(word);
  }
  return words;
}

/** The lines of a configuration, with those of included files in their place. @throws AgentError */
export function squidLines(file: string, from?: Place, depth = 0): Line[] {
  if (depth > MAX_INCLUDES)
    throw new AgentError('TOO_LARGE', `${file}: files are included more than ${MAX_INCLUDES} deep`, {
      where: { file },
    });
  const out: Line[] = [];
  const text = readList(file, from && `${from.file}:${from.line}`);
  for (const { text: line, line: number } of logicalLines(text)) {
    const words = wordsOf(line);
    if (words.length === 0) continue;
    const where: Place = { file, line: number };
    const fail = (message: string, hint: string) => {
      throw new AgentError('MANIFEST', `${file}:${number} ${message}`, { where: { file, line: number }, hint });
    };
    const [directive = ''] = words;
    if (['if', 'else', 'endif'].includes(directive))
      fail(
        `has ${directive}: whether the lines count is not known`,
        'leave the lines that count, and remove the others',
      );
    if (directive !== 'include') out.push({ words, where });
    else
      for (const path of words.slice(1)) {
        if (/[*?[]/.test(path)) fail(`includes ${path}: patterns are not expanded`, 'name the files');
        for (const one of squidLines(resolve(dirname(file), unquoted(path)), where, depth + 1)) out.push(one);
      }
    bound(out.length, MAX_LINES, 'lines', file);
  }
  return out;
}

export function unquoted(word: string): string {
  return word.length > 1 && word.startsWith('"') && word.endsWith('"') ? word.slice(1, -1) : word;
}

/** A value of an acl, with the place where it stands. */
export interface Value {
  readonly text: string;
  readonly where: Place;
}

/** The values of an acl: words of its line, and the lines of the files that it names in quotes. @throws AgentError */
export function valuesOf(words: readonly string[], where: Place): Value[] {
  return words.flatMap((word): Value[] => {
    const named = /^parameters\((["'])(.*)\1\)$/.exec(word)?.[2] ?? (word.startsWith('"') ? unquoted(word) : undefined);
    if (named === undefined) return [{ text: word, where }];
    const file = resolve(dirname(where.file), named);
    const values: Value[] = [];
    readList(file, `${where.file}:${where.line}`)
      .split('\n')
      .forEach((line, i) => {
        for (const text of line.trim().split(/\s+/)) {
          if (text.startsWith('#')) break;
          if (text !== '') values.push({ text, where: { file, line: i + 1 } });
        }
      });
    return values;
  });
}
