/** Turns chips into the filters of a GetFlowsRequest, by the options of `egressctl flows` themselves. */
import { Command } from 'commander';
import { AgentError } from '../../errors.js';
import { compileFilter } from '../../flow/filter/filter.js';
import { FilterOptions, type Filters } from '../../flow/filter/options.js';
import { CHIP_KEYS, type Chip, chipText } from '../wire/chips.js';

/** @throws AgentError USAGE; its field is the chip */
export async function filtersOf(chips: readonly Chip[], namespaces: readonly string[] = []): Promise<Filters> {
  const options = new FilterOptions();
  const command = new Command('flows').exitOverride().configureOutput({ writeErr: () => {} });
  options.declare(command);
  const args = namespaces.flatMap((ns) => ['--namespace', ns]);
  for (const chip of chips) {
    if (!Object.hasOwn(CHIP_KEYS, chip.key))
      throw new AgentError('USAGE', `there is no filter ${chip.key}`, { where: { field: chipText(chip) } });
    // In one word, so that a value that begins with a dash is a value.
    args.push(...(chip.not ? ['--not'] : []), `--${chip.key}=${chip.value}`);
  }
  try {
    command.parse(args, { from: 'user' });
    const filters = await options.request(command);
    // The agent would refuse it as well, when it is too late to say so.
    compileFilter(filters.whitelist, filters.blacklist);
    return filters;
  } catch (e) {
    if (e instanceof AgentError) throw e;
    throw new AgentError('USAGE', (e as Error).message.replace(/^error: /, ''), { where: { field: 'chips' } });
  }
}
