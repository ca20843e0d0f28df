/**
 * What a frame is, by the RFCs alone: written without a look at bpf/parse.h, for the fuzzer to compare with. `bad`: a
 * filter must not let it pass where policy applies.
 */
import { formatBytes16 } from '../../src/net/addr.js';

export type Parsed = { kind: 'bad'; why: string } | { kind: 'link' } | ({ kind: 'packet'; port: number } & Ends);

const bad = (why: string): Parsed => ({ kind: 'bad', why });

export function parseFrame(b: Buffer): Parsed {
  if (b.length < 14) return bad('shorter than Ethernet');
  let type = b.readUInt16BE(12);
  let at = 14;
  for (let tags = 0; tags < 2 && (type === 0x8100 || type === 0x88a8); tags++) {
    if (b.length < at + 4) return bad('cut VLAN tag');
    type = b.readUInt16BE(at + 2);
    at += 4;
  }
  if (type === 0x0806) return { kind: 'link' };
  if (type === 0x0800) return parseV4(b.subarray(at));
  if (type === 0x86dd) return parseV6(b.subarray(at));
  return bad('EtherType');
}

function mapped(four: Buffer): string {
  return [...four].join('.');
}

function parseV4(ip: Buffer): Parsed {
  if (ip.length < 20 || (ip[0] as number) >> 4 !== 4) return bad('IPv4 header');
  const header = ((ip[0] as number) & 15) * 4;
  const total = ip.readUInt16BE(2);
  if (header < 20 || total < header || total > ip.length) return bad('IPv4 lengths');
  const flags = ip.readUInt16BE(6);
  const offset = flags & 0x1fff;
  const fragment = offset > 0 ? 'later' : flags & 0x2000 ? 'first' : 'none';
  const ends = { src: mapped(ip.subarray(12, 16)), to: mapped(ip.subarray(16, 20)), protocol: ip[9] as number };
  return transport({ ...ends, fragment, offset: offset * 8 }, ip.subarray(header, total), ip[8] as number, 4);
}

function parseV6(ip: Buffer): Parsed {
  if (ip.length < 40 || (ip[0] as number) >> 4 !== 6) return bad('IPv6 header');
  const total = 40 + ip.readUInt16BE(4);
  if (total > ip.length) return bad('IPv6 length');
  const ends = { src: formatBytes16(ip.subarray(8, 24), 6), to: formatBytes16(ip.subarray(24, 40), 6) };
  let next = ip[6] as number;
  let at = 40;
  let fragment: 'none' | 'first' = 'none';
  let fragmented = false;
  for (let headers = 0; [0, 43, 44, 51, 60].includes(next); headers++) {
    if (headers === 8) return bad('more than 8 extension headers');
    if (at + 8 > total) return bad('cut extension header');
    const [after, length] = [ip[at] as number, ip[at + 1] as number];
    if (next === 44) {
      const word = ip.readUInt16BE(at + 2);
      if (fragmented) return bad('two fragment headers');
      if ((word & 0xfff9) !== 0) {
        fragmented = true;
        if ((word & 0xfff8) !== 0) {
          const offset = word & 0xfff8;
          return { kind: 'packet', ...ends, protocol: after, port: 0, fragment: 'later', offset };
        }
        fragment = 'first';
      }
      at += 8;
    } else {
      if (next === 43 && (ip[at + 3] as number) !== 0) return bad('source routing');
      at += next === 51 ? (length + 2) * 4 : (length + 1) * 8;
    }
    next = after;
  }
  return transport(
    { ...ends, protocol: next, fragment, offset: 0 },
    at > total ? Buffer.alloc(0) : ip.subarray(at, total),
    ip[7] as number,
    6,
    at > total,
  );
}

interface Ends {
  src: string;
  to: string;
  protocol: number;
  fragment: 'none' | 'first' | 'later';
  /** Of a later fragment, in bytes. */
  offset: number;
}

function transport(e: Ends, l4: Buffer, hops: number, family: 4 | 6, beyond = false): Parsed {
  const packet = (port: number): Parsed => ({ kind: 'packet', ...e, port });
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
    case family === 4 ? 1 : 58: {
      if (l4.length < 8) return bad('ICMP header');
      const type = l4[0] as number;
      const multicast = e.to.startsWith('ff');
      if (family === 6 && type >= 133 && type <= 137 && hops === 255) return { kind: 'link' };
      if (family === 6 && [130, 131, 132, 143].includes(type) && hops === 1 && multicast) return { kind: 'link' };
      return packet(l4.readUInt16BE(0));
    }
    default:
      return beyond ? bad('headers beyond the packet') : packet(0);
  }
}
