/** The option `--dns-servers`: which resolvers' answers are learned from. */
import { AgentError } from '../../src/errors.js';
import { tryCanonicalAddr } from '../../src/net/addr.js';

/** One entry of `--dns-servers`. */
export type ServerSpec =
  /** A Service with what stands behind it; without a port, its DNS ports. */
  | { readonly kind: 'service'; readonly namespace: string; readonly name: string; readonly port?: number }
  | { readonly kind: 'address'; readonly ip: string; readonly port: number }
  /** The nameservers in the node's resolv.conf. */
  | { readonly kind: 'resolv.conf' };

export const DNS_PORT = 53;
/** Namespace of a Service that is named without one. */
const DEFAULT_NAMESPACE = 'kube-system';
const SERVICE = /^k8s-service:(?:([a-z0-9](?:[-a-z0-9]*[a-z0-9])?)\/)?([a-z](?:[-a-z0-9]*[a-z0-9])?)(?::(\d{1,5}))?$/;
const HINT = 'k8s-service:[NAMESPACE/]NAME[:PORT], ADDRESS[:PORT] or resolv.conf, separated by commas';

/** Parses one value, which may hold several entries separated by commas; adds to the previous. @throws AgentError USAGE */
export function parseServers(value: string, previous: readonly ServerSpec[] | undefined): ServerSpec[] {
  return [...(previous ?? []), ...value.split(',').map((entry) => parseServer(entry.trim()))];
}

function parseServer(entry: string): ServerSpec {
  const fail = (why: string) => new AgentError('USAGE', `--dns-servers ${entry || '""'}: ${why}`, { hint: HINT });
  if (entry === 'resolv.conf') return { kind: 'resolv.conf' };
  if (entry.startsWith('k8s-service:')) {
    const [, namespace = DEFAULT_NAMESPACE, name, port] = SERVICE.exec(entry) ?? [];
    if (name === undefined) throw fail('not k8s-service:[NAMESPACE/]NAME[:PORT]');
    return { kind: 'service', namespace, name, ...(port === undefined ? {} : { port: portOf(port, fail) }) };
  }
  const bare = tryCanonicalAddr(entry);
  if (bare !== undefined) return { kind: 'address', ip: bare, port: DNS_PORT };
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(entry) ?? [];
  const ip = tryCanonicalAddr(bracketed ?? plain ?? '');
  if (ip === undefined) throw fail('not an address, a Service or resolv.conf');
  return { kind: 'address', ip, port: port === undefined ? DNS_PORT : portOf(port, fail) };
}

function portOf(text: string, fail: (why: string) => AgentError): number {
  const port = Number(text);
  if (port < 1 || port > 65535) throw fail(`${text} is no port`);
  return port;
}
