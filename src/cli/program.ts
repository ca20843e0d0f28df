/** The commands of egressctl. */
import { Command, Option } from 'commander';
import { AGENT_NAMESPACE } from '../relay/nodes/names.js';
import { completionCommand } from './commands/completion.js';
import { convertCommand } from './commands/convert.js';
import { diffCommand } from './commands/diff.js';
import { doctorCommand } from './commands/doctor.js';
import { explainCommand } from './commands/explain.js';
import { flowsCommand } from './commands/flows.js';
import { historyCommand } from './history/history.js';
import { importCommand } from './lists/import.js';
import { lintCommand } from './commands/lint.js';
import { namesCommand } from './commands/names.js';
import { recommendCommand } from './recommend/recommend.js';
import { statusCommand } from './commands/status.js';
import { activityCommand } from './staging/activity.js';
import { impactCommand } from './staging/impact.js';
import { enforceCommand, stageCommand, undoCommand } from './staging/steps.js';
import { DEFAULT_SOCKET } from './common/target.js';
import { testCommand } from './commands/test.js';
import { uiCommand } from './ui/ui.js';
import { validateCommand } from './commands/validate.js';
import { versionCommand } from './commands/version.js';
import { VERSION } from '../version.js';

/** Makes the command line parser with all commands. */
export function makeProgram(): Command {
  const program = new Command('egressctl')
    .description('Show, explain and test the egress policies that egress-agent enforces on a node or in a cluster.')
    .version(VERSION, '-V, --version', 'print the version of egressctl')
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [command]', 'Show the help of a command.')
    .addOption(
      new Option('--socket <path>', 'socket of the agent on this node')
        .env('EGRESS_AGENT_SOCKET')
        .default(DEFAULT_SOCKET),
    )
    .option('--kubeconfig <file>', 'query the agents of the cluster in this kubeconfig')
    .option('--context <name>', 'query the agents of the cluster in this context of the kubeconfig')
    .option('--node <name>', 'query only the agent of this node of the cluster')
    .addOption(new Option('--namespace-of-agents <ns>', 'namespace in which the agents run').default(AGENT_NAMESPACE))
    .addOption(new Option('--color <when>', 'when to use colors').choices(['auto', 'always', 'never']).default('auto'))
    .configureHelp({ helpWidth: 100, showGlobalOptions: true })
    .showHelpAfterError('(egressctl --help lists the commands and options)')
    .exitOverride();
  flowsCommand(program);
  statusCommand(program);
  namesCommand(program);
  historyCommand(program);
  explainCommand(program);
  activityCommand(program);
  stageCommand(program);
  impactCommand(program);
  enforceCommand(program);
  undoCommand(program);
  validateCommand(program);
  lintCommand(program);
  testCommand(program);
  diffCommand(program);
  convertCommand(program);
  importCommand(program);
  recommendCommand(program);
  uiCommand(program);
  doctorCommand(program);
  completionCommand(program);
  versionCommand(program);
  for (const c of program.commands) c.copyInheritedSettings(program);
  return program;
}
