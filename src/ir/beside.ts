/** Finds addresses that this node reaches without a hook, so that no post-DNAT check covers them. */
import type { Snapshot } from '../identity/snapshot.js';
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
