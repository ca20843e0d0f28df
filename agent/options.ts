/** What the agent can be told, with its defaults. */
import { hostname } from 'node:os';
import { AgentError } from '../src/errors.js';
import { LOG_LEVELS, type LogLevel } from '../src/log.js';
import type { AttachMode } from './attach.js';

export interface AgentOptions {
  /** Directory with the manifests. */
  manifests: string;
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
  /** Entries by map name, in place of the object's own. */
  mapSizes: Record<string, number>;
}

export const DEFAULTS = {
  runDir: '/run/egress-agent',
  pinDir: '/sys/fs/bpf/egress-agent',
  logLevel: 'info' as LogLevel,
  attachMode: 'auto' as AttachMode,
  denyResponse: 'drop' as const,
};

export const ATTACH_MODES: readonly AttachMode[] = ['auto', 'tcx', 'tc'];
export const DENY_RESPONSES = ['drop', 'reject'] as const;
export { LOG_LEVELS };

/** The name that the node's pods carry in spec.nodeName: $NODE_NAME in a DaemonSet, the host's name otherwise. */
export function defaultNodeName(): string {
  return process.env.NODE_NAME || hostname();
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
