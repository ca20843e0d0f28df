/** States that no byte of a field leaves: the tables say what they said, and walks may end early. */
import t from 'tap';
import { type Dfa, settle, walk } from '../../src/regex/dfa.js';
import { tableOf } from '../../src/regex/match.js';
import { seeded } from '../fuzz/random.js';

const random = seeded();
const VISIBLE = Array.from({ length: 0x7e - 0x20 }, (_, i) => 0x21 + i);

/** As the kernel does: to the first settled state. @returns what matches, and how many bytes were looked at */
function walkToEnd({ classes, classOf, next, start, accepts, sets }: Dfa, settled: number, bytes: Uint8Array) {
  let [state, at] = [start, 0];
  for (; at < bytes.length && state > settled; at++) state = next[state * classes + (classOf[bytes[at]!] as number)]!;
  return { matches: sets[accepts[state]!]!, at };
}

const REGEXES = [
  '',
  '/',
  '.*',
  '/a.*',
  '/allowed/.*',
  'GET|HEAD',
  '[^/]*',
  '/a/.*/b',
  '(?i)x.*',
  '/a(?:/.*)?',
  '[a-z]+',
];

t.test('what matches stays the same', async (t) => {
  for (const regex of REGEXES) {
    const before = tableOf(regex);
    const { table, settled } = settle(before, VISIBLE);
    for (let n = 0; n < 300; n++) {
      const text = random.chance(50) ? random.pick(['/a/', '/allowed/', 'GET', 'HEAD', '']) : '';
      const rest = Array.from({ length: random.below(12) }, () => random.pick([...'/aLlbGx.*', random.pick(VISIBLE)]));
      const more = rest.map((c) => (typeof c === 'number' ? String.fromCharCode(c) : c)).join('');
      const bytes = Buffer.from(text + more);
      const wanted = walk(before, bytes);
      if (JSON.stringify(walk(table, bytes)) !== JSON.stringify(wanted)) t.fail(`${regex} of ${bytes}`);
      const { matches } = walkToEnd(table, settled, bytes);
      if (JSON.stringify(matches) !== JSON.stringify(wanted)) t.fail(`${regex} of ${bytes}, ended early`);
    }
    t.pass(regex);
  }
});

t.test('walks end where nothing can change any more', async (t) => {
  const lookedAt = (regex: string, text: string) => {
    const { table, settled } = settle(tableOf(regex), VISIBLE);
    return walkToEnd(table, settled, Buffer.from(text)).at;
  };
  t.equal(lookedAt('.*', '/a/b'), 0);
  t.equal(lookedAt('/a/.*', '/a/b/c'), 3);
  t.equal(lookedAt('/a/.*', '/b/c'), 2, 'nor do they go on where nothing matches');
  t.equal(lookedAt('/a/.*x', '/a/b/c'), 6);
  t.equal(settle(tableOf('.*'), VISIBLE).settled, 1);
  t.equal(settle(tableOf('.*'), [...VISIBLE, 10]).settled, 0, 'no dot stands for the end of a line');
});
