/** Translates the fields for protocol, ICMP and ports of a rule to port matches of the IR. */
import type { PortMatch } from '../../ir/types.js';
import { hasPorts, parseProtocol } from '../../net/protocol.js';

export type Report = (field: string, message: string, hint: string) => void;

export interface IcmpSpec {
  readonly type?: number;
  readonly code?: number;
}

export interface PortFields {
  readonly protocol?: number | string;
  readonly notProtocol?: number | string;
  readonly icmp?: IcmpSpec;
  readonly notICMP?: IcmpSpec;
  readonly ipVersion?: 4 | 6;
  readonly ports: readonly (number | string)[];
  readonly notPorts: readonly (number | string)[];
}

type Range = readonly [number, number];

const ICMP = 1;
const ICMPV6 = 58;

/** Names in api/pkg/lib/numorstring/protocol.go. Other protocols have numbers only. */
const NAMES: ReadonlyMap<string, number> = new Map([
  ['tcp', 6],
  ['udp', 17],
  ['icmp', ICMP],
  ['icmpv6', ICMPV6],
  ['sctp', 132],
  ['udplite', 136],
]);

/** @returns null for every protocol and port */
export function readPorts(spec: PortFields, path: string, report: Report): PortMatch[] | null {
  const protocol = readProtocol(spec.protocol, `${path}.protocol`, report);
  const notProtocol = readProtocol(spec.notProtocol, `${path}.notProtocol`, report);
  checkFamily(spec, protocol, `${path}.protocol`, report);
  checkFamily(spec, notProtocol, `${path}.notProtocol`, report);
  const icmp = readIcmp(spec.icmp, protocol, `${path}.icmp`, report);
  const notIcmp = readIcmp(spec.notICMP, protocol, `${path}.notICMP`, report);
  const ports = readList(spec.ports, protocol, `${path}.destination.ports`, report);
  const notPorts = readList(spec.notPorts, protocol, `${path}.destination.notPorts`, report);
  if (ports.names.length > 0 && spec.notPorts.length > 0) {
    const message = 'is not enforced beside port names';
    report(`${path}.destination.notPorts`, message, 'leave the numbers out of destination.ports instead');
  }
  if (protocol === undefined) {
    if (notProtocol === undefined) return null;
    return Array.from({ length: 256 }, (_, n) => n)
      .filter((n) => n !== notProtocol)
      .map((n) => ({ protocol: n }));
  }
  if (protocol === notProtocol) return [];
  let ranges: Range[] | undefined;
  const only = (allowed: readonly Range[]) => {
    ranges = ranges ? both(ranges, allowed) : [...allowed];
  };
  if (icmp) only([icmp]);
  if (notIcmp) only(complement([notIcmp]));
  if (spec.ports.length > 0) only(ports.ranges);
  if (spec.notPorts.length > 0) only(complement(notPorts.ranges));
  if (notPorts.names.length > 0) {
    const but = { notNamed: notPorts.names };
    if (ranges?.length === 0) return [];
    return [ranges ? { protocol, ports: ranges, ...but } : { protocol, ...but }];
  }
  const named = ports.names.map((name): PortMatch => ({ protocol, named: name }));
  if (!ranges) return [{ protocol }];
  return ranges.length === 0 ? named : [{ protocol, ports: ranges }, ...named];
}

function readProtocol(value: number | string | undefined, field: string, report: Report): number | undefined {
  if (value === undefined) return undefined;
  const number = typeof value === 'number' ? value : (NAMES.get(value.toLowerCase()) ?? Number(value || Number.NaN));
  if (Number.isInteger(number) && number >= 1 && number <= 255) return number;
  const known = typeof value === 'string' ? parseProtocol(value) : undefined;
  const hint = known ? `write ${known}` : 'use TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255';
  report(field, `${JSON.stringify(value)} is not a protocol`, hint);
  return undefined;
}

/** Combinations that Calico refuses too (libcalico-go/lib/validator/v3). */
function checkFamily({ ipVersion }: PortFields, protocol: number | undefined, field: string, report: Report): void {
  const wanted = protocol === ICMP ? 4 : protocol === ICMPV6 ? 6 : undefined;
  if (wanted === undefined || ipVersion === undefined || ipVersion === wanted) return;
  report(field, `does not go with ipVersion ${ipVersion}`, `set ipVersion to ${wanted}, or leave it out`);
}

/** ICMP as a range of type × 256 + code. Without a type: every message. */
function readIcmp(
  spec: IcmpSpec | undefined,
  protocol: number | undefined,
  field: string,
  report: Report,
): Range | undefined {
  if (!spec) return undefined;
  if (protocol !== ICMP && protocol !== ICMPV6) {
    report(field, 'needs the protocol', 'set protocol to ICMP or ICMPv6');
    return undefined;
  }
  const { type, code } = spec;
  if (type !== undefined && (type < 0 || type > 254)) report(`${field}.type`, `${type} is not a type`, 'use 0 to 254');
  if (code !== undefined && (code < 0 || code > 255)) report(`${field}.code`, `${code} is not a code`, 'use 0 to 255');
  if (type === undefined) {
    if (code !== undefined) report(`${field}.code`, 'is set without a type', 'add the type');
    return [0, 65535];
  }
  return code === undefined ? [type * 256, type * 256 + 255] : [type * 256 + code, type * 256 + code];
}

function readList(list: readonly (number | string)[], protocol: number | undefined, field: string, report: Report) {
  const ranges: Range[] = [];
  const names: string[] = [];
  if (list.length > 0 && (protocol === undefined || !hasPorts(protocol))) {
    report(field, 'needs a protocol that has ports', 'set protocol to TCP, UDP or SCTP');
  }
  list.forEach((item, i) => {
    const text = String(item);
    const range = /^(\d+)(?::(\d+))?$/.exec(text);
    if (!range) {
      // api/pkg/lib/numorstring/port.go
      if (/^[a-zA-Z0-9_.-]{1,128}$/.test(text) && typeof item === 'string') names.push(text);
      else
        report(
          `${field}[${i}]`,
          `${JSON.stringify(item)} is not a port`,
          'write a number, a range as "80:90", or a name',
        );
      return;
    }
    const lo = Number(range[1]);
    const hi = Number(range[2] ?? range[1]);
    if (lo <= hi && hi <= 65535) ranges.push([lo, hi]);
    else report(`${field}[${i}]`, `${JSON.stringify(item)} is not a port`, 'use 0 to 65535, the smaller one first');
  });
  return { ranges, names };
}

/** All ports that are in none of the ranges, in ascending order. */
function complement(ranges: readonly Range[]): Range[] {
  const out: Range[] = [];
  let next = 0;
  for (const [lo, hi] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (lo > next) out.push([next, lo - 1]);
    next = Math.max(next, hi + 1);
  }
  if (next <= 65535) out.push([next, 65535]);
  return out;
}

function both(a: readonly Range[], b: readonly Range[]): Range[] {
  return a.flatMap(([lo, hi]) =>
    b.map(([from, to]): Range => [Math.max(lo, from), Math.min(hi, to)]).filter(([from, to]) => from <= to),
  );
}
