/** The Service behind an address, and the addresses that this node itself has or reaches without a hook. */
import type { Service, ServicePort, Snapshot } from '../identity/snapshot.js';
import type { Packet } from './packet.js';
import { type Cidr, cidrContains, parseAddr, parseCidr } from '../net/addr.js';

const parsed = new WeakMap<readonly string[], readonly { cidr: Cidr; hooked: boolean }[]>();

/** Parses the networks of ownNode.beside, the narrowest first. */
function networksOf(beside: readonly string[]): readonly { cidr: Cidr; hooked: boolean }[] {
  let list = parsed.get(beside);
  if (!list) {
    const each = beside.map((text) => ({ cidr: parseCidr(text.replace(/^!/, '')), hooked: text.startsWith('!') }));
    parsed.set(beside, (list = each.sort((a, b) => b.cidr.prefix - a.cidr.prefix)));
  }
  return list;
}

/**
 * Whether packets to an address leave by a device without a hook: the address is in a network of the node to which
 * neither a pod's interface nor an uplink leads. The caller must exclude the addresses of local pods, which are judged
 * at their own hooks.
 */
export function isBeside(ownNode: Snapshot['ownNode'], ip: string): boolean {
  const networks = networksOf(ownNode.beside ?? NONE);
  if (networks.length === 0) return false;
  const address = parseAddr(ip);
  const network = networks.find(({ cidr }) => cidrContains(cidr, address));
  return network !== undefined && !network.hooked;
}

const NONE: readonly string[] = [];

/** All addresses of the own node; may contain duplicates. */
export function ownNodeAddresses(snapshot: Snapshot): readonly string[] {
  return [...snapshot.ownNode.ips, ...(snapshot.nodes.get(snapshot.ownNode.name)?.ips ?? [])];
}

/** The port of DNS. */
export const DNS_PORT = 53;

/**
 * Whether the node itself answers there with its own DNS cache. The backends of a Service with that address are then
 * not reached.
 */
export function isOwnDns({ ownNode }: Snapshot, ip: string, port: number): boolean {
  return port === DNS_PORT && (ownNode.dns?.includes(ip) ?? false);
}

export interface FoundService {
  readonly service: Service;
  readonly port: ServicePort;
  /** Backends of the address's own family: kube-proxy never translates from one family to the other. */
  readonly backends: ServicePort['backends'];
}

/**
 * How strong a Service's claim to an address is; lower is stronger. The API server gives a cluster address to one
 * Service only. Any Service may ask for an external address, even for one that belongs to somebody else. A node port on
 * the node's own address is the weakest claim.
 */
export const CLAIM = { cluster: 0, external: 1, node: 2 } as const;

/** The strength of a Service's claim to one of its own addresses. */
export function claimOf(service: Service, vip: string): number {
  return service.external?.includes(vip) ? CLAIM.external : CLAIM.cluster;
}

/**
 * Sort key among claims of the same strength: the older Service first, then by name. A Service without a creation time
 * counts as the youngest.
 */
export function claimOrder(key: string, service: Service): string {
  return `${service.created ?? '~'} ${key}`;
}

/** All Services in the order of claimOrder(). */
export function servicesInOrder({ services }: Snapshot): [key: string, service: Service][] {
  const order = new Map([...services].map(([key, service]) => [key, claimOrder(key, service)]));
  const at = (key: string) => order.get(key) ?? '';
  return [...services].sort(([a], [b]) => (at(a) < at(b) ? -1 : 1));
}

/**
 * The Service behind an address and port, if it has backends: by one of the Service's own addresses, or by this node's
 * address with a node port. If two Services claim the same address and port, the one with the stronger claim. None if
 * the node itself answers there (isOwnDns).
 */
export function findService(snapshot: Snapshot, packet: Packet): FoundService | undefined {
  if (packet.fragment || isOwnDns(snapshot, packet.to, packet.port)) return undefined;
  const family = parseAddr(packet.to).family;
  let best: { readonly claim: number; readonly found: FoundService } | undefined;
  for (const [, service] of servicesInOrder(snapshot)) {
    for (const port of service.ports) {
      if (port.protocol !== packet.protocol) continue;
      const atVip = service.vips.includes(packet.to) && port.port === packet.port;
      const atNode = port.nodePort === packet.port && ownNodeAddresses(snapshot).includes(packet.to);
      if (!atVip && !atNode) continue;
      const claim = atVip ? claimOf(service, packet.to) : CLAIM.node;
      if (best && best.claim <= claim) continue;
      const backends = port.backends.filter((b) => parseAddr(b.ip).family === family);
      if (backends.length > 0) best = { claim, found: { service, port, backends } };
    }
  }
  return best?.found;
}
