/** Frames for the packet fuzzer: real ones (captures.hex, made by capture.py), those that the recording kernel had not, and mutations. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAddr } from '../../src/net/addr.js';
import { frame, type FrameOptions } from '../engines/packets.js';
import { root } from '../netns/shell.js';
import { homed, madeArp, madeNeighbour } from './mutate-link.js';
import type { Random } from './random.js';
import { GROUP_MACS, LINK_LOCAL, MACS, NEIGHBOURS, OTHER_NODE, OWN_NODE, TUNNELS } from './site.js';

const DESTINATIONS4 = [
  ...['10.1.2.3', '10.1.2.3', '10.200.1.1', '172.16.5.5', '192.0.2.1', '10.255.255.255', '224.0.0.1', '239.1.1.1'],
  ...[...OWN_NODE, ...OTHER_NODE, ...NEIGHBOURS.map((n) => n.ips[0])].filter((ip) => !ip.includes(':')),
  ...['255.255.255.255', '127.0.0.1', '0.0.0.0'],
];
const DESTINATIONS6 = [
  ...['2001:db8::5', '2001:db8::5', '2001:db8:8000::5', '2001:db8:c000::5', 'ff02::1', 'ff05::1', 'fe80::1'],
  ...[...OWN_NODE, ...OTHER_NODE, ...NEIGHBOURS.map((n) => n.ips[1])].filter((ip) => ip.includes(':')),
  ...[...LINK_LOCAL, '::ffff:10.1.2.3', '::ffff:0:1', '::1', '::', '64:ff9b::a01:203'],
];
const SOURCES4 = ['10.244.0.1', '10.244.0.1', '10.244.0.2', '0.0.0.0'];
const SOURCES6 = ['fd00::1', 'fd00::1', 'fd00::2', '::', 'fe80::2', '::ffff:10.244.0.1'];
const PORTS = [1, 80, 443, 8191, 8192, 16384, 20000, 32767, 32768, 65535, ...TUNNELS];
const WRAPPERS = [4, 41, 47, 94, 97, 98, 115, 137];
const PROTOCOLS = [0, 1, 2, 6, 17, 33, 43, 44, 50, 51, 58, 59, 60, 132, 135, 136, 255, ...WRAPPERS];
/** IPv4 options: source routes, as they should be and cut; record route, timestamp, stream, alert; the end; lengths of nothing. */
const OPTIONS4 = [
  '830b04c0000201c0000202',
  '890704c0000201',
  '830304',
  '83',
  '0704',
  '44',
  '8802',
  '94040000',
  '00',
  '01',
  '0700',
  '8200',
];
const BYTES = [0, 1, 4, 5, 6, 17, 44, 0x45, 0x46, 0x4f, 0x60, 0x7f, 0x80, 0xff];

/** Recorded frames. */
export function captures(): Buffer[] {
  const lines = readFileSync(join(root, 'test/fuzz/captures.hex'), 'utf8').trim().split('\n');
  return lines.map((line) => Buffer.from(line.split(' ')[1] as string, 'hex'));
}

/** A frame by hand: protocols and combinations of headers that no socket sends. */
export function madeFrame(r: Random): Buffer {
  if (r.chance(8)) return madeArp(r);
  return r.chance(25) ? madeNeighbour(r) : homed(r, madePacket(r));
}

function madePacket(r: Random): Buffer {
  const v6 = r.chance(40);
  const to = r.pick(v6 ? DESTINATIONS6 : DESTINATIONS4);
  const protocol = r.pick([6, 6, 17, 17, 132, 132, 33, 136, v6 ? 58 : 1, r.pick(WRAPPERS), v6 ? 1 : 58, 50]);
  const icmp = protocol === 1 || protocol === 58;
  const types = [8, 0, 3, 11, 5, 128, 129, 1, 133, 135, 143, 130];
  const options: FrameOptions = {
    src: r.pick(v6 ? SOURCES6 : SOURCES4),
    sport: 1024 + r.below(60000),
    ttl: r.pick([64, 64, 255, 1]),
    tcpFlags: r.pick([2, 2, 16, 18, 4, 1, 0]),
    ...(r.chance(12) ? { vlan: r.some([1, 2, 3], 3) } : {}),
    ...(r.chance(15) ? { options: options4(r, 4 * (1 + r.below(10))) } : {}),
    ...(r.chance(25) ? { extensions: Array.from({ length: r.below(10) }, () => extension(r)) } : {}),
    ...(r.chance(15)
      ? { fragment: { offset: r.pick([0, 0, 8, 16, 24, 1480, 65528]), more: r.chance(60), id: r.below(1000) } }
      : {}),
  };
  return frame({ to, protocol, port: icmp ? r.pick(types) * 256 + r.below(3) : r.pick(PORTS) }, options);
}

/** IPv4 options of this length: known ones, one after the other, and no-operations. */
function options4(r: Random, length: number): Buffer {
  const parts = Array.from({ length: r.below(4) }, () => Buffer.from(r.pick(OPTIONS4), 'hex'));
  return Buffer.concat([
    Buffer.alloc(r.pick([0, 0, 1, 3]), 1),
    ...parts,
    Buffer.alloc(length, r.pick([0, 1])),
  ]).subarray(0, length);
}

/** An IPv6 extension header, and the number that announces it. */
function extension(r: Random): readonly [number, Buffer] {
  const kind = r.pick([0, 60, 43, 51, 44]);
  const units = kind === 44 ? 0 : r.below(3);
  const header = Buffer.alloc(kind === 51 ? (units + 2) * 4 : (units + 1) * 8);
  header[1] = units;
  if (kind === 43 && r.chance(20)) header[3] = 1;
  if (kind === 44) header.writeUInt16BE(r.pick([0, 1, 8, 9, 1480]), 2);
  return [kind, header];
}

/** The frame with up to four things about it changed; `others` are what it is spliced with. */
export function mutate(r: Random, original: Buffer, others: readonly Buffer[]): Buffer {
  let b: Buffer = Buffer.from(original);
  for (let n = 1 + r.below(4); n > 0 && b.length > 15; n--)
    b = MUTATIONS[r.below(MUTATIONS.length)]?.(r, b, others) ?? b;
  return b;
}

/** The frame to another place, from the pod or not, whole in all else: these pass, or do not, by what rules say. */
export function readdressed(r: Random, original: Buffer): Buffer {
  let b = elsewhere(r, Buffer.from(original), []);
  if (r.chance(60)) b = otherPort(r, b, []);
  return r.chance(8) ? otherSource(r, b, []) : b;
}

type Mutation = (r: Random, b: Buffer, others: readonly Buffer[]) => Buffer;

/** Where the IP header begins, by the tags before it. */
function networkAt(b: Buffer): number {
  let at = 14;
  while (at + 4 <= b.length && [0x8100, 0x88a8].includes(b.readUInt16BE(at - 2))) at += 4;
  return at;
}

function put(b: Buffer, at: number, bytes: Buffer | Uint8Array): Buffer {
  if (at + bytes.length <= b.length) b.set(bytes, at);
  return b;
}

function versionOf(b: Buffer, at: number): number {
  return (b[at] ?? 0) >> 4;
}

function addressed(b: Buffer, address: string, at4: number, at6: number): Buffer {
  const at = networkAt(b);
  const { family, bytes } = parseAddr(address);
  if (versionOf(b, at) !== family) return b;
  return put(b, at + (family === 4 ? at4 : at6), family === 4 ? bytes.subarray(12) : bytes);
}

const elsewhere: Mutation = (r, b) =>
  addressed(b, r.pick(versionOf(b, networkAt(b)) === 4 ? DESTINATIONS4 : DESTINATIONS6), 16, 24);
const otherSource: Mutation = (r, b) =>
  addressed(b, r.pick(versionOf(b, networkAt(b)) === 4 ? SOURCES4 : SOURCES6), 12, 8);

const otherPort: Mutation = (r, b) => {
  const at = networkAt(b);
  const l4 = at + (versionOf(b, at) === 4 ? ((b[at] as number) & 15) * 4 : 40);
  if (l4 + 4 <= b.length) b.writeUInt16BE(r.pick(PORTS), l4 + 2);
  return b;
};

const MUTATIONS: readonly Mutation[] = [
  elsewhere,
  otherSource,
  otherPort,
  // Bits and bytes.
  (r, b) => {
    const at = r.below(b.length);
    b[at] = (b[at] as number) ^ (1 << r.below(8));
    return b;
  },
  (r, b) => {
    const at = r.below(Math.min(b.length, 80));
    b[at] = (b[at] as number) ^ (1 << r.below(8));
    return b;
  },
  (r, b) => put(b, r.below(Math.min(b.length, 80)), Buffer.from([r.pick(BYTES)])),
  (r, b) => put(b, r.below(b.length - 1), Buffer.from([r.below(256), r.below(256)])),
  // Truncations and what is left over.
  (r, b) => b.subarray(0, 14 + r.below(b.length - 13)),
  (r, b) => b.subarray(0, Math.min(b.length, 14 + r.below(70))),
  (r, b) => Buffer.concat([b, Buffer.alloc(r.below(40), r.below(256))]),
  // Length fields: near what is right, and far from it.
  (r, b) => {
    const at = networkAt(b) + (versionOf(b, networkAt(b)) === 4 ? 2 : 4);
    if (at + 2 > b.length) return b;
    const now = b.readUInt16BE(at);
    b.writeUInt16BE(r.pick([0, now - 1, now + 1, now - 8, now + 8, 20, 40, 65535]) & 0xffff, at);
    return b;
  },
  (r, b) => {
    const at = networkAt(b);
    if (at < b.length) b[at] = ((b[at] as number) & 0xf0) | r.below(16);
    return b;
  },
  // Whose protocol is it?
  (r, b) => put(b, networkAt(b) + (versionOf(b, networkAt(b)) === 4 ? 9 : 6), Buffer.from([r.pick(PROTOCOLS)])),
  (r, b) => put(b, networkAt(b) - 2, Buffer.from(r.pick(['0800', '86dd', '8100', '88a8', '0806', '8847']), 'hex')),
  // Head of one, tail of another.
  (r, b, others) => {
    const other = r.pick(others);
    const cut = r.pick([14, 34, 54, r.below(b.length)]);
    return Buffer.concat([b.subarray(0, cut), other.subarray(Math.min(other.length, r.pick([14, 34, 54, cut])))]);
  },
  // Headers put in, linked as they should be.
  (r, b) =>
    Buffer.concat([
      b.subarray(0, 12),
      Buffer.from(r.pick(['81000007', '88a80007', '81000fff']), 'hex'),
      b.subarray(12),
    ]),
  (r, b) => {
    const at = networkAt(b);
    if (versionOf(b, at) !== 6 || b.length < at + 40) return b;
    const [kind, header] = extension(r);
    header[0] = b[at + 6] as number;
    b[at + 6] = kind;
    b.writeUInt16BE((b.readUInt16BE(at + 4) + header.length) & 0xffff, at + 4);
    return Buffer.concat([b.subarray(0, at + 40), header, b.subarray(at + 40)]);
  },
  (r, b) => {
    const at = networkAt(b);
    const words = (b[at] ?? 0) & 15;
    if (versionOf(b, at) !== 4 || b.length < at + 20 || words > 14) return b;
    const more = 1 + r.below(15 - words);
    b[at] = 0x40 | (words + more);
    b.writeUInt16BE((b.readUInt16BE(at + 2) + more * 4) & 0xffff, at + 2);
    const options = r.chance(60) ? options4(r, more * 4) : Buffer.alloc(more * 4, r.pick([0, 1, 7, 0x44]));
    return Buffer.concat([b.subarray(0, at + 20), options, b.subarray(at + 20)]);
  },
  // Whose frame, and for whom.
  (r, b) => put(b, 0, Buffer.from(r.pick([...MACS, ...GROUP_MACS]).replaceAll(':', ''), 'hex')),
  (r, b) => (r.chance(15) ? put(b, 6, Buffer.from(r.pick(MACS).replaceAll(':', ''), 'hex')) : b),
  // What is behind the address.
  (r, b) => addressed(b, r.pick(LINK_LOCAL), 12, 8),
  // A fragment: the bits of IPv4.
  (r, b) => {
    const at = networkAt(b);
    if (versionOf(b, at) === 4 && at + 8 <= b.length)
      b.writeUInt16BE(r.pick([0x2000, 0x2001, 1, 2, 3, 185, 0x1fff, 0x4000, 0x8000]), at + 6);
    return b;
  },
];
