/** Parses destinations and ports as users write them in tables of expected verdicts. */
import { AgentError } from '../errors.js';
import type { Service, Snapshot } from '../identity/snapshot.js';
import { podAddresses } from './places.js';
import { tryCanonicalAddr, tryParseCidr } from '../net/addr.js';
import { hasPorts, parseProtocol, protocolName } from '../net/protocol.js';

export interface Port {
  readonly protocol: number;
  /** ICMP: type × 256 + code. */
  readonly port: number;
  /** As text, such as `:443/tcp`. */
  readonly text: string;
}

const ICMP: readonly number[] = [1, 58];

function fail(field: 'to' | 'port', message: string, hint?: string): AgentError {
  return new AgentError('USAGE', message, { where: { field }, hint });
}

/** What a user may have meant by a number behind an address and a slash. */
export function afterSlash(address: string, number: string): string {
  if (tryParseCidr(`${address}/${number}`)) return 'a CIDR is many destinations: give one address';
  const host = address.includes(':') ? `[${address}]` : address;
  const named = protocolName(Number(number));
  const protocol = named === number ? '' : `, that protocol ${host}/${named.toLowerCase()}`;
  return `/${number} is no length of a prefix; that port is written ${host}:${number}${protocol}`;
}

/** The addresses of `1.2.3.4`, `namespace/pod` or `svc/namespace/name`. @throws AgentError USAGE */
export function destinationsOf(to: string, snapshot: Snapshot): readonly string[] {
  const address = tryCanonicalAddr(to.replace(/^\[|\]$/g, ''));
  if (address !== undefined) return [address];
  if (to.startsWith('svc/')) {
    const { vips } = serviceOf(to, snapshot);
    if (vips.length === 0)
      throw fail('to', `Service ${to.slice(4)} has no address of its own`, 'name one of the pods behind it');
    return vips;
  }
  const [, before = '', number] = /^(.+)\/(\d+)$/.exec(to) ?? [];
  if (number !== undefined && tryCanonicalAddr(before) !== undefined)
    throw fail('to', `${to} is no destination`, afterSlash(before, number));
  if (!/^[^/\s]+\/[^/\s]+$/.test(to) || tryParseCidr(to))
    throw fail(
      'to',
      `${to} is no destination`,
      'write an address, namespace/pod, svc/namespace/name, or a name that the pod learned; a CIDR is many: give one address',
    );
  try {
    return podAddresses(snapshot, to, 'a Service is written svc/namespace/name');
  } catch (e) {
    throw e instanceof AgentError ? fail('to', e.message, e.hint) : e;
  }
}

function serviceOf(to: string, snapshot: Snapshot): Service {
  const service = snapshot.services.get(to.slice('svc/'.length));
  if (!service) throw fail('to', `there is no Service ${to.slice('svc/'.length)}`);
  return service;
}

/**
 * Parses `443`, `443/tcp`, `icmp 8/0`, `8/icmp`, `gre`, or the name of a Service's port. Default: a Service's only
 * port, otherwise none.
 * @throws AgentError USAGE
 */
export function parsePort(given: number | string | undefined, to: string, snapshot: Snapshot): Port {
  if (to.startsWith('svc/')) {
    const { ports } = serviceOf(to, snapshot);
    const named = ports.find((p) => p.name !== undefined && p.name === given);
    const only = given === undefined && ports.length === 1 ? ports[0] : undefined;
    const found = named ?? only;
    if (found) return portOf(found.protocol, found.port);
    if (given === undefined)
      throw fail('to', `Service ${to.slice(4)} has ${ports.length} ports`, 'name one of them: port');
  }
  if (given === undefined) return { protocol: 6, port: 0, text: '' };
  const text = String(given).trim();
  const [, icmp, type, code] = /^(icmp|icmpv6|58|1)[ /](\d+)(?:\/(\d+))?$/i.exec(text) ?? [];
  if (icmp !== undefined) return icmpOf(parseProtocol(icmp) as number, Number(type), Number(code ?? 0));
  const [, number, name] = /^(\d+)(?:\/(\w+))?$/.exec(text) ?? [];
  const protocol = number === undefined ? parseProtocol(text) : name === undefined ? 6 : parseProtocol(name);
  if (protocol === undefined)
    throw fail('port', `${text} is no port`, 'write 443, 443/tcp, 53/udp, icmp 8/0, or the name of a protocol');
  if (number === undefined) return { protocol, port: 0, text: `/${protocolName(protocol).toLowerCase()}` };
  if (ICMP.includes(protocol)) return icmpOf(protocol, Number(number), 0);
  if (Number(number) > 65535) throw fail('port', `${number} is no port`, 'the largest is 65535');
  if (!hasPorts(protocol)) throw fail('port', `${protocolName(protocol)} has no ports`);
  return portOf(protocol, Number(number));
}

function portOf(protocol: number, port: number): Port {
  return { protocol, port, text: `:${port}/${protocolName(protocol).toLowerCase()}` };
}

function icmpOf(protocol: number, type: number, code: number): Port {
  if (type > 255 || code > 255) throw fail('port', `${type}/${code} is no ICMP type and code`, 'both are at most 255');
  return { protocol, port: type * 256 + code, text: `/${protocolName(protocol).toLowerCase()} ${type}/${code}` };
}
