#!/usr/bin/env node
/** egress-agent: reads its options, starts the agent, ends it on a signal. */
import { Command, Option } from 'commander';
import { AgentError } from '../src/errors.js';
import { endOnFault } from '../src/exit.js';
import { makeLogger } from '../src/log.js';
import { Agent } from './agent.js';
import { detach } from './hooks/detach.js';
import {
  type AgentOptions,
  ATTACH_MODES,
  DEFAULTS,
  DENY_RESPONSES,
  DNS_FLOWS,
  DNS_REFUSALS,
  defaultNodeName,
  ECH,
  HTTPS_RECORDS,
  LOG_LEVELS,
  NAME_SEED,
  NEXT_HOP_MODES,
  parseMapSize,
  parseNames,
  parseSeconds,
  parseTtl,
  QUIC,
  UNKNOWN_INTERFACES,
  VERIFY_NAMES,
  WHEN_DOWN,
} from './options.js';
import { parseServers } from './resolvers/spec.js';
import { VERSION } from '../src/version.js';

interface Flags extends Omit<AgentOptions, 'uplinks' | 'mapSizes' | 'gate' | 'exports'> {
  export?: string[];
  gateBinDir?: string;
  gateConfDir?: string;
  gateTimeout: number;
  gateWhenDown: 'open' | 'closed';
  uplink?: string[];
  mapSize: Record<string, number>;
  names?: Record<string, number>;
}

const program = new Command('egress-agent')
  .description('Controls and shows what leaves the pods of this node.')
  .version(VERSION)
  .exitOverride()
  .configureHelp({ helpWidth: 100 });

const shared = (command: Command) =>
  command
    .option('--run-dir <dir>', 'socket, journal, key, compiled programs', DEFAULTS.runDir)
    .option('--pin-dir <dir>', 'pinned maps and links, on a BPF file system', DEFAULTS.pinDir)
    .addOption(new Option('--log-level <level>', 'how much to log').choices(LOG_LEVELS).default(DEFAULTS.logLevel));

shared(program.command('run', { isDefault: true }))
  .description('Enforce policies (the default command).')
  .option('--manifests <dir>', 'enforce and follow a directory of Kubernetes manifests, instead of a cluster')
  .option('--kubeconfig <file>', 'the cluster; by default $KUBECONFIG, ~/.kube/config or the service account')
  .option('--context <name>', 'context of the kubeconfig')
  .option(
    '--node-name <name>',
    'judge the pods of this node; with manifests, also pods without a node',
    defaultNodeName(),
  )
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
  .addOption(
    new Option(
      '--check-next-hop <where>',
      'check that frames on bridges go to the next hop of their packets; auto: where the bridge is the gateway',
    )
      .choices(NEXT_HOP_MODES)
      .default(DEFAULTS.checkNextHop),
  )
  .option('--allow-encapsulation', 'let policies judge encapsulated packets to nodes, instead of denying them')
  .option('--uplink <device...>', "the node's uplinks; by default the devices of its default routes")
  .option('--http-listen <address>', 'serve probes and /metrics, for example on 127.0.0.1:4246')
  .option('--listen <address>', 'serve gRPC on TCP too, with mutual TLS, for example on :4245')
  .option('--tls-dir <dir>', 'ca.crt, tls.crt and tls.key for --listen')
  .addOption(
    new Option(
      '--unknown-interfaces <what>',
      "on a cluster's node, while a pod is isolated: close new interfaces of unknown owners, since the pod may have made them",
    )
      .choices(UNKNOWN_INTERFACES)
      .default('closed'),
  )
  .option(
    '--cni-cache-dir <dir>',
    "where the node's container runtime keeps the results of CNIs, which name the pod of each interface",
    DEFAULTS.cniCacheDir,
  )
  .option(
    '--gate-bin-dir <dir>',
    "the node's CNI programs: install the gate there, which holds a new pod until it is judged",
  )
  .option('--gate-conf-dir <dir>', "the node's CNI configurations: the gate is chained into the one in force")
  .option('--gate-timeout <seconds>', 'longest time for which the gate holds a pod', parseSeconds, 10)
  .addOption(
    new Option('--gate-when-down <what>', 'whether pods start (open) or not (closed) while no agent answers')
      .choices(WHEN_DOWN)
      .default('open'),
  )
  .option(
    '--dns-servers <list>',
    'resolvers whose answers are learned from: k8s-service:[NAMESPACE/]NAME[:PORT], ADDRESS[:PORT], resolv.conf; by default the DNS of the cluster and of the node',
    parseServers,
  )
  .option(
    '--name-ttl-min <seconds>',
    'shortest time for which a learned address is valid',
    parseTtl,
    DEFAULTS.nameTtlMin,
  )
  .option('--name-ttl-extra <seconds>', 'time added to the TTL of a learned address', parseTtl, DEFAULTS.nameTtlExtra)
  .option('--names <number>', 'room for learned names, and twice as many addresses (default: 16384)', parseNames)
  .addOption(
    new Option('--name-seed <what>', 'resolve the names in policies once, for pods that ran before the agent')
      .choices(NAME_SEED)
      .default(DEFAULTS.nameSeed),
  )
  .addOption(
    new Option('--dns-refusal <rcode>', 'answer to a DNS query that no rule allows')
      .choices(DNS_REFUSALS)
      .default(DEFAULTS.dnsRefusal),
  )
  .addOption(
    new Option(
      '--https-records <what>',
      'queries for HTTPS records, which carry the keys of encrypted ClientHello; strip: there are none',
    )
      .choices(HTTPS_RECORDS)
      .default(DEFAULTS.httpsRecords),
  )
  .addOption(
    new Option(
      '--ech <what>',
      'encrypted ClientHello, where it matters what connections say; deny-known: denied where DNS gave the pod its keys',
    )
      .choices(ECH)
      .default(DEFAULTS.ech),
  )
  .addOption(
    new Option('--dns-flows <which>', 'DNS queries to report as flows').choices(DNS_FLOWS).default(DEFAULTS.dnsFlows),
  )
  .addOption(
    new Option(
      '--verify-names <how>',
      'whether connections to addresses of names must name them in TLS, QUIC or HTTP; audit: tell of those that do not',
    )
      .choices(VERIFY_NAMES)
      .default(DEFAULTS.verifyNames),
  )
  .addOption(
    new Option('--quic <how>', 'QUIC where it matters what connections say; by-address: names are not verified')
      .choices(QUIC)
      .default(DEFAULTS.quic),
  )
  .option(
    '--export <url>',
    'export flows to a collector, a file or syslog; may be repeated: see docs/export.md',
    (url: string, others: string[] = []) => [...others, url],
  )
  .option('--map-size <name=entries>', 'size of a map, instead of its default; may be repeated', parseMapSize, {})
  .action(run);

shared(program.command('detach'))
  .description('Remove every hook, map and file of an agent that is not running. Pods are not judged from then on.')
  .option('--gate-bin-dir <dir>', "the node's CNI programs: remove the gate from there too")
  .option('--gate-conf-dir <dir>', "the node's CNI configurations: remove the gate from them")
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
  const { uplink, mapSize, names, gateTimeout, gateWhenDown, export: exports, ...rest } = flags;
  const log = makeLogger(flags.logLevel);
  const dirs = gateDirs(flags);
  const gate = dirs && { ...dirs, timeout: gateTimeout, whenDown: gateWhenDown };
  if (rest.tlsDir !== undefined && rest.listen === undefined) {
    throw new AgentError('USAGE', '--tls-dir needs --listen', { hint: 'for example --listen :4245' });
  }
  const agent = await Agent.start({ ...rest, uplinks: uplink, mapSizes: { ...names, ...mapSize }, gate, exports }, log);
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

endOnFault(program.parseAsync(), { name: 'egress-agent' });
