/** The README's first command, as it stands there, to its end: a world, an agent, real packets, both verdicts, and nothing left over. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { root, run } from '../netns/shell.js';

t.test('./scripts/quickstart --once', async (t) => {
  t.match(readFileSync(join(root, 'README.md'), 'utf8'), './scripts/quickstart', 'the README names it');
  const { status, stdout, stderr } = await run(join(root, 'scripts/quickstart'), ['--once'], { check: false });
  t.equal(status, 0, 'it ends well', { stdout, stderr });
  t.match(stdout, /^\S+ .*shop\/web .*ALLOWED .*np\/shop\//m, 'what is allowed is shown, with its rule');
  t.match(stdout, /^\S+ .*shop\/batch .*DENIED .*np\/shop\//m, 'and what is denied');
  const left = readdirSync('/run/netns').filter((name) => name.startsWith('eaq-'));
  t.same(left, [], 'no namespace is left');
});
