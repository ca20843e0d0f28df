/** A short form of `npm run proof -- full`. */
import t from 'tap';
import { full } from './full.js';

t.test('every map is filled beyond its limit', async (t) => {
  const { figures, violations } = await full(20_000);
  t.same(violations, [], figures);
});
