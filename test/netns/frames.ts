/** Frames by hand, for what sockets do not send. All numbers as they stand on the wire. */

export interface Ends {
  /** MAC addresses as `aa:bb:…`. */
  macSource: string;
  macDestination: string;
}

const mac = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex');
const ip4 = (text: string): Buffer => Buffer.from(text.split('.').map(Number));

/** RFC 1071. */
export function checksum(data: Buffer): number {
  let sum = 0;
  for (let i = 0; i < data.length; i += 2) sum += (data[i] ?? 0) * 256 + (data[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

export interface Ipv4Fields {
  src: string;
  dst: string;
  protocol: number;
  /** Fragment's place in units of 8 bytes, and whether more follow. */
  offset?: number;
  more?: boolean;
  id?: number;
  /** Header options; a multiple of 4 bytes. */
  options?: Buffer;
}

export function ipv4(fields: Ipv4Fields, payload: Buffer): Buffer {
  const options = fields.options ?? Buffer.alloc(0);
  const header = Buffer.alloc(20);
  header[0] = 0x40 | (5 + options.length / 4);
  header.writeUInt16BE(20 + options.length + payload.length, 2);
  header.writeUInt16BE(fields.id ?? 1, 4);
  header.writeUInt16BE((fields.more ? 0x2000 : 0) | (fields.offset ?? 0), 6);
  header[8] = 64;
  header[9] = fields.protocol;
  ip4(fields.src).copy(header, 12);
  ip4(fields.dst).copy(header, 16);
  const whole = Buffer.concat([header, options]);
  whole.writeUInt16BE(checksum(whole), 10);
  return Buffer.concat([whole, payload]);
}

/** UDP without a checksum, which IPv4 allows. */
export function udp(sport: number, dport: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(sport, 0);
  header.writeUInt16BE(dport, 2);
  header.writeUInt16BE(8 + payload.length, 4);
  return Buffer.concat([header, payload]);
}

/** A TCP header alone; its checksum is left wrong: the packet is for filters, not for a stack. */
export function tcp(sport: number, dport: number, flags: number): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(sport, 0);
  header.writeUInt16BE(dport, 2);
  header[12] = 5 << 4;
  header[13] = flags;
  header.writeUInt16BE(1024, 14);
  return header;
}

/** @returns hex, as the probe's `frames` takes it */
export function ethernet(ends: Ends, ethertype: number, payload: Buffer): string {
  const type = Buffer.alloc(2);
  type.writeUInt16BE(ethertype);
  return Buffer.concat([mac(ends.macDestination), mac(ends.macSource), type, payload]).toString('hex');
}
