/** Slow and broken readers, in short. */
import t from 'tap';
import { readers } from './readers.js';

t.setTimeout(240_000);

t.test('50 subscribers, one of them stopped', async (t) => {
  const { figures, violations } = await readers({ seconds: 2, storm: 0.1 });
  t.comment(figures);
  t.same(violations, []);
});
