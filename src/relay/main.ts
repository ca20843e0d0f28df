#!/usr/bin/env node
/** egress-relay: serves the flows of all nodes as one server, for Hubble UI, the hubble CLI and egressctl. */
import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { VERSION } from '../version.js';
import { AgentError } from '../errors.js';
import { KubeClient, loadKubeConfig } from '../kube/client/client.js';
import { KEPT_DAYS } from '../edges/edge.js';
import { durationMs, History } from '../history/history.js';
import { placeOf, placeText } from '../history/place.js';
import { parseExports } from '../export/base/spec.js';
import { Exports } from '../export/exports.js';
import { LOG_LEVELS, type Logger, type LogLevel, makeLogger } from '../log.js';
import { checkListen, parseListen, readTls } from '../rpc/transport/tls.js';
import { type AgentPlace, Agents } from './nodes/agents.js';
import { followAgents } from './nodes/discovery.js';
import { endOnFault } from '../exit.js';
import { mergedFlows } from './merge/flows.js';
import { AGENT_NAMESPACE, AGENT_PORT } from './nodes/names.js';
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
  export?: string[];
  logLevel: LogLevel;
  history: string;
  historyDays: number;
  historyFlows: number;
  historySize?: number;
  historyPasswordFile?: string;
}

/** Milliseconds for what is still to be exported when the relay ends. */
const EXPORT_END_MS = 5000;

const program = new Command('egress-relay')
  .description('Serve the flows of all agents of a cluster as one server, in time order, like Hubble Relay.')
  .version(VERSION, '-V, --version', 'print the version of egress-relay')
  .helpOption('-h, --help', 'show this help')
  .option('--listen <addr:port>', 'address and port to listen on', `:${AGENT_PORT}`)
  .option(
    '--tls-dir <dir>',
    'directory with ca.crt, tls.crt and tls.key, used for agents, and for callers unless --plaintext',
  )
  .addOption(
    new Option('--client-ca <when>', 'whether callers must present a certificate of the CA')
      .choices(['on', 'off'])
      .default('off'),
  )
  .option(
    '--plaintext',
    'serve without TLS, as Hubble UI requires; without this option, only loopback addresses are served without TLS',
  )
  .addOption(
    new Option('--agents <list>', 'query the agents at host:port,… instead of those of the cluster').argParser(
      parseAgents,
    ),
  )
  .addOption(
    new Option('--namespace <ns>', 'namespace in which the agents run').env('NAMESPACE').default(AGENT_NAMESPACE),
  )
  .addOption(new Option('--agent-port <port>', 'port of the agents').argParser(parsePort).default(AGENT_PORT))
  .addOption(
    new Option(
      '--history <where>',
      'keep who talked to whom in memory, in a file (its path), or at clickhouse://USER@HOST:PORT/DATABASE; off: keep nothing',
    )
      .env('EGRESS_HISTORY')
      .default('memory'),
  )
  .option('--history-days <days>', 'days that are kept, 1 to 400', parseDays, KEPT_DAYS)
  .addOption(
    new Option('--history-flows <time>', 'also keep whole flows for this long, such as 24h; off: none')
      .argParser(parseFlows)
      .default(0, 'off'),
  )
  .option('--history-size <size>', 'size from which on the oldest are deleted, such as 4Gi', parseSize)
  .option(
    '--history-password-file <file>',
    'file with the password for ClickHouse; without it, that of the address or $EGRESS_HISTORY_PASSWORD',
  )
  .option('--kubeconfig <file>', 'use this kubeconfig instead of $KUBECONFIG or the service account')
  .option('--context <name>', 'context of the kubeconfig')
  .option(
    '--export <url>',
    'export the flows of all nodes to a collector, a file or syslog; may be repeated: see docs/export.md',
    (url: string, others: string[] = []) => [...others, url],
  )
  .addOption(new Option('--log-level <level>', 'lowest level of messages to log').choices(LOG_LEVELS).default('info'))
  .configureHelp({ helpWidth: 100 })
  .exitOverride()
  .action(run);

async function run(flags: Flags): Promise<void> {
  const { tlsDir, plaintext = false, listen } = flags;
  checkListen(listen, { tlsDir, plaintext });
  // Agents on other machines are never contacted without TLS.
  for (const { address } of flags.agents ?? []) if (tlsDir === undefined) checkListen(address, {});
  if (tlsDir === undefined && !flags.agents) {
    throw new AgentError('USAGE', 'the agents of a cluster speak TLS', { hint: 'give --tls-dir' });
  }
  const specs = await parseExports(flags.export ?? []);
  const log = makeLogger(flags.logLevel);
  const agents = new Agents(() => (tlsDir === undefined ? undefined : readTls(tlsDir)));
  const history = await startHistory(flags, agents, log);
  const discovery = flags.agents ? undefined : discover(flags, agents);
  if (flags.agents) agents.set(flags.agents);

  const server = new RelayServer({ agents, version: VERSION, tls: tlsDir !== undefined, log, history });
  const clientCertificates = flags.clientCa === 'on' ? 'required' : 'off';
  await server.listenTls(listen, plaintext ? undefined : tlsDir, { plaintext, clientCertificates });

  const exports = await Exports.start({
    specs,
    source: (request, signal) => mergedFlows(agents, request, signal),
    node: '',
    log,
  });
  let ending = false;
  const end = (signal: string) => {
    if (ending) return;
    ending = true;
    log.info('ending', { signal });
    void exports
      .close(EXPORT_END_MS)
      .then(() => discovery?.close())
      .then(() => server.close())
      .finally(() => history?.close())
      .finally(() => process.exit(0));
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);

  function discover({ kubeconfig, context, namespace, agentPort }: Flags, into: Agents): { close(): void } {
    const client = new KubeClient(loadKubeConfig({ kubeconfig, context }));
    return followAgents(into, { client, namespace, port: agentPort, log });
  }
}

async function startHistory(flags: Flags, agents: Agents, log: Logger): Promise<History | undefined> {
  const { history: where, historyDays: days, historyFlows: flowsMs, historySize, historyPasswordFile: file } = flags;
  if (where === 'off') return undefined;
  const password = file === undefined ? process.env.EGRESS_HISTORY_PASSWORD : readPassword(file);
  const place = placeOf(where, password);
  log.info('history', { place: placeText(place), days, flows: flowsMs > 0 });
  const follow = (signal: AbortSignal) => mergedFlows(agents, { follow: true }, signal);
  const size = historySize === undefined ? {} : { maxBytes: historySize };
  return History.start({ place, sources: agents, log, days, flowsMs, follow, ...size });
}

/** The first line of a file. @throws AgentError USAGE */
function readPassword(file: string): string {
  try {
    return readFileSync(file, 'utf8').split(/\r?\n/, 1)[0] as string;
  } catch (e) {
    throw new AgentError('USAGE', `--history-password-file: ${(e as Error).message}`, { where: { file }, cause: e });
  }
}

function parseDays(value: string): number {
  const days = Number(value);
  if (!/^\d+$/.test(value) || days < 1 || days > 400) throw new InvalidArgumentError('It is a number from 1 to 400.');
  return days;
}

function parseFlows(value: string): number {
  const ms = value === 'off' ? 0 : durationMs(value);
  if (ms === undefined) throw new InvalidArgumentError('It is a time such as 24h or 2d, or off.');
  return ms;
}

function parseSize(value: string): number {
  const [, count, unit] = /^(\d{1,6})(Mi|Gi)$/.exec(value) ?? [];
  const bytes = Number(count) * (unit === 'Gi' ? 2 ** 30 : 2 ** 20);
  if (count === undefined || bytes < 64 << 20)
    throw new InvalidArgumentError('It is a size from 64Mi on, such as 4Gi.');
  return bytes;
}

function parseAgents(value: string): AgentPlace[] {
  return value.split(',').map((address) => {
    parseListen(address);
    return { id: address, name: address, address };
  });
}

function parsePort(value: string): number {
  const port = Number(value);
  if (!/^\d+$/.test(value) || port < 1 || port > 65535) throw new InvalidArgumentError('not a port');
  return port;
}

endOnFault(program.parseAsync(), { name: 'egress-relay', about: (e) => e.where.file ?? '', brief: true });
