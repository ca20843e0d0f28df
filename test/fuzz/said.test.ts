/**
 * What arrives of connections that are judged by what they say. FUZZ_STEPS, FUZZ_SEED; for more of them, npm run fuzz --
 * --said.
 */
import t from 'tap';
import { seeded } from './random.js';
import { fuzzSaid, replaySaid, SaidPair } from './said-run.js';

const STEPS = Number(process.env.FUZZ_STEPS ?? 12_000);
const { seed } = seeded();
const pair = new SaidPair();
t.teardown(() => pair.close());

t.test(`${STEPS} steps of connections, FUZZ_SEED=${seed}`, async (t) => {
  const { steps, seen, wrong } = fuzzSaid(seed, { count: STEPS }, undefined, pair);
  if (wrong) t.comment(JSON.stringify(wrong));
  t.notOk(wrong, `FUZZ_SEED=${seed}: nothing else arrives than what the rules admit: ${JSON.stringify(seen)}`);
  t.ok(steps >= STEPS);
  const often = (kind: string, share: number) => t.ok((seen[kind] ?? 0) > STEPS * share, `${kind}: ${seen[kind]}`);
  often('said 1', 0.02);
  often('said 2', 0.001);
  often('to arrive', 0.01);
  often('retold', 0.005);
  often('out-of-order', 0.005);
  often('unreadable-hello', 0.005);
});

t.test('it is found if nobody looks', async (t) => {
  for (const reason of ['retold', 'out-of-order', 'unreadable-hello', 'rule']) {
    pair.flaw = reason;
    const { wrong } = fuzzSaid(7, { count: 20_000 }, undefined, pair);
    pair.flaw = undefined;
    t.ok(wrong, `${reason}: ${JSON.stringify(wrong?.wrong)} in ${wrong?.steps.length} steps`);
    if (wrong) t.equal(replaySaid(wrong.steps, pair), undefined, 'and nothing is wrong with it');
  }
});
