/** The agent's options, their defaults, and the parsers of their values. */
import { hostname } from 'node:os';
import { AgentError } from '../src/errors.js';
import { LOG_LEVELS, type LogLevel } from '../src/log.js';
import type { GateFlags } from './gate/gate.js';
import type { AttachMode } from './hooks/attach.js';
import type { NextHopMode } from './endpoints/next-hop.js';
import { type Hearing, QUIC, VERIFY_NAMES } from '../src/dialects/hearing.js';
import { DNS_FLOWS, ECH, HTTPS_RECORDS, NAME_DEFAULTS, type NameOptions } from './names/settings.js';
import type { ServerSpec } from './resolvers/spec.js';

export interface AgentOptions extends NameOptions, Hearing {
  /** Directory with the manifests; undefined: the Kubernetes API. */
  manifests?: string | undefined;
  /** In place of $KUBECONFIG, ~/.kube/config and the service account. */
  kubeconfig?: string | undefined;
  context?: string | undefined;
  /** Socket, journal, key, compiled objects. */
  runDir: string;
  /** On a bpffs: pinned maps and links. */
  pinDir: string;
  nodeName: string;
  logLevel: LogLevel;
  attachMode: AttachMode;
  denyResponse: 'drop' | 'reject';
  /** On bridges: whether a pod's frame must be addressed to the next hop of the packet that it carries. */
  checkNextHop: NextHopMode;
  /** Encapsulated packets to nodes are judged by policies; otherwise they are denied before any rule. */
  allowEncapsulation?: boolean | undefined;
  /** Device names; undefined: those of the default routes. */
  uplinks: string[] | undefined;
  /** Address for probes and metrics over HTTP; undefined: none. */
  httpListen?: string | undefined;
  /** Address for gRPC on TCP; undefined: none. */
  listen?: string | undefined;
  /** Directory with ca.crt, tls.crt and tls.key for it. */
  tlsDir?: string | undefined;
  /** What happens, while a pod is isolated, to interfaces that lead into namespaces of no known pod. */
  unknownInterfaces: 'closed' | 'open';
  /** libcni's cache: there the node's container runtime keeps the results of CNI plugins. */
  cniCacheDir: string;
  /** Where to install the CNI gate; undefined: nowhere. */
  gate?: GateFlags | undefined;
  /** Resolvers whose answers are learned from; undefined: the cluster's and the node's. */
  dnsServers?: readonly ServerSpec[] | undefined;
  /** Whether exact names in policies are resolved for pods that ran before the agent. */
  nameSeed: 'on' | 'off';
  /** Where flows are exported to: URLs as docs/export.md has them. */
  exports?: readonly string[] | undefined;
  /** Entries by map name, in place of the object's own. */
  mapSizes: Record<string, number>;
}

export const DEFAULTS = {
  runDir: '/run/egress-agent',
  pinDir: '/sys/fs/bpf/egress-agent',
  cniCacheDir: '/var/lib/cni',
  logLevel: 'info' as LogLevel,
  attachMode: 'auto' as AttachMode,
  denyResponse: 'drop' as const,
  checkNextHop: 'auto' as NextHopMode,
  nameSeed: 'on' as const,
  ...NAME_DEFAULTS,
  verifyNames: 'audit' as Hearing['verifyNames'],
  quic: 'inspect' as Hearing['quic'],
};

export const ATTACH_MODES: readonly AttachMode[] = ['auto', 'tcx', 'tc'];
export const UNKNOWN_INTERFACES = ['closed', 'open'] as const;
export const WHEN_DOWN = ['open', 'closed'] as const;
export const NEXT_HOP_MODES: readonly NextHopMode[] = ['auto', 'on', 'off'];
export const DENY_RESPONSES = ['drop', 'reject'] as const;
export const NAME_SEED = ['on', 'off'] as const;
export { DNS_REFUSALS } from '../src/ir/types.js';
export { DNS_FLOWS, ECH, HTTPS_RECORDS, LOG_LEVELS, QUIC, VERIFY_NAMES };

/** Longest time in the options about names: a week. Seconds. */
const MAX_TTL_S = 604_800;
/** Pages of addresses for each name: few names have more than two addresses. */
const PAGES_PER_NAME = 2;
const MAX_NAMES = 2 ** 19;

/** The node's name, as in its pods' spec.nodeName: $NODE_NAME in a DaemonSet, the host's name otherwise. */
export function defaultNodeName(): string {
  return process.env.NODE_NAME || hostname();
}

/** Seconds, 1 to 120: kubelet allows two minutes for the creation of a sandbox. @throws AgentError USAGE */
export function parseSeconds(value: string): number {
  const seconds = Number(value);
  if (!/^\d+$/.test(value) || seconds < 1 || seconds > 120) {
    throw new AgentError('USAGE', `${value} is not a number of seconds from 1 to 120`);
  }
  return seconds;
}

/** Seconds, from 0 to a week. @throws AgentError USAGE */
export function parseTtl(value: string): number {
  const seconds = Number(value);
  if (!/^\d+$/.test(value) || seconds > MAX_TTL_S)
    throw new AgentError('USAGE', `${value} is not a number of seconds from 0 to ${MAX_TTL_S}`);
  return seconds;
}

/** The sizes of the tables of names, by map. @param value how many names. @throws AgentError USAGE */
export function parseNames(value: string): Record<string, number> {
  const names = Number(value);
  if (!/^\d+$/.test(value) || names < 64 || names > MAX_NAMES)
    throw new AgentError('USAGE', `${value} is not a number of names from 64 to ${MAX_NAMES}`);
  return { names, name_pages: names * PAGES_PER_NAME };
}

/** `NAME=ENTRIES`, repeatable. @throws AgentError USAGE */
export function parseMapSize(value: string, previous: Record<string, number>): Record<string, number> {
  const [, name, entries] = /^([a-z0-9_]+)=([0-9]+)$/.exec(value) ?? [];
  if (name === undefined || entries === undefined) {
    throw new AgentError('USAGE', `--map-size ${value}: not NAME=ENTRIES`, {
      hint: 'for example destinations4=4000000',
    });
  }
  return { ...previous, [name]: Number(entries) };
}
