/** The benchmarks of names, in short: what they measure happens as they say. */
import t, { type Test } from 'tap';
import { first, known } from './flows.js';
import { Learner } from './learn.js';
import { onOneCpu } from '../one-cpu.js';
import { changes } from './update.js';

// Each processor counts its own new addresses: a run that is moved begins with those of before.
const stays = (test: (t: Test) => Promise<void>) => (t: Test) => onOneCpu(() => test(t))();

t.test(
  'answers are learned, with new addresses and again',
  stays(async (t) => {
    const learner = new Learner(10);
    t.ok(learner.fresh(50) > 0);
    t.match(learner.held, { names: 2, pages: 400 });
    t.ok(learner.known('renewed', 50) > 0);
    t.ok(learner.known('again', 50) > 0);
    t.match(learner.held, { names: 2, pages: 8 });
    learner.close();
  }),
);

t.test('known flows pass, first packets are denied', async (t) => {
  for (const kind of ['named', 'listed'] as const) {
    const flow = known(kind);
    t.ok(flow.passes(), kind);
    flow.close();
    const packet = first(kind);
    t.ok(packet.time(10) > 0, kind);
    packet.close();
  }
});

t.test('patterns are added', async (t) => {
  t.equal(changes(20, 4, 3).changes.length, 3);
});
