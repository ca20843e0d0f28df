/** A short form of `npm run proof -- torn`. */
import t from 'tap';
import { prove } from './torn.js';

t.test('packets see one set of policies or the other', async (t) => {
  const { figures, violations } = await prove(['--count', '800']);
  t.same(violations, [], figures);
});
