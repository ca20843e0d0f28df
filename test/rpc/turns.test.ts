/** Answers that many ask for at once. */
import t from 'tap';
import { together } from '../../src/rpc/transport/turns.js';

t.test('who comes while an answer is on its way shares the next one', async (t) => {
  const begun: ((n: number | Error) => void)[] = [];
  const ask = together(
    () =>
      new Promise<number>((resolve, reject) => {
        begun.push((n) => (typeof n === 'number' ? resolve(n) : reject(n)));
      }),
  );
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const first = ask();
  await turn();
  const crowd = Array.from({ length: 50 }, () => ask());
  await turn();
  t.equal(begun.length, 1, 'one at a time');
  begun[0]?.(1);
  t.equal(await first, 1);
  await turn();
  t.equal(begun.length, 2, 'one for all of them, begun after they asked');
  const late = ask().catch((e: Error) => e.message);
  begun[1]?.(2);
  t.same(new Set(await Promise.all(crowd)), new Set([2]));
  await turn();
  begun[2]?.(new Error('gone'));
  t.equal(await late, 'gone');
  const after = ask();
  await turn();
  begun[3]?.(4);
  t.equal(await after, 4, 'a failure is that answer’s alone');
});
