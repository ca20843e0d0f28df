/**
 * Connections a second against no filter at all, each by turns with a bed that nobody filters: the agent with its own process
 * beside it, sets of ipset and nftables, and programs that return at once. One size; all sizes and all else: versus/.
 */
import { connectParts } from './connect-parts.js';
import { progress, median, type Result, atLeast } from './result.js';
import { Bed } from './versus/bed.js';
import { type Competitor, floor, others } from './versus/competitors.js';
import { compared, networks } from './versus/measure.js';
import { ours } from './versus/ours.js';

const NETWORKS = 10_000;
const ROUNDS = 3;
const WARM_UP_S = 1;
const PAIRED_S = 4;
const SETS = others.filter((c) => c.name === 'ipset' || c.name === 'nftables set');

interface Measured {
  /** Against no filter. */
  readonly ratio: number;
  /** Milliseconds of its own process for 1,000 connects; 0 where it has none. */
  readonly own: number;
  /** The same ratio if that had been spent on the core that the connects are made on. */
  readonly withOwn: number;
}

export async function connects(): Promise<Result[]> {
  const all = new Map<Competitor, Measured[]>([floor, ...SETS, ours].map((who) => [who, []]));
  const bare = await Bed.create();
  try {
    for (let round = 1; round <= ROUNDS; round++)
      for (const [who, measured] of all) {
        const one = await measure(who, bare);
        measured.push(one);
        const own = one.own > 0 ? `, ${one.own.toFixed(1)} ms of its own for 1,000: ${one.withOwn.toFixed(3)}` : '';
        progress(`round ${round}, ${who.name}: ${one.ratio.toFixed(3)} of no filter${own}`);
      }
    await connectParts(bare, NETWORKS);
  } finally {
    await bare.close();
  }
  const of = (who: Competitor, key: keyof Measured) => median((all.get(who) ?? []).map((m) => m[key]));
  const agent = of(ours, 'ratio');
  const text = `${NETWORKS} networks; programs that return at once: ${of(floor, 'ratio').toFixed(3)}`;
  const own = `${of(ours, 'own').toFixed(1)} ms of the agent’s process for 1,000 connects`;
  return [
    atLeast('connects against no filter, 10,000 networks', agent, 'x', text, 0.96),
    atLeast('the same, the agent’s process on the same core', of(ours, 'withOwn'), 'x', own, 0.96),
    ...SETS.map((who) => {
      const ratio = of(who, 'ratio');
      return atLeast(`connects against ${who.name}`, agent / ratio, 'x', `it: ${ratio.toFixed(3)} of no filter`, 1.06);
    }),
  ];
}

async function measure(who: Competitor, bare: Bed): Promise<Measured> {
  const bed = await Bed.create();
  try {
    await who.prepare?.(bed);
    await who.load(bed, networks(NETWORKS));
    await bed.connects(WARM_UP_S);
    const busy = who.busy?.();
    const pairs = await bed.beside(bare, PAIRED_S);
    const made = pairs.reduce((sum, pair) => sum + pair.made, 0);
    const own = busy === undefined ? 0 : (((who.busy?.() ?? 0) - busy) / made) * 1000;
    const { against: ratio, connects: rate } = compared(pairs);
    // 1,000 connects took so many milliseconds of the core, and would have taken `own` more.
    const took = 1e6 / rate;
    return { ratio, own, withOwn: (ratio * took) / (took + own) };
  } finally {
    await who.unload(bed).catch(() => undefined);
    await bed.close();
  }
}
