/**
 * Destinations in two layers: the CIDR blocks (blocks.ts), and above them the single addresses of pods and nodes. A
 * changed address costs one look-up in the blocks and one edit of the sorted result. Changed blocks cost their own
 * edits, and those of the addresses inside them.
 */
import { SharedMap } from '../../identity/shared-map.js';
import {
  ascending,
  classAt,
  type Destinations,
  edited4,
  edited6,
  type Edits,
  keysBetween,
} from '../../image/edited.js';
import type { Ids } from '../../ids.js';
import { atomPrefix, type Family, IPV4, IPV6 } from '../../image/prefix.js';
import type { Destinations4, Destinations6 } from '../../image/types.js';
import { formatBytes16 } from '../../net/addr.js';
import type { Atom } from '../atoms/atoms.js';
import { BlockTable, type HostKey, type Moved } from './blocks.js';
import type { CountedClass } from './classes.js';
import type { Members } from '../atoms/members.js';
import { key6 } from './sweep.js';

export interface Swept {
  readonly destinations4: Destinations4;
  readonly destinations6: Destinations6;
  readonly classes: ReadonlyMap<number, readonly string[]>;
}

/** The result of an update, and the addresses whose class may have changed. */
export interface Updated {
  readonly swept: Swept;
  /** Whether the class of any address may have changed. */
  readonly all: boolean;
  /** Single addresses whose class may have changed. */
  readonly touched: ReadonlySet<string>;
  /** A predicate for further such addresses; absent: there are none. */
  readonly inside?: (ip: string) => boolean;
}

interface Host {
  readonly ip: string;
  readonly counted: CountedClass;
}

/** The destinations of the last compilation. */
export class DestinationTable {
  #atoms: readonly Atom[] = [];
  readonly #blocks: BlockTable;
  /** Single addresses to which a predicate atom applies. */
  readonly #hosts = new Map<HostKey, Host>();
  #result: Swept;

  constructor(ids: Ids) {
    this.#blocks = new BlockTable(ids);
    const { destinations4, destinations6 } = this.#blocks;
    this.#result = { destinations4, destinations6, classes: SharedMap.of<readonly string[], number>() };
  }

  /** Class of an address; 0 if it has none. */
  classOf(ip: string): number {
    const key = hostKey(ip);
    return this.#hosts.get(key)?.counted.id ?? this.#blocks.classOf(key);
  }

  /**
   * Updates the destinations.
   * @param atoms all atoms in force
   * @param touched addresses whose members() may have changed
   * @throws SetFault if two classes have the same id; the tables must then be discarded
   */
  update(atoms: readonly Atom[], members: Members, touched: ReadonlySet<string>): Updated {
    const { destinations4, destinations6 } = this.#blocks;
    const moved = atoms === this.#atoms ? undefined : this.#blocks.update(atoms);
    this.#atoms = atoms;
    if (moved === 'all') return { swept: this.#anew(members), all: true, touched };
    const reached = moved ? this.#reached(moved, touched) : touched;
    const hosts4 = new Map<number, number | undefined>();
    const hosts6 = new Map<string, number | undefined>();
    for (const ip of reached) {
      const key = hostKey(ip);
      const before = this.#hosts.get(key);
      const now = this.#hostOf(ip, key, members);
      if (before) this.#blocks.classes.drop(before.counted);
      if (now) this.#hosts.set(key, { ip, counted: now });
      else this.#hosts.delete(key);
      // A host keeps its entry if a block of the same length changes at its address.
      if (before?.counted.id === now?.id && !(now && moved)) continue;
      if (typeof key === 'number') hosts4.set(key, now?.id);
      else hosts6.set(key, now?.id);
    }
    if (moved || hosts4.size + hosts6.size > 0) {
      const result = this.#result;
      const edits4 = edits(moved?.edits4 ?? [], hosts4, this.#blocks.destinations4);
      const edits6 = edits(moved?.edits6 ?? [], hosts6, this.#blocks.destinations6);
      // Without hosts above the blocks, the result is the blocks themselves.
      const [bare4, bare6] = [result.destinations4 === destinations4, result.destinations6 === destinations6];
      this.#result = {
        destinations4: bare4 && hosts4.size === 0 ? this.#blocks.destinations4 : edited4(result.destinations4, edits4),
        destinations6: bare6 && hosts6.size === 0 ? this.#blocks.destinations6 : edited6(result.destinations6, edits6),
        classes: (result.classes as SharedMap<readonly string[], number>).with(this.#blocks.classes.takeChanges()),
      };
    }
    const inside = moved && insideOf(moved);
    return { swept: this.#result, all: false, touched: reached, ...(inside ? { inside } : {}) };
  }

  /** Recomputes all hosts above new blocks. */
  #anew(members: Members): Swept {
    const [blocks, hosts] = [this.#blocks, this.#hosts];
    hosts.clear();
    const hosts4 = new Map<number, number | undefined>();
    const hosts6 = new Map<string, number | undefined>();
    for (const ip of members.ips()) {
      const key = hostKey(ip);
      const counted = this.#hostOf(ip, key, members);
      if (!counted) continue;
      hosts.set(key, { ip, counted });
      if (typeof key === 'number') hosts4.set(key, counted.id);
      else hosts6.set(key, counted.id);
    }
    const { destinations4, destinations6, classes } = blocks;
    classes.takeChanges();
    this.#result = {
      destinations4: edited4(destinations4, edits([], hosts4, destinations4)),
      destinations6: edited6(destinations6, edits([], hosts6, destinations6)),
      classes: SharedMap.of<readonly string[], number>(new Map(classes)),
    };
    return this.#result;
  }

  /** The touched addresses, and the hosts at or inside blocks that changed. */
  #reached({ ranges4, ranges6 }: Moved, touched: ReadonlySet<string>): Set<string> {
    const reached = new Set(touched);
    const take = <K extends number | string>(d: Destinations<K>, { last }: Family<K>, range: K, text: string) => {
      const end = last(range);
      if (range === end) reached.add(text);
      else
        for (const key of keysBetween(d, range, end)) {
          const host = this.#hosts.get(key);
          if (host) reached.add(host.ip);
        }
    };
    const { destinations4, destinations6 } = this.#result;
    for (const range of ranges4) take(destinations4, IPV4, range, text4(range));
    for (const range of ranges6) take(destinations6, IPV6, range, text6(range));
    return reached;
  }

  /** The counted class of a host; undefined if no predicate atom applies to it. */
  #hostOf(ip: string, key: HostKey, members: Members): CountedClass | undefined {
    const own = members.at(ip);
    if (!own) return undefined;
    const { classes } = this.#blocks;
    const covering = classes.atomsOf(this.#blocks.classOf(key));
    return classes.take(covering.length === 0 ? own : [...new Set([...covering, ...own])].sort(ascending));
  }
}

function hostKey(ip: string): HostKey {
  const p = atomPrefix(ip, 1);
  return p.family === 4 ? p.addr4 * 64 + 32 : key6(p);
}

/** The address of a key, canonical text. */
function text4(key: number): string {
  const addr = Math.floor(key / 64);
  return `${addr >>> 24}.${(addr >>> 16) & 255}.${(addr >>> 8) & 255}.${addr & 255}`;
}

function text6(key: string): string {
  return formatBytes16(Buffer.from(key.slice(0, 32), 'hex'), 6);
}

/** Edits in ascending order. If a host is gone, the block of the same length takes its place, if there is one. */
function edits<K extends number | string>(
  blocks: Edits<K>,
  hosts: ReadonlyMap<K, number | undefined>,
  fixed: Destinations<K>,
): Edits<K> {
  if (hosts.size === 0) return blocks;
  const out = new Map(blocks);
  for (const [key, classId] of hosts) out.set(key, classId ?? classAt(fixed, key));
  return [...out].sort(([a], [b]) => ascending(a, b));
}

/** A predicate for addresses inside a range of more than one address; undefined if there is no such range. */
function insideOf({ ranges4, ranges6 }: Moved): Updated['inside'] {
  const wide4 = ranges4.filter((key) => IPV4.length(key) < IPV4.bits);
  const wide6 = ranges6.filter((key) => IPV6.length(key) < IPV6.bits);
  if (wide4.length + wide6.length === 0) return undefined;
  return (ip) => {
    const key = hostKey(ip);
    return typeof key === 'number' ? within(wide4, IPV4, key) : within(wide6, IPV6, key);
  };
}

/** Whether a key is inside one of the ranges. @param ranges ascending and disjoint */
function within<K extends number | string>(ranges: readonly K[], family: Family<K>, key: K): boolean {
  let [lo, hi] = [0, ranges.length];
  while (lo < hi) {
    const middle = (lo + hi) >>> 1;
    if ((ranges[middle] as K) <= key) lo = middle + 1;
    else hi = middle;
  }
  return lo > 0 && family.covers(ranges[lo - 1] as K, key);
}
