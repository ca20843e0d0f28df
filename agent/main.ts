#!/usr/bin/env node
/** egress-agent: reads its options, starts the agent, ends it on a signal. */
import { Command, Option } from 'commander';
import { AgentError } from '../src/errors.js';
import { makeLogger } from '../src/log.js';
import { Agent } from './agent.js';
import { detach } from './detach.js';
import {
  type AgentOptions,
  ATTACH_MODES,
  DEFAULTS,
  DENY_RESPONSES,
  defaultNodeName,
  LOG_LEVELS,
  parseMapSize,
  parseSeconds,
  WHEN_DOWN,
} from './options.js';
import { VERSION } from './status.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

interface Flags extends Omit<AgentOptions, 'uplinks' | 'mapSizes' | 'gate'> {
  gateBinDir?: string;
  gateConfDir?: string;
  gateTimeout: number;
  gateWhenDown: 'open' | 'closed';
  uplink?: string[];
  mapSize: Record<string, number>;
}

const program = new Command('egress-agent')
  .description('Controls and shows what leaves the pods of this node.')
  .version(VERSION)
  .exitOverride()
  .configureHelp({ helpWidth: 100 });

const shared = (command: Command) =>
  command
    .option('--run-dir <dir>', 'socket, journal, compiled programs', DEFAULTS.runDir)
    .option('--pin-dir <dir>', 'pinned maps and links, on a BPF file system', DEFAULTS.pinDir)
    .addOption(new Option('--log-level <level>', 'how much to log').choices(LOG_LEVELS).default(DEFAULTS.logLevel));

shared(program.command('run', { isDefault: true }))
  .description('Enforce policies (the default command).')
  .option('--manifests <dir>', 'enforce and follow a directory of Kubernetes manifests, in place of a cluster')
  .option('--kubeconfig <file>', 'the cluster; by default $KUBECONFIG, ~/.kube/config or the service account')
  .option('--context <name>', 'context of the kubeconfig')
  .option('--node-name <name>', 'pods of this node are judged, and pods without one', defaultNodeName())
  .addOption(
    new Option('--attach-mode <mode>', 'hooks to use; auto: tcx where the kernel has it')
      .choices(ATTACH_MODES)
      .default(DEFAULTS.attachMode),
  )
  .addOption(
    new Option('--deny-response <what>', 'drop denied packets, or answer them (TCP reset, ICMP prohibited)')
      .choices(DENY_RESPONSES)
      .default(DEFAULTS.denyResponse),
  )
  .option('--uplink <device...>', "the node's uplinks; by default the devices of its default routes")
  .option('--http-listen <address>', 'serve probes and /metrics, for example on 127.0.0.1:4246')
  .option('--listen <address>', 'serve gRPC on TCP too, with mutual TLS, for example on :4245')
  .option('--tls-dir <dir>', 'ca.crt, tls.crt and tls.key for --listen')
  .option(
    '--gate-bin-dir <dir>',
    "the node's CNI programs: install the gate there, which holds a pod until it is judged",
  )
  .option('--gate-conf-dir <dir>', "the node's CNI configurations: the gate is chained into the one in force")
  .option('--gate-timeout <seconds>', 'how long the gate holds a pod at most', parseSeconds, 10)
  .addOption(
    new Option('--gate-when-down <what>', 'start pods while no agent answers, or do not')
      .choices(WHEN_DOWN)
      .default('open'),
  )
  .option('--map-size <name=entries>', 'room in a map, in place of its default; may be repeated', parseMapSize, {})
  .action(run);

shared(program.command('detach'))
  .description('Remove every hook, map and file of an agent that is not running. Pods are not judged from then on.')
  .option('--gate-bin-dir <dir>', "the node's CNI programs: remove the gate from there too")
  .option('--gate-conf-dir <dir>', "the node's CNI configurations: take the gate out of them")
  .action(async (flags: Pick<Flags, 'runDir' | 'pinDir' | 'logLevel' | 'gateBinDir' | 'gateConfDir'>) => {
    await detach({ ...flags, gate: gateDirs(flags) }, makeLogger(flags.logLevel));
  });

/** Both directories, or none. @throws AgentError USAGE */
function gateDirs({ gateBinDir, gateConfDir }: Pick<Flags, 'gateBinDir' | 'gateConfDir'>) {
  if (gateBinDir === undefined && gateConfDir === undefined) return undefined;
  if (gateBinDir === undefined || gateConfDir === undefined) {
    throw new AgentError('USAGE', '--gate-bin-dir and --gate-conf-dir belong together');
  }
  return { binDir: gateBinDir, confDir: gateConfDir };
}

async function run(flags: Flags): Promise<void> {
  const { uplink, mapSize, gateTimeout, gateWhenDown, ...rest } = flags;
  const log = makeLogger(flags.logLevel);
  const dirs = gateDirs(flags);
  const gate = dirs && { ...dirs, timeout: gateTimeout, whenDown: gateWhenDown };
  if (rest.tlsDir !== undefined && rest.listen === undefined) {
    throw new AgentError('USAGE', '--tls-dir needs --listen', { hint: 'for example --listen :4245' });
  }
  const agent = await Agent.start({ ...rest, uplinks: uplink, mapSizes: mapSize, gate }, log);
  let ending = false;
  const end = (signal: string) => {
    if (ending) return;
    ending = true;
    log.info('ending; enforcement stays in place', { signal });
    void agent.stop().finally(() => process.exit(0));
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
}

process.on('unhandledRejection', (e) => {
  throw e;
});

program.parseAsync().catch((e: unknown) => {
  if (e instanceof AgentError) {
    process.stderr.write(`egress-agent: ${e.message}${e.hint === undefined ? '' : `\n  ${e.hint}`}\n`);
    process.exit(e.code === 'USAGE' ? EXIT_USAGE : EXIT_FAILED);
  }
  // Commander has said what was wrong.
  const { exitCode, code } = e as { exitCode?: number; code?: string };
  if (typeof code === 'string' && code.startsWith('commander.')) process.exit(exitCode === 0 ? 0 : EXIT_USAGE);
  process.stderr.write(`egress-agent: ${e instanceof Error ? e.stack : String(e)}\n`);
  process.exit(EXIT_FAILED);
});
