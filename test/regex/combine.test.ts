/** Several regular expressions in few tables. */
import t from 'tap';
import { combine } from '../../src/regex/combine.js';
import { compileRegex } from '../../src/regex/compile.js';
import { type Dfa, MAX_CELLS, MAX_STATES, MAX_TABLES, sizeOf, walk } from '../../src/regex/dfa.js';
import fc from '../seeded.js';
import { anyText, common, cpuOf, formFaults, matches, shown } from './languages.js';

const compileAll = (texts: readonly string[]) => texts.map((text, i) => compileRegex(text, `path[${i}]`));
const said = (tables: readonly Dfa[], text: string) =>
  tables.flatMap((table) => walk(table, Buffer.from(text))).sort((a, b) => a - b);
/** The indices that tables tell of. */
const members = (tables: readonly Dfa[]) => tables.map(({ sets }) => [...new Set(sets.flat())].sort((a, b) => a - b));

const WORDS = ['users', 'orders', 'carts', 'login', 'status', 'health', 'metrics', 'files', 'static', 'reports'];
/** Each doubles the states of those before it, since all may be met in one text. */
const containing = (count: number) => Array.from({ length: count }, (_, i) => `.*${WORDS[i % 10]}${i}.*`);
const paths = (count: number) =>
  Array.from({ length: count }, (_, i) => `/api/v${i % 3}/${WORDS[i % 10]}${(i * 7919) % 1000}(/[0-9]+)?(/.*)?`);

t.test('each state knows which match', async (t) => {
  const { tables, refused } = combine(compileAll(['GET|POST', 'P.*', '.{4}', 'GET|POST', '[^\\x00-\\x{10ffff}]']));
  t.equal(tables.length, 1);
  t.same(refused, []);
  for (const [text, expected] of [
    ['GET', [0, 3]],
    ['POST', [0, 1, 2, 3]],
    ['PUT', [1]],
    ['HEAD', [2]],
    ['', []],
  ] as const)
    t.same(said(tables, text), expected, text);
  t.same(combine([]), { tables: [], refused: [] });
});

t.test('says what each says alone, in the smallest table', async (t) => {
  fc.assert(
    fc.property(
      fc.array(common, { minLength: 1, maxLength: 5 }),
      fc.array(anyText, { maxLength: 30 }),
      (texts, inputs) => {
        const regexes = compileAll(texts);
        const { tables, refused } = combine(regexes);
        if (tables.length !== 1 || refused.length > 0) return;
        const faults = formFaults(tables[0]!);
        if (faults.length > 0) throw new Error(faults.join());
        for (const input of inputs) {
          const expected = regexes.flatMap((dfa, i) => (matches(dfa, input) ? [i] : []));
          if (`${said(tables, input)}` !== `${expected}`) throw new Error(`differs at ${JSON.stringify(input)}`);
        }
      },
    ),
    { numRuns: 200 },
  );
  t.pass();
});

t.test('as many tables as are needed, and what does not fit is refused', async (t) => {
  const regexes = compileAll(containing(60));
  const { tables, refused } = combine(regexes);
  t.equal(tables.length, MAX_TABLES);
  for (const table of tables) t.ok(sizeOf(table) <= MAX_STATES && table.next.length <= MAX_CELLS, shown(table));
  const all = [...members(tables).flat(), ...refused].sort((a, b) => a - b);
  t.same(all, [...regexes.keys()], 'each is in one table, or refused');
  for (const index of members(tables).flat()) {
    const text = `/x/${WORDS[index % 10]}${index}/y`;
    t.ok(said(tables, text).includes(index), text);
  }
});

t.test('each goes into the first table that has room, as if tried one by one', async (t) => {
  const regexes = compileAll([...containing(15), ...paths(10)]);
  const expected: number[][] = [];
  let left = [...regexes.keys()];
  while (left.length > 0) {
    const [own, others]: [number[], number[]] = [[], []];
    let misses = 0;
    for (const index of left) {
      const fits = misses < 3 && combine([...own, index].map((i) => regexes[i]!)).tables.length === 1;
      if (fits) own.push(index);
      else {
        others.push(index);
        misses++;
      }
    }
    expected.push(own);
    left = others;
  }
  t.same(members(combine(regexes).tables), expected);
  t.ok(expected.length > 1);
});

t.test('times', async (t) => {
  for (const [name, texts] of Object.entries({
    '200 paths': paths(200),
    '1,000 paths': paths(1000),
    '300 that contain a word': containing(300),
  })) {
    const compiled = cpuOf(() => compileAll(texts));
    const { ms, result } = cpuOf(() => combine(compiled.result));
    t.comment(`${name}: compiled in ${compiled.ms.toFixed(0)} ms, combined in ${ms.toFixed(0)} ms`);
    t.comment(`  ${result.tables.map(shown).join(', ')}, ${result.refused.length} refused`);
    t.ok(result.tables.length > 0);
  }
});
