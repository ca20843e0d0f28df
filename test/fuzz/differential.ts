/** Random histories through the three engines until there are enough pairs of (policies, packet), or one on which they disagree. */
import { type Packet, sameDecision, type Verdict } from '../../src/ir/packet.js';
import { Agent, type Batch, type Disagreement, type Fresh, judged, judgedAgain, judgedState } from './history.js';
import { ManyPackets, type Sent } from './kernel.js';
import { type Lesson, Teacher } from './lessons.js';
import { textsOf } from './objects/domains.js';
import { Random } from './random.js';
import { decides, isQuic, type SaidFigures, saidTexts } from './sayings.js';
import { shrink, type Small } from './shrink.js';
import { randomPackets } from './traffic.js';
import { Cluster } from './world.js';

/** Packets in each state of a world. */
const PACKETS = 100;
/** Changes of a world before the next one. */
const UPDATES = 8;
/** Answers that pods get in each state, at most. */
const LESSONS = 14;
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
  names: NameFigures;
  said: SaidFigures;
}

export interface NameFigures {
  /** Answers that pods learned from, by query and answer through the hooks; and without. */
  asked: number;
  taught: number;
  /** Answers to queries that were refused. */
  refused: number;
  /** Packets to addresses with names; those whose verdict or rule follows from the names; and denied flows that began to pass. */
  packets: number;
  decided: number;
  opened: number;
  /** Queries; and those that another name in them would have decided otherwise. */
  queries: number;
  asking: number;
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
  return {
    pairs: 0,
    worlds: 0,
    updates: 0,
    flows: 0,
    verdicts: {},
    names: noNames(),
    said: { packets: 0, decided: 0, kept: 0, quic: { packets: 0, decided: 0, kept: 0 } },
  };
}

function noNames(): NameFigures {
  return { asked: 0, taught: 0, refused: 0, packets: 0, decided: 0, opened: 0, queries: 0, asking: 0 };
}

/** A flow from before a change, and whether it was denied behind it. */
interface Known {
  readonly sent: Sent;
  denied: boolean;
}

function countNames(names: NameFigures, fresh: Fresh, packet: Packet, verdict: Verdict): void {
  if (packet.query !== undefined) {
    names.queries++;
    if (!sameDecision(verdict, fresh.evaluate({ ...packet, query: 'a.name.of?nobody' }))) names.asking++;
  } else if (fresh.learned.get(packet.from)?.has(packet.to)) {
    names.packets++;
    if (!sameDecision(verdict, fresh.evaluate(packet, new Map()))) names.decided++;
  }
}

function countSaid(said: SaidFigures, fresh: Fresh, packet: Packet, verdict: Verdict): void {
  if (!packet.said) return;
  const isDecided = decides(packet, (other) => sameDecision(verdict, fresh.evaluate(other)));
  for (const figures of isQuic(packet) ? [said, said.quic] : [said]) {
    figures.packets++;
    if (isDecided) figures.decided++;
  }
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
  const teacher = new Teacher(r);
  const { verdicts } = figures;
  let known: Known[] = [];
  for (let step = 0; step <= UPDATES && figures.pairs < pairs && performance.now() < until; step++) {
    const changes = step === 0 ? [...cluster.objects] : cluster.step();
    const lessons: Lesson[] = [];
    const batch: Batch = { changes, ownIps: cluster.ownIps, lessons };
    history.push(batch);
    if (step > 0) figures.updates += changes.length;
    agent.change(batch);
    const fresh = agent.fresh();
    for (const one of known) {
      figures.flows++;
      if (one.sent.packet.said) figures.said.kept++;
      if (isQuic(one.sent.packet)) figures.said.quic.kept++;
      const found = judgedAgain(fresh, kernel, one.sent);
      if (found) return found;
      one.denied = fresh.evaluate(one.sent.packet).verdict === 'deny';
    }
    const texts = textsOf(cluster.objects.values());
    const denied = known
      .filter((k) => k.denied && fresh.senders.includes(k.sent.packet.from))
      .map((k) => k.sent.packet);
    for (const lesson of teacher.lessons(fresh.snapshot, fresh.senders, texts, LESSONS, denied)) {
      const { found, took } = agent.teach(fresh, lesson);
      lessons.push(took ? lesson : { ...lesson, refused: true });
      figures.names[lesson.server === undefined ? 'taught' : took ? 'asked' : 'refused']++;
      if (found) return found;
    }
    for (const { sent, denied } of known) {
      if (!denied || fresh.evaluate(sent.packet).verdict === 'deny') continue;
      figures.names.opened++;
      const found = judgedAgain(fresh, kernel, sent);
      if (found) return found;
    }
    kernel.forget();
    known = [];
    if (r.chance(25)) {
      const found = judgedState(fresh, agent, kernel);
      if (found) return found;
    }
    const names = { learned: fresh.learned, texts, said: saidTexts(fresh.ir) };
    for (const packet of randomPackets(r, fresh.snapshot, fresh.senders, PACKETS, names)) {
      figures.pairs++;
      const { found, verdict, sent } = judged(fresh, agent, packet);
      if (found) return found;
      countNames(figures.names, fresh, packet, verdict);
      countSaid(figures.said, fresh, packet, verdict);
      const kind = verdict.audit ? `${verdict.verdict} with audit` : verdict.verdict;
      verdicts[kind] = (verdicts[kind] ?? 0) + 1;
      // The same request once more is one that was judged.
      if (!packet.fragment && packet.said?.kind !== 'http' && known.length < KNOWN * 8)
        known.push({ sent, denied: false });
    }
    known = known.filter((_, i) => i % Math.ceil(known.length / KNOWN || 1) === 0);
  }
  return undefined;
}
