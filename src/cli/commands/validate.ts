/** egressctl validate */
import { counted } from '../../counted.js';
import { type Command, Option } from 'commander';
import { formatProblem } from '../../errors.js';
import { EXIT } from '../../exit.js';
import { line, painter, safe, toJson } from '../common/output.js';
import type { Globals } from '../common/globals.js';

export function validateCommand(program: Command): void {
  const command = program
    .command('validate')
    .argument('<path>', 'directory or file with manifests')
    .description('Report every problem in manifests with its file, field and solution.')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'))
    .addHelpText('after', '\nExit code: 0 no problems, 1 errors or warnings.');
  command.action(async (path: string) => {
    const flags = command.optsWithGlobals<Globals & { output: string }>();
    const { validatePath } = await import('../../tools/validate.js');
    const problems = validatePath(path);
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
        ? paint('green', `${path}: no problems`)
        : `${counted(errors, 'error')}, ${counted(problems.length - errors, 'warning')}`,
    );
  });
}
