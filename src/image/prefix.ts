/**
 * Keys of prefixes, as in Destinations4 (numbers) and Destinations6 (texts), relations between prefixes, and the longest
 * match over an Image's destinations, which gives the same answers as the kernel's tries.
 */
import { canonicalCidr4, parseCidr } from '../net/addr.js';
import type { Destinations4, Destinations6 } from './types.js';

/**
 * Operations on the keys of one address family. Keys are ordered so that a prefix precedes all prefixes inside it,
 * which are contiguous.
 */
export interface Family<K> {
  /** Whether every address of `inner` is in `outer`. A prefix covers itself. */
  covers(outer: K, inner: K): boolean;
  /** Every shorter prefix that covers a key, shortest first. */
  around(key: K): Iterable<K>;
  /** The key of the prefix with this length that covers `key`. */
  shortened(key: K, length: number): K;
  length(key: K): number;
  /** The greatest key inside a prefix: that of its last address. */
  last(key: K): K;
  /** Number of bits of an address. */
  readonly bits: number;
}

function shortened4(key: number, length: number): number {
  const size = 2 ** (32 - length);
  return Math.floor(Math.floor(key / 64) / size) * size * 64 + length;
}

function* around4(key: number): Generator<number> {
  for (let length = 0; length < key % 64; length++) yield shortened4(key, length);
}

function covers4(outer: number, inner: number): boolean {
  const length = outer % 64;
  return length <= inner % 64 && shortened4(inner, length) === outer;
}

const digits6 = (length: number) => String(length).padStart(3, '0');

function address6(address: bigint, length: number): string {
  return `${address.toString(16).padStart(32, '0')}/${digits6(length)}`;
}

function shortened6(key: string, length: number): string {
  const shift = BigInt(128 - length);
  return address6((BigInt(`0x${key.slice(0, 32)}`) >> shift) << shift, length);
}

function* around6(key: string): Generator<string> {
  for (let length = 0; length < length6(key); length++) yield shortened6(key, length);
}

function length6(key: string): number {
  return Number(key.slice(33));
}

function last6(key: string): string {
  const host = (1n << BigInt(128 - length6(key))) - 1n;
  return address6(BigInt(`0x${key.slice(0, 32)}`) | host, 128);
}

function covers6(outer: string, inner: string): boolean {
  const length = length6(outer);
  if (length > length6(inner)) return false;
  const digits = length >> 2;
  if (!inner.startsWith(outer.slice(0, digits))) return false;
  const shift = 4 - (length & 3);
  const bits = (key: string) => (shift === 4 ? 0 : Number.parseInt(key.charAt(digits), 16) >> shift);
  return bits(outer) === bits(inner);
}

export const IPV4: Family<number> = {
  ...{ covers: covers4, around: around4, shortened: shortened4, bits: 32 },
  length: (key) => key % 64,
  last: (key) => (Math.floor(key / 64) + 2 ** (32 - (key % 64)) - 1) * 64 + 32,
};

export const IPV6: Family<string> = {
  ...{ covers: covers6, around: around6, shortened: shortened6, bits: 128 },
  length: length6,
  last: last6,
};

/** A prefix in an atom: `sign` is +1 for a block and -1 for an `except`. */
export interface AtomPrefix {
  readonly family: 4 | 6;
  /** IPv4: the address as a number. */
  readonly addr4: number;
  /** IPv6: 32 hex digits. */
  readonly addr6: string;
  readonly prefix: number;
  readonly sign: 1 | -1;
}

/** Parses `10.0.0.0/8` or a bare address. */
export function atomPrefix(cidr: string, sign: 1 | -1): AtomPrefix {
  const key = canonicalCidr4(cidr);
  if (key >= 0) return { family: 4, addr4: Math.floor(key / 64), addr6: '', prefix: key % 64, sign };
  const { family, bytes, prefix } = parseCidr(cidr);
  if (family === 4) {
    const addr4 =
      (bytes[12] as number) * 0x1000000 +
      ((bytes[13] as number) << 16) +
      ((bytes[14] as number) << 8) +
      (bytes[15] as number);
    return { family, addr4, addr6: '', prefix, sign };
  }
  return { family, addr4: 0, addr6: Buffer.from(bytes).toString('hex'), prefix, sign };
}

/**
 * Makes the function that finds the class id of an address (canonical text); 0 if no prefix covers it. Each query
 * probes the prefix lengths that occur, longest first: O(lengths × log n).
 */
export function classLookup(image: {
  destinations4: Destinations4;
  destinations6: Destinations6;
}): (ip: string) => number {
  const { destinations4: d4, destinations6: d6 } = image;
  // The index of each family is built by its first query.
  let lengths4: number[] | undefined;
  let lengths6: number[] = [];
  let index6: Map<string, number> | undefined;
  return (ip) => {
    const p = atomPrefix(ip, 1);
    if (p.family === 4) {
      lengths4 ??= [...new Set(Array.from(d4.keys, (k) => k % 64))].sort((a, b) => b - a);
      for (const length of lengths4) {
        const size = 2 ** (32 - length);
        const at = search(d4.keys, Math.floor(p.addr4 / size) * size * 64 + length);
        if (at >= 0) return d4.classes[at] as number;
      }
      return 0;
    }
    if (!index6) {
      index6 = new Map(d6.keys.map((k, i) => [k, i]));
      lengths6 = [...new Set(d6.keys.map((k) => Number(k.slice(33))))].sort((a, b) => b - a);
    }
    const address = BigInt(`0x${p.addr6}`);
    for (const length of lengths6) {
      const shift = BigInt(128 - length);
      const masked = ((address >> shift) << shift).toString(16).padStart(32, '0');
      const at = index6.get(`${masked}/${String(length).padStart(3, '0')}`);
      if (at !== undefined) return d6.classes[at] as number;
    }
    return 0;
  };
}

function search(keys: Float64Array, key: number): number {
  let lo = 0;
  let hi = keys.length - 1;
  while (lo <= hi) {
    const mid = (lo + hi) >>> 1;
    const at = keys[mid] as number;
    if (at === key) return mid;
    if (at < key) lo = mid + 1;
    else hi = mid - 1;
  }
  return -1;
}
