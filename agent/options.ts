/** What the agent can be told, with its defaults. */
import { hostname } from 'node:os';
import { AgentError } from '../src/errors.js';
import { LOG_LEVELS, type LogLevel } from '../src/log.js';
import type { AttachMode } from './attach.js';

export interface AgentOptions {
  /** Directory with the manifests; undefined: the Kubernetes API. */
  manifests?: string | undefined;
  /** In place of $KUBECONFIG, ~/.kube/config and the service account. */
  kubeconfig?: string | undefined;
  context?: string | undefined;
  /** Socket, journal, compiled objects. */
  runDir: string;
  /** On a bpffs: pinned maps and links. */
  pinDir: string;
  nodeName: string;
  logLevel: LogLevel;
  attachMode: AttachMode;
  denyResponse: 'drop' | 'reject';
  /** Device names; undefined: those of the default routes. */
  uplinks: string[] | undefined;
  /** Address for probes and metrics over HTTP; undefined: none. */
  httpListen?: string | undefined;
  /** Address for gRPC on TCP; undefined: none. */
  listen?: string | undefined;
  /** Directory with ca.crt, tls.crt and tls.key for it. */
  tlsDir?: string | undefined;
  /** Where to install the CNI gate; undefined: nowhere. */
  gate?: GateFlags | undefined;
  /** Entries by map name, in place of the object's own. */
  mapSizes: Record<string, number>;
}

export interface GateFlags {
  /** Directories of the node's CNI programs and configurations, as the agent sees them. */
  binDir: string;
  confDir: string;
  /** Seconds. */
  timeout: number;
  whenDown: 'open' | 'closed';
}

export const DEFAULTS = {
  runDir: '/run/egress-agent',
  pinDir: '/sys/fs/bpf/egress-agent',
  logLevel: 'info' as LogLevel,
  attachMode: 'auto' as AttachMode,
  denyResponse: 'drop' as const,
};

export const ATTACH_MODES: readonly AttachMode[] = ['auto', 'tcx', 'tc'];
export const WHEN_DOWN = ['open', 'closed'] as const;
export const DENY_RESPONSES = ['drop', 'reject'] as const;
export { LOG_LEVELS };

/** The name that the node's pods carry in spec.nodeName: $NODE_NAME in a DaemonSet, the host's name otherwise. */
export function defaultNodeName(): string {
  return process.env.NODE_NAME || hostname();
}

/** Seconds, 1 to 120: kubelet gives a sandbox two minutes. @throws AgentError USAGE */
export function parseSeconds(value: string): number {
  const seconds = Number(value);
  if (!/^\d+$/.test(value) || seconds < 1 || seconds > 120) {
    throw new AgentError('USAGE', `${value} is not a number of seconds from 1 to 120`);
  }
  return seconds;
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
