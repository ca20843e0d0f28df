/** Addresses, ports and protocols of Suricata's rules, also as a rule group has them in fields of their own. */
import { tryParseCidr } from '../../net/addr.js';
import { cidrRange } from '../../tools/ranges.js';
import { allOf, ALWAYS, type Condition, doubtful, only } from '../base/conditions.js';
import type { Assumed, Place, Remarks } from '../base/model.js';
import {
  type Addresses,
  andAddresses,
  EVERY_ADDRESS,
  EVERY_PORT,
  joined,
  joinedAddresses,
  notAddresses,
  notPorts,
  type Ports,
  type Range,
  TCP_PORTS,
} from '../base/spans.js';
import { HTTP, TLS } from '../base/speech.js';

/** A rule group's variables: the items of each, by name. */
export interface Variables {
  readonly addresses: ReadonlyMap<string, readonly string[]>;
  readonly ports: ReadonlyMap<string, readonly string[]>;
}

export interface Header {
  readonly protocol: string;
  readonly source: string;
  readonly sourcePort: string;
  readonly destination: string;
  readonly destinationPort: string;
}

const MAX_DEPTH = 8;

/** The packets that a header means. */
export function headerCondition(
  { protocol, source, sourcePort, destination, destinationPort }: Header,
  variables: Variables,
  assumed: Assumed,
  where: Place,
  notes: Remarks,
): Condition {
  const ports = protocolPorts(protocol);
  const to = addressCondition(destination, variables, assumed);
  const at = portExpression(destinationPort, variables, 0);
  const from = sourceCondition(source, variables, assumed, where, notes);
  return allOf([
    ports,
    from,
    isAny(sourcePort) ? ALWAYS : doubtful(`asks for the port ${short(sourcePort)} of the client, which no policy does`),
    to,
    at === undefined
      ? doubtful(`port ${short(destinationPort)} cannot be read`)
      : isAny(destinationPort)
        ? ALWAYS
        : only({ ports: { tcp: at, udp: at, other: false } }),
  ]);
}

/** Protocols of the network and transport layers, and those above them that a policy tells apart. */
function protocolPorts(protocol: string): Condition {
  switch (protocol.toLowerCase()) {
    case 'ip':
      return ALWAYS;
    case 'tcp':
    case 'tcp-pkt':
    case 'tcp-stream':
      return only({ ports: { ...EVERY_PORT, udp: [], other: false } });
    case 'udp':
      return only({ ports: { ...EVERY_PORT, tcp: [], other: false } });
    case 'tls':
      return only({ ports: TCP_PORTS, speech: TLS });
    case 'http':
    case 'http1':
      return only({ ports: TCP_PORTS, speech: HTTP });
    case 'icmp':
    case 'icmpv6':
    case 'sctp':
    case 'ipv6':
    case 'ip4':
    case 'ip6': {
      const others: Ports = { tcp: [], udp: [], other: true };
      return allOf([
        only({ ports: others }),
        doubtful(`asks for protocol ${short(protocol)} alone, which is not told apart here`),
      ]);
    }
    default:
      return doubtful(`asks for protocol ${short(protocol)} in the packets, which no policy does`);
  }
}

function sourceCondition(
  source: string,
  variables: Variables,
  assumed: Assumed,
  where: Place,
  notes: Remarks,
): Condition {
  if (isAny(source)) return ALWAYS;
  const given = assumed.get(source);
  if (given !== undefined) return given ? ALWAYS : [];
  if (source === '$HOME_NET' && !variables.addresses.has('HOME_NET')) {
    notes.say(where, '$HOME_NET is the VPC of the firewall: the pods are taken to be in it');
    return ALWAYS;
  }
  return doubtful(`asks who sends it, ${short(source)}, which is said by the selector of a policy`, assumeText(source));
}

function addressCondition(text: string, variables: Variables, assumed: Assumed): Condition {
  if (isAny(text)) return ALWAYS;
  if (text.startsWith('$')) {
    const given = assumed.get(text);
    if (given !== undefined) return given ? ALWAYS : [];
  }
  const addresses = addressExpression(text, variables, 0);
  if (addresses) return only({ addresses });
  return doubtful(
    `destination ${short(text)} is not known from the file`,
    text.startsWith('$') ? assumeText(text) : undefined,
  );
}

function assumeText(name: string): string {
  return `--assume '${short(name)}=yes' or '…=no' says that it always or never holds for these pods`;
}

/** `any`, `10.0.0.0/8`, `!x`, `[a,b,!c]`, `$NAME`. @returns undefined if it cannot be read */
function addressExpression(text: string, variables: Variables, depth: number): Addresses | undefined {
  if (depth > MAX_DEPTH) return undefined;
  if (isAny(text)) return EVERY_ADDRESS;
  if (text.startsWith('!')) {
    const inner = addressExpression(text.slice(1).trim(), variables, depth + 1);
    return inner && notAddresses(inner);
  }
  const items = text.startsWith('[')
    ? listItems(text)
    : text.startsWith('$')
      ? variableItems(text, variables.addresses)
      : undefined;
  if (text.startsWith('[') || text.startsWith('$')) {
    if (!items) return undefined;
    const [wanted, unwanted] = [
      items.filter((one) => !one.startsWith('!')),
      items.filter((one) => one.startsWith('!')),
    ];
    const all = wanted.map((one) => addressExpression(one, variables, depth + 1));
    const but = unwanted.map((one) => addressExpression(one, variables, depth + 1));
    if (all.includes(undefined) || but.includes(undefined)) return undefined;
    let found = wanted.length === 0 ? EVERY_ADDRESS : joinedAddresses(all.flatMap((one) => one ?? []));
    for (const one of but) found = andAddresses(found, one ?? []);
    return found;
  }
  const cidr = tryParseCidr(text);
  return cidr && [cidrRange(cidr.text)];
}

function portExpression(text: string, variables: Variables, depth: number): Range[] | undefined {
  if (depth > MAX_DEPTH) return undefined;
  if (isAny(text)) return [[1, 65535]];
  if (text.startsWith('!')) {
    const inner = portExpression(text.slice(1).trim(), variables, depth + 1);
    return inner && [...notPorts({ tcp: inner, udp: [], other: false }).tcp];
  }
  if (text.startsWith('[') || text.startsWith('$')) {
    const items = text.startsWith('[') ? listItems(text) : variableItems(text, variables.ports);
    if (!items || items.some((one) => one.startsWith('!'))) return undefined;
    const all = items.map((one) => portExpression(one, variables, depth + 1));
    return all.includes(undefined) ? undefined : joined(all.flatMap((one) => one ?? []));
  }
  const found = /^(\d{0,5})(?:([:-])(\d{0,5}))?$/.exec(text);
  if (!found || text === '' || text === ':' || text === '-') return undefined;
  const lo = found[1] === '' ? 1 : Number(found[1]);
  const hi = found[2] === undefined ? lo : found[3] === '' ? 65535 : Number(found[3]);
  if (lo > hi || hi > 65535) return undefined;
  return hi === 0 ? [] : [[Math.max(lo, 1), hi]];
}

/** The items of `[a,b,[c,d]]`, one level deep. */
function listItems(text: string): string[] | undefined {
  if (!text.endsWith(']')) return undefined;
  const items: string[] = [];
  let [depth, start] = [0, 1];
  for (let i = 1; i < text.length; i++) {
    const c = text[i];
    if (c === '[') depth++;
    else if (c === ']' && --depth < -1) return undefined;
    if ((c === ',' && depth === 0) || (c === ']' && depth === -1)) {
      items.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  return items.some((one) => one === '') || depth !== -1 ? undefined : items;
}

/** HOME_NET is the firewall's VPC unless a group sets it, and EXTERNAL_NET is the rest. */
function variableItems(text: string, sets: Variables['addresses']): readonly string[] | undefined {
  const name = text.slice(1);
  const items = sets.get(name);
  if (items || name !== 'EXTERNAL_NET') return items;
  return sets.has('HOME_NET') ? ['!$HOME_NET'] : undefined;
}

function isAny(text: string): boolean {
  return text.toLowerCase() === 'any';
}

function short(text: string): string {
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}
