import { type Command, Option } from 'commander';
import { VERSION } from '../../version.js';
import { type Globals, isCluster } from '../common/globals.js';
import { line, safe, toJson } from '../common/output.js';

export function versionCommand(program: Command): void {
  const command = program
    .command('version')
    .description('Print the version of egressctl, and the version of the agent if it runs.')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'));
  command.action(async () => {
    const flags = command.optsWithGlobals<Globals & { output: string }>();
    if (await isCluster(flags)) {
      await clusterVersions(flags);
      return;
    }
    const { AgentClient } = await import('../../rpc/transport/client.js');
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
  const { askCluster } = await import('../cluster/status.js');
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
