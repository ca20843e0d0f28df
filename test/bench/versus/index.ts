/**
 * Side by side: the agent, what else filters the packets of pods, no filter at all, and a BPF program that returns at once,
 * which is the floor. The same pods, the same networks, the same traffic; one after the other, again and again, so that what
 * is compared was measured within seconds of each other, and connects by turns with those of a bed that nobody filters.
 */
import { progress, type Result } from '../result.js';
import { applied } from './applied.js';
import { Bed } from './bed.js';
import { type Competitor, floor, none, others } from './competitors.js';
import { type Sample, Samples, short } from './figures.js';
import { type Effort, FULL, measure, QUICK } from './measure.js';
import { ours } from './ours.js';
import { packetFigures } from './packets.js';
import { report, results } from './report.js';

const ALL: readonly Competitor[] = [none, floor, ...others, ours];

export async function versus(options: { quick: boolean }): Promise<Result[]> {
  const effort = options.quick ? QUICK : FULL;
  const packets = packetFigures(effort);
  const inAgent = await applied(effort);
  const samples = await sideBySide(effort);
  const all = { samples, packets, applied: inAgent, effort, names: ALL.map((c) => c.name), quick: options.quick };
  report(all);
  return results(all);
}

async function sideBySide(effort: Effort): Promise<Samples> {
  const bare = await Bed.create();
  try {
    return await rounds(effort, bare);
  } finally {
    await bare.close();
  }
}

/** @param bare nobody ever filters there */
async function rounds(effort: Effort, bare: Bed): Promise<Samples> {
  const samples = new Samples(effort.sizes, floor.name);
  for (let round = 1; round <= effort.rounds; round++) {
    for (const size of effort.sizes) {
      for (const who of ALL) {
        // What was refused once, or took too long, is not tried again.
        if (samples.failures.has(`${who.name}|${size}`)) continue;
        const where = `round ${round}, ${size}, ${who.name}`;
        try {
          const sample = await alone(who, size, effort, bare);
          samples.add(who.name, size, sample);
          const parts = Object.entries(sample).map(([key, value]) => `${key} ${short(value)}`);
          progress(`${where}: ${parts.join(', ')}`);
        } catch (error) {
          const said = (error as Error).message.trim();
          samples.fail(who.name, size, said);
          progress(`${where}: ${said}`);
        }
      }
    }
  }
  return samples;
}

/** In a network of its own: tables of iptables stay, empty, as long as the network namespace does, and cost every packet. */
async function alone(who: Competitor, size: number, effort: Effort, bare: Bed): Promise<Sample> {
  const bed = await Bed.create();
  try {
    return await measure(bed, bare, who, size, effort);
  } finally {
    await bed.close();
  }
}
