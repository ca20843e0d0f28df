/**
 * Invariant 1, at random: FUZZ_PAIRS (policies, packet) pairs, at least 20,000, through the three engines; policies as IR, with what no
 * dialect says, and NetworkPolicies. Those of all dialects, and what changes, are in differential.test.ts.
 * A disagreement is shrunk and printed; FUZZ_SEED repeats a run.
 */
import t from 'tap';
import type { Packet } from '../../src/ir/packet.js';
import { sameDecision } from '../../src/ir/packet.js';
import type { Ir, Rule } from '../../src/ir/types.js';
import { parseCase, printer } from '../engines/cases.js';
import { comparable, type Engine, Evaluate, Simulate, type World } from '../engines/engine.js';
import { caseText } from './case-text.js';
import { QuickKernel } from './kernel.js';
import { seeded } from './random.js';
import { decides } from './sayings.js';
import { randomPacket, randomWorld } from './worlds.js';

const PAIRS = Number(process.env.FUZZ_PAIRS ?? 20_000);
const PACKETS_A_WORLD = 120;
const random = seeded();
const engines: Engine[] = [new Evaluate(), new Simulate(), new QuickKernel()];
t.teardown(() => {
  for (const e of engines) e.close();
});

/** What each engine says; undefined where all say the same. */
function disagreement(packet: Packet): Record<string, object> | undefined {
  const [reference] = engines as [Engine];
  const answers = engines.map((e) => {
    const verdict = e.judge(packet);
    // Of a handshake nothing is told while what follows decides.
    const isPending = packet.protocol === 6 && !packet.said && verdict.verdict === 'partial' && verdict.rule === 0;
    const expected = isPending ? reference.judge(packet) : verdict;
    return [e.name, comparable(expected.verdict === 'allow' ? expected : verdict, packet)] as const;
  });
  const first = JSON.stringify(answers[0]?.[1]);
  return answers.every(([, a]) => JSON.stringify(a) === first) ? undefined : Object.fromEntries(answers);
}

function disagrees(world: World, packet: Packet): boolean {
  for (const e of engines) e.use(world);
  return disagreement(packet) !== undefined;
}

/** A world without one of its Services, or one of its pods but the sender. */
function fewerObjects({ ir, snapshot }: World, packet: Packet): World[] {
  const without = <T>(map: ReadonlyMap<string, T>, key: string) => new Map([...map].filter(([k]) => k !== key));
  return [
    ...[...snapshot.services.keys()].map((key) => ({ services: without(snapshot.services, key) })),
    ...[...snapshot.pods.keys()]
      .filter((key) => key !== packet.from)
      .map((key) => ({ pods: without(snapshot.pods, key) })),
  ].map((part) => ({ ir, snapshot: { ...snapshot, ...part } }));
}

/** A rule that asks for less, or for nothing. */
function askingLess(rule: Rule): Rule[] {
  const { serverNames = [], http = [], ...rest } = rule;
  const names = rule.serverNames ? { serverNames } : {};
  return [
    ...(rule.serverNames ? [{ ...rest, ...(rule.http ? { http } : {}) }] : []),
    ...(rule.http ? [{ ...rest, ...names }] : []),
    ...serverNames.map((_, i) => ({ ...rule, serverNames: serverNames.toSpliced(i, 1) })),
    ...http.map((_, i) => ({ ...rule, http: http.toSpliced(i, 1) })),
    ...http.flatMap((match, i) =>
      Object.keys(match).map((key) => {
        const fields = Object.fromEntries(Object.entries(match).filter(([one]) => one !== key));
        return { ...rule, http: http.with(i, fields) };
      }),
    ),
  ];
}

/** Takes tiers, policies, rules, Services and pods away as long as the engines still disagree. */
function shrink(world: World, packet: Packet): World {
  const smaller = (ir: Ir): Ir[] => [
    ...ir.tiers.map((_, i) => ({ tiers: ir.tiers.toSpliced(i, 1) })),
    ...ir.tiers.flatMap((tier, i) =>
      tier.policies.map((_, j) => ({ tiers: ir.tiers.with(i, { ...tier, policies: tier.policies.toSpliced(j, 1) }) })),
    ),
    ...ir.tiers.flatMap((tier, i) =>
      tier.policies.flatMap((p, j) =>
        p.rules.flatMap((rule, k) =>
          [p.rules.toSpliced(k, 1), ...askingLess(rule).map((less) => p.rules.with(k, less))].map((rules) => ({
            tiers: ir.tiers.with(i, { ...tier, policies: tier.policies.with(j, { ...p, rules }) }),
          })),
        ),
      ),
    ),
  ];
  for (;;) {
    const { snapshot } = world;
    const next = [...smaller(world.ir).map((ir) => ({ ir, snapshot })), ...fewerObjects(world, packet)].find((w) =>
      disagrees(w, packet),
    );
    if (!next) return world;
    world = next;
  }
}

t.test(`${PAIRS} random pairs, FUZZ_SEED=${random.seed}`, async (t) => {
  const verdicts: Record<string, number> = {};
  const [reference] = engines as [Engine];
  let [said, decided] = [0, 0];
  for (let pairs = 0; pairs < PAIRS; ) {
    const world = randomWorld(random, 45);
    for (const e of engines) e.use(world);
    // Pod by pod: the kernel's engine is one pod at a time.
    const packets = Array.from({ length: PACKETS_A_WORLD }, () => randomPacket(random, world.snapshot, world.ir));
    packets.sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0));
    for (const packet of packets) {
      pairs++;
      const found = disagreement(packet);
      const verdict = engines[0]?.judge(packet).verdict ?? '';
      verdicts[verdict] = (verdicts[verdict] ?? 0) + 1;
      if (packet.said) said++;
      if (decides(packet, (o) => sameDecision(reference.judge(packet), reference.judge(o)))) decided++;
      if (!found) continue;
      const small = shrink(world, packet);
      const name = `found by FUZZ_SEED=${random.seed}`;
      t.comment(`as a case file, with the answer of the reference:\n${caseText(name, small, [packet])}`);
      t.comment(JSON.stringify(found));
      t.fail(`FUZZ_SEED=${random.seed}: the engines disagree after ${pairs} pairs`);
      return;
    }
  }
  t.pass(`no disagreement: ${JSON.stringify({ ...verdicts, said, decided })}`);
  t.ok(said > PAIRS / 50 && decided > PAIRS / 2000, 'connections say something, and it decides');
  t.ok((verdicts.allow ?? 0) > PAIRS / 10 && (verdicts.deny ?? 0) > PAIRS / 10, 'both verdicts are common');
  t.ok((verdicts.partial ?? 0) > PAIRS / 1000, 'Services some of whose backends are allowed come up');
});

t.test('what is found can be written down: a case file says the same as its world', async (t) => {
  const [reference] = engines as [Engine];
  for (let n = 0; n < 100; n++) {
    const world = randomWorld(random, 45);
    const packets = Array.from({ length: 10 }, () => randomPacket(random, world.snapshot, world.ir));
    const read = parseCase('found.yaml', caseText('found', world, packets));
    const print = printer(read.ir);
    reference.use(read);
    const found = read.rows.map((row) => print(reference.judge(row.packet), row.packet));
    const same = read.rows.every(({ packet, expected }, i) => {
      return found[i] === expected && JSON.stringify(packet) === JSON.stringify(packets[i]);
    });
    if (!same) {
      t.same(
        read.rows.map((r, i) => [r.packet, found[i]]),
        read.rows.map((r, i) => [packets[i], r.expected]),
        `FUZZ_SEED=${random.seed}`,
      );
      return;
    }
  }
  t.pass();
});
