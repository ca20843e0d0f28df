/**
 * Attacks: a pod under policy, root in its namespace, tries to get bytes to where they may not go (test/attacks). The judge is what arrives there.
 *
 *   npm run proof -- attacks [--only NAME] [--hook tcx|tc] [--short] [--floods] [--list]
 *
 * Everything that arrived stands in dist/attacks.txt.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Hook } from '../attacks/attack.js';
import { ATTACKS } from '../attacks/all.js';
import { FLOODS } from '../attacks/floods.js';
import { HEAD, runAttacks, violationsOf } from '../attacks/run.js';
import { compiled } from '../netns/shell.js';
import type { Report } from './report.js';

export async function prove(args: readonly string[]): Promise<Report> {
  const value = (name: string): string | undefined => {
    const at = args.indexOf(`--${name}`);
    return at < 0 ? undefined : args[at + 1];
  };
  const only = value('only');
  const all = args.includes('--floods') ? FLOODS : [...ATTACKS, ...FLOODS];
  const attacks = all.filter((a) => only === undefined || a.name === only);
  if (attacks.length === 0) throw new Error(`there is no attack "${only}": --list names them`);
  if (args.includes('--list')) {
    for (const a of attacks) console.log(`${a.name.padEnd(28)} ${a.tries}`);
    return { figures: `${attacks.length} attacks`, violations: [] };
  }
  const hook = value('hook') as Hook | undefined;
  const began = performance.now();
  console.log(HEAD);
  const outcomes = await runAttacks({
    attacks,
    hooks: hook ? [hook] : ['tcx', 'tc'],
    short: args.includes('--short'),
    tell: (line) => console.log(line),
  });
  const violations = violationsOf(outcomes);
  writeFileSync(join(compiled, 'attacks.txt'), `${violations.join('\n')}\n`);
  const sum = (of: (o: (typeof outcomes)[number]) => number) => outcomes.reduce((n, o) => n + of(o), 0);
  const seconds = Math.round((performance.now() - began) / 1000);
  return {
    figures: `attacks: ${attacks.length}, ${sum((o) => o.variants)} variants, ${sum((o) => o.sentBytes)} bytes sent, ${sum((o) => o.arrivedBytes)} bytes arrived that should not have, ${seconds} s`,
    violations,
  };
}
