/** Nanoseconds a packet in the programs themselves (BPF_PROG_TEST_RUN), by the number of CIDRs; the others have no such thing. */
import { firstPacketTime, floorTime, knownFlowTime } from '../packet.js';
import { median, progress } from '../result.js';
import type { Effort } from './measure.js';
import type { Point, Series } from './svg.js';

export interface PacketFigures {
  readonly floor: Series;
  readonly known: Series;
  readonly first: Series;
  /** The same to a destination that was decided about a moment ago. */
  readonly again: Series;
  /** Of what was divided within one round the median; of the sizes the worst. */
  readonly knownToFloor: number;
  readonly mostToLeast: number;
}

/** Policies that the CIDRs are spread over. */
const POLICIES = 10;
const LEAST_ROUNDS = 5;

export function packetFigures(effort: Effort): PacketFigures {
  const floor = floorTime();
  const engines = effort.sizes.map((size) => {
    const known = knownFlowTime(POLICIES, size);
    const [first, again] = [true, false].map((afresh) => firstPacketTime(POLICIES, size, { afresh }));
    return { known, first: first as () => number, again: again as () => number };
  });
  const rounds = Array.from({ length: Math.max(LEAST_ROUNDS, effort.rounds) }, () => ({
    floor: floor.time(),
    each: engines.map(({ known, first, again }) => ({ known: known.time(), first: first(), again: again() })),
  }));
  for (const { known } of engines) known.close();
  const point = (x: number, values: readonly number[]): Point => ({
    ...{ x, y: median(values) },
    ...{ min: Math.min(...values), max: Math.max(...values) },
  });
  const series = (name: string, of: (round: (typeof rounds)[number], i: number) => number): Series => ({
    name,
    points: effort.sizes.map((size, i) =>
      point(
        size,
        rounds.map((round) => of(round, i)),
      ),
    ),
  });
  const last = effort.sizes.length - 1;
  const figures: PacketFigures = {
    floor: series('program that returns at once', (round) => round.floor),
    known: series('packet of a known flow', (round, i) => round.each[i]?.known ?? Number.NaN),
    first: series('first packet of a flow', (round, i) => round.each[i]?.first ?? Number.NaN),
    again: series('the same, destination as a moment ago', (round, i) => round.each[i]?.again ?? Number.NaN),
    knownToFloor: Math.max(
      ...effort.sizes.map((_, i) => median(rounds.map((round) => (round.each[i]?.known ?? Number.NaN) / round.floor))),
    ),
    mostToLeast: median(rounds.map((r) => (r.each[last]?.first ?? Number.NaN) / (r.each[0]?.first ?? Number.NaN))),
  };
  progress(
    `ns a packet: ${[figures.floor, figures.known, figures.first, figures.again].map((s) => `${s.name} ${s.points.map((p) => Math.round(p.y)).join(', ')}`).join('; ')}`,
  );
  return figures;
}
