/** What a benchmark says. */
export interface Result {
  name: string;
  value: number;
  /** Of value and goal: `x` for ratios. */
  unit: string;
  /** What was measured, and against what: for people. */
  baseline: string;
  goal: string;
  met: boolean;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(Math.ceil((p / 100) * sorted.length) - 1, sorted.length - 1)] as number;
}

export function atMost(name: string, value: number, unit: string, baseline: string, goal: number): Result {
  return { name, value: round(value), unit, baseline, goal: `≤ ${goal}`, met: value <= goal };
}

export function atLeast(name: string, value: number, unit: string, baseline: string, goal: number): Result {
  return { name, value: round(value), unit, baseline, goal: `≥ ${goal}`, met: value >= goal };
}

function round(n: number): number {
  return n >= 1000 ? Math.round(n) : Number(n.toPrecision(3));
}

/** Tells what is going on, to people alone. */
export function progress(text: string): void {
  process.stderr.write(`  ${text}\n`);
}
