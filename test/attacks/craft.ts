/**
 * Packets by hand, field by field, for attacks: whole unless told otherwise, so that nothing but what is wrong on purpose
 * is wrong. Checksums are right: connection tracking looks at them before it translates anything.
 */
import { parseAddr } from '../../src/net/addr.js';
import { checksum } from '../netns/frames.js';

/** What stands behind an IP header. */
export interface Transport {
  protocol: number;
  bytes: Buffer;
  /** Where its checksum stands, which covers the addresses too. */
  checksumAt?: number;
}

export interface IpFields {
  src: string;
  dst: string;
  /** Time to live, hop limit. */
  ttl?: number;
  id?: number;
  /** Of a fragment: in bytes, and whether more follow. */
  offset?: number;
  more?: boolean;
  /** IPv4: header options, a multiple of 4 bytes. */
  options?: Buffer;
  /** IPv6: extension headers, outermost first: number, and the header with a next-header byte to be filled in. */
  extensions?: readonly (readonly [number, Buffer])[];
  /** In place of the length that is true. */
  length?: number;
  /** Traffic class, type of service. */
  tos?: number;
  dontFragment?: boolean;
}

export interface Link {
  src: string;
  dst: string;
}

export const IPV4 = 0x0800;
export const IPV6 = 0x86dd;
export const ARP = 0x0806;

export const be16 = (...values: number[]): Buffer => {
  const b = Buffer.alloc(values.length * 2);
  for (const [i, v] of values.entries()) b.writeUInt16BE(v & 0xffff, i * 2);
  return b;
};
export const be32 = (...values: number[]): Buffer => {
  const b = Buffer.alloc(values.length * 4);
  for (const [i, v] of values.entries()) b.writeUInt32BE(v >>> 0, i * 4);
  return b;
};
export const mac = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex');
export const familyOf = (address: string): 4 | 6 => (address.includes(':') ? 6 : 4);

export function addr(text: string): Buffer {
  const { bytes } = parseAddr(text);
  // Here an IPv4-mapped address is one of IPv6: it is what stands on the wire that counts.
  return Buffer.from(familyOf(text) === 4 ? bytes.subarray(12) : bytes);
}

export function eth(
  link: Link,
  type: number,
  payload: Buffer,
  tags: readonly (readonly [number, number])[] = [],
): Buffer {
  const stack = tags.map(([kind, tci]) => be16(kind, tci));
  return Buffer.concat([mac(link.dst), mac(link.src), ...stack, be16(type), payload]);
}

export function udp(sport: number, dport: number, payload: Buffer, length = 8 + payload.length): Transport {
  return { protocol: 17, bytes: Buffer.concat([be16(sport, dport, length, 0), payload]), checksumAt: 6 };
}

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;

export interface TcpFields {
  flags?: number;
  seq?: number;
  ack?: number;
  options?: Buffer;
}

export function tcp(sport: number, dport: number, payload: Buffer, f: TcpFields = {}): Transport {
  const options = f.options ?? Buffer.alloc(0);
  const head = Buffer.concat([be16(sport, dport), be32(f.seq ?? 1000, f.ack ?? 0)]);
  const rest = Buffer.from([(5 + options.length / 4) << 4, f.flags ?? SYN]);
  return { protocol: 6, bytes: Buffer.concat([head, rest, be16(64240, 0, 0), options, payload]), checksumAt: 16 };
}

/** RFC 9260: an INIT, its CRC left 0: filters do not ask. The marker stands where a parameter would. */
export function sctp(sport: number, dport: number, payload: Buffer): Transport {
  const padded = Buffer.concat([payload, Buffer.alloc((4 - (payload.length % 4)) % 4)]);
  const chunk = Buffer.concat([
    Buffer.from([1, 0]),
    be16(20 + 4 + padded.length),
    be32(7, 65536),
    be16(1, 1),
    be32(1),
    be16(0x8008, 4 + padded.length),
    padded,
  ]);
  const head = Buffer.concat([be16(sport, dport), be32(0, 0)]);
  const whole = Buffer.concat([head, chunk]);
  whole.writeUInt32LE(crc32c(whole), 8);
  return { protocol: 132, bytes: whole };
}

function crc32c(data: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** ICMP or ICMPv6: type, code, the four bytes of "rest of header", and what follows. */
export function icmp(family: 4 | 6, type: number, code: number, rest: Buffer, payload: Buffer): Transport {
  const bytes = Buffer.concat([Buffer.from([type, code]), be16(0), rest, payload]);
  if (family === 6) return { protocol: 58, bytes, checksumAt: 2 };
  bytes.writeUInt16BE(checksum(bytes), 2);
  return { protocol: 1, bytes };
}

export function echo(family: 4 | 6, id: number, payload: Buffer): Transport {
  return icmp(family, family === 4 ? 8 : 128, 0, be16(id, 1), payload);
}

export function raw(protocol: number, bytes: Buffer): Transport {
  return { protocol, bytes };
}

/** The transport's bytes with their checksum, for these addresses. */
export function sealed(src: string, dst: string, l4: Transport): Buffer {
  const bytes = Buffer.from(l4.bytes);
  if (l4.checksumAt === undefined) return bytes;
  const pseudo =
    familyOf(dst) === 4
      ? Buffer.concat([addr(src), addr(dst), be16(l4.protocol, bytes.length)])
      : Buffer.concat([addr(src), addr(dst), be32(bytes.length, l4.protocol)]);
  bytes.writeUInt16BE(checksum(Buffer.concat([pseudo, bytes])) || 0xffff, l4.checksumAt);
  return bytes;
}

/** An IP packet around a transport, which is sealed, or around bytes that are taken as they are. */
export function ip(f: IpFields, l4: Transport | { protocol: number; asIs: Buffer }): Buffer {
  const payload = 'asIs' in l4 ? l4.asIs : sealed(f.src, f.dst, l4);
  return familyOf(f.dst) === 4 ? ip4(f, l4.protocol, payload) : ip6(f, l4.protocol, payload);
}

function ip4(f: IpFields, protocol: number, payload: Buffer): Buffer {
  const options = f.options ?? Buffer.alloc(0);
  const header = Buffer.concat([
    Buffer.from([0x40 | (5 + options.length / 4), f.tos ?? 0]),
    be16(f.length ?? 20 + options.length + payload.length, f.id ?? 1),
    be16((f.more ? 0x2000 : 0) | (f.dontFragment ? 0x4000 : 0) | ((f.offset ?? 0) >> 3)),
    Buffer.from([f.ttl ?? 64, protocol]),
    be16(0),
    addr(f.src),
    addr(f.dst),
    options,
  ]);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

function ip6(f: IpFields, protocol: number, payload: Buffer): Buffer {
  const chain = [...(f.extensions ?? [])];
  if (f.offset !== undefined || f.more) {
    const fragment = Buffer.concat([Buffer.from([0, 0]), be16((f.offset ?? 0) | (f.more ? 1 : 0)), be32(f.id ?? 1)]);
    chain.push([44, fragment]);
  }
  const headers = chain.map(([, bytes], i) => {
    const linked = Buffer.from(bytes);
    linked[0] = chain[i + 1]?.[0] ?? protocol;
    return linked;
  });
  const rest = Buffer.concat([...headers, payload]);
  const head = Buffer.concat([
    be32(0x60000000 | ((f.tos ?? 0) << 20)),
    be16(f.length ?? rest.length),
    Buffer.from([chain[0]?.[0] ?? protocol, f.ttl ?? 64]),
    addr(f.src),
    addr(f.dst),
  ]);
  return Buffer.concat([head, rest]);
}

/** An extension header of `units` × 8 bytes behind its first 8, filled with PadN or what is given. */
export function extension(units = 0, body?: Buffer): Buffer {
  const b = Buffer.alloc((units + 1) * 8);
  b[1] = units;
  if (body) body.copy(b, 2);
  else b.set([1, b.length - 4], 2);
  return b;
}

export interface ArpFields {
  operation?: number;
  senderMac: string;
  senderIp: string;
  targetMac?: string;
  targetIp: string;
}

/** RFC 826, over Ethernet for IPv4; `trailer` follows it in the frame. */
export function arp(f: ArpFields, trailer: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([
    be16(1, IPV4, 0x0604, f.operation ?? 1),
    mac(f.senderMac),
    addr(f.senderIp),
    mac(f.targetMac ?? '00:00:00:00:00:00'),
    addr(f.targetIp),
    trailer,
  ]);
}

/** An option of neighbour discovery (RFC 4861, 4.6): 8 bytes a unit. */
export function ndOption(type: number, body: Buffer): Buffer {
  const units = Math.ceil((2 + body.length) / 8);
  const b = Buffer.alloc(units * 8);
  b[0] = type;
  b[1] = units;
  body.copy(b, 2);
  return b;
}

/** The solicited-node multicast address of an IPv6 address, and the MAC of a multicast address. */
export function solicited(ip6: string): string {
  const b = addr(ip6);
  return `ff02::1:ff${hex2(b[13])}:${hex2(b[14])}${hex2(b[15])}`;
}
export function multicastMac(ip: string): string {
  const b = addr(ip);
  const tail = familyOf(ip) === 6 ? [0x33, 0x33, ...b.subarray(12)] : [1, 0, 0x5e, (b[1] as number) & 127, b[2], b[3]];
  return tail.map((x) => hex2(x)).join(':');
}
const hex2 = (n: number | undefined): string => (n ?? 0).toString(16).padStart(2, '0');

/** Pieces of an IP packet's payload as fragments; `cuts` are where they begin, in bytes. */
export function fragments(f: IpFields, l4: Transport, cuts: readonly number[]): Buffer[] {
  const whole = sealed(f.src, f.dst, l4);
  return cuts.map((from, i) => {
    const to = cuts[i + 1] ?? whole.length;
    const more = i + 1 < cuts.length;
    return ip({ ...f, offset: from, more }, { protocol: l4.protocol, asIs: whole.subarray(from, to) });
  });
}
