/** Calico's selector language against a table: what a text means on labels, or where it goes wrong. */
import t from 'tap';
import { onPods } from '../../src/dialects/calico/meaning.js';
import { isSelectorError, parseSelector } from '../../src/dialects/calico/selector.js';
import { matchLabels } from '../../src/ir/match.js';
import { seeded } from '../fuzz/random.js';

const LABELS = { a: 'x', b: 'front-end', 'k8s.io/c_d': '', in: 'in', all: 'y' };

/** true, false: it matches LABELS or not. A number: the position of what is wrong with it. */
const TABLE: readonly (readonly [string, boolean | number])[] = [
  ['', true],
  [' \t', true],
  ['all()', true],
  ['all( )', true],
  ['!all()', false],
  ['!!all()', true],
  ['! ! !all()', false],
  ["a == 'x'", true],
  ['a == "x"', true],
  ["a=='x'", true],
  ["a == 'X'", false],
  ["nope == 'x'", false],
  ["a != 'x'", false],
  ["a != 'y'", true],
  ["nope != 'y'", true],
  ["a in {'x', 'y'}", true],
  ["a in {'y','z'}", false],
  ["a in {'x',}", true],
  ['a in {}', false],
  ["nope in {'x'}", false],
  ["a not in {'x'}", false],
  ["a notin{'y'}", true],
  ["nope not  in {'x'}", true],
  ['a not in {}', true],
  ["b contains 'nt-e'", true],
  ["b contains ''", true],
  ["nope contains ''", false],
  ["b starts with 'front'", true],
  ["b startswith 'end'", false],
  ["b ends   with'end'", true],
  ["nope ends with ''", false],
  ['has(a)', true],
  ['has( a )', true],
  ['has(nope)', false],
  ['!has(nope)', true],
  ["k8s.io/c_d == ''", true],
  ["in in {'in'}", true],
  ["all == 'y'", true],
  ["a == 'x' && b == 'y'", false],
  ["a == 'x' || b == 'y'", true],
  // && binds closer than ||, ! closer than both.
  ["a == 'x' || a == 'x' && nope == 'x'", true],
  ["(a == 'x' || a == 'x') && nope == 'x'", false],
  ["!a == 'x' || has(b)", true],
  ["!(a == 'x' || has(b))", false],
  ["((a == 'x'))", true],
  ["a == 'x'&&has(b)&&!has(nope)", true],
  ['a == "it\'s"', false],
  ["a == 'x", 5],
  ['a', 1],
  ['a =', 2],
  ["a = 'x'", 2],
  ['a == x', 5],
  ['a == ', 5],
  ["a in 'x'", 5],
  ["a in {'x'", 9],
  ["a in {,'x'}", 6],
  ["a in {'x' 'y'}", 10],
  ['a starts', 8],
  ["a starts 'x'", 9],
  ["a not 'x'", 6],
  ['has()', 4],
  ['has(a', 5],
  ['has (a)', 4],
  ['all(', 4],
  ['(has(a)', 7],
  ['has(a))', 6],
  ["a == 'x' b == 'y'", 9],
  ["a == 'x' &&", 11],
  ["a == 'x' & b == 'y'", 9],
  ['&& has(a)', 0],
  ['!', 1],
  ["a ==\n'x'", 4],
  ["@name == 'x'", 0],
  ["é == 'x'", 0],
  [`${'('.repeat(101)}has(a)${')'.repeat(101)}`, 101],
  [`${'('.repeat(100)}has(a)${')'.repeat(100)}`, true],
  [`a == '${'x'.repeat(8192)}'`, 8192],
];

t.test('what a text means', async (t) => {
  for (const [text, expected] of TABLE) {
    const parsed = parseSelector(text);
    const found = isSelectorError(parsed) ? parsed.position : matchLabels(onPods(parsed), LABELS);
    t.equal(found, expected, text.slice(0, 60));
  }
});

t.test('any text is read or refused, with a position inside it', async (t) => {
  const random = seeded();
  t.comment(`FUZZ_SEED=${random.seed}`);
  const words = [
    'a',
    'has(',
    'all()',
    '(',
    ')',
    '==',
    '!=',
    '!',
    '&&',
    '||',
    'in',
    'not',
    '{',
    '}',
    "'x'",
    '"',
    ',',
    ' ',
    'starts',
    'with',
  ];
  let read = 0;
  for (let i = 0; i < 20_000; i++) {
    const text = Array.from({ length: random.below(9) }, () => random.pick(words)).join(random.pick(['', ' ']));
    const parsed = parseSelector(text);
    if (!isSelectorError(parsed)) read++;
    else if (parsed.position > text.length) t.fail(`FUZZ_SEED=${random.seed}: ${text}`);
  }
  t.ok(read > 100, `${read} were read`);
});
