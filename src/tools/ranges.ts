/**
 * Ranges of addresses and of ports: splits them where rules may distinguish them, joins them again, and formats them.
 */
import { formatBytes16, parseAddr, parseCidr } from '../net/addr.js';
import { hasPorts, protocolName } from '../net/protocol.js';

/** Addresses lo to hi of one family, both included. */
export interface AddressRange {
  readonly family: 4 | 6;
  readonly lo: bigint;
  readonly hi: bigint;
}

/**
 * Ports lo to hi of each of some protocols (ICMP: type × 256 + code), or later fragments of them, whose ports are
 * unknown.
 */
export interface PortSpan {
  /** IANA protocol numbers, ascending. */
  readonly protocols: readonly number[];
  readonly lo: number;
  readonly hi: number;
  readonly fragment?: true;
}

export const LAST_PORT = 65535;
const FAMILIES = [4, 6] as const;
const LAST = { 4: 2n ** 32n - 1n, 6: 2n ** 128n - 1n } as const;
/** ::ffff:0:0/96. As IPv6 addresses these are those of IPv4, see net/addr.ts. */
const MAPPED = { lo: 0xffff_0000_0000n, hi: 0xffff_ffff_ffffn };
const ICMP: readonly number[] = [1, 58];

/** An address as a number of its family. */
export function addressNumber(ip: string): { family: 4 | 6; n: bigint } {
  const { family, bytes } = parseAddr(ip);
  return { family, n: numberOf(bytes, family) };
}

function numberOf(bytes: Uint8Array, family: 4 | 6): bigint {
  return BigInt(`0x${Buffer.from(family === 4 ? bytes.subarray(12) : bytes).toString('hex')}`);
}

/** The canonical text of such a number. */
export function addressText(family: 4 | 6, n: bigint): string {
  const bytes = new Uint8Array(Buffer.from(n.toString(16).padStart(32, '0'), 'hex'));
  return formatBytes16(bytes, family);
}

/** The range of a CIDR block. */
export function cidrRange(cidr: string): AddressRange {
  const { family, bytes, prefix } = parseCidr(cidr);
  const lo = numberOf(bytes, family);
  return { family, lo, hi: lo + (1n << BigInt((family === 4 ? 32 : 128) - prefix)) - 1n };
}

/** All addresses of both families, split at the edges of some ranges; ascending. */
export function pieces(edges: Iterable<AddressRange>): AddressRange[] {
  const starts = { 4: new Set([0n]), 6: new Set([0n, MAPPED.lo, MAPPED.hi + 1n]) };
  for (const { family, lo, hi } of edges) {
    starts[family].add(lo);
    if (hi < LAST[family]) starts[family].add(hi + 1n);
  }
  const out: AddressRange[] = [];
  for (const family of FAMILIES) {
    const sorted = [...starts[family]].sort((a, b) => (a < b ? -1 : 1));
    sorted.forEach((lo, i) => {
      if (family === 6 && lo >= MAPPED.lo && lo <= MAPPED.hi) return;
      out.push({ family, lo, hi: (sorted[i + 1] ?? LAST[family] + 1n) - 1n });
    });
  }
  return out;
}

/** Index of the piece that contains an address. */
export function pieceAt(all: readonly AddressRange[], family: 4 | 6, n: bigint): number {
  let lo = 0;
  let hi = all.length - 1;
  while (lo < hi) {
    const mid = (lo + hi + 1) >>> 1;
    const at = all[mid] as AddressRange;
    if (at.family < family || (at.family === family && at.lo <= n)) lo = mid;
    else hi = mid - 1;
  }
  return lo;
}

/** Joins adjacent ranges; ascending. */
export function joinRanges(ranges: readonly AddressRange[]): AddressRange[] {
  const sorted = [...ranges].sort((a, b) => a.family - b.family || (a.lo < b.lo ? -1 : a.lo > b.lo ? 1 : 0));
  const out: { family: 4 | 6; lo: bigint; hi: bigint }[] = [];
  for (const r of sorted) {
    const last = out.at(-1);
    // The mapped addresses are not IPv6 destinations, so the ranges before and behind them count as adjacent.
    const next = last && (last.family === 6 && last.hi + 1n === MAPPED.lo ? MAPPED.hi + 1n : last.hi + 1n);
    if (last && last.family === r.family && next !== undefined && r.lo <= next) {
      if (r.hi > last.hi) last.hi = r.hi;
    } else out.push({ ...r });
  }
  return out;
}

/** Whether a range contains an address. */
export function rangeContains(range: AddressRange, ip: string): boolean {
  const { family, n } = addressNumber(ip);
  return family === range.family && range.lo <= n && n <= range.hi;
}

/** All addresses of the families except these joined ranges. */
function complement(ranges: readonly AddressRange[], families: readonly (4 | 6)[]): AddressRange[] {
  const out: AddressRange[] = [];
  for (const family of families) {
    let from = 0n;
    for (const r of ranges.filter((x) => x.family === family)) {
      if (r.lo > from) out.push({ family, lo: from, hi: r.lo - 1n });
      from = family === 6 && r.hi + 1n === MAPPED.lo ? MAPPED.hi + 1n : r.hi + 1n;
    }
    if (from <= LAST[family]) out.push({ family, lo: from, hi: LAST[family] });
  }
  return out;
}

/** `10.0.0.0/8` if the range is one block, otherwise `10.0.0.1-10.0.0.9`. */
export function rangeText({ family, lo, hi }: AddressRange): string {
  if (lo === hi) return addressText(family, lo);
  const size = hi - lo + 1n;
  const bits = size.toString(2).length - 1;
  if (size === 1n << BigInt(bits) && lo % size === 0n)
    return `${addressText(family, lo)}/${(family === 4 ? 32 : 128) - bits}`;
  return `${addressText(family, lo)}-${addressText(family, hi)}`;
}

/** The name of an address, or undefined. Each name is printed once. */
export type AddressNames = (ip: string) => string | undefined;

/** Maximum number of addresses of a range that are looked up by name. */
const NAMED = 64n;

/** A short list of destinations: names of pods, blocks, or everything except some blocks. */
export function rangesText(ranges: readonly AddressRange[], names: AddressNames = () => undefined): string[] {
  let rest = joinRanges(ranges);
  const out: string[] = [];
  for (const families of [FAMILIES, [4], [6]] as const) {
    const own = rest.filter((r) => families.some((f) => f === r.family));
    const missing = complement(own, families);
    // Useful if only few blocks are missing, and most addresses are included.
    const most = families.every((f) => own.some((r) => r.family === f && r.hi - r.lo >= LAST[f] / 4n));
    if (!most || missing.length > 4 * families.length + own.length / 2) continue;
    const all = families.length === 2 ? 'anywhere' : families[0] === 4 ? '0.0.0.0/0' : '::/0';
    const except = missing.flatMap((r) => named(r, names));
    out.push(except.length === 0 ? all : `${all} except ${bounded(except, 4)}`);
    rest = rest.filter((r) => !own.includes(r));
  }
  for (const r of rest) out.push(...named(r, names));
  return [...new Set(out)];
}

/** The first elements of a list, and the number of the others. */
export function bounded(list: readonly string[], most: number): string {
  const shown = list.slice(0, most).join(', ');
  return list.length > most ? `${shown} and ${list.length - most} more` : shown;
}

function named(range: AddressRange, names: AddressNames): string[] {
  if (range.hi - range.lo >= NAMED) return [rangeText(range)];
  const out: string[] = [];
  let unnamed: AddressRange[] = [];
  for (let n = range.lo; n <= range.hi; n++) {
    const name = names(addressText(range.family, n));
    if (name === undefined) unnamed.push({ family: range.family, lo: n, hi: n });
    else out.push(name);
  }
  if (out.length === 0) unnamed = [range];
  return [...out, ...joinRanges(unnamed).map(rangeText)];
}

/**
 * `tcp/80-443, udp`, `every port`, `every protocol except tcp; tcp/1-65535`. Fragments are listed only if no port of
 * their protocols is.
 */
export function spansText(spans: readonly PortSpan[]): string {
  const whole: number[] = [];
  const parts = new Map<number, string[]>();
  const fragments: number[] = [];
  for (let protocol = 0; protocol < 256; protocol++) {
    const own = spans.filter((s) => s.protocols.includes(protocol));
    const runs = joinSpans(own.filter((s) => !s.fragment));
    const [first] = runs;
    if (first === undefined) {
      if (own.length > 0) fragments.push(protocol);
    } else if (first[0] === 0 && first[1] === LAST_PORT) whole.push(protocol);
    else
      parts.set(
        protocol,
        runs.map(([lo, hi]) => runText(protocol, lo, hi)),
      );
  }
  if (whole.length === 256) return 'every port';
  const name = (p: number) => protocolName(p).toLowerCase();
  const out: string[] = [];
  if (whole.length > 128) {
    const without = Array.from({ length: 256 }, (_, p) => p).filter((p) => !whole.includes(p));
    out.push(`every protocol except ${without.map(name).join(', ')}`);
  } else out.push(...whole.map(name));
  for (const [protocol, texts] of parts) out.push(`${name(protocol)}/${bounded(texts, 8).replaceAll(', ', ',')}`);
  if (fragments.length > 0)
    out.push(fragments.length > 128 ? 'later fragments' : `later fragments of ${bounded(fragments.map(name), 4)}`);
  return out.join(', ');
}

function joinSpans(spans: readonly PortSpan[]): [number, number][] {
  const out: [number, number][] = [];
  for (const { lo, hi } of [...spans].sort((a, b) => a.lo - b.lo)) {
    const last = out.at(-1);
    if (last && lo <= last[1] + 1) last[1] = Math.max(last[1], hi);
    else out.push([lo, hi]);
  }
  return out;
}

function runText(protocol: number, lo: number, hi: number): string {
  if (!ICMP.includes(protocol)) return lo === hi ? String(lo) : `${lo}-${hi}`;
  const [from, to] = [lo >> 8, hi >> 8];
  if (lo % 256 === 0 && hi % 256 === 255) return `type ${from === to ? from : `${from}-${to}`}`;
  const one = (n: number) => `${n >> 8}/${n % 256}`;
  return lo === hi ? `type ${one(lo)}` : `type ${one(lo)}-${one(hi)}`;
}

/** A well-known protocol of the span, if it has one. */
export function protocolOf(span: PortSpan): number {
  return [6, 17, 1, 58, 132, 47].find((p) => span.protocols.includes(p)) ?? (span.protocols[0] as number);
}

/** Whether the protocol has ports, or types in place of ports. */
export function looksAtPort(protocol: number): boolean {
  return hasPorts(protocol) || ICMP.includes(protocol);
}

/** Map.groupBy, which Node 20 lacks. */
export function groupBy<K, T>(all: Iterable<T>, keyOf: (it: T) => K): Map<K, T[]> {
  const out = new Map<K, T[]>();
  for (const it of all) {
    const key = keyOf(it);
    const group = out.get(key);
    if (group) group.push(it);
    else out.set(key, [it]);
  }
  return out;
}
