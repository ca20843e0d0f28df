/** Texts at the boundaries of regular expressions. */
import t from 'tap';
import { combine } from '../../src/regex/combine.js';
import { compileRegex } from '../../src/regex/compile.js';
import { walk } from '../../src/regex/dfa.js';
import { samples, witnesses } from '../../src/regex/samples.js';
import fc from '../seeded.js';
import { common, matches } from './languages.js';

const compile = (text: string) => compileRegex(text, 'path');

t.test('examples', async (t) => {
  for (const [text, matching, missing] of [
    ['GET|POST', ['GET', 'POST'], ['', 'GE', 'xGET', 'GETx', 'GxT', 'GT']],
    ['/a/[^/]+', ['/a/x', '/a/xx', '/a/é'], ['/a/', '/a', '/a/x/', '//x']],
    ['a?', ['', 'a'], ['x', 'ax', 'aa']],
    ['.*', ['', 'x', 'é'], ['\n']],
    ['[^\\x00-\\x{10ffff}]', [], ['']],
  ] as const) {
    const found = samples(compile(text));
    for (const one of matching) t.ok(found.matching.includes(one), `${text}: ${one}`);
    for (const one of missing) t.ok(found.missing.includes(one), `${text}: not ${one}`);
  }
  t.equal(samples(compile('/a/.*')).matching[0], '/a/', 'the shortest first');
});

t.test('match or miss as they are said to, and there are not too many', async (t) => {
  const counts = { matching: 0, missing: 0 };
  fc.assert(
    fc.property(common, (text) => {
      const dfa = compile(text);
      const { matching, missing } = samples(dfa);
      if (!matching.every((one) => matches(dfa, one)) || missing.some((one) => matches(dfa, one))) throw new Error();
      if (matching.length > 32 || missing.length > 32 || matching.length === 0) throw new Error('how many');
      counts.matching += matching.length;
      counts.missing += missing.length;
    }),
    { numRuns: 300 },
  );
  t.comment(JSON.stringify(counts));
  const large = samples(compile('[a-z]{0,1000}'));
  t.ok(large.matching.length > 10 && large.missing.length > 10);
});

t.test('a witness for each set of those that match', async (t) => {
  const { tables } = combine(['GET|POST', 'P.*', '.{4}'].map(compile));
  const found = witnesses(tables[0]!);
  t.same(
    [...found].map(([set, text]) => [tables[0]!.sets[set]!.join(), text]),
    [
      ['', ''],
      ['1', 'P'],
      ['0', 'GET'],
      ['2', 'xxxx'],
      ['1,2', 'Pxxx'],
      ['0,1,2', 'POST'],
    ],
  );
  for (const [set, text] of found) t.same(walk(tables[0]!, Buffer.from(text)), tables[0]!.sets[set]);
  t.same([...witnesses(compile('(?s).*')).keys()], [1], 'nothing misses it');
  t.same([...witnesses(compile('[^\\x00-\\x{10ffff}]')).values()], [''], 'nothing matches it');
});
