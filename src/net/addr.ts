/**
 * IP addresses and prefixes as text and as bytes. ipaddr.js parses IPv6; dotted quads, of which a policy can contain a
 * million, have a parser of their own.
 *
 * It is stricter than ipaddr.js and Go's ParseIP: no leading zeros (`010.0.0.1` is 8.0.0.1 to some parsers and 10.0.0.1
 * to others), no short forms, no hexadecimal quads, no zones. IPv4-mapped IPv6 (`::ffff:10.0.0.1`) is the mapped IPv4
 * address, as in Go.
 */
import ipaddr from 'ipaddr.js';
import { AgentError } from '../errors.js';

export interface Addr {
  readonly family: 4 | 6;
  /** 16 bytes in network order. IPv4 is IPv4-mapped (::ffff:a.b.c.d), as in bpf/types.h. */
  readonly bytes: Uint8Array;
}

export interface Cidr extends Addr {
  /** Number of bits in the address's own family: 0–32 for IPv4, 0–128 for IPv6. */
  readonly prefix: number;
  /** Canonical text: host bits cleared, RFC 5952, always with `/prefix`. */
  readonly text: string;
}

/** Parses an address. @throws AgentError USAGE if it is invalid */
export function parseAddr(text: string): Addr {
  const addr = tryParseAddr(text);
  if (!addr) throw new AgentError('USAGE', `${JSON.stringify(text)} is not an IP address`);
  return addr;
}

/** Parses an address; undefined if it is invalid. */
export function tryParseAddr(text: string): Addr | undefined {
  const quad = parseQuad(text, text.length);
  if (quad >= 0) return { family: 4, bytes: bytes4(quad) };
  const bytes = parseBytes6(text);
  return bytes && { family: isMapped(bytes) ? 4 : 6, bytes };
}

/** The canonical text: RFC 5952 for IPv6, dotted quad for IPv4. @throws AgentError USAGE if it is invalid */
export function canonicalAddr(text: string): string {
  const { family, bytes } = parseAddr(text);
  return formatBytes16(bytes, family);
}

/** The canonical text; undefined if it is invalid. */
export function tryCanonicalAddr(text: string): string | undefined {
  const addr = tryParseAddr(text);
  return addr && formatBytes16(addr.bytes, addr.family);
}

/** Parses a prefix, or a single address as a prefix of full length. Host bits are cleared. @throws AgentError USAGE */
export function parseCidr(text: string): Cidr {
  const cidr = tryParseCidr(text);
  if (!cidr) throw new AgentError('USAGE', `${JSON.stringify(text)} is not an IP address or CIDR`);
  return cidr;
}

/** Parses a prefix; undefined if it is invalid. */
export function tryParseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/');
  const length = slash < 0 ? text.length : slash;
  const quad = parseQuad(text, length);
  if (quad >= 0) {
    const prefix = slash < 0 ? 32 : parsePrefix(text, slash + 1, 32);
    return prefix < 0 ? undefined : cidr4(quad, prefix);
  }
  const bytes = parseBytes6(slash < 0 ? text : text.slice(0, slash));
  if (!bytes) return undefined;
  const prefix = slash < 0 ? 128 : parsePrefix(text, slash + 1, 128);
  if (prefix < 0) return undefined;
  if (isMapped(bytes)) {
    // A shorter prefix, such as ::ffff:0:0/80, would contain addresses of both families.
    if (prefix < 96) return undefined;
    const [a, b, c, d] = bytes.subarray(12) as unknown as [number, number, number, number];
    return cidr4(a * 0x1000000 + (b << 16) + (c << 8) + d, prefix - 96);
  }
  clearHostBits(bytes, prefix);
  return { family: 6, bytes, prefix, text: `${formatBytes16(bytes, 6)}/${prefix}` };
}

/**
 * Address × 64 + prefix length, for an IPv4 prefix in canonical text; -1 for any other text. A fast path for lists of a
 * million.
 */
export function canonicalCidr4(text: string): number {
  const slash = text.indexOf('/');
  const quad = slash < 0 ? -1 : parseQuad(text, slash);
  const prefix = quad < 0 ? -1 : parsePrefix(text, slash + 1, 32);
  return prefix < 0 || quad % 2 ** (32 - prefix) !== 0 ? -1 : quad * 64 + prefix;
}

/** The text of 16 bytes in network order. Family 4 uses the last four. */
export function formatBytes16(bytes: Uint8Array, family: 4 | 6): string {
  if (family === 4) return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}`;
  return new ipaddr.IPv6(Array.from(bytes)).toRFC5952String();
}

/** Whether the prefix contains the address. Families never mix: ::/0 contains no IPv4 address. */
export function cidrContains(cidr: Cidr, addr: Addr): boolean {
  if (cidr.family !== addr.family) return false;
  const bits = cidr.family === 4 ? cidr.prefix + 96 : cidr.prefix;
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (cidr.bytes[i] !== addr.bytes[i]) return false;
  const rest = bits & 7;
  if (rest === 0) return true;
  return ((cidr.bytes[whole] as number) ^ (addr.bytes[whole] as number)) >> (8 - rest) === 0;
}

/** Whether `outer` contains every address of `inner`. */
export function cidrCovers(outer: Cidr, inner: Cidr): boolean {
  return outer.prefix <= inner.prefix && cidrContains(outer, inner);
}

/** Parses four decimal numbers in text[0, length) into one number; -1 if the text is anything else. */
function parseQuad(text: string, length: number): number {
  if (length < 7 || length > 15) return -1;
  let value = 0;
  let octet = -1;
  let dots = 0;
  for (let i = 0; i <= length; i++) {
    const c = i === length ? 46 : text.charCodeAt(i);
    if (c === 46) {
      if (octet < 0 || octet > 255 || ++dots > 4) return -1;
      value = value * 256 + octet;
      octet = -1;
    } else if (c >= 48 && c <= 57) {
      if (octet === 0) return -1; // a leading zero
      octet = octet < 0 ? c - 48 : octet * 10 + (c - 48);
    } else {
      return -1;
    }
  }
  return dots === 4 ? value : -1;
}

/** Parses a decimal number without sign or leading zero, at most `max`; -1 if the text is anything else. */
function parsePrefix(text: string, from: number, max: number): number {
  const digits = text.length - from;
  if (digits < 1 || digits > 3 || (digits > 1 && text.charCodeAt(from) === 48)) return -1;
  let value = 0;
  for (let i = from; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 48 || c > 57) return -1;
    value = value * 10 + (c - 48);
  }
  return value <= max ? value : -1;
}

/**
 * Parses colons, hexadecimal digits, and a dotted quad only at the end. ipaddr.js alone would accept zones and octal
 * quads.
 */
function parseBytes6(text: string): Uint8Array | undefined {
  if (text.length > 45 || !/^[0-9a-f]*:[0-9a-f:]*(?:\d+\.\d+\.\d+\.\d+)?$/i.test(text)) return undefined;
  const tail = text.slice(text.lastIndexOf(':') + 1);
  if (tail.includes('.') && parseQuad(tail, tail.length) < 0) return undefined;
  try {
    return Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray());
  } catch {
    return undefined;
  }
}

function isMapped(bytes: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false;
  return bytes[10] === 0xff && bytes[11] === 0xff;
}

function bytes4(value: number): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes[10] = bytes[11] = 0xff;
  bytes[12] = value / 0x1000000;
  bytes[13] = value >>> 16;
  bytes[14] = value >>> 8;
  bytes[15] = value;
  return bytes;
}

function cidr4(value: number, prefix: number): Cidr {
  const size = 2 ** (32 - prefix);
  const bytes = bytes4(value - (value % size));
  return { family: 4, bytes, prefix, text: `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}/${prefix}` };
}

function clearHostBits(bytes: Uint8Array, prefix: number): void {
  for (let i = prefix >> 3; i < 16; i++) {
    const keep = Math.max(0, prefix - i * 8);
    bytes[i] = (bytes[i] as number) & (0xff00 >> keep);
  }
}
