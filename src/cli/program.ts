/** The commands of egressctl. */
import { Command, Option } from 'commander';
import { AgentClient } from '../rpc/client.js';
import { completionCommand } from './completion.js';
import { doctorCommand } from './doctor.js';
import { explainCommand } from './explain.js';
import { flowsCommand } from './flows.js';
import { type ColorMode, line, safe, toJson } from './output.js';
import { statusCommand } from './status.js';
import { validateCommand } from './validate.js';
import { VERSION } from './version.js';

export const DEFAULT_SOCKET = '/run/egress-agent/agent.sock';

/** Options that each command has. */
export interface Globals {
  socket: string;
  color: ColorMode;
}

export function makeProgram(): Command {
  const program = new Command('egressctl')
    .description('See and explain what egress-agent enforces on this node.')
    .version(VERSION, '-V, --version')
    .addOption(new Option('--socket <path>', "the agent's socket").env('EGRESS_AGENT_SOCKET').default(DEFAULT_SOCKET))
    .addOption(new Option('--color <when>', 'colours').choices(['auto', 'always', 'never']).default('auto'))
    .configureHelp({ helpWidth: 100, showGlobalOptions: true })
    .showHelpAfterError('(egressctl --help shows what there is)')
    .exitOverride();
  flowsCommand(program);
  statusCommand(program);
  explainCommand(program);
  validateCommand(program);
  doctorCommand(program);
  completionCommand(program);
  versionCommand(program);
  for (const c of program.commands) c.copyInheritedSettings(program);
  return program;
}

function versionCommand(program: Command): void {
  const command = program
    .command('version')
    .description('Print the versions of egressctl and, where one runs, of the agent.')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['text', 'json']).default('text'));
  command.action(async () => {
    const flags = command.optsWithGlobals<Globals & { output: string }>();
    const client = new AgentClient(flags.socket);
    const agent = await client.status().then(
      (s) => s.version,
      () => undefined,
    );
    client.close();
    if (flags.output === 'json') await line(toJson({ egressctl: VERSION, ...(agent === undefined ? {} : { agent }) }));
    else await line(`egressctl ${VERSION}\nagent     ${safe(agent ?? 'not running')}`);
  });
}
