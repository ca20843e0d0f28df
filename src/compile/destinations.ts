/**
 * Destinations in two layers: what CIDR blocks say (blocks.ts), and above it the single addresses of pods and nodes,
 * each by itself. An address that changes costs one look-up below it and one place in the sorted result; blocks that change
 * cost their own places, and the addresses inside them.
 */
import { SharedMap } from '../identity/shared-map.js';
import { ascending, classAt, type Destinations, edited4, edited6, type Edits, keysBetween } from '../image/edited.js';
import { type Family, IPV4, IPV6 } from '../image/prefix.js';
import type { Destinations4, Destinations6 } from '../image/types.js';
import { formatBytes16 } from '../net/addr.js';
import { type Atom, atomPrefix } from './atoms.js';
import { BlockTable, type HostKey, type Moved } from './blocks.js';
import type { CountedClass } from './classes.js';
import type { Members } from './members.js';
import { key6 } from './sweep.js';

export interface Swept {
  readonly destinations4: Destinations4;
  readonly destinations6: Destinations6;
  readonly classes: ReadonlyMap<number, readonly number[]>;
}

/** The result, and whose class may be another one than before. */
export interface Updated {
  readonly swept: Swept;
  /** Any address's. */
  readonly all: boolean;
  /** These addresses'. */
  readonly touched: ReadonlySet<string>;
  /** Also those for which this says yes; absent: no others. */
  readonly inside?: (ip: string) => boolean;
}

interface Host {
  readonly ip: string;
  readonly held: CountedClass;
}

export class DestinationTable {
  private atoms: readonly Atom[] = [];
  private readonly blocks = new BlockTable();
  /** Single addresses that some predicate holds. */
  private readonly hosts = new Map<HostKey, Host>();
  private result: Swept = {
    destinations4: this.blocks.destinations4,
    destinations6: this.blocks.destinations6,
    classes: SharedMap.of<readonly number[], number>(),
  };

  /** Class of an address; 0 for none. */
  classOf(ip: string): number {
    const key = hostKey(ip);
    return this.hosts.get(key)?.held.id ?? this.blocks.classOf(key);
  }

  /**
   * @param atoms those in force
   * @param touched addresses whose members() may have changed
   */
  update(atoms: readonly Atom[], members: Members, touched: ReadonlySet<string>): Updated {
    const { destinations4, destinations6 } = this.blocks;
    const moved = atoms === this.atoms ? undefined : this.blocks.update(atoms);
    this.atoms = atoms;
    if (moved === 'all') return { swept: this.anew(members), all: true, touched };
    const reached = moved ? this.reached(moved, touched) : touched;
    const hosts4 = new Map<number, number | undefined>();
    const hosts6 = new Map<string, number | undefined>();
    for (const ip of reached) {
      const key = hostKey(ip);
      const before = this.hosts.get(key);
      const now = this.hostOf(ip, key, members);
      if (before) this.blocks.classes.drop(before.held);
      if (now) this.hosts.set(key, { ip, held: now });
      else this.hosts.delete(key);
      // An address that stands where a block of its length changes goes on standing there.
      if (before?.held.id === now?.id && !(now && moved)) continue;
      if (typeof key === 'number') hosts4.set(key, now?.id);
      else hosts6.set(key, now?.id);
    }
    if (moved || hosts4.size + hosts6.size > 0) {
      const { result } = this;
      const edits4 = edits(moved?.edits4 ?? [], hosts4, this.blocks.destinations4);
      const edits6 = edits(moved?.edits6 ?? [], hosts6, this.blocks.destinations6);
      // Where there is nothing above the blocks, they are all there is.
      const [bare4, bare6] = [result.destinations4 === destinations4, result.destinations6 === destinations6];
      this.result = {
        destinations4: bare4 && hosts4.size === 0 ? this.blocks.destinations4 : edited4(result.destinations4, edits4),
        destinations6: bare6 && hosts6.size === 0 ? this.blocks.destinations6 : edited6(result.destinations6, edits6),
        classes: (result.classes as SharedMap<readonly number[], number>).with(this.blocks.classes.takeChanges()),
      };
    }
    const inside = moved && insideOf(moved);
    return { swept: this.result, all: false, touched: reached, ...(inside ? { inside } : {}) };
  }

  /** All addresses above blocks that were swept. */
  private anew(members: Members): Swept {
    const { blocks, hosts } = this;
    hosts.clear();
    const hosts4 = new Map<number, number | undefined>();
    const hosts6 = new Map<string, number | undefined>();
    for (const ip of members.ips()) {
      const key = hostKey(ip);
      const held = this.hostOf(ip, key, members);
      if (!held) continue;
      hosts.set(key, { ip, held });
      if (typeof key === 'number') hosts4.set(key, held.id);
      else hosts6.set(key, held.id);
    }
    const { destinations4, destinations6, classes } = blocks;
    classes.takeChanges();
    this.result = {
      destinations4: edited4(destinations4, edits([], hosts4, destinations4)),
      destinations6: edited6(destinations6, edits([], hosts6, destinations6)),
      classes: SharedMap.of<readonly number[], number>(new Map(classes)),
    };
    return this.result;
  }

  /** What was touched, and the addresses at which blocks moved: single ones, and those of hosts inside others. */
  private reached({ ranges4, ranges6 }: Moved, touched: ReadonlySet<string>): Set<string> {
    const reached = new Set(touched);
    const take = <K extends number | string>(d: Destinations<K>, { last }: Family<K>, range: K, text: string) => {
      const end = last(range);
      if (range === end) reached.add(text);
      else
        for (const key of keysBetween(d, range, end)) {
          const host = this.hosts.get(key);
          if (host) reached.add(host.ip);
        }
    };
    const { destinations4, destinations6 } = this.result;
    for (const range of ranges4) take(destinations4, IPV4, range, text4(range));
    for (const range of ranges6) take(destinations6, IPV6, range, text6(range));
    return reached;
  }

  /** What an address becomes, counted; undefined where no predicate holds it. */
  private hostOf(ip: string, key: HostKey, members: Members): CountedClass | undefined {
    const own = members.at(ip);
    if (!own) return undefined;
    const { classes } = this.blocks;
    const covering = classes.atomsOf(this.blocks.classOf(key));
    return classes.take(covering.length === 0 ? own : [...new Set([...covering, ...own])].sort(ascending));
  }
}

function hostKey(ip: string): HostKey {
  const p = atomPrefix(ip, 1);
  return p.family === 4 ? p.addr4 * 64 + 32 : key6(p);
}

/** Address of a key, canonical text. */
function text4(key: number): string {
  const addr = Math.floor(key / 64);
  return `${addr >>> 24}.${(addr >>> 16) & 255}.${(addr >>> 8) & 255}.${addr & 255}`;
}

function text6(key: string): string {
  return formatBytes16(Buffer.from(key.slice(0, 32), 'hex'), 6);
}

/** Ascending; what stands at a key once its host is gone is the block of the same length, if there is one. */
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

/** Whether an address is in a range that holds more than one; undefined where there is none. */
function insideOf({ ranges4, ranges6 }: Moved): Updated['inside'] {
  const wide4 = ranges4.filter((key) => IPV4.length(key) < IPV4.bits);
  const wide6 = ranges6.filter((key) => IPV6.length(key) < IPV6.bits);
  if (wide4.length + wide6.length === 0) return undefined;
  return (ip) => {
    const key = hostKey(ip);
    return typeof key === 'number' ? within(wide4, IPV4, key) : within(wide6, IPV6, key);
  };
}

/** @param ranges ascending, none inside another */
function within<K extends number | string>(ranges: readonly K[], family: Family<K>, key: K): boolean {
  let [lo, hi] = [0, ranges.length];
  while (lo < hi) {
    const middle = (lo + hi) >>> 1;
    if ((ranges[middle] as K) <= key) lo = middle + 1;
    else hi = middle;
  }
  return lo > 0 && family.covers(ranges[lo - 1] as K, key);
}
