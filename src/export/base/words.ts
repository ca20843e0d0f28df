/** A filter in the words of `egressctl flows`, as one text. */
import { Command } from 'commander';
import { AgentError } from '../../errors.js';
import { FilterOptions, type Filters } from '../../flow/filter/options.js';
import { compileFilter } from '../../flow/filter/filter.js';

/** Splits a text at spaces, except in quotes: `'…'` and `"…"`, without escapes. @throws AgentError USAGE */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (const [, quoted1, quoted2, bare, space, rest] of text.matchAll(/'([^']*)'|"([^"]*)"|([^\s'"]+)|(\s+)|(['"])/g)) {
    if (rest !== undefined) throw new AgentError('USAGE', `a quote is not closed in ${text}`);
    if (space !== undefined) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + (quoted1 ?? quoted2 ?? bare ?? '');
  }
  if (word !== undefined) words.push(word);
  return words;
}

/**
 * Parses the filter options of `egressctl flows`.
 * @throws AgentError USAGE
 */
export async function parseFilterWords(text: string): Promise<Filters> {
  const command = new Command('filter').exitOverride().helpOption(false).allowExcessArguments(false);
  let said = '';
  command.configureOutput({
    writeErr: (line) => {
      said += line;
    },
    writeOut: () => {},
  });
  const options = new FilterOptions();
  options.declare(command);
  command.action(() => {});
  try {
    command.parse(splitWords(text), { from: 'user' });
    const filters = await options.request(command);
    compileFilter(filters.whitelist, filters.blacklist);
    return filters;
  } catch (e) {
    if (e instanceof AgentError) throw e;
    throw new AgentError('USAGE', said.replace(/^error: /, '').trim() || (e as Error).message, {
      hint: 'the words are those of egressctl flows, such as --verdict DENIED --not --to-port 53',
    });
  }
}
