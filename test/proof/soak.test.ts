/** The soak in short: that it runs, and that nothing of it is left over by the dozen. What grows slowly, an hour shows. */
import t from 'tap';
import { soak } from './soak.js';

t.setTimeout(170_000);

t.test('soak', async (t) => {
  const { figures, violations } = await soak({ minutes: 0.3, pods: 4, every: 1 });
  t.comment(figures);
  t.same(violations, []);
});
