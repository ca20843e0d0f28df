/** The commands of egressctl. */
import { Command, Option } from 'commander';
import { AGENT_NAMESPACE } from '../relay/names.js';
import { AgentClient } from '../rpc/client.js';
import { completionCommand } from './completion.js';
import { convertCommand } from './convert.js';
import { diffCommand } from './diff.js';
import { doctorCommand } from './doctor.js';
import { explainCommand } from './explain.js';
import { flowsCommand } from './flows.js';
import { lintCommand } from './lint.js';
import { type ColorMode, line, safe, toJson } from './output.js';
import { statusCommand } from './status.js';
import { type ClusterFlags, DEFAULT_SOCKET, isClusterMeant } from './target.js';
import { testCommand } from './test.js';
import { validateCommand } from './validate.js';
import { VERSION } from './version.js';

/** Options that each command has. */
export interface Globals extends ClusterFlags {
  socket: string;
  color: ColorMode;
}

/** The agents of a cluster, not the one on this machine. A socket that is not the default one was named. */
export function isCluster(flags: Globals): boolean {
  return isClusterMeant(flags, flags.socket === DEFAULT_SOCKET ? undefined : flags.socket, DEFAULT_SOCKET);
}

export function makeProgram(): Command {
  const program = new Command('egressctl')
    .description('See and explain what egress-agent enforces: on this node, or on all nodes of a cluster.')
    .version(VERSION, '-V, --version')
    .addOption(new Option('--socket <path>', "the agent's socket").env('EGRESS_AGENT_SOCKET').default(DEFAULT_SOCKET))
    .option('--kubeconfig <file>', 'ask the agents of a cluster; as for kubectl')
    .option('--context <name>', 'the same, with a context of the kubeconfig')
    .option('--node <name>', 'the same, of one node alone')
    .addOption(new Option('--namespace-of-agents <ns>', 'where the agents run').default(AGENT_NAMESPACE))
    .addOption(new Option('--color <when>', 'colours').choices(['auto', 'always', 'never']).default('auto'))
    .configureHelp({ helpWidth: 100, showGlobalOptions: true })
    .showHelpAfterError('(egressctl --help shows what there is)')
    .exitOverride();
  flowsCommand(program);
  statusCommand(program);
  explainCommand(program);
  validateCommand(program);
  lintCommand(program);
  testCommand(program);
  diffCommand(program);
  convertCommand(program);
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
    if (isCluster(flags)) {
      await clusterVersions(flags);
      return;
    }
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

async function clusterVersions(flags: Globals & { output: string }): Promise<void> {
  const { askCluster } = await import('./cluster-status.js');
  const nodes = await askCluster(flags);
  const agents = Object.fromEntries(nodes.map((n) => [n.name, n.status?.version ?? null]));
  if (flags.output === 'json') {
    await line(toJson({ egressctl: VERSION, agents }));
    return;
  }
  await line(`egressctl ${VERSION}`);
  const width = Math.max(...nodes.map((n) => n.name.length));
  for (const n of nodes) await line(`${safe(n.name.padEnd(width))} ${safe(n.status?.version ?? 'not reachable')}`);
}
