/** The node's own devices and addresses: its uplinks, its networks, its DNS cache. */
import type { Problem } from '../../src/errors.js';
import { cidrContains, parseCidr } from '../../src/net/addr.js';
import { type Address, IFF_LOOPBACK, IFF_UP, type Link, type Route } from '../netlink/netlink.js';

/** IFLA_INFO_KIND of tunnel devices. */
const TUNNELS = new Set([
  'vxlan',
  'geneve',
  'ipip',
  'sit',
  'gre',
  'gretap',
  'erspan',
  'ip6tnl',
  'ip6gre',
  'ip6gretap',
  'vti',
  'vti6',
  'xfrm',
  'wireguard',
  'tun',
]);

/**
 * The devices through which traffic leaves the node: those of default routes, and tunnels that
 * are up (the kernel makes a `tunl0` or `sit0` in every namespace; unused ones stay
 * down). `names` replaces both; a name without a device is a Problem.
 */
export function findUplinks(
  links: readonly Link[],
  defaultRouteDevices: readonly number[],
  names?: readonly string[],
): { uplinks: Link[]; problems: Problem[] } {
  if (!names) {
    const routed = new Set(defaultRouteDevices);
    const uplinks = links.filter(
      (l) => !(l.flags & IFF_LOOPBACK) && (routed.has(l.ifindex) || (TUNNELS.has(l.kind) && l.flags & IFF_UP)),
    );
    return { uplinks, problems: [] };
  }
  const problems: Problem[] = [];
  const uplinks: Link[] = [];
  for (const name of new Set(names)) {
    const link = links.find((l) => l.name === name);
    if (link) uplinks.push(link);
    else problems.push({ severity: 'error', where: { object: `uplink ${name}` }, message: 'there is no such device' });
  }
  return { uplinks, problems };
}

/**
 * Addresses on which NodeLocal DNSCache listens: those of its dummy device, found by its default name. The address of
 * kube-dns may be among them; with IPVS, kube-proxy has that one on a device of its own, and translates it.
 */
export function dnsCacheAddresses(addresses: readonly Address[], links: readonly Link[]): string[] {
  const device = links.find((l) => l.name === 'nodelocaldns' && l.kind === 'dummy');
  return device
    ? addresses
        .filter((a) => a.ifindex === device.ifindex && a.scope < 253)
        .map((a) => a.address)
        .sort()
    : [];
}

/** Global addresses (scope universe or site) of all devices but loopback; canonical, sorted. */
export function ownAddresses(addresses: readonly Address[], links: readonly Link[]): string[] {
  const loopback = new Set(links.filter((l) => l.flags & IFF_LOOPBACK).map((l) => l.ifindex));
  const own = addresses.filter((a) => a.scope < 253 && !(loopback.has(a.ifindex) && a.address.startsWith('127.')));
  return [...new Set(own.map((a) => a.address))].sort();
}

/**
 * Networks that the node reaches through devices without hooks (for example another container engine's bridge), for
 * Snapshot.ownNode.beside. Networks inside them that it reaches through other devices have a `!`.
 * @param hooked indices of devices with hooks
 */
export function networksBeside(
  routes: readonly Route[],
  links: readonly Link[],
  hooked: ReadonlySet<number>,
): string[] {
  const open = new Set(links.filter((l) => !hooked.has(l.ifindex) && !(l.flags & IFF_LOOPBACK)).map((l) => l.ifindex));
  const beside = new Set<string>();
  const others = new Set<string>();
  for (const { cidr, devices } of routes) {
    // Link-local addresses are no backends.
    if (cidr.endsWith('/0') || cidr.startsWith('fe80:') || cidr.startsWith('ff')) continue;
    (devices.some((d) => open.has(d)) ? beside : others).add(cidr);
  }
  const besideBlocks = [...beside].map((cidr) => parseCidr(cidr));
  const inside = [...others].filter((cidr) => {
    const { bytes, family, prefix } = parseCidr(cidr);
    return besideBlocks.some((a) => a.prefix < prefix && cidrContains(a, { bytes, family }));
  });
  return [...beside, ...inside.map((cidr) => `!${cidr}`)].sort();
}

/** Broadcast addresses of the node's IPv4 networks, also the obsolete all-zeros ones: canonical, sorted. */
export function broadcastAddresses(addresses: readonly Address[]): string[] {
  const out = new Set<string>();
  for (const { family, address, prefix } of addresses) {
    if (family !== 4 || prefix > 30) continue;
    const host = 2 ** (32 - prefix) - 1;
    const number = address.split('.').reduce((n, part) => n * 256 + Number(part), 0);
    const network = number - (number % (host + 1));
    for (const n of [network, network + host]) out.add([24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join('.'));
  }
  return [...out].sort();
}
