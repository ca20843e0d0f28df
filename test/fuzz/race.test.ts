/** A short race of all CPUs for the flow table. More of it: `npm run fuzz -- --race`. */
import t from 'tap';
import type { TableView } from './table-view.js';
import { fuzzRace, viewOf } from './race-run.js';

const COUNT = Number(process.env.FUZZ_RACE ?? 1);

t.setTimeout(120_000);

t.test('CPUs race for the same flows, and each entry is whole', async (t) => {
  const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31) | 1;
  const run = await fuzzRace(seed, { count: COUNT });
  t.comment(
    `seed ${seed}: ${run.packets} packets, ${run.looked} entries looked at, ${run.flips} changes of policy, ${run.uncounted} packets not counted`,
  );
  t.same(run.wrong, []);
  t.ok(run.looked > 0 && run.packets > 0);
});

t.test('a table with a fault is found out', async (t) => {
  /** Every hundredth entry is changed on its way. */
  const broken =
    (change: (entry: Record<string, unknown>) => void): ((p: Parameters<typeof viewOf>[0]) => TableView) =>
    (programs) => {
      const view = viewOf(programs);
      return {
        ...{ uncounted: () => view.uncounted(), onceWhileWritten: view.onceWhileWritten },
        *entries() {
          let n = 0;
          for (const entry of view.entries()) {
            const copy = { ...entry };
            if (++n % 100 === 0) change(copy as unknown as Record<string, unknown>);
            yield copy;
          }
        },
      };
    };
  const faults: Record<string, (entry: Record<string, unknown>) => void> = {
    torn: (e) => (e.createdNs = 0n),
    'more packets than there were': (e) => (e.packetsOut = 1e12),
    'another rule': (e) => (e.rule = 1),
  };
  for (const [name, change] of Object.entries(faults)) {
    const { wrong } = await fuzzRace(1, { count: 1, roundMs: 200, view: broken(change) });
    t.not(wrong.length, 0, name);
  }
});
