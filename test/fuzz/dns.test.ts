/** What pods learn of queries and answers, and what they may reach then. FUZZ_STEPS, FUZZ_SEED; for more of them, npm run fuzz -- --dns. */
import t from 'tap';
import { type DnsFlaw, DnsPair, fuzzDns, replayDns } from './dns-run.js';
import type { DnsStep } from './dns-types.js';
import { seeded } from './random.js';

const STEPS = Number(process.env.FUZZ_STEPS ?? 3000);
const { seed } = seeded();
const pair = new DnsPair();
t.teardown(() => pair.close());

t.test(`${STEPS} queries, answers and connections, FUZZ_SEED=${seed}`, async (t) => {
  const { steps, seen, wrong } = fuzzDns(seed, { count: STEPS }, undefined, pair);
  if (wrong) t.comment(JSON.stringify(wrong));
  t.notOk(wrong, `FUZZ_SEED=${seed}: pods know what the model says: ${JSON.stringify(seen)}`);
  t.ok(steps >= STEPS);
  const often = (kind: string, share: number) => t.ok((seen[kind] ?? 0) > STEPS * share, `${kind}: ${seen[kind]}`);
  often('answer learned', 0.03);
  often('answer nothing', 0.05);
  often('flow pass', 0.01);
  often('flow drop', 0.05);
  often('sweep learned', 0.003);
});

/** As if the programs did not look at one thing: a model that does not either is to be wrong. */
const FLAWS: Readonly<Record<string, DnsFlaw>> = {
  'the id': (step) => without(step, 'id'),
  'the port of the server': (step) => without(step, 'sport'),
  'the port of the pod': (step) => without(step, 'dport'),
  'the server': (step) => without(step, 'source'),
  'the question': (step) => without(step, 'question'),
  'the pod': (step) => without(step, 'to'),
  'flags and errors': (step) => without(step, 'flags'),
  time: (step) => (step.do === 'wait' ? { ...step, seconds: 0 } : step),
  'connections in use': (step) => (step.do === 'flow' ? { ...step, hold: false } : step),
};

function without(step: DnsStep, field: string): DnsStep {
  return step.do === 'answer'
    ? (Object.fromEntries(Object.entries(step).filter(([key]) => key !== field)) as unknown as DnsStep)
    : step;
}

t.test('it is found if nobody looks at', async (t) => {
  for (const [name, flaw] of Object.entries(FLAWS)) {
    pair.flaw = flaw;
    const { wrong } = fuzzDns(7, { count: 20_000 }, undefined, pair);
    pair.flaw = (step) => step;
    t.ok(wrong && wrong.steps.length <= 6, `${name}: ${JSON.stringify(wrong?.steps)}`);
    if (wrong) t.equal(replayDns(wrong.steps, pair), undefined, 'and nothing is wrong without it');
  }
});
