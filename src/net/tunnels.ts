/**
 * The tunnels that nodes unwrap. Nobody judges the inner packet of a tunnel after the node has unwrapped it. Without
 * special treatment, a pod could therefore send any packet inside of one that its policies allow, so encapsulated
 * packets to a node are denied whatever the policies say.
 */
import { cidrContains, parseAddr, parseCidr } from './addr.js';
import { hasPorts, UDP } from './protocol.js';

/** A tunnel protocol, or a port of a protocol. */
export interface Tunnel {
  /** IANA protocol number. */
  readonly protocol: number;
  /** 0: the protocol itself, with any content. */
  readonly port: number;
  /** A known tunnel that policies may nevertheless allow. */
  readonly allowed?: true;
}

/** Tunnels by tunnelKey(), in order of protocol and port. */
export type TunnelTable = ReadonlyMap<string, Tunnel>;

/** IPIP (4, 94), IPv6 in IPv4, GRE, EtherIP, ENCAP, L2TPv3 and MPLS in IP, which have no port. */
const PROTOCOLS = [4, 41, 47, 94, 97, 98, 115, 137];
/**
 * L2TP, GTP-U, VXLAN (IANA's and Linux's ports), FOU, Geneve, MPLS in UDP, and the overlays of Weave and Flannel in
 * user space.
 */
const UDP_PORTS = [1701, 2152, 4789, 8472, 5555, 6081, 6635, 6783, 6784, 8285];

/** The tunnels that a node may unwrap if nothing else is known about it. */
export const USUAL_TUNNELS: readonly Tunnel[] = [
  ...PROTOCOLS.map((protocol) => ({ protocol, port: 0 })),
  ...UDP_PORTS.map((port) => ({ protocol: UDP, port })),
];

/** For comparisons of policies: no packets are denied as encapsulated, since that would hide differences. */
export const NO_TUNNELS: readonly Tunnel[] = [];

/** The key of a tunnel in a table. */
export function tunnelKey({ protocol, port }: Tunnel): string {
  return `${protocol}|${port}`;
}

/** The tunnels without duplicates, sorted. */
export function sortedTunnels(tunnels: Iterable<Tunnel>): Tunnel[] {
  const each = new Map([...tunnels].map((tunnel) => [tunnelKey(tunnel), tunnel]));
  return [...each.values()].sort((a, b) => a.protocol - b.protocol || a.port - b.port);
}

const tables = new WeakMap<readonly Tunnel[], TunnelTable>();

/** The table of a list; the same object for the same list. */
export function tunnelTable(tunnels: readonly Tunnel[] = USUAL_TUNNELS): TunnelTable {
  let table = tables.get(tunnels);
  if (!table) tables.set(tunnels, (table = new Map(sortedTunnels(tunnels).map((t) => [tunnelKey(t), t]))));
  return table;
}

/**
 * Whether a packet is encapsulated. @param fragment the packet is a later fragment, so tunnels with a port do not match
 * it
 */
export function isTunnelled(table: TunnelTable, protocol: number, port: number, fragment = false): boolean {
  const denies = (at: number) => {
    const tunnel = table.get(tunnelKey({ protocol, port: at }));
    return tunnel !== undefined && !tunnel.allowed;
  };
  return denies(0) || (hasPorts(protocol) && !fragment && denies(port));
}

/**
 * Addresses that the other end of the link accepts as its own: unspecified and loopback, link-local, multicast,
 * broadcast, and reserved addresses next to it. On a pod's link, the other end is the node.
 */
const LINK_BLOCKS = ['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/3', '::/127', 'fe80::/10', 'ff00::/8'].map((block) =>
  parseCidr(block),
);

/** Whether the address is one of these. @param ip canonical text */
export function isOnLink(ip: string): boolean {
  const address = parseAddr(ip);
  return LINK_BLOCKS.some((block) => cidrContains(block, address));
}
