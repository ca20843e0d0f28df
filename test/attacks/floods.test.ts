/** Each flood in short, on one kind of hook, as attacks.test.ts. All of them: `npm run proof -- attacks --floods`. */
import t from 'tap';
import { Bed } from './bed.js';
import { FLOODS } from './floods.js';
import { attackOn, violationsOf } from './run.js';

t.setTimeout(300_000);
t.test('what a pod floods costs its neighbours nothing', { timeout: 300_000 }, async (t) => {
  const bed = await Bed.create('tcx');
  t.teardown(() => bed.close());
  for (const attack of FLOODS) {
    await t.test(`${attack.name}: ${attack.tries}`, async (t) => {
      const began = performance.now();
      const outcome = await attackOn(bed, attack, true);
      t.comment(`${((performance.now() - began) / 1000).toFixed(1)} s`);
      t.same(violationsOf([outcome]), []);
    });
  }
});
