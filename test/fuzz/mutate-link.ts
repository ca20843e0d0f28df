/** ARP, neighbour discovery and listener reports by hand: as they should be, and for somebody else, of another length, with other options. */
import { formatBytes16, parseAddr } from '../../src/net/addr.js';
import type { Random } from './random.js';
import { GATEWAY_MAC, GROUP_MACS, LINK_LOCAL, MACS, NEIGHBOURS, OWN_NODE, POD_IPS, POD_MAC } from './site.js';

const SENDERS4 = ['10.244.0.1', '10.244.0.1', '10.244.0.1', '0.0.0.0', '10.244.0.2', '10.244.0.254', '192.168.0.1'];
const OWN6 = POD_IPS[1] as string;
const OWN_LINK_LOCAL = LINK_LOCAL[MACS.indexOf(POD_MAC)] as string;
const SENDERS6 = [
  OWN6,
  OWN6,
  OWN6,
  '::',
  '::',
  OWN_LINK_LOCAL,
  OWN_LINK_LOCAL,
  'fe80::77',
  LINK_LOCAL[0] as string,
  LINK_LOCAL[1] as string,
  'fd00::2',
];
const TARGETS = [
  OWN6,
  OWN6,
  OWN_LINK_LOCAL,
  'fe80::77',
  'fd00::2',
  'fd00::fe',
  LINK_LOCAL[0] as string,
  LINK_LOCAL[1] as string,
  '2001:db8::5',
  'ff02::1',
];
const GROUPS = ['ff02::1', 'ff02::2', 'ff02::16', 'ff02::1:ff00:1', 'ff02::1:ff00:1', 'ff05::16', 'ff0e::1'];
const FAR = ['2001:db8::5', '2001:db8:c000::5', OWN6, '::'];
const NEAR = [...NEIGHBOURS.map((n) => n.ips[1]), ...OWN_NODE.filter((ip) => ip.includes(':')), ...LINK_LOCAL];

const hex = (mac: string) => Buffer.from(mac.replaceAll(':', ''), 'hex');
const addressBytes = (address: string) => {
  const { family, bytes } = parseAddr(address);
  return Buffer.from(family === 4 ? bytes.subarray(12) : bytes);
};

export function madeArp(r: Random): Buffer {
  const body = Buffer.alloc(28);
  body.write(
    r.chance(94)
      ? '0001080006040001'
      : r.pick(['0006080006040001', '000186dd06100001', '0001080006040003', '0001080008040001']),
    'hex',
  );
  if (r.chance(40)) body.writeUInt16BE(r.pick([2, 2, 2, 8, 0]), 6);
  hex(r.chance(88) ? POD_MAC : r.pick(MACS)).copy(body, 8);
  addressBytes(r.pick(SENDERS4)).copy(body, 14);
  hex(r.chance(80) ? '00:00:00:00:00:00' : r.pick(MACS)).copy(body, 18);
  addressBytes(r.pick(SENDERS4)).copy(body, 24);
  const padded = r.chance(80) ? body : Buffer.concat([body, Buffer.alloc(r.pick([1, 18, 19, 64, 1000]))]);
  return Buffer.concat([
    hex(r.pick([...MACS, GROUP_MACS[0] as string])),
    hex(POD_MAC),
    Buffer.from('0806', 'hex'),
    r.chance(96) ? padded : padded.subarray(0, r.below(28)),
  ]);
}

function option(r: Random, usual: number): Buffer {
  const kind = r.chance(80) ? usual : r.pick([1, 2, 3, 5, 14, 14, 25, 31]);
  const units = r.chance(92) ? (kind === 3 ? 4 : 1) : r.pick([0, 2, 3]);
  const b = Buffer.alloc(Math.max(8, units * 8));
  b.set([kind, units]);
  if (kind < 3) hex(r.chance(85) ? POD_MAC : r.pick(MACS)).copy(b, 2);
  return b;
}

function neighbourBody(r: Random, type: number): Buffer {
  const body = Buffer.alloc(type === 133 ? 8 : type === 137 ? 40 : type === 134 ? 16 : 24);
  body[0] = type;
  if (r.chance(4)) body[1] = 1;
  if (type === 136) body[4] = r.pick([0x60, 0x20, 0x40, 0, 0xa0]);
  if (type !== 133 && type !== 134) addressBytes(r.pick(TARGETS)).copy(body, 8);
  const usual = type === 136 ? 2 : 1;
  return Buffer.concat([body, ...Array.from({ length: r.pick([0, 0, 1, 1, 1, 2, 3]) }, () => option(r, usual))]);
}

function reportBody(r: Random, type: number): Buffer {
  if (type !== 143) {
    const body = Buffer.alloc(24);
    body[0] = type;
    addressBytes(r.pick(GROUPS)).copy(body, 8);
    return body;
  }
  const records = Array.from({ length: r.chance(95) ? 1 + r.below(3) : r.pick([0, 16, 17, 60]) }, () => {
    const sources = r.chance(80) ? 0 : 1 + r.below(3);
    const record = Buffer.alloc(20 + sources * 16);
    record.set([1 + r.below(6), r.chance(5) ? 1 : 0, 0, sources]);
    addressBytes(r.pick(GROUPS)).copy(record, 4);
    return record;
  });
  const head = Buffer.from([143, 0, 0, 0, 0, 0, 0, r.chance(95) ? records.length : r.below(9)]);
  return Buffer.concat([head, ...records]);
}

export function madeNeighbour(r: Random): Buffer {
  const type = r.pick([133, 135, 135, 135, 136, 136, 136, 134, 137, 143, 143, 131, 132, 130]);
  const report = type < 133 || type === 143;
  let body = report ? reportBody(r, type) : neighbourBody(r, type);
  if (r.chance(6)) body = Buffer.concat([body, Buffer.alloc(r.pick([1, 8, 16, 600]), 0x41)]);
  if (r.chance(3)) body = body.subarray(0, 8 + r.below(body.length - 7));
  const alert = Buffer.from(
    r.pick(['3a00050200000100', '3a00010005020000', '3a00010400000000', '3a00050200000100']),
    'hex',
  );
  const before = report ? r.chance(85) : r.chance(3);
  const ip = Buffer.alloc(40);
  ip[0] = 0x60;
  ip.writeUInt16BE(body.length + (before ? alert.length : 0), 4);
  ip[6] = before ? 0 : 58;
  ip[7] = r.chance(90) ? (report ? 1 : 255) : r.pick([1, 64, 254, 255]);
  addressBytes(r.pick(SENDERS6)).copy(ip, 8);
  addressBytes(r.chance(60) ? r.pick(GROUPS) : r.pick(r.chance(75) ? NEAR : FAR)).copy(ip, 24);
  const to = r.chance(50) ? r.pick(GROUP_MACS) : r.chance(50) ? GATEWAY_MAC : r.pick(MACS);
  return Buffer.concat([hex(to), hex(POD_MAC), Buffer.from('86dd', 'hex'), ip, ...(before ? [alert] : []), body]);
}

/** The frame from the pod, to the node or, if it was for a group, to that; seldom as or to somebody else. */
export function homed(r: Random, b: Buffer): Buffer {
  if (b.length < 14) return b;
  if (((b[0] as number) & 1) === 0 || r.chance(10))
    hex(r.chance(80) ? GATEWAY_MAC : r.pick([...MACS, ...GROUP_MACS])).copy(b, 0);
  hex(r.chance(98) ? POD_MAC : r.pick(MACS)).copy(b, 6);
  return b;
}

/** The IP packet as if it came back: its ends changed places. */
export function returned(frame: Buffer): Buffer {
  const b = Buffer.from(frame);
  const [at, size] = b.readUInt16BE(12) === 0x0800 ? [26, 4] : [22, 16];
  if (![0x0800, 0x86dd].includes(b.readUInt16BE(12)) || b.length < at + 2 * size) return b;
  frame.copy(b, at, at + size, at + 2 * size);
  frame.copy(b, at + size, at, at + size);
  return b;
}

/** Who it says that it is from, behind whatever tags; '' where it does not. */
export function sender(b: Buffer): string {
  let at = 12;
  while (at + 6 <= b.length && [0x8100, 0x88a8].includes(b.readUInt16BE(at))) at += 4;
  const type = at + 2 <= b.length ? b.readUInt16BE(at) : 0;
  if (type === 0x0800 && b.length >= at + 18) return [...b.subarray(at + 14, at + 18)].join('.');
  return type === 0x86dd && b.length >= at + 26 ? formatBytes16(b.subarray(at + 10, at + 26), 6) : '';
}
