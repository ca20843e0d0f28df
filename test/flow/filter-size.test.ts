/** A request of a megabyte of filters must not hold up the agent while they are compiled. */
import t from 'tap';
import { compileFilter } from '../../src/flow/filter/filter.js';

t.test('too many values are refused, before they are compiled', async (t) => {
  const many = (n: number) => Array.from({ length: n }, () => '*');
  t.throws(() => compileFilter([{ node_name: many(100_000) }], []), { code: 'USAGE', message: /at most 1000/ });
  t.throws(
    () =>
      compileFilter(
        [],
        Array.from({ length: 2000 }, () => ({})),
      ),
    { code: 'USAGE' },
  );
  t.throws(() => compileFilter([{ node_name: many(600) }], [{ node_name: many(600) }]), { code: 'USAGE' });
  compileFilter([{ node_name: many(500) }], []);
});
