/** Bad callers, in short. */
import t from 'tap';
import { callers } from './callers.js';

t.setTimeout(300_000);

t.test('bad callers', async (t) => {
  const { figures, violations } = await callers({
    seed: Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31),
    scale: 0.1,
    brief: true,
  });
  t.comment(figures);
  t.same(violations, []);
});
