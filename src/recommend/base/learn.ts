/** What of the needs of a workload is worth a rule, and what is left out, with the reason. */
import { dayOf, partyName } from '../../edges/edge.js';
import { TCP } from '../../net/protocol.js';
import { type Need, needName, type WorkloadNeeds } from './needs.js';
import { push } from './cluster.js';
import type { LeftOutWhy, PortRange, RecommendOptions } from './types.js';

export interface Left {
  readonly need: Need;
  readonly why: LeftOutWhy;
  readonly hint?: string;
}

export interface Learned {
  readonly kept: readonly Need[];
  readonly left: readonly Left[];
}

/** Ports of one peer and protocol, above which nobody means each of them. */
const MANY_PORTS = 10;
/** Peers, or ports of a peer, that are first seen on one day and never again: somebody tried what there is. */
const SCAN = 20;
/**
 * Bytes of a TCP connection that somebody accepted, at least: three packets to open it and one to end it. An attempt
 * that is refused takes two, one that nobody answers some more of one direction.
 */
const ACCEPTED_BYTES = 200;
/** What runs now and then: it is asked for the days on which it ran, not for two. */
const NOW_AND_THEN: ReadonlySet<string> = new Set(['CronJob', 'Job']);

type Options = Pick<RecommendOptions, 'minDays' | 'ranges' | 'withDenied' | 'without' | 'also'>;

/** @param needs of one workload */
export function learn({ needs, party, days }: WorkloadNeeds, options: Options): Learned {
  const kept: Need[] = [];
  const left: Left[] = [];
  const isRare = NOW_AND_THEN.has(party.workloadKind);
  const least = isRare ? Math.min(options.minDays, Math.max(1, days.size)) : options.minDays;
  const rare: Need[] = [];
  const daysOf = daysInRanges(needs, options.ranges);
  const denied: Need[] = [];
  const chosen: Need[] = [];
  const [without, also] = [new Set(options.without), new Set(options.also)];
  const hasChoices = without.size + also.size > 0;
  for (const need of needs) {
    const name = hasChoices ? needName(need) : '';
    if (without.has(name)) left.push({ need, why: 'unwanted' });
    else if (need.destination.kind === 'other')
      left.push({ need, why: 'other', hint: 'the ledger had no room for it' });
    else if (also.has(name)) chosen.push(need);
    else if (need.denied) denied.push(need);
    else if (isUnanswered(need)) left.push({ need, why: 'unanswered' });
    else if (daysOf(need) < least) rare.push(need);
    else kept.push(need);
  }
  const allowed = new Set([...kept, ...chosen.filter((need) => !need.denied)].map(({ key }) => key));
  for (const need of denied) {
    // What is recommended anyhow was denied at another time.
    if (allowed.has(need.key)) continue;
    if (options.withDenied && daysOf(need) >= least) kept.push(need);
    else if (options.withDenied) left.push({ need, why: 'denied', hint: `seen on ${need.days.size} of ${least} days` });
    else left.push({ need, why: 'denied' });
  }
  const scanned = scans(rare);
  for (const need of rare) {
    if (scanned.has(need)) left.push({ need, why: 'scan' });
    else left.push({ need, why: 'one-off', hint: `seen on ${need.days.size} of ${least} days` });
  }
  const learned = withoutManyPorts(kept, left, options.ranges);
  // Of what was denied at one time and allowed at another, one is enough.
  const own = chosen.filter((need) => !need.denied || !allowed.has(need.key));
  return { kept: [...learned.kept, ...own], left: learned.left };
}

function isUnanswered({ protocol, connections, bytes, drops }: Need): boolean {
  // Of a connection that is still open no byte is counted yet.
  if (bytes === 0) return drops > 0;
  return protocol === TCP && bytes < ACCEPTED_BYTES * connections;
}

function peerOf({ destination, protocol }: Need): string {
  return `${protocol} ${destination.kind} ${partyName(destination)}`;
}

/** Ports of a declared range are one: the days of a peer's ports in it are counted together. */
function daysInRanges(needs: readonly Need[], ranges: readonly PortRange[]): (need: Need) => number {
  const days = new Map<string, Set<number>>();
  const keyOf = (need: Need) => {
    const range = rangeOf(need, ranges);
    return range && `${range.lo} ${range.hi} ${peerOf(need)}`;
  };
  for (const need of needs) {
    const key = keyOf(need);
    if (key === undefined || need.denied || isUnanswered(need)) continue;
    let set = days.get(key);
    if (!set) days.set(key, (set = new Set()));
    for (const day of need.days) set.add(day);
  }
  return (need) => days.get(keyOf(need) ?? '')?.size ?? need.days.size;
}

/** The declared range that a port is in. */
export function rangeOf({ protocol, port }: Need, ranges: readonly PortRange[]): PortRange | undefined {
  return ranges.find((r) => r.protocol === protocol && r.lo <= port && port <= r.hi);
}

/** Of what was seen too rarely, that of which there is much at once. */
function scans(rare: readonly Need[]): Set<Need> {
  const groups = new Map<string, Need[]>();
  for (const need of rare) {
    const day = dayOf(need.firstMs);
    push(groups, `ports ${day} ${peerOf(need)}`, need);
    push(groups, `peers ${day} ${need.protocol} ${need.port}`, need);
  }
  const out = new Set<Need>();
  for (const group of groups.values()) if (group.length >= SCAN) for (const need of group) out.add(need);
  return out;
}

function withoutManyPorts(kept: readonly Need[], left: Left[], ranges: readonly PortRange[]): Learned {
  const isKept = new Set(kept);
  const byPeer = new Map<string, Need[]>();
  for (const one of [...kept, ...left.flatMap(({ need, why }) => (why === 'one-off' || why === 'scan' ? need : []))])
    if (!rangeOf(one, ranges)) push(byPeer, peerOf(one), one);
  const many = new Map<Need, string>();
  for (const group of byPeer.values()) {
    const ports = [...new Set(group.map(({ port }) => port))].sort((a, b) => a - b);
    if (ports.length <= MANY_PORTS) continue;
    const often = new Set(group.filter((need) => isKept.has(need)).map(({ port }) => port)).size;
    // Who tries all ports of a peer once does so on one day.
    if (often === 0 && new Set(group.flatMap(({ days }) => [...days])).size < 2) continue;
    const hint = `${ports.length} ports from ${ports[0]} to ${ports.at(-1)}: say a range`;
    for (const need of group) if (often > MANY_PORTS || !isKept.has(need)) many.set(need, hint);
  }
  const why = 'many-ports' as const;
  return {
    kept: kept.filter((need) => !many.has(need)),
    left: [
      ...left.map((one) => (many.has(one.need) ? { need: one.need, why, hint: many.get(one.need) as string } : one)),
      ...kept.flatMap((need) => (many.has(need) ? [{ need, why, hint: many.get(need) as string }] : [])),
    ],
  };
}
