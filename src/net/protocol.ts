/** IANA protocol numbers with the names that Kubernetes, Calico and users give them. */

const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
const ICMPV6 = 58;
export const SCTP = 132;

const NAMES: Readonly<Record<number, string>> = {
  [ICMP]: 'ICMP',
  2: 'IGMP',
  4: 'IPIP',
  [TCP]: 'TCP',
  [UDP]: 'UDP',
  33: 'DCCP',
  41: 'IPv6',
  47: 'GRE',
  50: 'ESP',
  51: 'AH',
  [ICMPV6]: 'ICMPv6',
  89: 'OSPF',
  103: 'PIM',
  112: 'VRRP',
  [SCTP]: 'SCTP',
  136: 'UDPLite',
};

const NUMBERS: ReadonlyMap<string, number> = new Map(
  Object.entries(NAMES).map(([number, name]) => [name.toLowerCase(), Number(number)]),
);

/** The number of a protocol, given as a name in any case or as a number 0–255; undefined if it is neither. */
export function parseProtocol(text: string | number): number | undefined {
  if (typeof text === 'number') return Number.isInteger(text) && text >= 0 && text <= 255 ? text : undefined;
  if (/^(0|[1-9]\d{0,2})$/.test(text)) return parseProtocol(Number(text));
  return NUMBERS.get(text.toLowerCase());
}

/** The name of a protocol, such as `TCP` or `ICMPv6`; its number as text if it has no common name. */
export function protocolName(protocol: number): string {
  return NAMES[protocol] ?? String(protocol);
}

/**
 * Whether the protocol has 16-bit ports that a policy can name: TCP, UDP, SCTP, which are all that Kubernetes supports.
 */
export function hasPorts(protocol: number): boolean {
  return protocol === TCP || protocol === UDP || protocol === SCTP;
}
