/**
 * Longest-prefix match over an Image's destinations by binary search. It gives the same answers as the kernel's LPM
 * tries.
 */
import { atomPrefix } from './prefix.js';
import type { Destinations4, Destinations6 } from './types.js';

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
