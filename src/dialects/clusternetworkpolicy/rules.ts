/** Translates peers, protocols and ports of rules of ClusterNetworkPolicy and its older shapes to IR. */
import { cidrCovers, tryParseCidr } from '../../net/addr.js';
import { parseProtocol, SCTP, TCP, UDP } from '../../net/protocol.js';
import type { LabelExpr, Peer, WorkloadMatch } from '../../ir/peers.js';
import type { PortMatch } from '../../ir/types.js';
import type { Fault } from '../base/dialect.js';
import { domainName, namesPeers } from '../base/names.js';
import { type LabelSelector, labelSelector } from '../base/selectors.js';

export type Report = (fault: Fault) => void;

const TRUE: LabelExpr = { op: 'true' };
const NONE: readonly string[] = [];

/** Namespaces, or pods of namespaces, in subjects and peers. */
export interface Workloads {
  readonly namespaces?: LabelSelector;
  readonly pods?: { readonly namespaceSelector?: LabelSelector; readonly podSelector: LabelSelector };
}

export interface PeerSpec extends Workloads {
  readonly nodes?: LabelSelector;
  readonly networks?: readonly string[];
  readonly domainNames?: readonly string[];
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}

interface RangeSpec {
  readonly start: number;
  readonly end: number;
}

interface Destination {
  readonly destinationPort?: { readonly number?: number; readonly range?: RangeSpec };
}

export interface ProtocolSpec {
  readonly tcp?: Destination;
  readonly udp?: Destination;
  readonly sctp?: Destination;
  readonly destinationNamedPort?: string;
}

export interface PortSpec {
  readonly portNumber?: { readonly protocol?: string; readonly port: number };
  readonly portRange?: RangeSpec & { readonly protocol?: string };
  readonly namedPort?: string;
}

export interface PlainPortSpec {
  readonly protocol?: string;
  readonly port?: number | string;
  readonly endPort?: number;
}

function error(report: Report, field: string, message: string, hint: string): undefined {
  report({ severity: 'error', field, message, hint });
}

/** The one field that is set. undefined, with a fault, if none or several are set. */
function theOne<T extends object>(spec: T, path: string, of: string, report: Report): keyof T | undefined {
  const keys = Object.keys(spec);
  if (keys.length === 1) return keys[0] as keyof T;
  if (keys.length === 0) return error(report, path, 'is empty', `give it one of ${of}`);
  return error(report, path, `has ${keys.join(' and ')}`, 'only one of them may be set: make an item of each');
}

/** undefined: invalid. */
export function readWorkloads(spec: Workloads, path: string, report: Report): WorkloadMatch | undefined {
  switch (theOne(spec, path, 'namespaces, pods', report)) {
    case 'namespaces':
      return { namespaces: { labels: labels(spec.namespaces, `${path}.namespaces`, report) }, pods: TRUE };
    case 'pods':
      return {
        namespaces: { labels: labels(spec.pods?.namespaceSelector, `${path}.pods.namespaceSelector`, report) },
        pods: labels(spec.pods?.podSelector, `${path}.pods.podSelector`, report),
      };
    default:
      return undefined;
  }
}

/** A missing selector selects everything, like an empty one. */
function labels(selector: LabelSelector | undefined, path: string, report: Report): LabelExpr {
  return selector === undefined ? TRUE : labelSelector(selector, path, report);
}

/** @param unnamed undefined if the rule may name domains; otherwise where they may stand, for the error */
export function readPeer(peer: PeerSpec, path: string, unnamed: string | undefined, report: Report): readonly Peer[] {
  const one = theOne(peer, path, 'namespaces, pods, nodes, networks, domainNames', report);
  switch (one) {
    case 'namespaces':
    case 'pods': {
      const match = readWorkloads(peer, path, report);
      return match ? [{ kind: 'pods', ...match }] : [];
    }
    case 'nodes':
      return [{ kind: 'nodes', labels: labels(peer.nodes, `${path}.nodes`, report) }];
    case 'networks':
      return readNetworks(peer.networks ?? NONE, `${path}.networks`, report);
    case 'domainNames':
      return readNames(peer.domainNames ?? NONE, `${path}.domainNames`, unnamed, report);
    case 'ipBlock':
      return peer.ipBlock ? readBlock(peer.ipBlock, `${path}.ipBlock`, report) : [];
    default:
      return [];
  }
}

function readNetworks(networks: readonly string[], path: string, report: Report): Peer[] {
  if (networks.length === 0) error(report, path, 'is empty', 'list at least one CIDR');
  return networks.flatMap((text, i): Peer[] => {
    const cidr = readCidr(text, `${path}[${i}]`, report);
    return cidr ? [{ kind: 'cidr', cidr: cidr.text, except: NONE }] : [];
  });
}

function readBlock(block: NonNullable<PeerSpec['ipBlock']>, path: string, report: Report): Peer[] {
  const cidr = readCidr(block.cidr, `${path}.cidr`, report);
  const except = (block.except ?? NONE).flatMap((text, i) => {
    const field = `${path}.except[${i}]`;
    const inner = readCidr(text, field, report);
    if (!cidr || !inner) return [];
    if (!cidrCovers(cidr, inner) || cidr.prefix === inner.prefix)
      error(
        report,
        field,
        `${inner.text} is not a part of ${cidr.text}`,
        'an exception must lie inside the block and be smaller than it',
      );
    return [inner.text];
  });
  return cidr ? [{ kind: 'cidr', cidr: cidr.text, except }] : [];
}

function readCidr(text: string, field: string, report: Report) {
  const cidr = text.includes('/') ? tryParseCidr(text) : undefined;
  // The API server's isCIDR() refuses IPv4 addresses in IPv6 notation.
  if (!cidr || (cidr.family === 4 && text.includes(':'))) {
    const hint = tryParseCidr(text)
      ? 'add the prefix length: /32, or /128 for IPv6; write IPv4 addresses as IPv4'
      : 'write it as address/prefix length, without leading zeros';
    return error(report, field, `${JSON.stringify(text)} is not a CIDR`, hint);
  }
  const [address] = cidr.text.split('/');
  if (cidr.family === 4 && !text.startsWith(`${address}/`)) {
    // v1alpha2 accepts it, v1beta1 does not (apis/v1beta1/clusternetworkpolicy_types.go: masked()).
    const message = `${text} has bits set beyond its prefix; it is read as ${cidr.text}`;
    report({ severity: 'warning', field, message, hint: `write ${cidr.text}` });
  }
  return cidr;
}

/** The API server's limit for the names of a peer, in every shape. */
const MAX_NAMES = 25;

/**
 * The addresses that were learned for domain names. Pods' addresses are meant too. Those of a Service are not, since
 * its backends are judged.
 */
function readNames(names: readonly string[], path: string, unnamed: string | undefined, report: Report): Peer[] {
  const patterns = names.flatMap((name, i) => domainName(name, `${path}[${i}]`, report) ?? []);
  if (names.length === 0) error(report, path, 'is empty', 'list at least one name');
  else if (unnamed !== undefined)
    error(report, path, `may stand in ${unnamed} only`, 'deny networks, in a rule after those that accept names');
  if (names.length > MAX_NAMES) {
    const message = `has ${names.length} items: clusters take ${MAX_NAMES} at most`;
    report({ severity: 'warning', field: path, message, hint: 'split it into two peers' });
  }
  return namesPeers(patterns);
}

const PROTOCOLS = { tcp: TCP, udp: UDP, sctp: SCTP } as const;

/** @param places whether the rule has peers without named ports */
export function readProtocol(spec: ProtocolSpec, path: string, places: boolean, report: Report): PortMatch {
  const one = theOne(spec, path, 'tcp, udp, sctp, destinationNamedPort', report);
  if (one === undefined) return { protocol: null, ports: [] };
  // The protocol is that of the container port with this name.
  if (one === 'destinationNamedPort')
    return readNamed(spec.destinationNamedPort ?? '', null, `${path}.${one}`, places, report);
  const field = `${path}.${one}.destinationPort`;
  const port = spec[one]?.destinationPort;
  const protocol = PROTOCOLS[one];
  if (port === undefined) {
    error(report, field, 'is missing', 'add it; a range of 1 to 65535 is every port');
    return { protocol };
  }
  if (theOne(port, field, 'number, range', report) === undefined) return { protocol };
  const { number, range } = port;
  return range
    ? { protocol, ports: [readRange(range, `${field}.range`, report)] }
    : { protocol, ports: [readNumber(number as number, `${field}.number`, report)] };
}

/** @param namedProtocol protocol of named ports; null: that of the container port */
export function readPort(
  spec: PortSpec,
  path: string,
  namedProtocol: number | null,
  places: boolean,
  report: Report,
): PortMatch {
  const one = theOne(spec, path, 'portNumber, portRange, namedPort', report);
  const { portNumber, portRange, namedPort } = spec;
  if (one === 'namedPort') return readNamed(namedPort ?? '', namedProtocol, `${path}.namedPort`, places, report);
  const protocol = parseProtocol((portNumber ?? portRange)?.protocol ?? 'TCP') ?? TCP;
  if (one === 'portNumber' && portNumber)
    return { protocol, ports: [readNumber(portNumber.port, `${path}.portNumber.port`, report)] };
  if (one === 'portRange' && portRange) return { protocol, ports: [readRange(portRange, `${path}.portRange`, report)] };
  return { protocol, ports: [] };
}

/** Parses a port in the form of a NetworkPolicy. */
export function readPlainPort(spec: PlainPortSpec, path: string, places: boolean, report: Report): PortMatch {
  const protocol = parseProtocol(spec.protocol ?? 'TCP') ?? TCP;
  const { port, endPort } = spec;
  if (typeof port !== 'number' && endPort !== undefined)
    error(report, `${path}.endPort`, 'needs a port number to start from', 'give port a number');
  if (port === undefined) return { protocol };
  if (typeof port === 'string') return readNamed(port, protocol, `${path}.port`, places, report);
  const [first] = readNumber(port, `${path}.port`, report);
  if (endPort !== undefined && (endPort < port || endPort > 65535)) {
    const message = `${endPort} must be from ${port} to 65535`;
    error(report, `${path}.endPort`, message, 'the range is port to endPort, both included');
  }
  return { protocol, ports: [[first, endPort ?? first]] };
}

function readNumber(port: number, field: string, report: Report): readonly [number, number] {
  if (port < 1 || port > 65535) error(report, field, `${port} is not a port`, 'use 1 to 65535');
  return [port, port];
}

function readRange({ start, end }: RangeSpec, path: string, report: Report): readonly [number, number] {
  readNumber(start, `${path}.start`, report);
  readNumber(end, `${path}.end`, report);
  // The API server requires this: a range of one port is written as a number.
  if (end <= start) error(report, `${path}.end`, `${end} must be greater than ${start}`, 'a range includes both ends');
  return [start, end];
}

/** The names that a container port may have (IANA_SVC_NAME). */
const PORT_NAME = /^(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/;

function readNamed(named: string, protocol: number | null, field: string, places: boolean, report: Report): PortMatch {
  if (named === '') error(report, field, 'is empty', 'write the name of a container port');
  else if (!PORT_NAME.test(named)) {
    const message = `no container can have a port of the name ${JSON.stringify(named)}: it matches nothing`;
    report({ severity: 'warning', field, message, hint: 'correct the name' });
  }
  if (places) {
    const message = 'cannot be combined with networks, nodes or domainNames: their ports have no names';
    error(report, field, message, 'split it into two rules, or use a port number');
  }
  return { protocol, named };
}
