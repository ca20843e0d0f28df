/**
 * What a frame of a pod under a policy is to everybody who may get it: the reference of the packet fuzzer, written from the RFCs and from
 * the question to whom each receiver on the path would deliver it. Nothing here was taken from bpf/.
 *
 * Receivers, in the order of the path, and where their rules come from:
 * 1. the bridge hands a frame to the port of its destination MAC, one it does not know or a group to all of them (IEEE 802.1D, 7.7);
 * 2. every station on the link believes ARP (RFC 826, 5227) and neighbour discovery (RFC 4861, 4862, 6980, 7527): strict-link.ts;
 * 3. the node's stack reads Ethernet, up to two tags (802.1Q, 802.1ad), IPv4 (RFC 791, 1122) and IPv6 (RFC 8200, 7112, 6946);
 * 4. a router goes where a source route says (RFC 791, 3.1; RFC 5095, 7126), a translator takes ::ffff:0:0/96 for IPv4 (RFC 4038, 6052);
 * 5. the node's tunnels unwrap what is sent to any address that the stack takes for the node's: those of nodes, and groups, broadcast,
 *    link-local and loopback addresses (RFC 2003, 2784, 7348, 8926, 7510; UDP and raw sockets are bound to no address);
 * 6. the destination reads the transport header (RFC 9293, 768, 9260, 792, 4443) and puts fragments together (RFC 1858, 3128, 5722).
 *
 * `bad`: whatever the rules say, it must be dropped. `link`: passes whatever they say. A `doubt` says why a filter may drop what is
 * otherwise to pass: no honest host sends it. Out of reach here: BPF_PROG_TEST_RUN makes buffers without a checksum to fill in
 * (CHECKSUM_PARTIAL), without a tag beside the frame, all of them linear; these need packets of a real socket.
 */
import { formatBytes16, parseAddr } from '../../src/net/addr.js';
import { arpReading, linkReading } from './strict-link.js';
import { type Ends, isLinkLocal, linkLocalOf, macOf, type Reading, type Site } from './strict-reading.js';

const bad = (why: string): Reading => ({ kind: 'bad', why });

/** IP in IP, 6in4, GRE, IPIP with its own number, EtherIP, encapsulation header, L2TP, MPLS. */
const WRAPPERS: ReadonlySet<number> = new Set([4, 41, 47, 94, 97, 98, 115, 137]);

/** Without a site: what leaves a node, whose own link traffic is nobody else's. */
export function readFrame(b: Buffer, site?: Site): Reading {
  if (b.length < 14) return bad('shorter than Ethernet');
  let type = b.readUInt16BE(12);
  let at = 14;
  for (let tags = 0; tags < 2 && (type === 0x8100 || type === 0x88a8); tags++) {
    if (b.length < at + 4) return bad('cut VLAN tag');
    type = b.readUInt16BE(at + 2);
    at += 4;
  }
  if (site && macOf(b, 6) !== site.mac) return bad('another MAC as its own');
  const hop = macOf(b, 0);
  if (type === 0x0806) return site ? arpReading(b.subarray(at), hop, site) : { kind: 'link' };
  if (type === 0x0800) return ipv4(b.subarray(at), hop, site);
  if (type === 0x86dd) return ipv6(b.subarray(at), hop, site);
  return bad('EtherType');
}

function doubtful(reading: Reading, doubt: string | undefined): Reading {
  return reading.kind === 'bad' || doubt === undefined ? reading : { ...reading, doubt };
}

function ipv4(ip: Buffer, hop: string, site: Site | undefined): Reading {
  if (ip.length < 20 || (ip[0] as number) >> 4 !== 4) return bad('IPv4 header');
  const header = ((ip[0] as number) & 15) * 4;
  const total = ip.readUInt16BE(2);
  if (header < 20 || total < header || total > ip.length) return bad('IPv4 lengths');
  const options = options4(ip.subarray(20, header));
  if (options.routed) return bad('IPv4 source route');
  const flags = ip.readUInt16BE(6);
  const offset = flags & 0x1fff;
  const fragment = offset > 0 ? 'later' : flags & 0x2000 ? 'first' : 'none';
  const [src, to] = [[...ip.subarray(12, 16)].join('.'), [...ip.subarray(16, 20)].join('.')];
  const ends: Ends = { src, to, protocol: ip[9] as number, fragment, offset: offset * 8 };
  const reading = transport(ends, ip.subarray(header, total), ip[8] as number, site);
  return handed(doubtful(reading, options.doubt), ends, hop, site);
}

/** What routers and hosts read of IPv4 options, one after the other (RFC 791, 3.1; RFC 1122, 3.2.1.8). */
function options4(options: Buffer): { routed: boolean; doubt?: string } {
  for (let at = 0; at < options.length; ) {
    const kind = options[at] as number;
    if (kind === 131 || kind === 137) return { routed: true };
    if (kind === 0) {
      const after = options.subarray(at + 1).some((byte) => byte === 131 || byte === 137);
      return { routed: false, ...(after ? { doubt: 'a source route behind the end of the options' } : {}) };
    }
    const length = kind === 1 ? 1 : (options[at + 1] ?? 0);
    if (kind !== 1 && (length < 2 || at + length > options.length))
      return { routed: false, doubt: 'IPv4 options that every receiver refuses' };
    at += length;
  }
  return { routed: false };
}

function ipv6(ip: Buffer, hop: string, site: Site | undefined): Reading {
  if (ip.length < 40 || (ip[0] as number) >> 4 !== 6) return bad('IPv6 header');
  const total = 40 + ip.readUInt16BE(4);
  if (total > ip.length) return bad('IPv6 length');
  const mapped = (at: number) =>
    ip.subarray(at, at + 10).every((byte) => byte === 0) && ip.readUInt16BE(at + 10) === 0xffff;
  if (mapped(8) || mapped(24)) return bad('an IPv4 address in IPv6');
  const ends = { src: formatBytes16(ip.subarray(8, 24), 6), to: formatBytes16(ip.subarray(24, 40), 6) };
  const chain = walk(ip, total);
  if (typeof chain === 'string') return bad(chain);
  const { protocol, fragment, offset, at, headers } = chain;
  const whole: Ends = { ...ends, protocol, fragment, offset };
  const beyond = at > total;
  const l4 = beyond ? Buffer.alloc(0) : ip.subarray(at, total);
  if (beyond && !KNOWN.has(protocol)) return bad('headers beyond the packet');
  const label = ip.readUInt32BE(0) & 0x0fff_ffff;
  const before = { headers, trailing: ip.length - total, hop, label };
  return handed(transport(whole, l4, ip[7] as number, site, before), whole, hop, site);
}

interface Chain {
  protocol: number;
  fragment: Ends['fragment'];
  offset: number;
  at: number;
  /** Extension headers, one after the other. */
  headers: Buffer;
}

/** Along the extension headers; a text: why it is none. */
function walk(ip: Buffer, total: number): Chain | string {
  let next = ip[6] as number;
  let at = 40;
  let fragment: 'none' | 'first' = 'none';
  let fragmented = false;
  const done = (more: Partial<Chain> = {}): Chain => ({
    ...{ protocol: next, fragment, offset: 0, at, headers: ip.subarray(40, Math.min(at, total)) },
    ...more,
  });
  for (let headers = 0; [0, 43, 44, 51, 60].includes(next); headers++) {
    if (headers === 8) return 'more than 8 extension headers';
    if (at + 8 > total) return 'cut extension header';
    const [after, length] = [ip[at] as number, ip[at + 1] as number];
    if (next === 44) {
      const word = ip.readUInt16BE(at + 2);
      if (fragmented) return 'two fragment headers';
      at += 8;
      if ((word & 0xfff9) !== 0) {
        fragmented = true;
        if ((word & 0xfff8) !== 0) return done({ protocol: after, fragment: 'later', offset: word & 0xfff8 });
        fragment = 'first';
      }
    } else {
      if (next === 43 && (ip[at + 3] as number) !== 0) return 'source routing';
      at += next === 51 ? (length + 2) * 4 : (length + 1) * 8;
    }
    next = after;
  }
  return done();
}

/** Whose headers have a least length. */
const KNOWN: ReadonlySet<number> = new Set([6, 17, 33, 58, 132, 136]);

/** What is around an IPv6 packet's L4 header. */
interface Around {
  readonly headers: Buffer;
  readonly trailing: number;
  /** MAC that the frame goes to. */
  readonly hop: string;
  /** Traffic class and flow label. */
  readonly label: number;
}

function transport(e: Ends, l4: Buffer, hops: number, site: Site | undefined, v6?: Around): Reading {
  const packet = (port: number): Reading =>
    site && unwrapped(e, port, site) ? bad('a packet in a packet, to who unwraps it') : { kind: 'packet', ...e, port };
  if (e.fragment === 'later') return packet(0);
  const port = () => l4.readUInt16BE(2);
  switch (e.protocol) {
    case 6: {
      if (l4.length < 20) return bad('TCP header');
      const header = ((l4[12] as number) >> 4) * 4;
      return header < 20 || header > l4.length ? bad('TCP data offset') : packet(port());
    }
    case 17:
    case 136:
      return l4.length < 8 ? bad('UDP header') : packet(port());
    case 33:
    case 132:
      return l4.length < 12 ? bad('SCTP header') : packet(port());
    case v6 ? 58 : 1: {
      if (l4.length < 8) return bad('ICMP header');
      if (!v6) return packet(l4.readUInt16BE(0));
      const link = linkReading({ ...e, icmp: l4, hops, ...v6 }, site);
      return typeof link === 'string'
        ? doubtful(packet(l4.readUInt16BE(0)), link)
        : (link ?? packet(l4.readUInt16BE(0)));
    }
    default:
      return packet(0);
  }
}

/** Whether the node's stack, or another's, hands it to a tunnel. Later fragments of UDP have come to nothing without their first. */
function unwrapped({ to, protocol, fragment }: Ends, port: number, site: Site): boolean {
  const tunnel = WRAPPERS.has(protocol) || (protocol === 17 && fragment !== 'later' && site.tunnels.has(port));
  return tunnel && (site.nodes.has(to) || takenByNode(to, site));
}

/** Addresses that are the node's as much as anybody's. */
function takenByNode(to: string, site: Site): boolean {
  const { family, bytes } = parseAddr(to);
  const first = bytes[family === 4 ? 12 : 0] as number;
  if (family === 6)
    return first === 0xff || (isLinkLocal(to) && ![...site.neighbours.values()].some((mac) => linkLocalOf(mac) === to));
  return (first >= 224 && first < 240) || first === 127 || first === 0 || to === '255.255.255.255';
}

/** Whose station gets the frame: it has to be the packet's, or the node. */
function handed(reading: Reading, { to }: Ends, hop: string, site: Site | undefined): Reading {
  if (reading.kind !== 'packet' || !site) return reading;
  const group = (Number.parseInt(hop.slice(0, 2), 16) & 1) === 1;
  const many = to.startsWith('ff') || /^(22[4-9]|23\d)\./.test(to) || to === '255.255.255.255';
  if (many) return group || !site.gateway ? reading : doubtful(reading, 'a group in a frame for one');
  if (!site.gateway) return group ? doubtful(reading, 'one address in a frame for many, to the node') : reading;
  if (hop === site.gateway) return reading;
  if (site.neighbours.get(to) === hop) return reading;
  if (site.own.has(to) && hop === site.mac) return doubtful(reading, 'to itself, over the bridge');
  if (isLinkLocal(to) && [...site.neighbours.values()].includes(hop) && to === linkLocalOf(hop))
    return doubtful(reading, 'a neighbour by its link-local address, which nobody keeps a list of');
  return bad('the frame goes to somebody else than the packet');
}
