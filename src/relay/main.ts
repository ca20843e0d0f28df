#!/usr/bin/env node
/** egress-relay: the flows of all nodes as one server, for Hubble UI, the hubble CLI and egressctl. */
import { Command, Option } from 'commander';
import { VERSION } from '../cli/version.js';
import { AgentError } from '../errors.js';
import { KubeClient, loadKubeConfig } from '../kube/client.js';
import { LOG_LEVELS, type LogLevel, makeLogger } from '../log.js';
import { checkListen, parseListen, readTls } from '../rpc/tls.js';
import { type AgentPlace, Agents } from './agents.js';
import { followAgents } from './discovery.js';
import { endOnFault, parsePort } from './exit.js';
import { AGENT_NAMESPACE, AGENT_PORT } from './names.js';
import { RelayServer } from './server.js';

interface Flags {
  listen: string;
  tlsDir?: string;
  clientCa: 'on' | 'off';
  plaintext?: boolean;
  agents?: AgentPlace[];
  namespace: string;
  agentPort: number;
  kubeconfig?: string;
  context?: string;
  logLevel: LogLevel;
}

const program = new Command('egress-relay')
  .description('Serves the flows of all agents of a cluster in time order, as Hubble Relay does.')
  .version(VERSION)
  .option('--listen <addr:port>', 'where to serve', `:${AGENT_PORT}`)
  .option('--tls-dir <dir>', 'ca.crt, tls.crt, tls.key: shown to agents, and to callers unless --plaintext')
  .addOption(
    new Option('--client-ca <when>', 'whether callers must show a certificate of the CA')
      .choices(['on', 'off'])
      .default('off'),
  )
  .option(
    '--plaintext',
    'serve in the clear: what Hubble UI speaks in a cluster; without it only on a loopback address',
  )
  .addOption(new Option('--agents <list>', 'host:port,… in place of the cluster').argParser(parseAgents))
  .addOption(new Option('--namespace <ns>', "the agents' namespace").env('NAMESPACE').default(AGENT_NAMESPACE))
  .addOption(new Option('--agent-port <port>', "the agents' port").argParser(parsePort).default(AGENT_PORT))
  .option('--kubeconfig <file>', 'in place of $KUBECONFIG and the service account')
  .option('--context <name>', 'of the kubeconfig')
  .addOption(new Option('--log-level <level>', 'how much to log').choices(LOG_LEVELS).default('info'))
  .configureHelp({ helpWidth: 100 })
  .exitOverride()
  .action(run);

async function run(flags: Flags): Promise<void> {
  const { tlsDir, plaintext = false, listen } = flags;
  checkListen(listen, { tlsDir, plaintext });
  // Agents elsewhere are never spoken to in the clear.
  for (const { address } of flags.agents ?? []) if (tlsDir === undefined) checkListen(address, {});
  if (tlsDir === undefined && !flags.agents) {
    throw new AgentError('USAGE', 'the agents of a cluster speak TLS', { hint: 'give --tls-dir' });
  }
  const log = makeLogger(flags.logLevel);
  const agents = new Agents(() => (tlsDir === undefined ? undefined : readTls(tlsDir)));
  const discovery = flags.agents ? undefined : discover(flags, agents);
  if (flags.agents) agents.set(flags.agents);

  const server = new RelayServer({ agents, version: VERSION, tls: tlsDir !== undefined, log });
  const clientCertificates = flags.clientCa === 'on' ? 'required' : 'off';
  await server.listenTls(listen, plaintext ? undefined : tlsDir, { plaintext, clientCertificates });

  let ending = false;
  const end = (signal: string) => {
    if (ending) return;
    ending = true;
    log.info('ending', { signal });
    discovery?.close();
    void server.close().finally(() => process.exit(0));
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);

  function discover({ kubeconfig, context, namespace, agentPort }: Flags, into: Agents): { close(): void } {
    const client = new KubeClient(loadKubeConfig({ kubeconfig, context }));
    return followAgents(into, { client, namespace, port: agentPort, log });
  }
}

function parseAgents(value: string): AgentPlace[] {
  return value.split(',').map((address) => {
    parseListen(address);
    return { id: address, name: address, address };
  });
}

endOnFault('egress-relay', program.parseAsync());
