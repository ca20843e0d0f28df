/** What a connection is to say, in messages of egress.v1. */
import type { SaidInput } from '../proto/messages.js';
import { helloSaying, requestOf } from '../said/given.js';
import type { Said } from '../said/said.js';

/** @throws AgentError USAGE */
export function saidOf({ server_name: name, http }: SaidInput): Said {
  if (http === undefined) return helloSaying(name ?? '');
  const { method = 'GET', host = '', path = '', headers = [] } = http;
  return requestOf({ method, host, path, headers: headers.map(({ key, value }) => [key, value ?? '']) });
}

/** The same in the other direction; undefined: neither a hello nor a request. */
export function saidInput(said: Said): SaidInput | undefined {
  if (said.kind === 'tls') return { server_name: said.serverName ?? '' };
  if (said.kind === 'other') return undefined;
  const { method, host = '', path, headers } = said;
  // The host stands for itself.
  const others = headers.filter(([name]) => name !== 'host').map(([key, value]) => ({ key, value }));
  return { http: { method, host, path, headers: others } };
}
