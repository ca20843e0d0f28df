/** Regular expressions for the tests, and what other engines and plain checks say of them. */
import { AgentError } from '../../src/errors.js';
import { compileRegex } from '../../src/regex/compile.js';
import { type Dfa, sizeOf, walk } from '../../src/regex/dfa.js';
import fc from '../seeded.js';

/** Whether a table of one regular expression matches a text, or bytes. */
export function matches(dfa: Dfa, text: string | Uint8Array): boolean {
  return walk(dfa, Buffer.from(text as string)).length > 0;
}

/** Pieces of RE2's syntax, and what looks like it, which random texts are put together of. */
const PIECES = [
  ...[
    'a',
    'b',
    'k',
    'S',
    'é',
    '€',
    '😀',
    'ſ',
    '\n',
    ' ',
    '/',
    '-',
    '.',
    '.*',
    '|',
    '(',
    ')',
    '(?:',
    '&',
    '}',
    '^',
    '$',
  ],
  ...['(?i)', '(?s)', '(?i:', '(?-i)', '(?i-s)', '(?U)', '(?m)', '(?)', '(?-)', '(?=', '(?P<n>', '(?<m>', '(?P<n'],
  ...['[', '[^', ']', 'a-z', '[a-z]', '[^/]', '[]a]', '[^]a]', '[a-]', '[a\\d]', '[^a-y]', '[é-ü]', '[^é]', '[߿-ࠀ]'],
  ...['[[:alpha:]]', '[[:^digit:]]', '[:alpha:]', '[[:foo:]]', '[\\x{80}-\\x{10ffff}]', '[\\Wa]', '[^\\d-]'],
  ...['*', '+', '?', '*?', '??', '**', '*+', '{', '{2}', '{1,2}', '{0}', '{1,}', '{,2}', '{02}', '{2,1}', '{1001}'],
  ...['\\A', '\\z', '\\d', '\\w', '\\W', '\\S', '\\s', '\\D', '\\b', '\\q', '\\pN', '\\', '\\Q', '\\E', '\\Qa.\\E'],
  ...['\\x41', '\\x{e9}', '\\x{20ac}', '\\x4', '\\101', '\\0', '\\1', '\\t', '\\n', '\\.', '\\-', '\\_', '\\/'],
];
export const anyRegex = fc.array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 7 }).map((all) => all.join(''));

const CHARS = [
  ...'abkKsSſAéÉ€😀\n\t ./-_01\\{}2,&z',
  'K',
  'ü',
  '߿',
  'ࠀ',
  '\uffff',
  '\u{10ffff}',
  '\0',
  '{02}',
  'a.',
  'ab',
];
export const anyText = fc.array(fc.constantFrom(...CHARS), { maxLength: 5 }).map((all) => all.join(''));

const { common: anyCommon } = fc.letrec<{ common: string; item: string }>((tie) => ({
  common: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.constantFrom(
      ...['a', 'b', '/', 'é', '.', '[ab]', '[^a]', '[^aé]', '[b-é]', '\\d', '\\w', '\\D', '\\x61', '\\.', ''],
    ),
    fc.array(tie('item'), { minLength: 1, maxLength: 4 }).map((all) => all.join('')),
    fc.array(tie('item'), { minLength: 2, maxLength: 3 }).map((all) => `(?:${all.join('|')})`),
  ),
  item: fc
    .tuple(tie('common'), fc.constantFrom('', '', '*', '+', '?', '{2}', '{0,2}', '{1,}', '*?', '+?', '??', '{1,3}?'))
    .map(([one, times]) => (times === '' ? one : `(?:${one})${times}`)),
}));

/** Regular expressions that mean the same in JavaScript, and are small. */
export const common = anyCommon.filter((text) => {
  try {
    return sizeOf(compileRegex(text, 'path')) <= 100;
  } catch (error) {
    if (error instanceof AgentError && error.code === 'TOO_LARGE') return false;
    throw error;
  }
});

/** What is wrong with the form of a table that is to be the smallest there is. */
export function formFaults({ classes, classOf, next, start, accepts, sets }: Dfa): string[] {
  const states = accepts.length;
  const faults: string[] = [];
  if (classOf.length !== 256 || next.length !== states * classes) faults.push('lengths');
  if (next.some((to) => to >= states) || accepts.some((set) => set >= sets.length))
    faults.push('a number out of range');
  if (accepts[0] !== 0 || next.subarray(0, classes).some((to) => to !== 0)) faults.push('state 0 is alive');
  if (start !== (states > 1 ? 1 : 0)) faults.push(`starts at ${start}`);
  if ([...new Set(classOf)].some((c, i) => c !== i) || new Set(classOf).size !== classes)
    faults.push('order of classes');
  const met = new Set([0, start]);
  for (const state of met) for (let c = 0; c < classes; c++) met.add(next[state * classes + c]!);
  if ([...met].some((state, i) => state !== i) || met.size !== states) faults.push('order of states');
  const firsts = [...new Set([0, ...accepts])];
  if (firsts.some((set, i) => set !== i) || firsts.length !== sets.length) faults.push('order of sets');
  if (sets[0]!.length > 0 || new Set(sets.map(String)).size !== sets.length) faults.push('sets');
  const columns = Array.from({ length: classes }, (_, c) => next.filter((_, i) => i % classes === c).join());
  if (new Set(columns).size !== classes) faults.push('two classes are alike');
  if (tellApart({ classes, next, accepts }) !== states) faults.push('two states are alike');
  return faults;
}

/** Number of states that some text tells apart, found by splitting all of them again and again. */
function tellApart({ classes, next, accepts }: Pick<Dfa, 'classes' | 'next' | 'accepts'>): number {
  let block = [...accepts];
  for (let before = 0; ; ) {
    const numbers = new Map<string, number>();
    block = block.map((own, state) => {
      const key = [own, ...Array.from({ length: classes }, (_, c) => block[next[state * classes + c]!])].join();
      if (!numbers.has(key)) numbers.set(key, numbers.size);
      return numbers.get(key)!;
    });
    if (numbers.size === before) return before;
    before = numbers.size;
  }
}

/** `states × classes`, for comments. */
export function shown(dfa: Dfa): string {
  return `${sizeOf(dfa)} × ${dfa.classes}`;
}

/** Milliseconds of CPU that a call takes: other processes do not count. */
export function cpuOf<T>(call: () => T): { ms: number; result: T } {
  const before = process.cpuUsage();
  const result = call();
  const { user, system } = process.cpuUsage(before);
  return { ms: (user + system) / 1000, result };
}
