/** Which of many items are shown. */
import t from 'tap';
import { Choice, rankOf } from '../../src/flow/hub/choice.js';

t.test('ranks', async (t) => {
  t.equal(rankOf({ verdict: 'deny', auditVerdict: 'none' }), 0);
  t.equal(rankOf({ verdict: 'allow', auditVerdict: 'deny' }), 1);
  t.equal(rankOf({ verdict: 'partial', auditVerdict: 'none' }), 2);
  t.equal(rankOf({ verdict: 'allow', auditVerdict: 'partial' }), 2);
  t.equal(rankOf({ verdict: 'allow', auditVerdict: 'allow' }), 3);
});

t.test('the lowest rank first, and of each rank an even choice', async (t) => {
  const counts = new Float64Array(1000);
  for (let round = 0; round < 400; round++) {
    const choice = new Choice<number>(50, Math.random);
    for (let n = 0; n < 1000; n++) choice.offer(3, () => n);
    for (let n = 0; n < 10; n++) choice.offer(n % 2, () => 5000 + n);
    t.equal([...choice.items()].length, 60);
    const taken = choice.take();
    t.equal(taken.length, 50);
    t.equal(taken.filter((n) => n >= 5000).length, 10);
    t.equal(new Set(taken).size, 50);
    for (const n of taken) if (n < 5000) counts[n] = (counts[n] as number) + 1;
    t.same(choice.take(), [], 'begins anew');
  }
  // 400 × 40 of 1000: 1600 for each hundred, with a deviation of some forty.
  for (let part = 0; part < 10; part++) {
    const sum = counts.subarray(part * 100, part * 100 + 100).reduce((a, b) => a + b);
    t.ok(sum > 1350 && sum < 1850, `hundred ${part}: ${sum}`);
  }
});

t.test('what is replaced is told, and what cannot be had is left out', async (t) => {
  const choice = new Choice<number>(2, () => 0);
  const left: number[] = [];
  for (let n = 1; n <= 4; n++)
    choice.offer(
      0,
      () => n,
      (item) => left.push(item),
    );
  choice.offer(
    0,
    () => undefined,
    (item) => left.push(item),
  );
  t.same(left, [1, 3]);
  t.same(choice.take().sort(), [2, 4]);
});
