/**
 * Makes ordered rules, of which the first match decides, to what every language can say: names and blocks that are
 * allowed, and blocks that are denied. No language denies by name. So what an earlier rule denies by name is taken out
 * of the names that later rules allow; where that leaves what no pattern says, it is left out and told.
 */
import { ANYTHING } from './conditions.js';
import { bound } from './limits.js';
import { type Listing, type ListRule, Remarks } from './model.js';
import { addressesOf, andAddresses, cidrsOf, notAddresses, orPorts, type Ports, type Range } from './spans.js';
import { type Item, Walk } from './walk.js';

/** What holds on some ports; in order. What no item allows is denied. */
export interface Part {
  readonly ports: Ports;
  readonly items: readonly Item[];
}

export interface Plan {
  /** Of two parts with denies, the ports have none in common. */
  readonly parts: readonly Part[];
  readonly refused: readonly Remarks['all'][number][];
}

/** Names that are looked at, in all groups of ports. */
const MAX_WORK = 5_000_000;

/** @returns a plan that allows nothing that the rules do not allow */
export function decide(listing: Listing): Plan {
  const refused = new Remarks();
  const last: ListRule = { ...ANYTHING, action: listing.otherwise, ports: listing.universe, where: listing.last };
  const byItems = new Map<string, { ports: Ports; items: readonly Item[] }>();
  const apart = groups([...listing.rules, last], listing.universe);
  bound(apart.length * listing.origins.size, MAX_WORK, 'names, times the groups of ports that rules tell apart');
  for (const { ports, rules } of apart) {
    const items = new Walk(ports, listing.about, refused).items(rules);
    if (items.length === 0) continue;
    const key = JSON.stringify(items);
    const same = byItems.get(key);
    byItems.set(key, { ports: same ? orPorts(same.ports, ports) : ports, items });
  }
  return { parts: united([...byItems.values()]), refused: refused.all };
}

/** Without a deny the order does not matter: an item that stands on several ports is said once. */
function united(parts: readonly Part[]): readonly Part[] {
  if (parts.some(({ items }) => items.some(({ kind }) => kind === 'deny'))) return parts;
  const byItem = new Map<string, Part>();
  for (const { ports, items } of parts)
    for (const item of items) {
      const key = JSON.stringify({ ...item, where: undefined });
      const same = byItem.get(key);
      byItem.set(key, same ? { ...same, ports: orPorts(same.ports, ports) } : { ports, items: [item] });
    }
  return [...byItem.values()];
}

interface Group {
  readonly ports: Ports;
  readonly rules: readonly ListRule[];
}

/** Ports for which the same rules count, together. */
function groups(rules: readonly ListRule[], universe: Ports): Group[] {
  const found = new Map<string, { ports: { tcp: Range[]; udp: Range[]; other: boolean }; rules: ListRule[] }>();
  const add = (indices: readonly number[], put: (ports: { tcp: Range[]; udp: Range[]; other: boolean }) => void) => {
    const key = indices.join();
    let group = found.get(key);
    if (!group)
      found.set(key, (group = { ports: { tcp: [], udp: [], other: false }, rules: indices.map((i) => rules[i]!) }));
    put(group.ports);
  };
  for (const protocol of ['tcp', 'udp'] as const) {
    const changes = new Map<number, number[]>();
    const at = (port: number, index: number) => {
      const list = changes.get(port);
      if (list) list.push(index);
      else changes.set(port, [index]);
    };
    rules.forEach((rule, i) => {
      for (const [lo, hi] of rule.ports[protocol]) {
        at(lo, i);
        at(hi + 1, -i - 1);
      }
    });
    // A rule may mean the same port twice.
    const open = new Map<number, number>();
    const sorted = [...changes].sort(([a], [b]) => a - b);
    sorted.forEach(([lo, indices], n) => {
      for (const i of indices) {
        const index = i < 0 ? -i - 1 : i;
        const count = (open.get(index) ?? 0) + (i < 0 ? -1 : 1);
        if (count > 0) open.set(index, count);
        else open.delete(index);
      }
      const hi = (sorted[n + 1]?.[0] ?? 65536) - 1;
      if (lo > hi || !universe[protocol].some(([from, to]) => from <= lo && hi <= to)) return;
      const rulesHere = [...open.keys()].sort((a, b) => a - b);
      add(rulesHere, (ports) => ports[protocol].push([lo, hi]));
    });
  }
  if (universe.other) {
    const indices = rules.flatMap((rule, i) => (rule.ports.other ? [i] : []));
    add(indices, (ports) => (ports.other = true));
  }
  return [...found.values()].map(({ ports, rules }) => ({ ports: orPorts(ports, ports), rules }));
}

/** The blocks that are in none of some others. */
export function withoutBlocks(blocks: readonly string[], others: readonly string[]): string[] {
  return cidrsOf(andAddresses(addressesOf(blocks), notAddresses(addressesOf(others))));
}
