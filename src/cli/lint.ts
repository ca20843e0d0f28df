/** egressctl lint */
import { type Command, Option } from 'commander';
import { formatProblem } from '../errors.js';
import { type Finding, lint } from '../tools/lint.js';
import { loadWorld } from '../tools/world.js';
import { withLine } from '../validate.js';
import { EXIT } from './exit.js';
import { line, painter, safe, toJson } from './output.js';
import type { Globals } from './program.js';

interface LintFlags extends Globals {
  output: 'text' | 'json';
  strict?: boolean;
}

export function lintCommand(program: Command): void {
  const command = program
    .command('lint')
    .argument('<dir...>', 'directories or files of manifests: policies, and the pods that they are for')
    .description('Find what is most likely not meant: rules that never decide, selectors that match nothing, no DNS.')
    .option('--strict', 'exit with 1 if there is a warning')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['text', 'json']).default('text'))
    .addHelpText(
      'after',
      `
Exit code: 0, also with findings; 1 with --strict and a warning, or if something cannot be read.

Checks:
  shadowed          another rule decides first, wherever this one matches; named
  redundant         the same, but the verdict is the same too
  no-destination    a rule that can match nothing
  empty-selector    pods, nodes, Services or named ports that there are none of
  no-pods           a policy that selects no pod
  no-dns            pods that are isolated and may not reach the DNS of the cluster, or any port 53
  cidr-covers-pods  a block with pods in it, in a language whose blocks mean no pods (Cilium)
  too-many-rules    more rules for one pod than a policy set holds

Pods, nodes and Services are those of the manifests: where there are none, their selectors are not judged.
What is wrong with the objects themselves: egressctl validate.`,
    );
  command.action(async (dirs: string[]) => {
    const flags = command.optsWithGlobals<LintFlags>();
    const world = loadWorld(dirs);
    const findings = lint(world).map(withPlace());
    if (world.problems.length > 0)
      process.stderr.write(
        `egressctl: ${world.problems.length} problems in the manifests; egressctl validate lists them\n`,
      );
    const warnings = findings.filter((f) => f.severity === 'warning').length;
    if (flags.strict && warnings > 0) process.exitCode = EXIT.failed;
    if (flags.output === 'json') {
      await line(toJson({ findings, problems: world.problems.length }, 2));
      return;
    }
    if (world.snapshot.pods.size === 0)
      process.stderr.write('egressctl: no pods in the manifests: what depends on them is not judged\n');
    const paint = painter(flags.color);
    for (const f of findings) {
      const head = paint(f.severity === 'warning' ? 'yellow' : 'cyan', `${f.severity} ${f.check}`);
      await line(`${head} ${safe(formatProblem({ ...f, severity: 'warning' }))}`);
    }
    const notes = findings.length - warnings;
    await line(
      findings.length === 0
        ? paint('green', `${safe(dirs.join(', '))}: nothing found`)
        : `${warnings} warnings, ${notes} notes`,
    );
  });
}

/** With the line of the field, in order of file and line. */
function withPlace(): (finding: Finding) => Finding {
  const place = withLine();
  return (finding) => ({ ...finding, where: place({ ...finding, severity: 'warning' }).where });
}
