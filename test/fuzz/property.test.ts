/**
 * Invariant 1, at random: FUZZ_PAIRS (policies, packet) pairs, at least 20,000, through the three engines.
 * A disagreement is shrunk and printed; FUZZ_SEED repeats a run.
 */
import t from 'tap';
import type { Packet } from '../../src/image/types.js';
import type { Ir } from '../../src/ir/types.js';
import { comparable, type Engine, Evaluate, Kernel, Simulate, type World } from '../engines/engine.js';
import { seeded } from './random.js';
import { randomPacket, randomWorld } from './worlds.js';

const PAIRS = Number(process.env.FUZZ_PAIRS ?? 20_000);
const PACKETS_A_WORLD = 120;
const random = seeded();
const engines: Engine[] = [new Evaluate(), new Simulate(), new Kernel()];
t.teardown(() => {
  for (const e of engines) e.close();
});

/** What each engine says; undefined where all say the same. */
function disagreement(packet: Packet): Record<string, object> | undefined {
  const answers = engines.map((e) => [e.name, comparable(e.judge(packet), packet)] as const);
  const first = JSON.stringify(answers[0]?.[1]);
  return answers.every(([, a]) => JSON.stringify(a) === first) ? undefined : Object.fromEntries(answers);
}

function disagrees(world: World, packet: Packet): boolean {
  for (const e of engines) e.use(world);
  return disagreement(packet) !== undefined;
}

/** Takes tiers, policies and rules away as long as the engines still disagree. */
function shrink(world: World, packet: Packet): World {
  const smaller = (ir: Ir): Ir[] => [
    ...ir.tiers.map((_, i) => ({ tiers: ir.tiers.toSpliced(i, 1) })),
    ...ir.tiers.flatMap((tier, i) =>
      tier.policies.map((_, j) => ({ tiers: ir.tiers.with(i, { ...tier, policies: tier.policies.toSpliced(j, 1) }) })),
    ),
    ...ir.tiers.flatMap((tier, i) =>
      tier.policies.flatMap((p, j) =>
        p.rules.map((_, k) => ({
          tiers: ir.tiers.with(i, {
            ...tier,
            policies: tier.policies.with(j, { ...p, rules: p.rules.toSpliced(k, 1) }),
          }),
        })),
      ),
    ),
  ];
  for (;;) {
    const next = smaller(world.ir).find((ir) => disagrees({ ...world, ir }, packet));
    if (!next) return world;
    world = { ...world, ir: next };
  }
}

t.test(`${PAIRS} random pairs, FUZZ_SEED=${random.seed}`, async (t) => {
  const verdicts: Record<string, number> = {};
  for (let pairs = 0; pairs < PAIRS; ) {
    const world = randomWorld(random);
    for (const e of engines) e.use(world);
    // Pod by pod: the kernel's engine is one pod at a time.
    const packets = Array.from({ length: PACKETS_A_WORLD }, () => randomPacket(random, world.snapshot));
    packets.sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0));
    for (const packet of packets) {
      pairs++;
      const found = disagreement(packet);
      const verdict = engines[0]?.judge(packet).verdict ?? '';
      verdicts[verdict] = (verdicts[verdict] ?? 0) + 1;
      if (!found) continue;
      const small = shrink(world, packet);
      t.comment(
        JSON.stringify(
          {
            packet,
            found,
            ir: small.ir,
            pods: [...small.snapshot.pods.values()].map((p) => [p.namespace, p.name, p.ips, p.labels, p.ports]),
          },
          null,
          1,
        ),
      );
      t.fail(`FUZZ_SEED=${random.seed}: the engines disagree after ${pairs} pairs`);
      return;
    }
  }
  t.pass(`no disagreement: ${JSON.stringify(verdicts)}`);
  t.ok((verdicts.allow ?? 0) > PAIRS / 10 && (verdicts.deny ?? 0) > PAIRS / 10, 'both verdicts are common');
});
