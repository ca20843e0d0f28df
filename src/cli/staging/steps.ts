/** egressctl stage, enforce, undo */
import { type Command, Option } from 'commander';
import type { StepName } from '../../staging/plan.js';
import { daysOption } from './impact.js';
import type { StepFlags } from './flags.js';

const POLICY = 'np/NAMESPACE/NAME, "NetworkPolicy NAMESPACE/NAME", gnp/NAME …';
const RIGHTS =
  'get and patch on the kind of the policy, and create on events; for Calico also create, update and delete';

export function stageCommand(program: Command): void {
  const command = step(program, 'stage', 'Stage a policy: what it would deny passes, and is counted.').addHelpText(
    'after',
    `
What the policy would deny passes from then on, and is counted: see egressctl impact.
Needs ${RIGHTS}.

Examples:
  egressctl stage np/shop/web
  egressctl stage calico/shop/web --dry-run
  egressctl stage np/shop/web --manifests policies/ > change.patch`,
  );
  command.action((policy: string) => run('stage', policy, command.optsWithGlobals<StepFlags>()));
}

export function enforceCommand(program: Command): void {
  const command = step(program, 'enforce', 'Enforce a staged policy, if it would deny nothing.')
    .addOption(daysOption())
    .option('--force', 'enforce it although it is not ready; what will be denied is named')
    .addHelpText(
      'after',
      `
Exit code: 3 if the policy is not ready, and nothing was done. See egressctl impact for what that
means, and --days. Needs ${RIGHTS}.

Examples:
  egressctl enforce np/shop/web
  egressctl enforce np/shop/web --days 30
  egressctl enforce np/shop/web --manifests policies/ --write`,
    );
  command.action((policy: string) => run('enforce', policy, command.optsWithGlobals<StepFlags>()));
}

export function undoCommand(program: Command): void {
  const command = step(
    program,
    'undo',
    'Stage a policy again that egressctl enforced, and restore what it replaced.',
  ).addHelpText(
    'after',
    `
A policy that replaced another one of the same name (Calico's Staged kinds) gives way to it again.
Needs ${RIGHTS}.

Examples:
  egressctl undo np/shop/web`,
  );
  command.action((policy: string) => run('undo', policy, command.optsWithGlobals<StepFlags>()));
}

function step(program: Command, name: StepName, description: string): Command {
  return program
    .command(name)
    .argument('<policy>', POLICY)
    .description(description)
    .option(
      '--manifests <path>',
      'print the change of this file, or of a file in this directory, in place of making it',
    )
    .option('--write', 'with --manifests: change the file')
    .option('--dry-run', 'let the API server check everything, and change nothing')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'));
}

async function run(name: StepName, policy: string, flags: StepFlags): Promise<void> {
  const { runStep } = await import('./run.js');
  await runStep(name, policy, flags);
}
