/** Invariant 4, and what the flow table remembers. FUZZ_STEPS, FUZZ_SEED; for more of them, npm run fuzz -- --flows. */
import t from 'tap';
import { RST } from './flow-model.js';
import { fuzzFlows, replayFlows } from './flow-run.js';
import { seeded } from './random.js';

const STEPS = Number(process.env.FUZZ_STEPS ?? 20_000);
const { seed } = seeded();

t.test(`${STEPS} packets of one pod, FUZZ_SEED=${seed}`, async (t) => {
  const { steps, seen, wrong } = fuzzFlows(seed, { count: STEPS });
  if (wrong) t.comment(JSON.stringify(wrong));
  t.notOk(wrong, `FUZZ_SEED=${seed}: the programs do what the model says: ${JSON.stringify(seen)}`);
  t.ok(steps >= STEPS);
  t.ok((seen.policy ?? 0) > STEPS / 1000, 'under changing policies');
});

t.test('a fault is found, and made small', async (t) => {
  const { wrong } = fuzzFlows(7, {
    count: 20_000,
    // As if a reset were never told of.
    flaw: ({ flags = 0 }, answer) => (flags & RST ? { ...answer, told: [] } : answer),
  });
  t.ok(wrong);
  if (!wrong) return;
  t.ok(wrong.steps.length <= 4, `${wrong.steps.length} steps`);
  t.match(wrong.expected, { told: [/./] });
  t.equal(replayFlows(wrong.steps), undefined, 'and is none without it');
});
