/** What a process holds, looked at again and again; and whether it grows. */
import { readdirSync, readFileSync } from 'node:fs';

/** Values by name at one moment. */
export interface Sample {
  /** Seconds since the start. */
  at: number;
  values: Readonly<Record<string, number>>;
}

export interface Trend {
  name: string;
  first: number;
  least: number;
  most: number;
  last: number;
  /** By the line of best fit, from the end of the warm-up to the end. */
  growth: number;
  allowed: number;
  flat: boolean;
}

/** MiB resident, the highest ever, and of it the anonymous; threads; open file descriptors. */
export function processValues(pid: number): Record<'rss' | 'peak' | 'anon' | 'threads' | 'fds', number> {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return {
    rss: field('VmRSS') / 1024,
    peak: field('VmHWM') / 1024,
    anon: field('RssAnon') / 1024,
    threads: field('Threads'),
    fds: readdirSync(`/proc/${pid}/fd`).length,
  };
}

/** Windows for the fit: a heap goes up and down with its collections, and what counts is where it comes back to. */
const WINDOWS = 12;

/**
 * How much each value grew after the warm-up, by a line through the lowest value of each window.
 * @param warmUp share of the samples left out
 * @param allowed growth that is no growth, by name: absolute, or a share of the mean where that is more
 */
export function trends(
  samples: readonly Sample[],
  warmUp: number,
  allowed: Readonly<Record<string, { absolute: number; share: number }>>,
): Trend[] {
  const rest = samples.slice(Math.floor(samples.length * warmUp));
  return Object.entries(allowed).map(([name, { absolute, share }]) => {
    const points = rest.flatMap(({ at, values }) => (name in values ? [{ at, value: values[name] as number }] : []));
    const values = points.map((p) => p.value);
    const mean = values.reduce((a, b) => a + b, 0) / Math.max(values.length, 1);
    const span = (points.at(-1)?.at ?? 0) - (points[0]?.at ?? 0);
    const growth = slope(floor(points)) * span;
    const bound = Math.max(absolute, share * mean);
    return {
      name,
      first: values[0] ?? 0,
      least: Math.min(...values),
      most: Math.max(...values),
      last: values.at(-1) ?? 0,
      growth,
      allowed: bound,
      flat: values.length > 0 && growth <= bound,
    };
  });
}

interface Point {
  at: number;
  value: number;
}

/** The lowest point of each window. */
function floor(points: readonly Point[]): Point[] {
  const size = Math.max(1, Math.ceil(points.length / WINDOWS));
  const out: Point[] = [];
  for (let i = 0; i < points.length; i += size) {
    out.push(points.slice(i, i + size).reduce((a, b) => (b.value < a.value ? b : a)));
  }
  return out;
}

/** Least squares; a second. */
function slope(points: readonly Point[]): number {
  const n = points.length;
  const at = points.reduce((a, p) => a + p.at, 0) / n;
  const value = points.reduce((a, p) => a + p.value, 0) / n;
  const above = points.reduce((a, p) => a + (p.at - at) * (p.value - value), 0);
  const below = points.reduce((a, p) => a + (p.at - at) ** 2, 0);
  return below === 0 ? 0 : above / below;
}

/** As a table, a line each. */
export function table(all: readonly Trend[]): string {
  const n = (v: number) => v.toFixed(v % 1 === 0 ? 0 : 1).padStart(9);
  const head = `${'what'.padEnd(24)}${['first', 'least', 'most', 'last', 'growth', 'allowed'].map((h) => h.padStart(9)).join('')}`;
  const lines = all.map(
    (t) =>
      `${t.name.padEnd(24)}${n(t.first)}${n(t.least)}${n(t.most)}${n(t.last)}${n(t.growth)}${n(t.allowed)}${t.flat ? '' : '  GROWS'}`,
  );
  return [head, ...lines].join('\n');
}
