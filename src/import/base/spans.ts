/** Sets of ports and sets of addresses, closed under and, or and not. */
import { addressText, type AddressRange, cidrRange } from '../../tools/ranges.js';

export type Range = readonly [number, number];

/** Ports that a list may mean. Port 0 is nobody's. */
const EVERY: readonly Range[] = [[1, 65535]];

/** Connections by protocol and port. */
export interface Ports {
  readonly tcp: readonly Range[];
  readonly udp: readonly Range[];
  /** Every other protocol. */
  readonly other: boolean;
}

export const EVERY_PORT: Ports = { tcp: EVERY, udp: EVERY, other: true };
export const TCP_PORTS: Ports = { tcp: EVERY, udp: [], other: false };
export const NO_PORT: Ports = { tcp: [], udp: [], other: false };

/** Sorted, with gaps between them. */
export function joined(ranges: Iterable<Range>): Range[] {
  const out: [number, number][] = [];
  for (const [lo, hi] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = out.at(-1);
    if (last && lo <= last[1] + 1) last[1] = Math.max(last[1], hi);
    else out.push([lo, hi]);
  }
  return out;
}

function both(a: readonly Range[], b: readonly Range[]): Range[] {
  return a.flatMap(([lo, hi]) =>
    b.map(([from, to]): Range => [Math.max(lo, from), Math.min(hi, to)]).filter(([from, to]) => from <= to),
  );
}

function rest(ranges: readonly Range[]): Range[] {
  const out: Range[] = [];
  let next = 1;
  for (const [lo, hi] of joined(ranges)) {
    if (lo > next) out.push([next, lo - 1]);
    next = hi + 1;
  }
  if (next <= 65535) out.push([next, 65535]);
  return out;
}

export function andPorts(a: Ports, b: Ports): Ports {
  if (a === b || b === EVERY_PORT) return a;
  if (a === EVERY_PORT) return b;
  return { tcp: both(a.tcp, b.tcp), udp: both(a.udp, b.udp), other: a.other && b.other };
}

export function orPorts(a: Ports, b: Ports): Ports {
  return { tcp: joined([...a.tcp, ...b.tcp]), udp: joined([...a.udp, ...b.udp]), other: a.other || b.other };
}

export function notPorts({ tcp, udp, other }: Ports): Ports {
  return { tcp: rest(tcp), udp: rest(udp), other: !other };
}

export function noPorts({ tcp, udp, other }: Ports): boolean {
  return tcp.length === 0 && udp.length === 0 && !other;
}

export function hasPort(ports: Ports, protocol: number, port: number): boolean {
  if (protocol !== 6 && protocol !== 17) return ports.other;
  return (protocol === 6 ? ports.tcp : ports.udp).some(([lo, hi]) => lo <= port && port <= hi);
}

/** `80, 443/tcp`; for messages. */
export function portsText({ tcp, udp, other }: Ports): string {
  const text = (ranges: readonly Range[], name: string) => {
    if (ranges.length === 0) return [];
    if (ranges.length === 1 && ranges[0]![0] === 1 && ranges[0]![1] === 65535) return [`every port of ${name}`];
    const shown = ranges.slice(0, 4).map(([lo, hi]) => (lo === hi ? `${lo}` : `${lo}–${hi}`));
    return [`${shown.join(', ')}${ranges.length > 4 ? ', …' : ''}/${name}`];
  };
  return [...text(tcp, 'tcp'), ...text(udp, 'udp'), ...(other ? ['other protocols'] : [])].join(' and ');
}

/** Addresses of both families; ranges sorted, without overlap. */
export type Addresses = readonly AddressRange[];

const LAST = { 4: 2n ** 32n - 1n, 6: 2n ** 128n - 1n } as const;

export const EVERY_ADDRESS: Addresses = [
  { family: 4, lo: 0n, hi: LAST[4] },
  { family: 6, lo: 0n, hi: LAST[6] },
];

/** @param cidrs canonical text */
export function addressesOf(cidrs: Iterable<string>): Addresses {
  return joinedAddresses([...cidrs].map(cidrRange));
}

export function joinedAddresses(ranges: readonly AddressRange[]): Addresses {
  const out: { family: 4 | 6; lo: bigint; hi: bigint }[] = [];
  const sorted = [...ranges].sort((a, b) => a.family - b.family || (a.lo < b.lo ? -1 : a.lo > b.lo ? 1 : 0));
  for (const { family, lo, hi } of sorted) {
    const last = out.at(-1);
    if (last?.family === family && lo <= last.hi + 1n) last.hi = greatest(last.hi, hi);
    else out.push({ family, lo, hi });
  }
  return out;
}

export function notAddresses(ranges: Addresses): Addresses {
  const out: AddressRange[] = [];
  for (const family of [4, 6] as const) {
    let next = 0n;
    for (const { lo, hi } of ranges.filter((one) => one.family === family)) {
      if (lo > next) out.push({ family, lo: next, hi: lo - 1n });
      next = hi + 1n;
    }
    if (next <= LAST[family]) out.push({ family, lo: next, hi: LAST[family] });
  }
  return out;
}

export function andAddresses(a: Addresses, b: Addresses): Addresses {
  const out: AddressRange[] = [];
  // Both are sorted, so the part of b that may overlap moves on with a.
  let from = 0;
  for (const one of a) {
    while (from < b.length && before(b[from]!, one)) from++;
    for (let i = from; i < b.length && !before(one, b[i]!); i++) {
      const other = b[i]!;
      out.push({
        family: one.family,
        lo: greatest(one.lo, other.lo),
        hi: -greatest(-one.hi, -other.hi),
      });
    }
  }
  return out;
}

/** Whether all of a is before all of b. */
function before(a: AddressRange, b: AddressRange): boolean {
  return a.family < b.family || (a.family === b.family && a.hi < b.lo);
}

export function hasAddress(ranges: Addresses, { family, n }: { family: 4 | 6; n: bigint }): boolean {
  return ranges.some((one) => one.family === family && one.lo <= n && n <= one.hi);
}

/** The fewest CIDR blocks that make up the ranges; canonical text. */
export function cidrsOf(ranges: Addresses): string[] {
  const out: string[] = [];
  for (const { family, lo, hi } of ranges) {
    const bits = family === 4 ? 32 : 128;
    for (let at = lo; at <= hi; ) {
      let size = 0;
      while (size < bits && at % (1n << BigInt(size + 1)) === 0n && at + (1n << BigInt(size + 1)) - 1n <= hi) size++;
      out.push(`${addressText(family, at)}/${bits - size}`);
      at += 1n << BigInt(size);
    }
  }
  return out;
}

/** Math.max() takes no bigint. */
function greatest(a: bigint, b: bigint): bigint {
  if (a > b) return a;
  return b;
}
