/** What is measured of whom, over repetitions, and beside it the floor. */
import { median } from '../result.js';

export interface Quantity {
  readonly name: string;
  readonly unit: string;
  /** Which is better. */
  readonly better: 'more' | 'less';
  /** Whether a program that returns at once has it too: then a ratio stands beside it. */
  readonly floor: boolean;
}

export const QUANTITIES = {
  connects: { name: 'TCP connect-request-close', unit: '/s', better: 'more', floor: true },
  against: {
    name: 'the same against no filter, by turns, median of the pairs',
    unit: 'x',
    better: 'more',
    floor: true,
  },
  low: { name: 'of these pairs a quarter is below', unit: 'x', better: 'more', floor: true },
  high: { name: 'of these pairs a quarter is above', unit: 'x', better: 'more', floor: true },
  own: { name: 'CPU of its own process for 1,000 connects', unit: 'ms', better: 'less', floor: false },
  tcp: { name: 'TCP throughput', unit: 'Gbit/s', better: 'more', floor: true },
  udp: { name: 'UDP throughput, 1,400 bytes', unit: 'Gbit/s', better: 'more', floor: true },
  small: { name: 'small packets (64 bytes of UDP)', unit: 'ns a packet', better: 'less', floor: true },
  cpu: { name: 'CPU for a Gbit of TCP', unit: 'ms of a core', better: 'less', floor: true },
  p50: { name: 'latency, there and back, p50', unit: 'µs', better: 'less', floor: true },
  p99: { name: 'latency, there and back, p99', unit: 'µs', better: 'less', floor: true },
  load: { name: 'all rules loaded', unit: 'ms', better: 'less', floor: false },
  change: {
    name: 'one rule changed under traffic → first packet that feels it',
    unit: 'ms',
    better: 'less',
    floor: false,
  },
  lost: { name: 'packets lost while rules change', unit: 'packets', better: 'less', floor: false },
  wrong: { name: 'packets wrongly passed while rules change', unit: 'packets', better: 'less', floor: false },
  memory: { name: 'memory of the kernel', unit: 'MiB', better: 'less', floor: false },
  resident: { name: 'memory of its process', unit: 'MiB', better: 'less', floor: false },
} as const satisfies Record<string, Quantity>;

export type Key = keyof typeof QUANTITIES;
/** One measurement of one competitor. */
export type Sample = Partial<Record<Key, number>>;

export interface Figure {
  readonly competitor: string;
  /** Rules, or CIDRs. */
  readonly size: number;
  readonly quantity: Key;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** To the floor, median of the rounds; undefined where the floor has nothing of the kind. */
  readonly ratio: number | undefined;
}

/** Collects samples round by round. */
export class Samples {
  private readonly samples = new Map<string, Sample[]>();
  /** What could not be measured, and why: in the words of the kernel, or of its tool. */
  readonly failures = new Map<string, string>();

  constructor(
    readonly sizes: readonly number[],
    private readonly floor: string,
  ) {}

  add(competitor: string, size: number, sample: Sample): void {
    const key = `${competitor}|${size}`;
    this.samples.set(key, [...(this.samples.get(key) ?? []), sample]);
  }

  fail(competitor: string, size: number, error: string): void {
    this.failures.set(`${competitor}|${size}`, error);
  }

  of(competitor: string, size: number): readonly Sample[] {
    return this.samples.get(`${competitor}|${size}`) ?? [];
  }

  figure(competitor: string, size: number, quantity: Key): Figure | undefined {
    const values = this.values(competitor, size, quantity);
    if (values.length === 0) return undefined;
    const ratio = QUANTITIES[quantity].floor ? this.ratio(competitor, this.floor, size, quantity) : undefined;
    const [min, max] = [Math.min(...values), Math.max(...values)];
    return { competitor, size, quantity, median: median(values), min, max, ratio };
  }

  /** Of one to another, round by round; the median. */
  ratio(competitor: string, other: string, size: number, quantity: Key): number | undefined {
    const [a, b] = [this.of(competitor, size), this.of(other, size)];
    const ratios = a.flatMap((sample, i) => {
      const [x, y] = [sample[quantity], b[i]?.[quantity]];
      return x === undefined || y === undefined || y === 0 ? [] : [x / y];
    });
    return ratios.length === 0 ? undefined : median(ratios);
  }

  private values(competitor: string, size: number, quantity: Key): number[] {
    return this.of(competitor, size).flatMap((sample) => sample[quantity] ?? []);
  }
}

/** Three digits that count. */
export function short(n: number): string {
  if (n !== 0 && Math.abs(n) < 0.0005) return '0';
  if (Math.abs(n) >= 1000) return Math.round(n).toLocaleString('en');
  return String(Number(n.toPrecision(3)));
}
