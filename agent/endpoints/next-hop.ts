/**
 * The check of frames' destinations on bridges (EA_EP_CHECK_NEXT_HOP). A pod could send a frame to another pod's MAC
 * with a packet for an allowed address, and so reach a denied pod. Where the bridge is its pods' gateway, their frames
 * may go only to the bridge, or to the pod on this node that has the packet's destination address.
 *
 * THE BRIDGE'S ADDRESS. A bridge without an address of its own has the lowest of its ports', which changes as pods come
 * and go, while pods keep sending to the one that they know. So the check relies only on an address that was set
 * (NET_ADDR_SET), as CNI's bridge plugin does; if somebody sets another, the kernel's next link event updates it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Problem } from '../../src/errors.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { cidrContains, parseAddr, parseCidr } from '../../src/net/addr.js';
import { ownSysfs } from '../kernel/libbpf/sysfs.js';
import type { Address, Link, NetlinkSocket } from '../netlink/netlink.js';

/**
 * `auto`: on bridges that are their pods' gateway, have no port off the node, and keep their address. `on`: on every
 * bridge; its address is made permanent.
 */
export type NextHopMode = 'auto' | 'on' | 'off';

/** The agent's own namespace. */
export interface Surroundings {
  readonly nl: Pick<NetlinkSocket, 'keepAddress'>;
  /** By index. */
  readonly links: ReadonlyMap<number, Link>;
}

/** A bridge, and why its pods' frames cannot be checked. */
interface Bridge {
  readonly link: Link;
  /** Its addresses, `address/prefix`. */
  readonly networks: readonly string[];
  readonly obstacle: { readonly message: string; readonly hint: string } | undefined;
}

/** addr_assign_type of an address that was set (linux/netdevice.h). */
const NET_ADDR_SET = '3';
const LINK_SCOPE = 253;

/** @returns the bindings, with `gateway` (the bridge's MAC) where frames are to be checked */
export function withGateways<B extends EndpointBinding>(
  mode: NextHopMode,
  pods: readonly B[],
  own: Surroundings,
  addresses: readonly Address[],
  problems: Problem[],
): readonly B[] {
  if (mode === 'off') return pods;
  const bridges = new Map<number, Bridge>();
  const reported = new Set<Bridge>();
  return pods.map((pod) => {
    const master = own.links.get(pod.ifindex)?.master;
    const link = master === undefined ? undefined : own.links.get(master);
    if (link?.kind !== 'bridge' || link.mac === '' || pod.ips.length === 0) return pod;
    let bridge = bridges.get(link.ifindex);
    if (!bridge) bridges.set(link.ifindex, (bridge = describeBridge(mode, link, own, addresses)));
    const obstacle = bridge.obstacle ?? (mode === 'auto' ? notGateway(bridge, pod) : undefined);
    if (!obstacle) return { ...pod, gateway: link.mac };
    if (!reported.has(bridge)) {
      reported.add(bridge);
      const message = `${obstacle.message}: to whom its pods' frames go is not checked`;
      problems.push({ severity: 'warning', where: { object: `bridge ${link.name}` }, message, hint: obstacle.hint });
    }
    return pod;
  });
}

function describeBridge(mode: NextHopMode, link: Link, own: Surroundings, addresses: readonly Address[]): Bridge {
  const networks = addresses
    .filter((a) => a.ifindex === link.ifindex && a.scope < LINK_SCOPE)
    .map((a) => `${a.address}/${a.prefix}`);
  const bridge = { link, networks };
  if (mode === 'on') {
    if (keepsAddress(link)) return { ...bridge, obstacle: undefined };
    try {
      own.nl.keepAddress(link);
      return { ...bridge, obstacle: undefined };
    } catch (e) {
      const hint = `ip link set ${link.name} address ${link.mac}`;
      return { ...bridge, obstacle: { message: `its address cannot be kept (${(e as Error).message})`, hint } };
    }
  }
  const ports = [...own.links.values()].filter((l) => l.master === link.ifindex);
  // A veth to another namespace leads to a pod with known addresses, or to none; any other port may lead off the node.
  const external = ports.find((l) => !(l.kind === 'veth' && l.netnsid !== undefined) && l.kind !== 'dummy');
  if (external) {
    const hint = '--check-next-hop on lets frames go to the bridge and to pods of this node only';
    return { ...bridge, obstacle: { message: `leads off the node through ${external.name}`, hint } };
  }
  if (!keepsAddress(link)) {
    const hint = `ip link set ${link.name} address ${link.mac}, as CNI's bridge plugin does, or --check-next-hop on`;
    return { ...bridge, obstacle: { message: 'its MAC address may change as pods come and go', hint } };
  }
  return { ...bridge, obstacle: undefined };
}

function notGateway({ networks }: Bridge, pod: EndpointBinding): Bridge['obstacle'] {
  const blocks = networks.map(parseCidr);
  const inNetwork = pod.ips.some((ip) => blocks.some((block) => cidrContains(block, parseAddr(ip))));
  if (inNetwork) return undefined;
  const hint = '--check-next-hop on lets frames go to the bridge and to pods of this node only';
  return { message: `has no address in the network of Pod ${pod.key}`, hint };
}

/** Whether the bridge's address was set, by sysfs, if that shows the same device. */
function keepsAddress(link: Link): boolean {
  const read = (file: string) => readFileSync(join(ownSysfs(), 'class/net', link.name, file), 'utf8').trim();
  try {
    return (
      read('ifindex') === String(link.ifindex) &&
      read('addr_assign_type') === NET_ADDR_SET &&
      read('address') === link.mac
    );
  } catch {
    // The device no longer exists, or sysfs shows another namespace.
    return false;
  }
}
