/** egressctl validate */
import { type Command, Option } from 'commander';
import { formatProblem } from '../errors.js';
import { validateDir } from '../validate.js';
import { EXIT } from './exit.js';
import { line, painter, safe, toJson } from './output.js';
import type { Globals } from './program.js';

export function validateCommand(program: Command): void {
  const command = program
    .command('validate')
    .argument('<dir>', 'directory of manifests')
    .description('Find every problem in manifests: file, document, field, what is wrong, what to do.')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['text', 'json']).default('text'))
    .addHelpText('after', '\nExit code: 0 without a problem, 1 with one (warnings count).');
  command.action(async (dir: string) => {
    const flags = command.optsWithGlobals<Globals & { output: string }>();
    const problems = validateDir(dir);
    if (problems.length > 0) process.exitCode = EXIT.failed;
    if (flags.output === 'json') {
      await line(toJson({ problems }, 2));
      return;
    }
    const paint = painter(flags.color);
    for (const p of problems)
      await line(`${paint(p.severity === 'error' ? 'red' : 'yellow', p.severity)} ${safe(formatProblem(p))}`);
    const errors = problems.filter((p) => p.severity === 'error').length;
    await line(
      problems.length === 0
        ? paint('green', `${dir}: no problems`)
        : `${errors} errors, ${problems.length - errors} warnings`,
    );
  });
}
