/** egressctl impact */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ImpactFlags } from './flags.js';

const USUAL_DAYS = 7;
const MOST_DAYS = 35;
export function impactCommand(program: Command): void {
  const command = program
    .command('impact')
    .argument('<policy>', 'np/NAMESPACE/NAME, "NetworkPolicy NAMESPACE/NAME", gnp/NAME …')
    .description('Show whom a staged policy would deny, and whether it is ready to be enforced.')
    .addOption(daysOption())
    .option('-f, --follow', 'go on counting, and print each change')
    .option('--exit-code', 'exit with 3 if the policy is staged and not ready')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'))
    .addHelpText(
      'after',
      `
Only connections count that the policy's present content would have denied: an edit begins the count
anew. The policy is ready when it would have denied nothing for --days days, has been counted for as
long, every CronJob of its namespace has run meanwhile, and every node has answered.

Examples:
  egressctl impact np/shop/web
  egressctl impact "CiliumNetworkPolicy shop/web" --follow
  egressctl impact gnp/deny-all --days 30 --exit-code`,
    );
  command.action(async (policy: string) => {
    const flags = command.optsWithGlobals<ImpactFlags>();
    const { showImpact } = await import('./follow.js');
    await showImpact(policy, flags);
  });
}

/** The option that says how long a policy must have been quiet. */
export function daysOption(): Option {
  return new Option('--days <n>', `days without a connection that it would have denied, up to ${MOST_DAYS}; 0: none`)
    .argParser((text) => {
      const days = Number(text);
      if (!/^\d{1,2}$/.test(text) || days > MOST_DAYS)
        throw new InvalidArgumentError(`It is a number from 0 to ${MOST_DAYS}.`);
      return days;
    })
    .default(USUAL_DAYS);
}
