/** Canonical patterns of names, and what they match. */
import t from 'tap';
import {
  aliasAtom,
  canonicalName,
  isExact,
  isPattern,
  matchesName,
  nameAtom,
  queryAtom,
  readAtom,
} from '../../src/names/pattern.js';

t.test('what a canonical pattern is', async (t) => {
  for (const text of ['com', 'a.b', '*', '*.x', '**', '**.x', 'a.**', '***', 'a*b*c.x', '_sip._tcp.x', '*a.*', '-'])
    t.equal(isPattern(text), true, text);
  for (const text of [
    '',
    '.',
    'a.',
    '.a',
    'a..b',
    'A',
    'a**',
    '**a',
    '***.x',
    'x.***',
    '****',
    'ä',
    'a b',
    '?',
    'a'.repeat(256),
  ])
    t.equal(isPattern(text), false, text);
  t.equal(isPattern('a'.repeat(255)), true);
  t.equal(isExact('a.b'), true);
  t.equal(isExact('a*.b'), false);
});

t.test('what patterns match', async (t) => {
  const rows: [pattern: string, matches: string[], others: string[]][] = [
    ['a.com', ['a.com'], ['', 'com', 'b.a.com', 'aa.com', 'a.co', 'a.comm', 'a.com.', 'A.com']],
    ['*.a.com', ['x.a.com', 'xx-_1.a.com'], ['a.com', 'y.x.a.com', '.a.com', 'xa.com', 'x.a.com.b']],
    ['*a.com', ['a.com', 'xa.com', 'aa.com'], ['x.a.com', 'b.com']],
    ['sub*.a.com', ['sub.a.com', 'subs.a.com'], ['su.a.com', 'sub.x.a.com', 'xsub.a.com']],
    ['a*b*c', ['abc', 'aXbYc'.toLowerCase(), 'abbcc', 'abcbc'], ['ab', 'ac', 'abc.c', 'a.bc', 'acb']],
    ['ab*ba', ['abba', 'abxba'], ['aba', 'ab', 'ba']],
    ['**.a.com', ['x.a.com', 'y.x.a.com'], ['a.com', '.a.com', 'xa.com', 'x..a.com']],
    ['a.**.com', ['a.x.com', 'a.x.y.com', 'a.a.com.com'], ['a.com', 'x.com', 'a.x.comm']],
    ['a.**', ['a.b', 'a.b.c'], ['a', 'b.a']],
    ['**.**', ['a.b', 'a.b.c'], ['a', '']],
    ['*', ['com', 'a-b'], ['', 'a.b']],
    ['**', ['com', 'a.b'], ['']],
    ['***', ['', 'com', 'a.b.c'], ['a?b', 'a..b', '.', 'ä', 'a b', 'A']],
  ];
  for (const [pattern, matches, others] of rows) {
    t.equal(isPattern(pattern), true, pattern);
    for (const name of matches) t.equal(matchesName(pattern, name), true, `${pattern} matches "${name}"`);
    for (const name of others) t.equal(matchesName(pattern, name), false, `${pattern} does not match "${name}"`);
  }
});

t.test('a pattern with many stars costs no more', async (t) => {
  const started = performance.now();
  t.equal(matchesName(`${'*a'.repeat(80)}b`, 'a'.repeat(250)), false);
  t.equal(matchesName(`${'**.'.repeat(60)}b`, `${'a.'.repeat(120)}a`), false);
  t.ok(performance.now() - started < 200);
});

t.test('names as they are remembered', async (t) => {
  t.equal(canonicalName('API.Stripe.com.'), 'api.stripe.com');
  t.equal(canonicalName('.'), '');
  t.equal(canonicalName('a b.ä'), 'a?b.?');
  t.equal(canonicalName('\u212a.com'), '?.com', 'the Kelvin sign is no k');
});

t.test('atoms', async (t) => {
  t.same(readAtom(nameAtom('*.x')), { kind: 'name', pattern: '*.x' });
  t.same(readAtom(aliasAtom('***')), { kind: 'alias', pattern: '***' });
  t.same(readAtom(queryAtom('a')), { kind: 'query', pattern: 'a' });
  for (const text of ['', 'name', 'name:', 'name:A', 'cidr:10.0.0.0/8', '@names', ':a'])
    t.equal(readAtom(text), undefined, text);
});
