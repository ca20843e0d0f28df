/** Regular expressions that are refused: by their syntax, and before they take time or memory. */
import t from 'tap';
import { AgentError } from '../../src/errors.js';
import { compileRegex } from '../../src/regex/compile.js';
import { MAX_CELLS, MAX_STATES, sizeOf } from '../../src/regex/dfa.js';
import fc from '../seeded.js';
import { cpuOf, shown } from './languages.js';

function refusal(text: string): AgentError {
  try {
    compileRegex(text, 'rules.http[0].path');
  } catch (error) {
    if (error instanceof AgentError) return error;
    throw error;
  }
  throw new Error(`${text} is taken`);
}

t.test('syntax, with the position', async (t) => {
  for (const [text, at, what] of [
    ['a(b', 2, '"(" without ")"'],
    ['ab)', 3, '")" without "("'],
    ['[a', 1, '"[" without "]"'],
    ['[]', 1, '"[" without "]"'],
    ['x[b-a]', 3, 'the range has its end before its start'],
    ['[[:foo:]]', 2, '[:foo:] is no class of RE2'],
    ['*a', 1, 'nothing to repeat before "*"'],
    ['a|{2}', 3, 'nothing to repeat before "{"'],
    ['a**', 3, 'a repetition of a repetition'],
    ['a*+', 3, 'RE2 has no possessive repetitions'],
    ['é{2}{3}', 5, 'a repetition of a repetition'],
    ['a{1001}', 2, 'more than 1000 repetitions'],
    ['a{2,1}', 2, 'the repetition has a maximum below its minimum'],
    ['(a{100}){11}', 9, 'repetitions in one another, more than 1000 together'],
    ['a\\', 2, 'nothing behind "\\"'],
    ['😀\\y', 2, 'RE2 has no escape \\y'],
    ['\\x4', 1, 'RE2 has no escape \\x'],
    ['\\x{110000}', 1, 'beyond U+10FFFF'],
    ['[a\\z]', 3, 'RE2 has no escape \\z'],
    ['(a)\\1', 4, 'RE2 has no backreferences'],
    ['(?P<a>b)(?P=a)', 9, 'RE2 has no backreferences and no calls of groups'],
    ['a(?=b)', 2, 'RE2 has no look-around'],
    ['(?!b)', 1, 'RE2 has no look-around'],
    ['(?<=a)b', 1, 'RE2 has no look-around'],
    ['(?<!a)b', 1, 'RE2 has no look-around'],
    ['(?>a)', 1, 'RE2 has no atomic groups'],
    ['(?(1)a)', 1, 'RE2 has no conditions'],
    ['(?#a)', 1, 'RE2 has no comments'],
    ['(?x)a', 1, 'no kind of group that RE2 knows'],
    ['(?i-)a', 1, 'no kind of group that RE2 knows'],
    ['(?P<a-b>c)', 1, '"a-b" is no name of a group'],
    ['(?P<a>b)(?<a>c)', 9, 'a second group of the name "a"'],
    ['a\ud800', 2, 'half of a surrogate pair'],
    ['a\\bc', 2, 'word boundaries are not supported'],
    ['\\C', 1, 'single bytes of characters are not supported'],
    ['\\pN', 1, 'the Unicode class \\pN is not supported'],
    ['[\\P{Greek}]', 2, 'the Unicode class \\P{Greek} is not supported'],
    ['(?m)^a', 1, '(?m) is not supported'],
    ['(?i)é', 5, '(?i) is supported for ASCII only'],
    ['(?i)[a-é]', 6, '(?i) is supported for ASCII only'],
  ] as const) {
    const { code, message, where } = refusal(text);
    t.match({ code, where }, { code: 'POLICY', where: { field: 'rules.http[0].path' } }, text);
    t.equal(message, `the regular expression ${JSON.stringify(text)}, at character ${at}: ${what}`);
  }
});

/** Small texts with much behind them. */
const HOSTILE = [
  '(a|b)*a(a|b){20}',
  '(a|b)*a(a|b){10}',
  '(.*a){500}',
  '.{1000}',
  '(.?){1000}',
  '(.{0,30}a){30}',
  '(a?){500}a{500}',
  '(a|aa){0,500}',
  '(?:|a|b|c|d){1000}',
  `(${'()'.repeat(2000)}){1000}`,
  `[é-ü${'ÿ-Ā'.repeat(1000)}]{1000}`,
  `\\Q${'a'.repeat(4000)}`,
  `${'('.repeat(201)}a${')'.repeat(201)}`,
  'a'.repeat(4097),
  Array.from({ length: 26 }, (_, i) => `.*${String.fromCharCode(97 + i)}.*`).join('&'),
  Array.from({ length: 20 }, (_, i) => `(.*${String.fromCharCode(97 + i)}.*)?`).join(''),
  `(${Array.from({ length: 200 }, (_, i) => `.*${i}.*`).join('|')})+`,
];

t.test('too large, and known soon', async (t) => {
  for (const text of HOSTILE) {
    const { ms, result } = cpuOf(() => {
      try {
        return shown(compileRegex(text, 'path'));
      } catch (error) {
        return (error as AgentError).code;
      }
    });
    t.comment(`${text.slice(0, 40)}: ${result}, ${ms.toFixed(1)} ms`);
  }
  for (const text of HOSTILE.slice(0, 14)) t.equal(refusal(text).code, 'TOO_LARGE', text.slice(0, 40));
});

t.test('what is nearly too large is taken', async (t) => {
  for (const text of [
    'x{1000}',
    '.{500}',
    '[a-z]{0,1000}',
    '((((a?){1000})*)*)*',
    '(x+x+)+y',
    `${'('.repeat(200)}a${')'.repeat(200)}`,
  ]) {
    const { ms, result } = cpuOf(() => compileRegex(text, 'path'));
    t.comment(`${text.slice(0, 40)}: ${shown(result)}, ${ms.toFixed(1)} ms`);
    t.ok(sizeOf(result) <= MAX_STATES && result.next.length <= MAX_CELLS);
  }
});

t.test('whatever it is, there is a table within the limits or an error', async (t) => {
  const piece = fc.constantFrom(...'ab.()[]|*+?^$é', '.*', '{30}', '{0,99}', '(?:', '[^a]', '(a|b)*', '){9,}', '\\w');
  let slowest = { ms: 0, text: '' };
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const text = pieces.join('');
      const { ms } = cpuOf(() => {
        try {
          const dfa = compileRegex(text, 'path');
          if (sizeOf(dfa) > MAX_STATES || dfa.next.length > MAX_CELLS) throw new Error('too large');
        } catch (error) {
          if (!(error instanceof AgentError)) throw error;
        }
      });
      if (ms > slowest.ms) slowest = { ms, text };
    }),
    { numRuns: 1000 },
  );
  t.comment(`slowest: ${slowest.ms.toFixed(1)} ms, ${slowest.text}`);
  t.pass();
});
