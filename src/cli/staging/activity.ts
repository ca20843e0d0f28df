/** egressctl activity */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { repeated } from '../common/output.js';
import type { ActivityFlags } from './flags.js';

const DAY_MS = 86_400_000;

const MOST_DAYS = 35;
const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: DAY_MS };

export function activityCommand(program: Command): void {
  const command = program
    .command('activity')
    .argument('[policy]', 'only of this policy: np/NAMESPACE/NAME, "NetworkPolicy NAMESPACE/NAME", gnp/NAME …')
    .description('List policies and rules with the connections that they decided, and those that nobody needs.')
    .option('--unused', 'only policies and rules that have decided nothing')
    .option('--staged', 'only staged policies, and whom they would have denied')
    .option('-n, --namespace <name>', 'only policies of this namespace, and of the cluster; repeatable', repeated)
    .addOption(
      new Option('--since <duration>', `how far to look back: 30m, 24h, up to ${MOST_DAYS}d`)
        .argParser(parseSince)
        .default(MOST_DAYS * DAY_MS, `${MOST_DAYS}d`),
    )
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'))
    .addHelpText(
      'after',
      `
Days are counted as a whole, in UTC. What earlier contents of a policy decided is told apart: a rule
that was edited an hour ago is not unused yet.

Examples:
  egressctl activity --unused -n shop
  egressctl activity np/shop/web --since 7d
  egressctl activity --staged -o json`,
    );
  command.action(async (policy: string | undefined) => {
    const flags = command.optsWithGlobals<ActivityFlags>();
    const { showActivity } = await import('./usage.js');
    await showActivity(policy, flags);
  });
}

function parseSince(value: string): number {
  const [, number, unit = ''] = /^(\d{1,5})([mhd])$/.exec(value) ?? [];
  const ms = Number(number) * (UNITS[unit] ?? Number.NaN);
  if (!(ms > 0 && ms <= MOST_DAYS * DAY_MS))
    throw new InvalidArgumentError(`It is 30m, 24h or 7d, up to ${MOST_DAYS}d.`);
  return ms;
}
