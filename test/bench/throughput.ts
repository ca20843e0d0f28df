/** Streams and datagrams of pods under policy against no filter, by turns; as a reference, with programs that return at once. */
import { atLeast, median, progress, type Result } from './result.js';
import { Bed, type Pair } from './versus/bed.js';
import { type Competitor, floor } from './versus/competitors.js';
import { compared, networks } from './versus/measure.js';
import { ours } from './versus/ours.js';

const NETWORKS = 10_000;
const ROUNDS = 3;
const SECONDS = 2;
const LEAST = 0.98;
/** With headers of Ethernet, IPv4 and UDP, 64 bytes. */
const SMALL = 22;
const LARGE = 1400;

const KINDS = [
  { name: 'TCP throughput', what: 'tcp', bytes: 0, show: (rate: number) => `${((rate * 8) / 1e9).toFixed(1)} Gbit/s` },
  {
    name: 'UDP throughput, 1,400 bytes',
    what: 'udp',
    bytes: LARGE,
    show: (rate: number) => `${((rate * LARGE * 8) / 1e9).toFixed(2)} Gbit/s`,
  },
  {
    name: 'small packets a second',
    what: 'udp',
    bytes: SMALL,
    show: (rate: number) => `${Math.round(rate / 1000)} thousand a second`,
  },
] as const;

export async function throughput(): Promise<Result[]> {
  const bare = await Bed.create();
  try {
    const [empty, agent] = [await measure(floor, bare), await measure(ours, bare)];
    return KINDS.map(({ name, show }, i) => {
      const [least, pairs] = [empty[i] as Pair[], agent[i] as Pair[]];
      const { against, connects: rate } = compared(pairs);
      const text = `${show(rate)}; programs that return at once: ${compared(least).against.toFixed(3)}`;
      return atLeast(`${name} against no filter`, against, 'x', text, LEAST);
    });
  } finally {
    await bare.close();
  }
}

/** @returns the pairs of each kind */
async function measure(who: Competitor, bare: Bed): Promise<Pair[][]> {
  const bed = await Bed.create();
  const all = KINDS.map((): Pair[] => []);
  try {
    await who.prepare?.(bed);
    await who.load(bed, networks(NETWORKS));
    for (let round = 1; round <= ROUNDS; round++) {
      for (const [i, { what, bytes }] of KINDS.entries())
        all[i]?.push(...(await bed.streamsBeside(bare, what, SECONDS, bytes)));
      const ratios = all.map((pairs) => median(pairs.map(({ here, there }) => here / there)).toFixed(3));
      progress(`round ${round}, ${who.name}: TCP, large and small datagrams: ${ratios.join(', ')} of no filter`);
    }
    return all;
  } finally {
    await who.unload(bed).catch(() => undefined);
    await bed.close();
  }
}
