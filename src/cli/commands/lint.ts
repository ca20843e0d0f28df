/** egressctl lint */
import { counted } from '../../counted.js';
import { type Command, Option } from 'commander';
import { formatProblem, type Problem } from '../../errors.js';
import type { Finding } from '../../tools/lint/index.js';
import { EXIT } from '../../exit.js';
import { line, painter, safe, toJson } from '../common/output.js';
import type { Globals } from '../common/globals.js';
import { hearingOf, type VerifyFlags, verifyNamesOption } from '../common/verify.js';

interface LintFlags extends Globals, VerifyFlags {
  output: 'text' | 'json';
  strict?: boolean;
}

export function lintCommand(program: Command): void {
  const command = program
    .command('lint')
    .argument('<dir...>', 'directories or files with manifests of policies, pods, nodes and Services')
    .description('Find likely mistakes: rules that never decide, selectors that match nothing, blocked DNS.')
    .option('--strict', 'exit with 1 if there is a warning')
    .addOption(verifyNamesOption())
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'))
    .addHelpText(
      'after',
      `
Exit code: 0 done, also with findings; 1 --strict and a warning, or a manifest cannot be read.

Checks:
  shadowed          another rule decides first for every packet that this rule matches
  redundant         another rule decides first, with the same verdict
  no-destination    the rule cannot match any destination
  refused           the rule is invalid or not supported, so it matches nothing
  empty-selector    no pod, node, Service or named port matches the selector
  no-pods           the policy selects no pod
  no-dns            isolated pods can reach neither the cluster's DNS nor any port 53
  unresolved        names in a rule, and the pods may not ask a DNS server for them
  void-filter       a filter of DNS queries, server names or requests beside a rule that allows them all
  service-name      a name of a Service, whose address is never meant by name
  wide-pattern      a pattern matches names that anybody may register
  unfiltered-names  names of Cilium that Cilium itself would not learn, without rules.dns
  cidr-covers-pods  a CIDR block contains pods, but blocks of this language never match pods
  service-address   a CIDR block contains a Service's address, but the Service's backends are judged
  too-many-rules    one pod has more rules than a policy set can hold

Selectors of pods, nodes or Services are checked only if the manifests contain objects of that kind.
Invalid objects are reported by egressctl validate.`,
    );
  command.action(async (dirs: string[]) => {
    const flags = command.optsWithGlobals<LintFlags>();
    const { lint } = await import('../../tools/lint/index.js');
    const { withLine } = await import('../../tools/validate.js');
    const { loadWorld } = await import('../../tools/world.js');
    const world = loadWorld(dirs, hearingOf(flags));
    const findings = lint(world, world.problems).map(withPlace(withLine()));
    if (world.problems.length > 0)
      process.stderr.write(
        `egressctl: ${counted(world.problems.length, 'problem')} in the manifests; egressctl validate lists them\n`,
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
        : `${counted(warnings, 'warning')}, ${counted(notes, 'note')}`,
    );
  });
}

/** Makes a function that adds the line of the field to a finding. */
function withPlace(place: (problem: Problem) => Problem): (finding: Finding) => Finding {
  return (finding) => ({ ...finding, where: place({ ...finding, severity: 'warning' }).where });
}
