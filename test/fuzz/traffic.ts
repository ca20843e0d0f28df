/** Random packets of a world: to everything that its objects name, and to the edges of every block. */
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { Learned, Packet } from '../../src/ir/packet.js';
import { USUAL_TUNNELS } from '../../src/net/tunnels.js';
import { NODE_SENDER, senderOf } from '../../src/ir/sender.js';
import { DNS_PORT, isPod, RESOLVERS } from './lessons.js';
import { nameFor } from './objects/domains.js';
import { EDGES, NODE_IPS, POD_IPS4, POD_IPS6, PORTS, VIPS4, VIPS6 } from './objects/names.js';
import type { Random } from './random.js';
import { type SaidTexts, speaking } from './sayings.js';

const PROTOCOLS = [6, 6, 6, 6, 17, 17, 17, 132, 132, 1, 58, 47, 136, 2];
const ICMP = [0, 8 * 256, 8 * 256 + 1, 13 * 256, 3 * 256 + 1, 3 * 256 + 4, 5 * 256, 128 * 256];
/** What a router tells of others' flows is not judged at an uplink: of the node's own, only what is no error. */
const NODE_ICMP = [0, 8 * 256, 8 * 256 + 1, 13 * 256];
const NODE_ICMPV6 = [128 * 256, 129 * 256];
const ICMPV6 = [128 * 256, 129 * 256, 128 * 256 + 1, 1 * 256 + 4, 3 * 256, 8 * 256];
const FIXED: readonly string[] = [...EDGES, ...NODE_IPS, ...VIPS4, ...VIPS6, ...POD_IPS4, ...POD_IPS6];

/** What is sent there whoever is on the link may take, and what is beside it. */
const ON_LINK = [
  '224.0.0.1',
  '223.255.255.255',
  '127.0.0.1',
  '128.0.0.0',
  'ff02::1',
  'fe80::1',
  'fe7f::1',
  '::1',
  '::2',
];

/** What there is of names: what pods learned, and what policies write. */
export interface NameWorld {
  readonly learned: Learned;
  readonly texts: readonly string[];
  /** What rules ask of connections. */
  readonly said?: SaidTexts;
}

/** Packets of pods that have an interface, one pod's after the other's; none twice. @param names absent: none */
export function randomPackets(
  r: Random,
  snapshot: Snapshot,
  senders: readonly string[],
  count: number,
  names?: NameWorld,
): Packet[] {
  if (senders.length === 0) return [];
  const out = new Map<string, Packet>();
  for (let n = 0; n < count; n++) {
    const sent = randomPacket(r, snapshot, senders[n % senders.length] as string, names);
    const packet = speaking(r, snapshot, sent, names?.said);
    out.set(JSON.stringify(Object.values(packet)), packet);
  }
  return [...out.values()].sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0));
}

function randomPacket(r: Random, snapshot: Snapshot, from: string, names?: NameWorld): Packet {
  if (names && r.chance(18)) return query(r, snapshot, from, names);
  if (names && names.learned.size > 0 && r.chance(30)) return toLearned(r, from, names.learned);
  const services = [...snapshot.services.values()].filter((s) => s.vips.length > 0 && s.ports.length > 0);
  if (services.length > 0 && r.chance(25)) {
    const service = r.pick(services);
    const { protocol, port, nodePort } = r.pick(service.ports);
    if (nodePort !== undefined && r.chance(35)) return { from, to: r.pick(ownIps(snapshot)), protocol, port: nodePort };
    return { from, to: r.pick(service.vips), protocol, port };
  }
  if (r.chance(6)) return wrapped(r, snapshot, from);
  const protocol = r.pick(PROTOCOLS);
  const icmp = protocol === 1 || protocol === 58;
  const to = destination(r, snapshot, from, protocol === 1 ? 4 : protocol === 58 ? 6 : undefined);
  const fragment = !icmp && r.chance(5);
  const port = fragment
    ? 0
    : icmp
      ? r.pick(icmpTypes(protocol, from))
      : protocol === 47 || protocol === 2
        ? 0
        : portFor(r, snapshot, to);
  return { from, to, protocol, port, ...(fragment ? { fragment } : {}) };
}

/** A DNS query; what else goes to that port is asked for elsewhere. */
function query(r: Random, snapshot: Snapshot, from: string, { learned, texts }: NameWorld): Packet {
  const known = [...(learned.get(from)?.keys() ?? [])];
  const to = r.chance(75)
    ? r.pick(RESOLVERS)
    : known.length > 0 && r.chance(50)
      ? r.pick(known)
      : destination(r, snapshot, from, undefined);
  const port = r.chance(85) ? DNS_PORT : portFor(r, snapshot, to);
  const name = r.chance(92) ? { query: nameFor(r, texts) } : {};
  const protocol = r.chance(40) && !isPod(snapshot, to) ? 6 : 17;
  return { from, to, protocol, port, ...name };
}

/** To an address that the pod learned, or another one did. */
function toLearned(r: Random, from: string, learned: Learned): Packet {
  const own = learned.get(from);
  const of = own && r.chance(85) ? own : (r.pick([...learned.values()]) as NonNullable<typeof own>);
  const to = r.pick([...of.keys()]);
  if (r.chance(6)) return { from, to, protocol: r.pick([6, 17]), port: 0, fragment: true };
  return { from, to, protocol: r.pick([6, 6, 6, 17]), port: r.chance(45) ? r.pick([443, 443, 80, 53]) : r.pick(PORTS) };
}

/** What nodes unwrap, and what is beside it, to nodes and to others. */
function wrapped(r: Random, snapshot: Snapshot, from: string): Packet {
  const nodes = [...snapshot.nodes.values()].flatMap((node) => node.ips);
  const to = r.pick(r.chance(60) ? [...NODE_IPS, ...nodes, ...ownIps(snapshot)] : r.chance(30) ? ON_LINK : FIXED);
  const tunnel = r.pick(USUAL_TUNNELS);
  if (r.chance(10)) return { from, to, protocol: tunnel.protocol, port: 0, fragment: true };
  if (tunnel.port === 0) return { from, to, protocol: tunnel.protocol, port: 0 };
  return { from, to, protocol: r.pick([17, 17, 17, 17, 6, 132]), port: tunnel.port + r.pick([0, 0, 0, -1, 1]) };
}

function icmpTypes(protocol: number, from: string): readonly number[] {
  if (from === NODE_SENDER) return protocol === 1 ? NODE_ICMP : NODE_ICMPV6;
  return protocol === 1 ? ICMP : ICMPV6;
}

function ownIps({ ownNode, nodes }: Snapshot): string[] {
  return [...ownNode.ips, ...(nodes.get(ownNode.name)?.ips ?? [])];
}

function destination(r: Random, snapshot: Snapshot, from: string, family: 4 | 6 | undefined): string {
  const own = senderOf(snapshot, from)?.ips ?? [];
  const pool =
    r.chance(8) && own.length > 0 ? own : r.chance(35) ? podIps(snapshot) : r.chance(12) ? ownIps(snapshot) : FIXED;
  const fits = pool.filter((ip) => family === undefined || ip.includes(':') === (family === 6));
  if (fits.length > 0) return r.pick(fits);
  return r.pick(FIXED.filter((ip) => ip.includes(':') === (family === 6)));
}

function podIps({ pods }: Snapshot): string[] {
  return [...pods.values()].flatMap((p) => p.ips);
}

function portFor(r: Random, { pods }: Snapshot, to: string): number {
  const there = r.chance(45) ? [...pods.values()].filter((p) => p.ips.includes(to)).flatMap((p) => p.ports) : [];
  return there.length > 0 ? r.pick(there).port : r.pick(PORTS);
}
