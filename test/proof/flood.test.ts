/** A short form of `npm run proof -- flood`. */
import t from 'tap';
import { flood } from './flood.js';

t.setTimeout(120_000);

t.test('one pod floods, the others have what is theirs', async (t) => {
  const { figures, violations } = await flood(10, 0.5);
  t.comment(figures);
  t.same(violations, []);
});
