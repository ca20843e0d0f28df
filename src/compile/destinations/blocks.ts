/**
 * Classes of addresses by CIDR blocks. A few changed atoms patch the existing result; many, or such with large
 * prefixes, need a new sweep over all blocks. Both give the same result.
 */
import type { Atom } from '../atoms/atoms.js';
import { classAt, type Destinations, edited4, edited6, type Edits, sizeOf } from '../../image/edited.js';
import { type Ids, PLAIN_IDS } from '../../ids.js';
import { type Family, IPV4, IPV6 } from '../../image/prefix.js';
import type { Destinations4, Destinations6 } from '../../image/types.js';
import { ClassTable } from './classes.js';
import { type Mark, type Patch, patch } from './patch.js';
import { key6, sweep } from './sweep.js';

/** A patch may examine this many prefixes, and this share of all. Beyond that a sweep is faster. */
const FEW = 2048;
const SHARE = 4;

const NO_KEYS = new Float64Array(0);

/** Key of a single address: a number as in Destinations4, or a text as in Destinations6. */
export type HostKey = number | string;

/** Edits of both families, and where the classes of addresses may have changed: see Patch. */
export interface Moved {
  readonly edits4: Edits<number>;
  readonly edits6: Edits<string>;
  readonly ranges4: readonly number[];
  readonly ranges6: readonly string[];
}

/** The classes by blocks of the last compilation. */
export class BlockTable {
  readonly #ids: Ids;
  /** Blocks in force, by id. */
  #atoms = new Map<string, Atom>();
  #v4 = new Layer<number>(IPV4, { keys: NO_KEYS, classes: NO_KEYS });
  #v6 = new Layer<string>(IPV6, { keys: [], classes: NO_KEYS });
  /** Counts the uses of classes by destinations. It is replaced by each sweep. Other layers may count in it, too. */
  classes: ClassTable;

  constructor(ids: Ids = PLAIN_IDS) {
    this.#ids = ids;
    this.classes = new ClassTable(ids);
  }

  get destinations4(): Destinations4 {
    return this.#v4.destinations;
  }

  get destinations6(): Destinations6 {
    return this.#v6.destinations;
  }

  /** Class of an address; 0 if it has none. @param host key of the address */
  classOf(host: HostKey): number {
    return typeof host === 'number' ? this.#v4.classOf(host) : this.#v6.classOf(host);
  }

  /**
   * Updates the blocks.
   * @param atoms all atoms in force; those that are not blocks are ignored
   * @returns the changes; `all` after a sweep; undefined if nothing changed
   */
  update(atoms: readonly Atom[]): Moved | 'all' | undefined {
    const next = new Map(atoms.filter((a) => !a.select).map((a) => [a.id, a]));
    const removed = [...this.#atoms.values()].filter((a) => !next.has(a.id));
    const added = [...next.values()].filter((a) => !this.#atoms.has(a.id));
    this.#atoms = next;
    if (removed.length + added.length === 0) return undefined;
    const moved = this.#patch(removed, added);
    if (moved) return moved;
    const { destinations4, destinations6, classes } = sweep([...next.values()], this.#ids);
    this.#v4 = new Layer<number>(IPV4, destinations4);
    this.#v6 = new Layer<string>(IPV6, destinations6);
    this.classes = new ClassTable(this.#ids);
    const counts = new Map<number, number>();
    for (const { classes } of [destinations4, destinations6])
      for (const id of classes) counts.set(id, (counts.get(id) ?? 0) + 1);
    for (const [id, ids] of classes) this.classes.take(ids, counts.get(id));
    return 'all';
  }

  /** undefined if a patch would be too expensive. Its partial changes are then discarded with the tables. */
  #patch(removed: readonly Atom[], added: readonly Atom[]): Moved | undefined {
    const size = (of: readonly Atom[]) =>
      of.reduce((n, a) => n + (a.keys4?.length ?? 0) + (a.prefixes?.length ?? 0), 0);
    if (size(removed) + size(added) > Math.max(this.#v4.limit, this.#v6.limit)) return undefined;
    const v4 = this.#v4.patch(removed.flatMap(marks4), added.flatMap(marks4), this.classes);
    const v6 = v4 && this.#v6.patch(removed.flatMap(marks6), added.flatMap(marks6), this.classes);
    if (!v4 || !v6) return undefined;
    this.#v4.destinations = edited4(this.#v4.destinations, v4.edits);
    this.#v6.destinations = edited6(this.#v6.destinations, v6.edits);
    return { edits4: v4.edits, edits6: v6.edits, ranges4: v4.ranges, ranges6: v6.ranges };
  }
}

/** The blocks of one family. */
class Layer<K extends number | string> {
  readonly #family: Family<K>;
  /** Whether there may be prefixes, by prefix length. */
  readonly #lengths: boolean[] = [];

  constructor(
    family: Family<K>,
    public destinations: Destinations<K>,
  ) {
    this.#family = family;
    const keys = destinations.keys as ArrayLike<number | string>;
    for (let i = 0; i < keys.length; i++) this.#lengths[family.length(keys[i] as K)] = true;
  }

  get limit(): number {
    return FEW + sizeOf(this.destinations) / SHARE;
  }

  /** Class of the longest prefix that covers a key, up to a given length. */
  classOf(key: K, longest = this.#family.bits): number {
    for (let length = longest; length >= 0; length--) {
      if (!this.#lengths[length]) continue;
      const found = classAt(this.destinations, this.#family.shortened(key, length));
      if (found !== undefined) return found;
    }
    return 0;
  }

  patch(removed: readonly Mark<K>[], added: Mark<K>[], classes: ClassTable): Patch<K> | undefined {
    const { destinations } = this;
    const family = this.#family;
    const around = (key: K) => this.classOf(key, family.length(key) - 1);
    const made = patch({ family, destinations, around, classes }, removed, added, this.limit);
    for (const [key] of made?.edits ?? []) this.#lengths[family.length(key)] = true;
    return made;
  }
}

function marks4({ id: atom, keys4 = NO_KEYS, prefixes = [] }: Atom): Mark<number>[] {
  const marks = Array.from(keys4, (key): Mark<number> => ({ key, atom, sign: 1 }));
  for (const p of prefixes) if (p.family === 4) marks.push({ key: p.addr4 * 64 + p.prefix, atom, sign: p.sign });
  return marks;
}

function marks6({ id: atom, prefixes = [] }: Atom): Mark<string>[] {
  return prefixes.filter((p) => p.family === 6).map((p) => ({ key: key6(p), atom, sign: p.sign }));
}
