/** What a proof says in the end, and what it can be told. */

export interface Report {
  /** One line. */
  figures: string;
  /** What must not have happened, a line each; empty: proven. */
  violations: readonly string[];
}

/** Violations that are shown; more are only counted. */
const SHOWN = 20;

/** Seconds between two words of progress. */
const PROGRESS_S = 15;

/** Says on standard error how far it has come, now and then. */
export class Progress {
  #told = performance.now();

  tell(how: string): void {
    const now = performance.now();
    if (now - this.#told < PROGRESS_S * 1000) return;
    this.#told = now;
    console.error(`… ${how}`);
  }
}

/** `--count 200 --seed 7`, in any order. @throws Error for a word that is neither */
export function parseArgs(args: readonly string[], defaults: { count: number }): { count: number; seed: number } {
  const out = { count: defaults.count, seed: Date.now() % 2 ** 31 };
  for (let i = 0; i < args.length; i += 2) {
    const [name, value] = [args[i]?.slice(2), Number(args[i + 1])];
    if ((name !== 'count' && name !== 'seed') || !Number.isInteger(value))
      throw new Error(`not understood: ${args[i]}`);
    out[name] = value;
  }
  return out;
}

/** Prints violations, then the figures as the last line. @returns the exit status */
export function show({ figures, violations }: Report): number {
  for (const line of violations.slice(0, SHOWN)) console.log(`violation: ${line}`);
  if (violations.length > SHOWN) console.log(`and ${violations.length - SHOWN} more`);
  console.log(figures);
  return violations.length === 0 ? 0 : 1;
}
