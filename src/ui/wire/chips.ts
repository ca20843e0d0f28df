/**
 * Filters as the page shows them: chips. They have the names of the options of `egressctl flows`. A pure module: server
 * and browser share it.
 */

/** One filter: `{ key: 'from-namespace', value: 'shop' }`. */
export interface Chip {
  readonly not?: boolean;
  /** The long name of an option of `egressctl flows`. */
  readonly key: string;
  readonly value: string;
}

/** Most chips of a view, and most characters of a value. */
export const MOST_CHIPS = 20;
export const LONGEST_VALUE = 500;

/** The options that may be chips, with what they mean. */
export const CHIP_KEYS: Readonly<Record<string, string>> = {
  namespace: 'namespace of either side',
  'from-namespace': 'namespace of the source',
  'to-namespace': 'namespace of the destination',
  pod: 'pod of either side, [ns/]name',
  'from-pod': 'pod of the source',
  'to-pod': 'pod of the destination',
  workload: 'workload of either side, [kind/]name',
  'from-workload': 'workload of the source',
  'to-workload': 'workload of the destination',
  ip: 'address or CIDR of either side',
  'from-ip': 'address or CIDR of the source',
  'to-ip': 'address or CIDR of the destination',
  port: 'port of either side',
  'to-port': 'port of the destination',
  fqdn: 'DNS name of either side, * matches any characters',
  'to-fqdn': 'DNS name of the destination, * matches any characters',
  label: 'label selector of either side',
  'from-label': 'label selector of the source',
  'to-label': 'label selector of the destination',
  service: 'Service of either side, [ns/]name',
  'to-service': 'Service of the destination',
  protocol: 'protocol: tcp, udp, sctp, icmp, dns, http, tls, quic',
  verdict: 'verdict: ALLOWED, DENIED, AUDIT, TRACED',
  type: 'event type: drop, trace, policy-verdict, l7',
  'server-name': 'server name of a TLS or QUIC hello, * matches any characters',
  'dns-query': 'name in a DNS query (RE2)',
  'http-method': 'method of an HTTP request',
  'http-path': 'path of an HTTP request (RE2)',
  'traffic-direction': 'direction: ingress, egress',
  'drop-reason-desc': 'drop reason, e.g. POLICY_DENIED',
  'node-name': 'name of the node, * matches any characters',
};

/** A chip as the URL and the query box have it: `from-namespace:shop`, `!port:53`. */
export function chipText({ not, key, value }: Chip): string {
  return `${not ? '!' : ''}${key}:${value}`;
}

/** Reads one. @returns undefined: it is none */
export function parseChip(text: string): Chip | undefined {
  const match = /^(!?)([a-z-]+):(.*)$/s.exec(text.trim());
  if (!match) return undefined;
  const [, not, key = '', value = ''] = match;
  if (!Object.hasOwn(CHIP_KEYS, key) || value === '' || value.length > LONGEST_VALUE) return undefined;
  return { ...(not ? { not: true } : {}), key, value };
}
