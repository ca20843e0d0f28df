/**
 * Invariant 1 for policies of every dialect, and for clusters that change: FUZZ_PAIRS (policies, packet) pairs, at least 20,000. FUZZ_SEED
 * repeats a run; for more of them, npm run fuzz.
 */
import t from 'tap';
import { toIr } from '../../src/dialects/index.js';
import { evaluate } from '../../src/ir/evaluate.js';
import type { Packet } from '../../src/ir/packet.js';
import { Agent, Fresh } from './history.js';
import { differential, noFigures } from './differential.js';
import { ManyPackets } from './kernel.js';
import { type Lesson, Teacher } from './lessons.js';
import { textsOf } from './objects/domains.js';
import { Random, seeded } from './random.js';
import { shrink } from './shrink.js';
import { randomPackets } from './traffic.js';
import { Cluster } from './world.js';
import { parseCase, printer } from '../engines/cases.js';
import { NODE_IP } from '../policy/world.js';

const PAIRS = Number(process.env.FUZZ_PAIRS ?? 20_000);
const random = seeded();

t.test(`${PAIRS} random pairs, FUZZ_SEED=${random.seed}`, async (t) => {
  const figures = noFigures();
  const small = differential(random.seed, { pairs: PAIRS }, figures);
  if (small) t.comment(`as a file:\n${small.text}\n${JSON.stringify(small.answers)}`);
  t.notOk(small, `FUZZ_SEED=${random.seed}: the engines say the same: ${JSON.stringify(figures)}`);
  t.ok(figures.pairs >= PAIRS && figures.updates > PAIRS / 200 && figures.flows > PAIRS / 20, 'states and changes');
  const { verdicts: v } = figures;
  const share = (...kinds: string[]) => kinds.reduce((n, kind) => n + (v[kind] ?? 0), 0) / figures.pairs;
  t.ok(share('allow', 'allow with audit') > 0.1 && share('deny', 'deny with audit') > 0.1, 'both verdicts are common');
  t.ok(share('partial') > 0.0005, 'Services some of whose backends are allowed come up');
  t.ok(share('allow with audit', 'deny with audit') > 0.02, 'staged policies come up');
  const { asked, taught, refused, packets, decided, queries, asking } = figures.names;
  t.ok(asked > PAIRS / 500 && taught > PAIRS / 500 && refused > PAIRS / 2000, 'pods learn, by answers and by hand');
  t.ok(packets > PAIRS / 12 && decided > PAIRS / 500, 'addresses with names are common, and names that decide');
  const { said } = figures;
  t.ok(said.packets > PAIRS / 20 && said.decided > PAIRS / 500, 'connections say something, and it decides');
  t.ok(said.kept > PAIRS / 400, 'so do flows from before a change');
  const { quic } = said;
  t.ok(quic.packets > PAIRS / 100 && quic.decided > PAIRS / 20_000 && quic.kept > PAIRS / 2000, 'so does QUIC');
  t.ok(queries > PAIRS / 20 && asking > PAIRS / 1000, 'so are queries, and names in them that decide');
});

t.test('every dialect comes up, and most of what is written can be read', async (t) => {
  const dialects: Record<string, number> = {};
  let [policies, faulty] = [0, 0];
  for (let n = 0; n < 120; n++) {
    const cluster = new Cluster(new Random(random.below(2 ** 31) + 1));
    const { snapshot } = new Fresh([...cluster.objects.values()], cluster.ownIps, { tiers: [] });
    const { ir, problems } = toIr(snapshot);
    policies += snapshot.policies.length;
    faulty += new Set(problems.filter((p) => p.severity === 'error').map((p) => p.where.object)).size;
    for (const { kind } of snapshot.policies) dialects[kind] = (dialects[kind] ?? 0) + 1;
    for (const { ref } of ir.tiers.flatMap((tier) => tier.policies))
      dialects[ref.dialect] = (dialects[ref.dialect] ?? 0) + 1;
  }
  for (const dialect of [
    'networkpolicy',
    'applicationnetworkpolicy',
    'clusternetworkpolicy',
    'calico',
    'cilium',
    'fqdn',
  ])
    t.ok((dialects[dialect] ?? 0) > 3, `${dialect}: ${dialects[dialect]}`);
  t.ok(faulty < policies / 3, `${faulty} of ${policies} policies have errors: ${JSON.stringify(dialects)}`);
});

const byHand = ({ server: _, ...lesson }: Lesson): Lesson => lesson;

t.test('what is found is made small, and says the same as a file', async (t) => {
  const kernel = new ManyPackets();
  t.teardown(() => kernel.close());
  let files = 0;
  for (let n = 0; n < 200 && files < 3; n++) {
    const r = new Random(random.below(2 ** 31) + 1);
    const cluster = new Cluster(r);
    cluster.ownIps = [NODE_IP];
    const lessons: Lesson[] = [];
    const history = [{ changes: [...cluster.objects], ownIps: cluster.ownIps, lessons }];
    const agent = new Agent(kernel);
    agent.take(history[0] as (typeof history)[number]);
    const fresh = agent.fresh();
    const texts = textsOf(cluster.objects.values());
    lessons.push(...new Teacher(r).lessons(fresh.snapshot, fresh.senders, texts, 20).map(byHand));
    for (const lesson of lessons) agent.teach(fresh, lesson);
    const byName = files % 2 === 1;
    // As if it were wrong that it is denied; every second time, that it passes by its name.
    const wrong = (f: Fresh, p: Packet) =>
      byName
        ? f.evaluate(p).verdict === 'allow' && f.evaluate(p, new Map()).verdict === 'deny'
        : f.evaluate(p).verdict === 'deny';
    const packet = randomPackets(r, fresh.snapshot, fresh.senders, 60, { learned: fresh.learned, texts }).find((p) =>
      wrong(fresh, p),
    );
    if (!packet) continue;
    const found = { about: 'verdict', answers: {}, packet } as const;
    const small = shrink(found, history, kernel, 'made small', (f) => wrong(f, packet));
    if (small.extension !== 'yaml') continue;
    files++;
    const read = parseCase('found.yaml', small.text);
    const [row] = read.rows;
    t.same(row?.packet, packet, 'its packet');
    t.match(row?.expected, byName ? /^allow/ : /^deny/, small.text);
    t.equal(byName, small.text.includes('\nnames: '), 'what pods learned, if it matters');
    t.equal(
      row && printer(read.ir)(evaluate(read.ir, read.snapshot, row.packet, read.learned), row.packet),
      row?.expected,
      'its answer',
    );
    t.ok(small.text.split('\n').length < 18, `small: ${small.text.length} characters`);
  }
  t.equal(files, 3);
});
