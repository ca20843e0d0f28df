/** The node's own devices: where its traffic leaves, and which addresses are its own. */
import type { Problem } from '../src/errors.js';
import { type Address, IFF_LOOPBACK, IFF_UP, type Link } from './netlink.js';

/** IFLA_INFO_KIND of devices that wrap packets for another node. */
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
 * down). `names` overrides both; a name without a device is a Problem.
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

/** Global addresses (scope universe or site) of all devices but loopback; canonical, sorted. */
export function ownAddresses(addresses: readonly Address[], links: readonly Link[]): string[] {
  const loopback = new Set(links.filter((l) => l.flags & IFF_LOOPBACK).map((l) => l.ifindex));
  const own = addresses.filter((a) => a.scope < 253 && !(loopback.has(a.ifindex) && a.address.startsWith('127.')));
  return [...new Set(own.map((a) => a.address))].sort();
}
