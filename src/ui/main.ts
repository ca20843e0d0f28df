#!/usr/bin/env node
/** egress-ui: the web UI in a cluster, for many users, each with the rights of their own token. */
import { Command, Option } from 'commander';
import { AgentError } from '../errors.js';
import { endOnFault } from '../exit.js';
import { KubeClient, loadKubeConfig } from '../kube/client/client.js';
import { LOG_LEVELS, type LogLevel, makeLogger } from '../log.js';
import { RELAY_SERVER_NAME } from '../relay/nodes/names.js';
import { AgentClient } from '../rpc/transport/client.js';
import { checkListen, readTls } from '../rpc/transport/tls.js';
import { PolicyApi } from '../staging/live/api.js';
import { Evidence } from '../staging/live/evidence.js';
import { VERSION } from '../version.js';
import { seenError } from './access/mask.js';
import { People } from './access/people.js';
import { Reviews } from './access/reviews.js';
import type { Viewer } from './access/viewer.js';
import { allHandlers } from './api/handlers.js';
import { type Hands, handsOf } from './api/hands.js';
import { Feeds } from './api/stream.js';
import { Assets } from './http/assets.js';
import { TokenDoor } from './http/door.js';
import { Sessions } from './http/sessions.js';
import { RelaySource } from './relay.js';
import { UiServer } from './server.js';
import type { Session } from './wire/messages.js';

interface Flags {
  listen: string;
  host: string[];
  relay: string;
  tlsDir?: string;
  serveTlsDir?: string;
  plaintext?: boolean;
  socket?: string;
  audience: string[];
  trustProxyHeader?: boolean;
  kubeconfig?: string;
  context?: string;
  logLevel: LogLevel;
}

const repeated = (value: string, others: string[]) => [...others, value];

const program = new Command('egress-ui')
  .description('Serve the web UI of a cluster. Users sign in with a Kubernetes token, and see what its rights allow.')
  .version(VERSION, '-V, --version', 'print the version of egress-ui')
  .helpOption('-h, --help', 'show this help')
  .option('--listen <addr:port>', 'address and port to listen on', ':8443')
  .option(
    '--host <name>',
    'a name under which browsers ask for the page, with or without a port; may be repeated. Others but localhost are refused',
    repeated,
    [],
  )
  .option('--relay <addr:port>', 'the relay to ask', 'egress-relay:4245')
  .option('--tls-dir <dir>', 'directory with ca.crt, tls.crt and tls.key: for the relay, and for browsers')
  .option('--serve-tls-dir <dir>', 'directory with another tls.crt and tls.key, for browsers')
  .option(
    '--plaintext',
    'serve without TLS, for a proxy in the same pod that speaks it; only loopback addresses can be listened on',
  )
  .option('--socket <path>', "ask the agent on this socket in place of the relay: its node's flows")
  .option(
    '--audience <name>',
    "audience that tokens must be for; may be repeated. Without it, the API server's own, and with those tokens policies can be written",
    repeated,
    [],
  )
  .option(
    '--trust-proxy-header',
    'take the token from `Authorization: Bearer` of each request, where an OIDC proxy puts it. It is reviewed like any other',
  )
  .option('--kubeconfig <file>', 'use this kubeconfig instead of $KUBECONFIG or the service account')
  .option('--context <name>', 'context of the kubeconfig')
  .addOption(new Option('--log-level <level>', 'lowest level of messages to log').choices(LOG_LEVELS).default('info'))
  .configureHelp({ helpWidth: 100 })
  .exitOverride()
  .action(run);

async function run(flags: Flags): Promise<void> {
  const { host, port } = place(flags);
  const servedDir = flags.plaintext ? undefined : (flags.serveTlsDir ?? flags.tlsDir);
  const names = flags.host.map(readName);
  const log = makeLogger(flags.logLevel);
  const config = loadKubeConfig(flags);
  const kube = new KubeClient(config, { userAgent: 'egress-ui' });
  const people = new People({
    reviews: new Reviews(kube, flags.audience),
    // A token for another audience is none for the API server.
    server: flags.audience.length === 0 ? config : undefined,
  });
  const source = sourceOf(flags);
  const server = new UiServer({
    assets: new Assets(),
    sessions: new Sessions<Viewer>(),
    door: new TokenDoor(people, { header: flags.trustProxyHeader ?? false, audience: flags.audience[0] }),
    feeds: new Feeds(source),
    handlers: allHandlers(source, (viewer) => handsFor(viewer, source, flags)),
    session: (viewer) => sessionOf(viewer, flags),
    log,
  });
  const own = await server.listen({ host, port, names, tlsDir: servedDir });
  log.info('listening', { address: `${host} port ${own}`, tls: servedDir === undefined ? 'off' : 'on' });
  let ending = false;
  const end = (signal: string) => {
    if (ending) return;
    ending = true;
    log.info('ending', { signal });
    void server.close().finally(() => {
      source.close();
      kube.close();
      process.exit(0);
    });
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
}

/** @throws AgentError USAGE if tokens would go over a network in the clear */
function place({ listen, tlsDir, serveTlsDir, plaintext }: Flags): { host: string; port: number } {
  const dir = plaintext ? undefined : (serveTlsDir ?? tlsDir);
  return checkListen(listen, { tlsDir: dir });
}

function sourceOf({ socket, relay, tlsDir }: Flags): AgentClient {
  if (socket !== undefined) return new AgentClient(socket);
  // Who talks to whom does not go over a network in the clear either.
  if (tlsDir === undefined) {
    try {
      checkListen(relay, {});
    } catch (e) {
      throw new AgentError('USAGE', `the relay at ${relay} speaks TLS`, { hint: 'give --tls-dir', cause: e });
    }
  }
  const remote = { address: relay, name: 'the relay', serverName: RELAY_SERVER_NAME };
  return new RelaySource(remote, () => (tlsDir === undefined ? undefined : readTls(tlsDir))).client;
}

/** A name that is a value of Host: no scheme, no path. @throws AgentError USAGE */
function readName(text: string): string {
  if (/^(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)(:\d{1,5})?$/i.test(text)) return text;
  throw new AgentError('USAGE', `--host: ${JSON.stringify(text)} is no name of a host`, {
    hint: 'for example ui.example.com',
  });
}

/** What writes with a user's own token, or why nothing does. */
function handsFor(viewer: Viewer, source: AgentClient, flags: Flags): Hands | string {
  if (!viewer.kube) return readOnlyBy(flags);
  let own = hands.get(viewer);
  if (!own) hands.set(viewer, (own = handsWith(viewer.kube(), viewer, source)));
  return own;
}

const hands = new WeakMap<Viewer, Hands>();

function handsWith(kube: KubeClient, viewer: Viewer, source: AgentClient): Hands {
  const ask = async <A>(question: (client: AgentClient) => Promise<A>) => {
    try {
      return await question(source);
    } catch (e) {
      throw await seenError(e, viewer);
    }
  };
  return handsOf(new PolicyApi(kube, 'egress-ui'), new Evidence([{ name: 'the relay', ask }]));
}

function readOnlyBy({ audience }: Flags): string {
  return `tokens here are for ${audience.join(', ')}: with them, nothing can be written`;
}

async function sessionOf(viewer: Viewer, flags: Flags): Promise<Session> {
  const scope = await viewer.scope();
  const readOnly = viewer.kube ? undefined : readOnlyBy(flags);
  return {
    version: VERSION,
    source: flags.socket === undefined ? 'cluster' : 'node',
    user: viewer.name,
    ...(scope ? { namespaces: [...scope].sort() } : {}),
    writes: readOnly === undefined,
    ...(readOnly === undefined ? {} : { readOnly }),
    signedIn: true,
  };
}

endOnFault(program.parseAsync(), { name: 'egress-ui', about: (e) => e.where.file ?? '', brief: true });
