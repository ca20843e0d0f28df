#!/usr/bin/env node
/** egress-agent: reads its options, starts the agent, ends it on a signal. */
import { Command, Option } from 'commander';
import { AgentError } from '../src/errors.js';
import { makeLogger } from '../src/log.js';
import { Agent, detach } from './agent.js';
import {
  type AgentOptions,
  ATTACH_MODES,
  DEFAULTS,
  DENY_RESPONSES,
  defaultNodeName,
  LOG_LEVELS,
  parseMapSize,
} from './options.js';
import { VERSION } from './status.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

interface Flags extends Omit<AgentOptions, 'uplinks' | 'mapSizes'> {
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
  .requiredOption('--manifests <dir>', 'directory of Kubernetes manifests to enforce and to follow')
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
  .option('--map-size <name=entries>', 'room in a map, in place of its default; may be repeated', parseMapSize, {})
  .action(run);

shared(program.command('detach'))
  .description('Remove every hook, map and file of an agent that is not running. Pods are not judged from then on.')
  .action(async (flags: Pick<Flags, 'runDir' | 'pinDir' | 'logLevel'>) => {
    await detach(flags, makeLogger(flags.logLevel));
  });

async function run(flags: Flags): Promise<void> {
  const { uplink, mapSize, ...rest } = flags;
  const log = makeLogger(flags.logLevel);
  const agent = await Agent.start({ ...rest, uplinks: uplink, mapSizes: mapSize }, log);
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
