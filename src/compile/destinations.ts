/**
 * Destinations in two layers: what CIDR blocks say (`sweep`, made anew when the blocks change), and above it the
 * single addresses of pods and nodes, each by itself. An address that changes costs one look-up below it and one
 * place in the sorted result.
 */
import { SharedMap } from '../identity/shared-map.js';
import { classAt, edited4, edited6, type Edits } from '../image/edited.js';
import { classLookup } from '../image/lookup.js';
import type { Destinations4, Destinations6 } from '../image/types.js';
import { type Atom, atomPrefix } from './atoms.js';
import { ClassTable, type CountedClass } from './classes.js';
import type { Members } from './members.js';
import { key6, sweep } from './sweep.js';

export interface Swept {
  readonly destinations4: Destinations4;
  readonly destinations6: Destinations6;
  readonly classes: ReadonlyMap<number, readonly number[]>;
}

const NOTHING: Destinations4 = { keys: new Float64Array(0), classes: new Float64Array(0) };

export class DestinationTable {
  private atoms: readonly Atom[] = [];
  private blocks = '';
  private fixed: Swept = {
    destinations4: NOTHING,
    destinations6: { keys: [], classes: NOTHING.classes },
    classes: new Map(),
  };
  private below: (ip: string) => number = () => 0;
  private readonly hosts = new Map<string, CountedClass>();
  private readonly hostClasses = new ClassTable();
  private result: Swept = this.fixed;

  /** Class of an address; 0 for none. */
  classOf(ip: string): number {
    return this.hosts.get(ip)?.id ?? this.below(ip);
  }

  /**
   * @param atoms those in force, ascending by id
   * @param touched addresses whose members() may have changed
   * @returns the result, and whether what lies below the single addresses changed
   */
  update(atoms: readonly Atom[], members: Members, touched: ReadonlySet<string>): { swept: Swept; all: boolean } {
    const all = atoms !== this.atoms && this.sweep(atoms);
    this.atoms = atoms;
    const hosts4 = new Map<number, number | undefined>();
    const hosts6 = new Map<string, number | undefined>();
    let changed = all;
    for (const ip of all ? new Set([...members.ips(), ...touched]) : touched) {
      const before = this.hosts.get(ip);
      const now = this.hostOf(ip, members);
      if (before) this.hostClasses.drop(before);
      if (before?.id === now?.id && !all) continue;
      changed = true;
      if (now) this.hosts.set(ip, now);
      else this.hosts.delete(ip);
      const key = hostKey(ip);
      if (typeof key === 'number') hosts4.set(key, now?.id);
      else hosts6.set(key, now?.id);
    }
    if (changed) {
      const from = all ? this.fixed : this.result;
      this.result = {
        destinations4: edited4(from.destinations4, edits4(hosts4, this.fixed.destinations4)),
        destinations6: edited6(from.destinations6, edits6(hosts6, this.fixed.destinations6)),
        classes: this.classes(all),
      };
    }
    return { swept: this.result, all };
  }

  /** Makes what CIDR blocks say anew; false where they say the same. */
  private sweep(atoms: readonly Atom[]): boolean {
    const blocks = atoms.filter((a) => !a.select);
    const content = blocks.map((a) => a.id).join();
    if (content === this.blocks) return false;
    this.fixed = sweep(blocks);
    this.below = classLookup(this.fixed);
    this.blocks = content;
    return true;
  }

  /** Of blocks and of single addresses. */
  private classes(all: boolean): Swept['classes'] {
    const changes = this.hostClasses.takeChanges();
    if (all || !(this.result.classes instanceof SharedMap)) {
      return SharedMap.of<readonly number[], number>(new Map([...this.fixed.classes, ...this.hostClasses]));
    }
    return this.result.classes.with(changes.map(([id, atoms]) => [id, atoms ?? this.fixed.classes.get(id)]));
  }

  /** What an address becomes, counted; undefined where no predicate holds it. */
  private hostOf(ip: string, members: Members): CountedClass | undefined {
    const own = members.at(ip);
    if (!own) return undefined;
    const covering = this.fixed.classes.get(this.below(ip)) ?? [];
    return this.hostClasses.take(
      covering.length === 0 ? own : [...new Set([...covering, ...own])].sort((a, b) => a - b),
    );
  }
}

/** Key as in Destinations4 (number) or Destinations6 (text). */
function hostKey(ip: string): number | string {
  const p = atomPrefix(ip, 1);
  return p.family === 4 ? p.addr4 * 64 + 32 : key6(p);
}

/** Ascending; what stands at a key once its host is gone is the block of the same length, if there is one. */
function edits4(edits: ReadonlyMap<number, number | undefined>, fixed: Destinations4): Edits<number> {
  return [...edits].sort(([a], [b]) => a - b).map(([key, classId]) => [key, classId ?? classAt(fixed, key)]);
}

function edits6(edits: ReadonlyMap<string, number | undefined>, fixed: Destinations6): Edits<string> {
  return [...edits].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, classId]) => [key, classId ?? classAt(fixed, key)]);
}
