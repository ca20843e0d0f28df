/** Packets for the kernel's engine: whole frames, IPv4 and IPv6, every protocol that rules know. */
import type { Said } from '../../src/ir/packet.js';
import { parseAddr } from '../../src/net/addr.js';
import { checksum } from '../netns/frames.js';
import { datagram, speech } from './speech.js';

export interface FrameOptions {
  /** Source address; canonical text of the destination's family. */
  src: string;
  sport: number;
  /** Ethernet tags in the frame, outermost first. */
  vlan?: readonly number[];
  /** IPv4 options, a multiple of 4 bytes. */
  options?: Buffer;
  /** IPv6 extension headers: [protocol number, whole header]. */
  extensions?: readonly (readonly [number, Buffer])[];
  /** Fragment: offset in bytes, whether more follow, id. */
  fragment?: { offset: number; more: boolean; id: number };
  tcpFlags?: number;
  ttl?: number;
  /** Of a DNS query: its id, its type, and its name in other case. */
  dns?: { readonly id?: number; readonly type?: number; readonly name?: string };
}

export interface Segment {
  to: string;
  protocol: number;
  /** Destination port; ICMP: type × 256 + code. */
  port: number;
  /** A DNS query for the addresses of this name. */
  query?: string;
  /** Over TCP and UDP: the first that its connection says. */
  said?: Said;
}

/** A DNS query for a name (RFC 1035, 4). A dot in place of a label: the root. @param type by default IPv4 addresses */
export function dnsQuery(name: string, id = 1, type = 1): Buffer {
  const labels = name === '' || name === '.' ? [] : name.split('.');
  const wire = labels.map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, 'latin1')]));
  return Buffer.concat([be16(id, 0x0100, 1, 0, 0, 0), ...wire, Buffer.from([0]), be16(type, 1)]);
}

const ETHERNET = Buffer.from('020000000001020000000002', 'hex');

function be16(...values: number[]): Buffer {
  const b = Buffer.alloc(values.length * 2);
  values.forEach((v, i) => {
    b.writeUInt16BE(v, i * 2);
  });
  return b;
}

/** L4 header and a few bytes of payload. Checksums are left: they are verified only of what connections say. */
export function transport(s: Segment, sport: number, tcpFlags = 0x02, dns: FrameOptions['dns'] = {}): Buffer {
  switch (s.protocol) {
    case 6:
      if (s.query !== undefined) {
        const message = dnsQuery(dns.name ?? s.query, dns.id, dns.type);
        const header = Buffer.concat([
          be16(sport, s.port),
          be16(0, 1, 0, 1),
          Buffer.from([0x50, 0x18]),
          be16(1024, 0, 0),
        ]);
        return Buffer.concat([header, be16(message.length), message]);
      }
      if (s.said) {
        const header = [be16(sport, s.port), be16(0, 1, 0, 1), Buffer.from([0x50, 0x18]), be16(1024, 0, 0)];
        return Buffer.concat([...header, speech(s.said)]);
      }
      return Buffer.concat([be16(sport, s.port), Buffer.alloc(8), Buffer.from([0x50, tcpFlags]), be16(1024, 0, 0)]);
    case 17:
    case 136:
      if (s.query !== undefined && s.protocol === 17) {
        const message = dnsQuery(dns.name ?? s.query, dns.id, dns.type);
        return Buffer.concat([be16(sport, s.port, 8 + message.length, 0), message]);
      }
      if (s.said && s.protocol === 17) {
        const says = datagram(s.said);
        return Buffer.concat([be16(sport, s.port, 8 + says.length, 0), says]);
      }
      return Buffer.concat([be16(sport, s.port, 16, 0), Buffer.alloc(8)]);
    case 132:
      // Common header, then the beginning of an INIT chunk.
      return Buffer.concat([be16(sport, s.port), Buffer.alloc(8), Buffer.from([1, 0, 0, 20]), Buffer.alloc(16)]);
    case 33:
      return Buffer.concat([be16(sport, s.port), Buffer.alloc(12)]);
    case 1:
    case 58:
      return Buffer.concat([be16(s.port, 0, sport, 1), Buffer.alloc(48)]);
    default:
      return Buffer.alloc(24, 0xab);
  }
}

export function frame(s: Segment, o: FrameOptions): Buffer {
  const v4 = parseAddr(s.to).family === 4;
  const tags = (o.vlan ?? []).map((id) => be16(0x8100, id));
  let payload = transport(s, o.sport, o.tcpFlags, o.dns);
  if ((s.said || s.query !== undefined) && s.protocol === 6) payload = summed(payload, o.src, s.to);
  if (o.fragment && o.fragment.offset > 0) payload = Buffer.alloc(16, 0xcd);
  const ip = v4 ? ipv4(s, o, payload) : ipv6(s, o, payload);
  return Buffer.concat([ETHERNET, ...tags, be16(v4 ? 0x0800 : 0x86dd), ip]);
}

/** A segment of TCP with its checksum. */
function summed(segment: Buffer, src: string, dst: string): Buffer {
  const pseudo = Buffer.concat([bytes(src), bytes(dst), be16(0, segment.length, 0, 6)]);
  segment.writeUInt16BE(checksum(Buffer.concat([pseudo, segment])), 16);
  return segment;
}

function bytes(ip: string): Buffer {
  const { family, bytes } = parseAddr(ip);
  return Buffer.from(family === 4 ? bytes.subarray(12) : bytes);
}

function ipv4(s: Segment, o: FrameOptions, payload: Buffer): Buffer {
  const options = o.options ?? Buffer.alloc(0);
  const header = Buffer.alloc(20);
  header[0] = 0x40 | (5 + options.length / 4);
  header.writeUInt16BE(20 + options.length + payload.length, 2);
  header.writeUInt16BE(o.fragment?.id ?? 1, 4);
  header.writeUInt16BE((o.fragment?.more ? 0x2000 : 0) | ((o.fragment?.offset ?? 0) >> 3), 6);
  header[8] = o.ttl ?? 64;
  header[9] = s.protocol;
  bytes(o.src).copy(header, 12);
  bytes(s.to).copy(header, 16);
  return Buffer.concat([header, options, payload]);
}

function ipv6(s: Segment, o: FrameOptions, payload: Buffer): Buffer {
  const chain = [...(o.extensions ?? [])];
  if (o.fragment) {
    const { offset, more, id } = o.fragment;
    const header = Buffer.alloc(8);
    header.writeUInt16BE((offset & 0xfff8) | (more ? 1 : 0), 2);
    header.writeUInt32BE(id, 4);
    chain.push([44, header]);
  }
  const next = chain.map(([number]) => number);
  const extensions = chain.map(([, header], i) => {
    const copy = Buffer.from(header);
    copy[0] = next[i + 1] ?? s.protocol;
    return copy;
  });
  const header = Buffer.alloc(8);
  header[0] = 0x60;
  header.writeUInt16BE(Buffer.concat(extensions).length + payload.length, 4);
  header[6] = next[0] ?? s.protocol;
  header[7] = o.ttl ?? 64;
  return Buffer.concat([header, bytes(o.src), bytes(s.to), ...extensions, payload]);
}
