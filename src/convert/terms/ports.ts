/** The protocols and ports of a rule, grouped by the distinctions that languages make. */
import type { PortMatch } from '../../ir/types.js';
import { hasPorts, protocolName, SCTP, TCP, UDP } from '../../net/protocol.js';
import { Unsayable } from './labels.js';

export type Range = readonly [number, number];

/** All ports of one protocol in a rule. */
export interface ProtocolPorts {
  readonly protocol: number;
  /** null: every port, including packets whose ports are unknown. */
  readonly ranges: readonly Range[] | null;
  readonly names: readonly string[];
}

export const WITH_PORTS = [TCP, UDP, SCTP] as const;
const ICMP: readonly number[] = [1, 58];

/**
 * Groups by protocol, ascending. A port name without a protocol applies to each protocol with ports.
 * @throws Unsayable for matches that depend on something other than ports
 */
export function byProtocol(ports: readonly PortMatch[]): ProtocolPorts[] {
  const found = new Map<number, { ranges: Range[] | null; names: Set<string> }>();
  for (const match of ports) {
    known(match);
    for (const protocol of match.protocol === null ? WITH_PORTS : [match.protocol]) {
      let at = found.get(protocol);
      if (!at) found.set(protocol, (at = { ranges: [], names: new Set() }));
      if (match.named !== undefined) at.names.add(match.named);
      const whole = match.ports?.some(([lo, hi]) => lo === 0 && hi === 65535) ?? match.named === undefined;
      if (whole) at.ranges = null;
      else if (at.ranges) at.ranges.push(...(match.ports ?? []));
    }
  }
  return [...found]
    .sort(([a], [b]) => a - b)
    .map(([protocol, { ranges, names }]) => ({
      protocol,
      ranges: ranges && joined(ranges),
      names: ranges === null ? [] : [...names],
    }))
    .filter(({ ranges, names }) => ranges === null || ranges.length > 0 || names.length > 0);
}

const KNOWN: readonly string[] = ['protocol', 'ports', 'named', 'service'];

/** Throws for properties that may be added to the IR later, so that they are not ignored. */
function known(match: PortMatch): void {
  const { service } = match;
  if (service) {
    const name = `${service.namespace}/${service.name}`;
    throw new Unsayable(`means what is behind Service ${name}, on its own ports: only Calico has that`);
  }
  const other = Object.keys(match).find((key) => !KNOWN.includes(key));
  if (other !== undefined) throw new Unsayable(`means the ports of a ${other}: no other language has that`);
}

function joined(ranges: readonly Range[]): Range[] {
  const out: [number, number][] = [];
  for (const [lo, hi] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = out.at(-1);
    if (last && lo <= last[1] + 1) last[1] = Math.max(last[1], hi);
    else out.push([lo, hi]);
  }
  return out;
}

/** Such as `TCP/80-443`, `UDP/dns`, `ICMP`. */
export function portsText({ protocol, ranges, names }: ProtocolPorts): string {
  const name = protocolName(protocol);
  if (ranges === null) return name;
  return `${name}/${[...ranges.map(([lo, hi]) => (lo === hi ? `${lo}` : `${lo}-${hi}`)), ...names].join()}`;
}

/** @throws Unsayable for a protocol that Kubernetes' own languages do not support */
export function onlyWithPorts({ protocol }: ProtocolPorts, kind: string): void {
  if (!hasPorts(protocol))
    throw new Unsayable(`protocol ${protocolName(protocol)} has no counterpart in ${kind}: TCP, UDP and SCTP have`);
}

/** @throws Unsayable for port 0, which Kubernetes does not support */
export function fromOne([lo, hi]: Range, kind: string): void {
  if (lo === 0) throw new Unsayable(`port 0 ${hi === 0 ? '' : `(of 0-${hi}) `}has no counterpart in ${kind}`);
}

/** A range of type × 256 + code as whole types and single codes. */
export function icmpParts([lo, hi]: Range): { type: number; code?: number }[] {
  const out: { type: number; code?: number }[] = [];
  let at = lo;
  while (at <= hi) {
    const type = at >> 8;
    if (at % 256 === 0 && hi >= at + 255) {
      out.push({ type });
      at += 256;
    } else {
      out.push({ type, code: at % 256 });
      at++;
    }
  }
  return out;
}

export function isIcmp(protocol: number): boolean {
  return ICMP.includes(protocol);
}
