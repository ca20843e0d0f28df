/** One competitor, one size, once: loaded, used, changed, unloaded. */
import { setTimeout as sleep } from 'node:timers/promises';
import { median, percentile, progress } from '../result.js';
import { cidr } from '../worlds.js';
import { ALLOWED, type Bed, DENIED, kernelMemory, type Pair, SWITCHED } from './bed.js';
import { type Competitor, wrong } from './competitors.js';
import { type Sample, short } from './figures.js';

export interface Effort {
  readonly sizes: readonly number[];
  readonly rounds: number;
  /** Of each measurement that takes as long as it is told to. */
  readonly seconds: number;
  /** Of connects, by turns with those of a bed without a filter. */
  readonly paired: number;
  /** Of traffic that does not count, seconds. */
  readonly warmUp: number;
  readonly changes: number;
}

export const FULL: Effort = {
  sizes: [10, 1000, 10_000, 100_000],
  rounds: 3,
  seconds: 1,
  paired: 3,
  warmUp: 1,
  changes: 10,
};
export const QUICK: Effort = { sizes: [10, 10_000], rounds: 1, seconds: 0.4, paired: 1.2, warmUp: 0.6, changes: 4 };

const SMALL = 22; // with headers of Ethernet, IPv4 and UDP, 64 bytes
const LARGE = 1400;
const SETTLE_MS = 300;

/** So many networks; the one that the traffic goes to stands in the middle of them. */
export function networks(size: number): string[] {
  const list = Array.from({ length: size - 1 }, (_, n) => cidr(n));
  list.splice(size >> 1, 0, `${ALLOWED}/32`);
  return list;
}

/**
 * Rejects, with the words of whoever refused, where it cannot be measured.
 * @param bare a bed beside it that nobody filters
 */
export async function measure(bed: Bed, bare: Bed, who: Competitor, size: number, effort: Effort): Promise<Sample> {
  await sleep(SETTLE_MS);
  const before = kernelMemory();
  await who.prepare?.(bed);
  try {
    const start = performance.now();
    await who.load(bed, networks(size));
    const load = performance.now() - start;
    const memory = Math.max(0, kernelMemory() - before);
    const fault = await wrong(bed, who);
    if (fault) throw new Error(fault);
    const { seconds } = effort;
    // Programs have been compiled, caches filled, before anything counts.
    await bed.connects(effort.warmUp);
    const busy = who.busy?.();
    const pairs = await bed.beside(bare, effort.paired);
    const made = pairs.reduce((sum, pair) => sum + pair.made, 0);
    const ratios = pairs.map(({ here, there }) => here / there);
    const own = busy === undefined ? {} : { own: (((who.busy?.() ?? 0) - busy) / made) * 1000 };
    progress(`  ${pairs.length} pairs with no filter, ${short(Math.min(...ratios))} to ${short(Math.max(...ratios))}`);
    const { gbits, cpu } = await bed.throughput(Math.max(1, seconds));
    const small = 1e9 / (await bed.flood(seconds, SMALL));
    const udp = ((await bed.flood(seconds, LARGE)) * LARGE * 8) / 1e9;
    const { p50, p99 } = await bed.latency(seconds);
    const traffic = { ...compared(pairs), ...own, tcp: gbits, cpu: cpu * 1000, small, udp, p50, p99 };
    if (!who.filters) return traffic;
    const resident = who.resident?.();
    return {
      ...traffic,
      load,
      memory,
      ...(resident === undefined ? {} : { resident }),
      ...(await changes(bed, who, effort)),
    };
  } finally {
    // After a failure there may be nothing to unload, or only some of it.
    await who.unload(bed).catch(() => undefined);
  }
}

/** How often a second, and against the bare bed: the median of the pairs, and where the middle half of them lies. */
export function compared(pairs: readonly Pair[]): Required<Pick<Sample, 'connects' | 'against' | 'low' | 'high'>> {
  const ratios = pairs.map(({ here, there }) => here / there);
  return {
    connects: median(pairs.map(({ here }) => here)),
    against: median(ratios),
    low: percentile(ratios, 25),
    high: percentile(ratios, 75),
  };
}

/** One rule in and out while new flows come: some that always pass, some that never do, and those that the rule is about. */
async function changes(bed: Bed, who: Competitor, effort: Effort): Promise<Sample> {
  const [allowed, denied, switched] = [bed.stream(ALLOWED, 1), bed.stream(DENIED, 2), bed.stream(SWITCHED, 3)];
  const took: number[] = [];
  await switched.next('down', 0);
  for (let i = 0; i < effort.changes; i++) {
    const allow = i % 2 === 0;
    const start = Date.now();
    await who.change(bed, allow);
    took.push(Math.max(0, (await switched.next(allow ? 'up' : 'down', start)) - start));
    await sleep(30 + (i % 7) * 5);
  }
  await switched.end();
  const passed = await denied.end();
  const { sent, answered } = await allowed.end();
  return { change: median(took), lost: sent - answered, wrong: passed.answered };
}
