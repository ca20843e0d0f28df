/** What each workload asked for, day by day: edges, summed up over rules and verdicts that do not matter here. */
import { DAY_MS, dayOf, KEPT_DAYS, type Edge, type EdgeHistory, type EdgeParty, partyName } from '../../edges/edge.js';
import { tryCanonicalAddr } from '../../net/addr.js';
import { hasPorts, protocolName } from '../../net/protocol.js';
import { compare, workloadKey } from './cluster.js';
import type { RecommendOptions } from './types.js';

/** Days since 1970, both inclusive. */
export interface Window {
  readonly first: number;
  readonly last: number;
}

/** One destination and port of one workload. */
export interface Need {
  /** The same destination and port has the same key, whoever asks. */
  readonly key: string;
  readonly destination: EdgeParty;
  /** `namespace/name`; empty: none. */
  readonly service: string;
  readonly servicePort: number;
  readonly port: number;
  readonly protocol: number;
  /** The address that was met; empty: none. Of several the first in order, so that nothing depends on theirs. */
  address: string;
  readonly days: Set<number>;
  connections: number;
  bytes: number;
  drops: number;
  firstMs: number;
  lastMs: number;
  /** It is what was denied; what of the same was allowed is a need of its own. */
  readonly denied: boolean;
}

export interface WorkloadNeeds {
  readonly party: EdgeParty;
  /** In an order that depends on nothing but them. */
  readonly needs: readonly Need[];
  /** Days on which the workload was seen, in whatever it did. */
  readonly days: ReadonlySet<number>;
}

/** Reasons of edges that no rule has to allow: answers, and what belongs to a flow that passes. */
const WITHOUT_RULE: ReadonlySet<string> = new Set(['reply', 'related', 'link']);

/** Days of a window, at most: of a clock that was wrong there may be a day in another century. */
const MOST_DAYS = 400;

/** The days of all evidence, as far as they are asked for; undefined: there are none. */
export function windowOf(
  histories: readonly EdgeHistory[],
  { sinceMs, untilMs, beganMs }: Pick<RecommendOptions, 'sinceMs' | 'untilMs' | 'beganMs'>,
): Window | undefined {
  let [first, last] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const { days } of histories)
    for (const { day } of days) {
      if (day < first) first = day;
      if (day > last) last = day;
    }
  const none = first > last;
  if (untilMs !== undefined) last = Math.ceil(untilMs / DAY_MS) - 1;
  // Days without anything count, if they were looked at.
  if (beganMs !== undefined && !none) first = Math.min(first, Math.max(dayOf(beganMs), last - KEPT_DAYS + 1));
  // Who says both ends asks for that time, whether anything was seen in it or not.
  if (none && sinceMs !== undefined && untilMs !== undefined) first = dayOf(sinceMs);
  if (sinceMs !== undefined) first = Math.max(first, dayOf(sinceMs));
  if (!Number.isFinite(first) || !Number.isFinite(last) || first > last) return undefined;
  return { first: Math.max(first, last - MOST_DAYS + 1), last };
}

/** The needs of each workload, by workloadKey(). */
export function needsOf(histories: readonly EdgeHistory[], { first, last }: Window): Map<string, WorkloadNeeds> {
  const found = new Map<string, { party: EdgeParty; needs: Map<string, Need>; days: Set<number> }>();
  for (const { edge, days } of histories) {
    if (edge.inbound || edge.source.kind !== 'workload' || WITHOUT_RULE.has(edge.reason)) continue;
    const key = workloadKey(edge.source);
    let of = found.get(key);
    if (!of) found.set(key, (of = { party: edge.source, needs: new Map(), days: new Set() }));
    const denied = edge.verdict === 'deny';
    const own = needKey(edge);
    const id = denied ? `denied ${own}` : own;
    const address = tryCanonicalAddr(edge.address) ?? '';
    for (const row of days) {
      if (row.day < first || row.day > last) continue;
      of.days.add(row.day);
      let need = of.needs.get(id);
      if (!need) of.needs.set(id, (need = emptyNeed(own, edge, denied)));
      if (address !== '' && (need.address === '' || address < need.address)) need.address = address;
      need.days.add(row.day);
      need.connections += row.connections;
      need.bytes += row.bytes;
      need.drops += row.drops;
      need.firstMs = Math.min(need.firstMs, row.firstMs);
      need.lastMs = Math.max(need.lastMs, row.lastMs);
    }
  }
  const out = new Map<string, WorkloadNeeds>();
  for (const [key, { party, needs, days }] of found) {
    const list = [...needs].sort(([a], [b]) => compare(a, b)).map(([, need]) => need);
    out.set(key, { party, needs: list, days });
  }
  return out;
}

function emptyNeed(key: string, edge: Edge, denied: boolean): Need {
  const { destination, service, servicePort, port, protocol } = edge;
  return {
    ...{ key, destination, service, servicePort, port, protocol, denied },
    ...{ address: '', days: new Set<number>(), connections: 0, bytes: 0, drops: 0 },
    ...{ firstMs: Number.POSITIVE_INFINITY, lastMs: 0 },
  };
}

function needKey({ destination: d, service, servicePort, port, protocol }: Edge): string {
  return JSON.stringify([d.kind, d.namespace, d.workloadKind, d.name, service, servicePort, protocol, port]);
}

/** `shop/api through shop/api:80`, `api.example.com` */
export function needTo({ destination, service, servicePort }: Need): string {
  const name = partyName(destination);
  return service === '' || destination.kind === 'service' ? name : `${name} through ${service}:${servicePort}`;
}

/** How people name a need of a workload: `shop/api through shop/api:80: 8080/tcp` */
export function needName(need: Need): string {
  return `${needTo(need)}: ${portText(need.protocol, need.port)}`;
}

/** `443/tcp`, `30000-32767/tcp`, `icmp 8/0`, `protocol 47` */
export function portText(protocol: number, lo: number, hi = lo): string {
  const name = protocolName(protocol).toLowerCase();
  if (hasPorts(protocol)) return lo === hi ? `${lo}/${name}` : `${lo}-${hi}/${name}`;
  if (protocol === 1 || protocol === 58) return `${name} ${lo >> 8}/${lo & 255}`;
  return /^\d+$/.test(name) ? `protocol ${name}` : name;
}

/** `2026-11-29` */
export function dayText(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10);
}
