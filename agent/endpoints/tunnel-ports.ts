/** The tunnels that the node unwraps: the usual ones, and the ports of its own tunnel devices. */
import { UDP } from '../../src/net/protocol.js';
import { sortedTunnels, type Tunnel, tunnelKey, USUAL_TUNNELS } from '../../src/net/tunnels.js';
import type { Link } from '../netlink/netlink.js';
import { parseAttrs } from '../netlink/nlmsg.js';

/** IFLA_INFO_KIND → attributes of IFLA_INFO_DATA that are UDP ports in network order (linux/if_link.h, if_tunnel.h). */
const PORTS: Readonly<Record<string, readonly number[]>> = {
  vxlan: [15],
  geneve: [5],
  bareudp: [1],
  amt: [2, 3],
  // FOU and GUE: source and destination port; the other side sends to either.
  ...Object.fromEntries(['ipip', 'sit', 'ip6tnl'].map((kind) => [kind, [17, 18]])),
  ...Object.fromEntries(['gre', 'gretap', 'ip6gre', 'ip6gretap', 'erspan'].map((kind) => [kind, [16, 17]])),
};
/** A GTP device uses sockets that other programs opened: the ports of GTPv0 and GTPv1. */
const GTP_PORTS = [3386, 2152];

/** UDP ports on which a device unwraps packets. */
function portsOf({ kind, data }: Link): number[] {
  if (kind === 'gtp') return GTP_PORTS;
  const attributes = PORTS[kind];
  if (!attributes || !data) return [];
  const all = parseAttrs(data, 0);
  return attributes
    .map((type) => all.get(type))
    .map((value) => (value && value.length >= 2 ? value.readUInt16BE(0) : 0))
    .filter((port) => port !== 0);
}

export class TunnelPorts {
  readonly #allowed: boolean;
  #text = '';
  #tunnels: readonly Tunnel[] = [];

  /** @param allowed policies judge encapsulated packets; otherwise they are denied */
  constructor(allowed: boolean) {
    this.#allowed = allowed;
  }

  /** The tunnels, given the node's links; the same list while its content is unchanged. */
  of(links: readonly Link[]): readonly Tunnel[] {
    const found = links.flatMap((link) => portsOf(link).map((port) => ({ protocol: UDP, port })));
    const all = sortedTunnels([...USUAL_TUNNELS, ...found]);
    const text = all.map(tunnelKey).join();
    if (text === this.#text) return this.#tunnels;
    this.#text = text;
    this.#tunnels = this.#allowed ? all.map((tunnel) => ({ ...tunnel, allowed: true })) : all;
    return this.#tunnels;
  }
}
