import t from 'tap';
import { matchesGlob } from '../../src/ui/text/glob.js';

t.test('what a pattern is for', async (t) => {
  for (const [pattern, name, is] of [
    ['*', 'a.example', true],
    ['*', '', true],
    ['', '', true],
    ['', 'a', false],
    ['a', 'a.example', false],
    ['*.example', 'a.b.EXAMPLE', true],
    ['*.example', 'example', false],
    ['a*c', 'abcbc', true],
    ['a*c', 'abcb', false],
    ['a**c', 'ac', true],
    ['*b*', 'abc', true],
    ['a.c', 'abc', false],
    ['a+(b', 'a+(b', true],
    ['*a*b', 'aab', true],
    ['*ab', 'aab', true],
  ] as const)
    t.equal(matchesGlob(pattern, name), is, `${pattern} ${name}`);
});

t.test('a hostile pattern and a hostile name take no time', async (t) => {
  const began = performance.now();
  t.equal(matchesGlob(`${'*a'.repeat(249)}*b`, 'a'.repeat(253)), false);
  t.ok(performance.now() - began < 500);
});
