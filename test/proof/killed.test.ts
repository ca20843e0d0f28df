/** A short form of `npm run proof -- killed`. */
import t from 'tap';
import { killed } from './killed.js';

t.test('the agent is killed at random moments', async (t) => {
  const { figures, violations } = await killed({
    count: 3,
    seed: Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31),
  });
  t.same(violations, [], figures);
});
