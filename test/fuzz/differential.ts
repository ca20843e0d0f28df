/** Random histories through the three engines until there are enough pairs of (policies, packet), or one on which they disagree. */
import { Agent, type Batch, type Disagreement, judged, judgedAgain, judgedState } from './history.js';
import { ManyPackets, type Sent } from './kernel.js';
import { Random } from './random.js';
import { shrink, type Small } from './shrink.js';
import { randomPackets } from './traffic.js';
import { Cluster } from './world.js';

/** Packets in each state of a world. */
const PACKETS = 100;
/** Changes of a world before the next one. */
const UPDATES = 8;
/** Flows that are looked at again after a change. */
const KNOWN = 24;

export interface Limits {
  /** Pairs after which it ends; at the end of a state. */
  readonly pairs?: number;
  /** performance.now() after which it ends. */
  readonly until?: number;
}

export interface Figures {
  pairs: number;
  worlds: number;
  updates: number;
  /** Packets of flows that were known before a change. */
  flows: number;
  verdicts: Record<string, number>;
}

/** Runs until a limit, and returns what was found, made small. */
export function differential(
  seed: number,
  { pairs = Number.POSITIVE_INFINITY, until = Number.POSITIVE_INFINITY }: Limits,
  figures: Figures,
  progress: () => void = () => undefined,
): Small | undefined {
  const random = new Random(seed);
  const kernel = new ManyPackets();
  try {
    while (figures.pairs < pairs && performance.now() < until) {
      const world = random.below(2 ** 31) + 1;
      figures.worlds++;
      const history: Batch[] = [];
      const found = live(new Random(world), kernel, history, figures, pairs, until);
      if (found) return shrink(found, history, kernel, `found by seed ${seed}, world ${world}`);
      progress();
    }
    return undefined;
  } finally {
    kernel.close();
  }
}

export function noFigures(): Figures {
  return { pairs: 0, worlds: 0, updates: 0, flows: 0, verdicts: {} };
}

function live(
  r: Random,
  kernel: ManyPackets,
  history: Batch[],
  figures: Figures,
  pairs: number,
  until: number,
): Disagreement | undefined {
  const cluster = new Cluster(r);
  const agent = new Agent(kernel);
  const { verdicts } = figures;
  let known: Sent[] = [];
  for (let step = 0; step <= UPDATES && figures.pairs < pairs && performance.now() < until; step++) {
    const changes = step === 0 ? [...cluster.objects] : cluster.step();
    const batch: Batch = { changes, ownIps: cluster.ownIps };
    history.push(batch);
    if (step > 0) figures.updates += changes.length;
    agent.take(batch);
    const fresh = agent.fresh();
    for (const sent of known) {
      figures.flows++;
      const found = judgedAgain(fresh, kernel, sent);
      if (found) return found;
    }
    kernel.forget();
    known = [];
    if (r.chance(25)) {
      const found = judgedState(fresh, agent, kernel);
      if (found) return found;
    }
    for (const packet of randomPackets(r, fresh.snapshot, fresh.senders, PACKETS)) {
      figures.pairs++;
      const { found, verdict, sent } = judged(fresh, agent, packet);
      if (found) return found;
      const kind = verdict.audit ? `${verdict.verdict} with audit` : verdict.verdict;
      verdicts[kind] = (verdicts[kind] ?? 0) + 1;
      if (!packet.fragment && known.length < KNOWN * 8) known.push(sent);
    }
    known = known.filter((_, i) => i % Math.ceil(known.length / KNOWN || 1) === 0);
  }
  return undefined;
}
