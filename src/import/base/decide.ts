/**
 * Makes ordered rules, of which the first match decides, to what every language can say: names and blocks that are
 * allowed, and blocks that are denied. No language denies by name. So what an earlier rule denies by name is taken out
 * of the names that later rules allow; where that leaves what no pattern says, it is left out and told.
 */
import { bound } from './limits.js';
import { type Listing, type ListRule, type Place, Remarks } from './model.js';
import { EVERYTHING, NOTHING, type Region } from './region.js';
import {
  addressesOf,
  type Addresses,
  andAddresses,
  cidrsOf,
  notAddresses,
  orPorts,
  type Ports,
  portsText,
  type Range,
} from './spans.js';

/** One rule of a policy: all of an item's destinations on the ports of its part. */
export type Item =
  /** Canonical patterns. */
  | { readonly kind: 'names'; readonly patterns: readonly string[]; readonly where: Place }
  /** CIDR blocks, canonical text; those of both families together are every address. */
  | { readonly kind: 'allow' | 'deny'; readonly blocks: readonly string[]; readonly where: Place };

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

export const ANYWHERE: readonly string[] = ['0.0.0.0/0', '::/0'];

/** @returns a plan that allows nothing that the rules do not allow */
export function decide(listing: Listing): Plan {
  const refused = new Remarks();
  const last: ListRule = {
    action: listing.otherwise,
    names: EVERYTHING,
    addresses: null,
    ports: listing.universe,
    where: listing.last,
  };
  const byItems = new Map<string, { ports: Ports; items: readonly Item[] }>();
  const apart = groups([...listing.rules, last], listing.universe);
  bound(apart.length * listing.origins.size, MAX_WORK, 'names, times the groups of ports that rules tell apart');
  for (const { ports, rules } of apart) {
    const items = new Walk(ports, refused).items(rules);
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
      const key = JSON.stringify(item.kind === 'names' ? item.patterns : [item.blocks]);
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

/** Domains that a message lists. */
const SHOWN = 3;

/** The walk over the rules of one group. */
class Walk {
  readonly #ports: Ports;
  readonly #refused: Remarks;
  /** Names that an earlier rule has decided, for every address that is not in a denied block. */
  #decided = NOTHING;
  /** The part of them that is denied. */
  #denied = NOTHING;
  #allowed = NOTHING;
  readonly #items: Item[] = [];

  constructor(ports: Ports, refused: Remarks) {
    this.#ports = ports;
    this.#refused = refused;
  }

  items(rules: readonly ListRule[]): Item[] {
    for (const rule of rules) {
      if (rule.addresses !== null) this.#toBlocks(rule, rule.addresses);
      else if (rule.action === 'allow') this.#allow(rule);
      else this.#deny(rule.names);
      if (this.#decided.isEverything) break;
    }
    while (this.#items.at(-1)?.kind === 'deny') this.#items.pop();
    return this.#items;
  }

  #refuse(where: Place, message: string): void {
    this.#refused.say(where, `${message} (${portsText(this.#ports)})`);
  }

  #deny(names: Region): void {
    if (names === EVERYTHING) {
      // Nothing comes after it.
      this.#decided = EVERYTHING;
      return;
    }
    const live = names.minus(this.#decided);
    this.#denied = this.#denied.or(live);
    this.#decided = this.#decided.or(live);
  }

  #toBlocks({ action, names, addresses, where }: ListRule, ranges: Addresses): void {
    if (action === 'deny') {
      if (names.isEverything) this.#push({ kind: 'deny', blocks: cidrsOf(ranges), where });
      else {
        this.#refuse(where, 'denies some names at some addresses only: no language does, so it denies them everywhere');
        this.#deny(names);
      }
      return;
    }
    if (!names.isEverything) {
      this.#refuse(where, 'allows some names at some addresses only: no language has both in one rule');
      return;
    }
    if (this.#denied.hasNames || this.#denied.unnamed) {
      const rest = this.#denied.hasNames ? 'names' : 'addresses without a name';
      this.#refuse(where, `allows addresses, but rules before it deny ${rest}, and no language denies by name`);
      return;
    }
    if (addresses !== null) this.#push({ kind: 'allow', blocks: cidrsOf(ranges), where });
  }

  #allow({ names, where }: ListRule): void {
    const live = names.minus(this.#decided);
    if (live.isEmpty) return;
    this.#decided = this.#decided.or(live);
    if (live.unnamed && this.#allowed.or(live).hasEveryName) {
      this.#push({ kind: 'allow', blocks: ANYWHERE, where });
      return;
    }
    if (live.unnamed)
      this.#refuse(
        where,
        `allows everything but some names: no language denies by name, so it allows ${live.hasNames ? 'less' : 'nothing'}`,
      );
    this.#allowed = this.#allowed.or(live.named);
    const { patterns, lost } = live.patterns();
    const told = lost.filter(({ below }) => below !== '');
    for (const { below, but } of told.slice(0, SHOWN))
      this.#refuse(where, `allows what is below ${below} but not ${but}, which no pattern says: none of it is allowed`);
    if (told.length > SHOWN) this.#refuse(where, `and ${told.length - SHOWN} more domains like ${told[0]!.below}`);
    if (told.length < lost.length && !live.unnamed)
      this.#refuse(where, 'allows every name but some: no language denies by name');
    if (patterns.length > 0) this.#push({ kind: 'names', patterns, where });
  }

  #push(item: Item): void {
    this.#items.push(item);
  }
}

/** The blocks that are in none of some others. */
export function withoutBlocks(blocks: readonly string[], others: readonly string[]): string[] {
  return cidrsOf(andAddresses(addressesOf(blocks), notAddresses(addressesOf(others))));
}
