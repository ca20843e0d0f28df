/** Translates toPorts and icmps to protocols and ports (pkg/policy/api/l4.go, icmp.go, rule_validation.go). */
import type { HttpMatch, PortMatch } from '../../ir/types.js';
import { SCTP, TCP, UDP } from '../../net/protocol.js';
import type { Context } from './context.js';
import { type NameSpec, patternOf } from './names.js';
import { type HttpSpec, readRequests, serverPatterns } from './requests.js';

export interface PortSpec {
  readonly port?: string;
  readonly endPort?: number;
  readonly protocol?: string;
}
export interface PortRule {
  readonly ports?: readonly PortSpec[];
  readonly rules?: L7Rules;
  readonly serverNames?: readonly string[];
  readonly terminatingTLS?: object;
  readonly originatingTLS?: object;
  readonly listener?: object;
}
interface L7Rules extends Readonly<Record<string, unknown>> {
  readonly dns?: readonly NameSpec[];
  readonly http?: readonly HttpSpec[];
}
export interface IcmpRule {
  readonly fields?: readonly { readonly family?: 'IPv4' | 'IPv6'; readonly type: number | string }[];
}

const MAX = 40;
const ICMP = 1;
const ICMPV6 = 58;

/** ANY, or no protocol, means all protocols with ports: mergeEgress in pkg/policy/rule.go adds one entry for each. */
const WITH_PORTS = [TCP, UDP, SCTP] as const;

const PROTOCOLS: ReadonlyMap<string, readonly number[]> = new Map<string, readonly number[]>([
  ['TCP', [TCP]],
  ['UDP', [UDP]],
  ['SCTP', [SCTP]],
  ['ICMP', [ICMP]],
  ['ICMPv6', [ICMPV6]],
  ['ICMPV6', [ICMPV6]],
  ['VRRP', [112]],
  ['IGMP', [2]],
  ['ANY', WITH_PORTS],
]);

/** The ports of an item of toPorts. */
export interface PortGroup {
  readonly ports: readonly PortMatch[];
  /** If present, only DNS queries for names that match one of these patterns are allowed there. */
  readonly queries?: readonly string[];
  /** If present, only hellos of TLS or QUIC for servers that match one of these patterns. */
  readonly serverNames?: readonly string[];
  /** If present, only requests that one of these matches. */
  readonly http?: readonly HttpMatch[];
  /** It does not allow, but tells of what it matches. */
  readonly log?: true;
}

/** Translates toPorts. */
export function portGroups(rules: readonly PortRule[], path: string, context: Context): PortGroup[] {
  return rules.flatMap((rule, i): PortGroup[] => {
    const at = `${path}[${i}]`;
    refuse(rule, at, context);
    const { ports = [], serverNames: servers = [] } = rule;
    const { dns, http = [] } = rule.rules ?? {};
    tooMany(ports.length, `${at}.ports`, context);
    if (ports.length === 0) {
      const hint = 'list the ports; omit toPorts for every port';
      context.report({ severity: 'error', field: `${at}.ports`, message: 'names no port', hint });
    }
    const check = dns ? DNS : http.length > 0 ? HTTP : servers.length > 0 ? TLS : undefined;
    const matches = ports.flatMap((port, j) => {
      if (check) checkPort(port, `${at}.ports[${j}]`, check, context);
      return readPort(port, `${at}.ports[${j}]`, context);
    });
    if (check && context.ofNodes) notOfNodes(`${at}.${check.field}`, dns !== undefined, context);
    // Of ANY, those that can carry it.
    const carrying = check ? matches.filter(({ protocol }) => protocol !== null && check.over.has(protocol)) : matches;
    if (dns) return [{ ports: carrying, queries: queriesOf(dns, `${at}.rules.dns`, context) }];
    if (http.length > 0) {
      const { http: requests, logged } = readRequests(http, `${at}.rules.http`, context);
      const log = logged.length > 0 ? [{ ports: carrying, http: logged, log: true as const }] : [];
      return [...log, { ports: carrying, http: requests }];
    }
    if (servers.length === 0) return [{ ports: matches }];
    return [{ ports: carrying, serverNames: serverPatterns(servers, `${at}.serverNames`, context) }];
  });
}

/** What layer 7 asks of a port. */
interface Carrier {
  readonly field: string;
  readonly protocols: readonly string[];
  readonly over: ReadonlySet<number>;
  readonly what: string;
  readonly hint: string;
}

const DNS: Carrier = {
  field: 'rules.dns',
  protocols: ['TCP', 'UDP', 'ANY'],
  over: new Set([TCP, UDP]),
  what: 'DNS is not asked',
  hint: 'name the port and the protocol of the DNS servers: 53, ANY',
};
const HTTP: Carrier = {
  field: 'rules.http',
  protocols: ['TCP'],
  over: new Set([TCP]),
  what: 'requests are not read',
  hint: 'name the port, and the protocol TCP',
};
/** With ANY, also over QUIC. */
const TLS: Carrier = {
  field: 'serverNames',
  protocols: ['TCP', 'ANY'],
  over: new Set([TCP, UDP]),
  what: 'server names are not read',
  hint: 'name the port, and the protocol: TCP, or ANY for QUIC too',
};

function checkPort({ port, protocol = 'ANY' }: PortSpec, path: string, carrier: Carrier, { report }: Context): void {
  const { field, protocols, what, hint } = carrier;
  const error = (at: string, message: string) => report({ severity: 'error', field: `${path}.${at}`, message, hint });
  if (port === '0') error('port', `must be a single port or a range beside ${field}`);
  if (!protocols.includes(protocol)) error('protocol', `${what} over ${protocol}`);
}

/** What the node sends itself is judged by addresses and ports alone. */
function notOfNodes(field: string, dns: boolean, { report }: Context): void {
  const [what, every] = dns ? ['asks for', 'every query'] : ['says', 'every connection'];
  const message = `what the node itself ${what} is not read`;
  report({ severity: 'error', field, message, hint: `remove it to allow ${every} there` });
}

/** The names that may be asked for, whatever the query's type. */
function queriesOf(dns: readonly NameSpec[], path: string, { report }: Context): readonly string[] {
  const patterns = dns.flatMap((spec, i) => {
    const field = `${path}[${i}]`;
    if (spec.matchName !== undefined || spec.matchPattern !== undefined) return patternOf(spec, field, report) ?? [];
    const hint = 'give it a matchName or a matchPattern';
    report({ severity: 'warning', field, message: 'names nothing: no query matches it', hint });
    return [];
  });
  return [...new Set(patterns)];
}

/** Refuses what is not enforced above the transport layer, and what cannot stand together there. */
function refuse(rule: PortRule, path: string, { report }: Context): void {
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  for (const key of Object.keys(rule.rules ?? {})) {
    if (key === 'dns' || key === 'http') continue;
    error(`${path}.rules.${key}`, 'requests are not looked into', 'remove it to allow the port as a whole');
  }
  const { dns, http = [] } = rule.rules ?? {};
  if (dns && http.length > 0) error(`${path}.rules`, 'has dns and http', 'make an item of toPorts of each');
  if ((rule.serverNames ?? []).length > 0 && (dns || http.length > 0))
    error(`${path}.serverNames`, 'cannot stand beside rules: no TLS is terminated', 'make an item of toPorts of each');
  for (const key of ['terminatingTLS', 'originatingTLS', 'listener'] as const) {
    if (rule[key] === undefined) continue;
    error(`${path}.${key}`, 'there is no proxy for the connections', 'remove it');
  }
}

function readPort(spec: PortSpec, path: string, { report }: Context): PortMatch[] {
  const error = (field: string, message: string, hint: string): PortMatch[] => {
    report({ severity: 'error', field, message, hint });
    return [];
  };
  const { port, endPort } = spec;
  const protocols = PROTOCOLS.get(spec.protocol ?? 'ANY') ?? WITH_PORTS;
  const ported = protocols.includes(TCP) || protocols.includes(UDP) || protocols.includes(SCTP);
  if (port === undefined || port === '') {
    if (ported) return error(`${path}.port`, 'is missing', 'add it; "0" is every port');
    return protocols.map((protocol) => ({ protocol }));
  }
  if (/[A-Za-z]/.test(port)) {
    if (!ported) return error(`${path}.port`, `${spec.protocol} has no ports`, 'remove it');
    if (!/^[A-Za-z0-9](-?[A-Za-z0-9])*$/.test(port) || port.length > 15) {
      const hint = 'use at most 15 letters, digits and single "-", with a letter';
      return error(`${path}.port`, `${JSON.stringify(port)} is not a port name`, hint);
    }
    if (endPort !== undefined) {
      const message = 'has no effect beside a port name';
      report({ severity: 'warning', field: `${path}.endPort`, message, hint: 'remove it, or use a port number' });
    }
    return protocols.map((protocol) => ({ protocol, named: port.toLowerCase() }));
  }
  // Go would parse 010 as 8.
  if (!/^(0|[1-9]\d{0,4})$/.test(port) || Number(port) > 65535) {
    return error(`${path}.port`, `${JSON.stringify(port)} is not a port`, 'use "0" for every port, or "1" to "65535"');
  }
  const first = Number(port);
  const last = endPort === undefined || endPort === 0 ? first : endPort;
  if (last !== first && (first === 0 || last < first || last > 65535)) {
    const hint = 'the range is port to endPort, both included';
    return error(`${path}.endPort`, `${last} must be from ${first === 0 ? 'a port' : first} to 65535`, hint);
  }
  if (first === 0) return protocols.map((protocol) => ({ protocol }));
  if (ported) return protocols.map((protocol) => ({ protocol, ports: [[first, last]] }));
  // If ICMP is listed together with ports, the port is the type.
  if (protocols[0] !== ICMP && protocols[0] !== ICMPV6)
    return error(`${path}.port`, `${spec.protocol} has no ports`, 'use "0"');
  if (last > 255) return error(`${path}.port`, `${last} is not a type of ICMP`, 'use 1 to 255, or "0" for every type');
  return protocols.map((protocol) => ({ protocol, ports: [[first * 256, last * 256 + 255]] }));
}

/** Translates icmps. */
export function icmpMatches(rules: readonly IcmpRule[], path: string, context: Context): PortMatch[] {
  return rules.flatMap(({ fields = [] }, i) => {
    const at = `${path}[${i}].fields`;
    tooMany(fields.length, at, context);
    if (fields.length === 0)
      context.report({ severity: 'error', field: at, message: 'names no type', hint: 'list the types' });
    return fields.flatMap(({ family, type }, j): PortMatch[] => {
      const number = icmpType(family ?? 'IPv4', type);
      if (number !== undefined) {
        return [{ protocol: family === 'IPv6' ? ICMPV6 : ICMP, ports: [[number * 256, number * 256 + 255]] }];
      }
      const message = `${JSON.stringify(type)} is not a type of ICMP of the family ${family ?? 'IPv4'}`;
      const hint = 'use 0 to 255, or a name that Cilium knows for the family';
      context.report({ severity: 'error', field: `${at}[${j}].type`, message, hint });
      return [];
    });
  });
}

function icmpType(family: 'IPv4' | 'IPv6', type: number | string): number | undefined {
  const named = typeof type === 'string' ? (family === 'IPv6' ? TYPES6 : TYPES4).get(type) : undefined;
  if (named !== undefined) return named;
  if (typeof type === 'string' && !/^(0|[1-9]\d{0,2})$/.test(type)) return undefined;
  const number = Number(type);
  return Number.isInteger(number) && number >= 0 && number <= 255 ? number : undefined;
}

function tooMany(count: number, field: string, { report }: Context): void {
  if (count <= MAX) return;
  report({ severity: 'error', field, message: `has ${count} items; Cilium takes ${MAX}`, hint: 'split it' });
}

/** Cilium's names of ICMP types, with IANA's numbers. */
const TYPES4: ReadonlyMap<string, number> = new Map([
  ['EchoReply', 0],
  ['DestinationUnreachable', 3],
  ['Redirect', 5],
  ['Echo', 8],
  ['EchoRequest', 8],
  ['RouterAdvertisement', 9],
  ['RouterSelection', 10],
  ['TimeExceeded', 11],
  ['ParameterProblem', 12],
  ['Timestamp', 13],
  ['TimestampReply', 14],
  ['Photuris', 40],
  ['ExtendedEchoRequest', 42],
  ['ExtendedEchoReply', 43],
]);

const TYPES6: ReadonlyMap<string, number> = new Map([
  ['DestinationUnreachable', 1],
  ['PacketTooBig', 2],
  ['TimeExceeded', 3],
  ['ParameterProblem', 4],
  ['EchoRequest', 128],
  ['EchoReply', 129],
  ['MulticastListenerQuery', 130],
  ['MulticastListenerReport', 131],
  ['MulticastListenerDone', 132],
  ['RouterSolicitation', 133],
  ['RouterAdvertisement', 134],
  ['NeighborSolicitation', 135],
  ['NeighborAdvertisement', 136],
  ['RedirectMessage', 137],
  ['RouterRenumbering', 138],
  ['ICMPNodeInformationQuery', 139],
  ['ICMPNodeInformationResponse', 140],
  ['InverseNeighborDiscoverySolicitation', 141],
  ['InverseNeighborDiscoveryAdvertisement', 142],
  ['HomeAgentAddressDiscoveryRequest', 144],
  ['HomeAgentAddressDiscoveryReply', 145],
  ['MobilePrefixSolicitation', 146],
  ['MobilePrefixAdvertisement', 147],
  ['DuplicateAddressRequestCodeSuffix', 157],
  ['DuplicateAddressConfirmationCodeSuffix', 158],
  ['ExtendedEchoRequest', 160],
  ['ExtendedEchoReply', 161],
]);
