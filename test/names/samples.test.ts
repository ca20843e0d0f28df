/** Names at the boundaries of patterns. */
import t from 'tap';
import { isPattern, matchesName } from '../../src/names/pattern.js';
import { distinctNames, samples, shortest } from '../../src/names/samples.js';
import { seeded } from '../fuzz/random.js';

const NAME = /^$|^[-a-z0-9_]+(\.[-a-z0-9_]+)*$/;

t.test('the shortest, and what is around it', async (t) => {
  t.equal(shortest('*.a.com'), 'x.a.com');
  t.equal(shortest('**.a.com'), 'x.a.com');
  t.equal(shortest('a*.com'), 'a.com');
  t.equal(shortest('***'), 'x');
  for (const [pattern, met, missed] of [
    ['*.a.com', ['x.a.com', 'xx.a.com'], ['a.com', 'x.x.a.com']],
    ['**.a.com', ['x.a.com', 'x.x.a.com'], ['a.com']],
    ['*a.com', ['a.com', 'xa.com'], ['x.a.com', 'com']],
    ['a.**.b.**', ['a.x.b.x', 'a.x.x.b.x', 'a.x.b.x.x'], ['x.b.x']],
  ] as const) {
    for (const name of met) t.ok(matchesName(pattern, name) && samples(pattern).includes(name), `${pattern}: ${name}`);
    for (const name of missed)
      t.ok(!matchesName(pattern, name) && samples(pattern).includes(name), `${pattern}: not ${name}`);
  }
});

const random = seeded();
t.test(`each pattern is met, and missed, FUZZ_SEED=${random.seed}`, async (t) => {
  const parts = ['a', 'b', '*', 'a*', '*b', '**', 'a*b', '*-*'];
  for (let n = 0; n < 300; n++) {
    const patterns = Array.from({ length: 1 + random.below(5) }, () =>
      Array.from({ length: 1 + random.below(3) }, () => random.pick(parts)).join('.'),
    ).filter(isPattern);
    if (random.chance(10)) patterns.push('***');
    const names = distinctNames(patterns);
    const wrong = [
      ...names.filter((name) => !NAME.test(name)),
      ...patterns.filter((pattern) => !matchesName(pattern, shortest(pattern))),
      ...patterns.filter((pattern) => !names.some((name) => matchesName(pattern, name))),
    ];
    const keys = names.map((name) => patterns.map((pattern) => matchesName(pattern, name)).join());
    if (wrong.length === 0 && new Set(keys).size === keys.length) continue;
    t.fail(`FUZZ_SEED=${random.seed} ${patterns.join(' ')}: ${wrong.join(' ')} of ${names.join(' ')}`);
    return;
  }
  t.pass();
});

t.test('many patterns take one look-up each', async (t) => {
  const patterns = Array.from({ length: 3000 }, (_, n) => `${n % 2 ? '*.' : ''}n${n}.example.com`);
  const start = performance.now();
  t.ok(distinctNames(patterns).length >= 3000);
  t.ok(performance.now() - start < 10_000);
});
