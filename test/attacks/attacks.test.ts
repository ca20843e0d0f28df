/** Each attack in short, on one kind of hook. All of them: `npm run proof -- attacks`. */
import t from 'tap';
import { ATTACKS } from './all.js';
import { Bed } from './bed.js';
import { attackOn, violationsOf } from './run.js';

t.setTimeout(600_000);
t.test('a pod gets nothing to where it may not', { timeout: 600_000 }, async (t) => {
  const bed = await Bed.create('tcx');
  t.teardown(() => bed.close());
  for (const attack of ATTACKS) {
    await t.test(`${attack.name}: ${attack.tries}`, async (t) => {
      const outcome = await attackOn(bed, attack, true);
      t.same(violationsOf([outcome]), []);
    });
  }
});
