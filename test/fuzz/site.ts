/** Who is where in the packet fuzzer's world: a pod under a policy, its neighbours, the bridge between them, nodes. */
import { NODE } from '../policy/world.js';
import { linkLocalOf, type Site } from './strict-reading.js';

export const POD = 'default/web';
export const POD_MAC = '02:00:00:00:00:01';
export const GATEWAY_MAC = '02:00:00:00:00:02';
export const POD_IPS = ['10.244.0.1', 'fd00::1'];
/** The first is allowed by the policy, the second is not. */
export const NEIGHBOURS = [
  { key: 'default/api', mac: '02:00:00:00:00:0a', ips: ['10.244.0.2', 'fd00::2'] },
  { key: 'default/db', mac: '02:00:00:00:00:0b', ips: ['10.244.0.3', 'fd00::3'] },
] as const;
export const OWN_NODE = ['192.168.0.1', 'fd00:a::1', '10.244.0.254', 'fd00::fe'];
export const OTHER_NODE = ['192.168.0.2', 'fd00:a::2'];
export const NODES = [
  { name: NODE, ips: OWN_NODE },
  { name: 'node-b', ips: OTHER_NODE },
];
/** VXLAN (IANA's and Linux' own), GENEVE, MPLS, GTP, FOU, L2TP: what nodes unwrap even if nobody says so. */
export const TUNNELS = [4789, 8472, 6081, 6635, 2152, 5555, 1701];

/** @param bridged whether its other end is in a bridge, with its neighbours' */
export function siteOf(bridged: boolean): Site {
  return {
    mac: POD_MAC,
    own: new Set(POD_IPS),
    ...(bridged ? { gateway: GATEWAY_MAC } : {}),
    neighbours: new Map(NEIGHBOURS.flatMap(({ mac, ips }) => ips.map((ip) => [ip, mac] as const))),
    nodes: new Set([...OWN_NODE, ...OTHER_NODE]),
    ownNode: new Set(OWN_NODE),
    tunnels: new Set(TUNNELS),
  };
}

export const MACS = [GATEWAY_MAC, ...NEIGHBOURS.map((n) => n.mac), POD_MAC, '02:00:00:00:00:99'];
export const GROUP_MACS = ['ff:ff:ff:ff:ff:ff', '33:33:00:00:00:01', '01:00:5e:00:00:01'];
export const LINK_LOCAL = MACS.map(linkLocalOf);
