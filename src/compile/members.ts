/**
 * Which addresses belong to which predicate atoms, kept up to date by what changed: an event costs the atoms in
 * force times the addresses it touches, whatever the cluster's size.
 */
import type { Atom } from './atoms.js';
import type { World, WorldChanges } from './world.js';

export class Members {
  /** Predicate atoms in force, by id. */
  private readonly atoms = new Map<number, Atom>();
  private wanted: ReadonlyMap<number, Atom> | undefined;
  private readonly ipsOf = new Map<number, Set<string>>();
  /** Atoms' ids by address, ascending; a list is replaced, never written. */
  private readonly atomsOf = new Map<string, readonly number[]>();

  /** Atoms' ids of an address, ascending. */
  at(ip: string): readonly number[] | undefined {
    return this.atomsOf.get(ip);
  }

  ips(): Iterable<string> {
    return this.atomsOf.keys();
  }

  /** Takes over changes, and other atoms; returns the addresses that belong to other atoms than before. */
  update(world: World, changes: WorldChanges, wanted: ReadonlyMap<number, Atom>): Set<string> {
    const touched = new Set<string>();
    const stale = ({ select }: Atom) =>
      select !== undefined &&
      ((changes.nodes && (select.of === 'nodes' || (select.of === 'pods' && select.nodes))) ||
        (changes.services && (select.of === 'services' || (select.of === 'pods' && select.nodes))));
    const same = wanted === this.wanted && ![...this.atoms.values()].some(stale);
    this.wanted = wanted;
    for (const id of same ? [] : [...this.atoms.keys()]) {
      const atom = wanted.get(id);
      if (!atom || stale(atom)) this.drop(id, touched);
    }
    for (const ip of changes.ips) this.lookAgain(ip, world, touched);
    if (!same) for (const [id, atom] of wanted) if (atom.select && !this.atoms.has(id)) this.take(atom, world, touched);
    return touched;
  }

  private drop(id: number, touched: Set<string>): void {
    for (const ip of this.ipsOf.get(id) ?? []) {
      this.without(ip, id);
      touched.add(ip);
    }
    this.ipsOf.delete(id);
    this.atoms.delete(id);
  }

  private take(atom: Atom, world: World, touched: Set<string>): void {
    const ips = new Set<string>();
    const select = atom.select;
    if (select?.of === 'pods') {
      for (const pod of select.candidates(world))
        for (const ip of pod.ips) if (select.matches(pod, ip, world)) ips.add(ip);
    } else if (select) {
      for (const ip of select.members(world)) ips.add(ip);
    }
    this.atoms.set(atom.id, atom);
    this.ipsOf.set(atom.id, ips);
    for (const ip of ips) {
      this.with(ip, atom.id);
      touched.add(ip);
    }
  }

  /** The pods at one address are other ones, or look different now. */
  private lookAgain(ip: string, world: World, touched: Set<string>): void {
    const pods = world.podsAt(ip);
    for (const [id, { select }] of this.atoms) {
      if (select?.of !== 'pods') continue;
      const is = pods.some((pod) => select.matches(pod, ip, world));
      const ips = this.ipsOf.get(id) as Set<string>;
      if (is === ips.has(ip)) continue;
      if (is) {
        ips.add(ip);
        this.with(ip, id);
      } else {
        ips.delete(ip);
        this.without(ip, id);
      }
      touched.add(ip);
    }
  }

  private with(ip: string, id: number): void {
    const had = this.atomsOf.get(ip);
    this.atomsOf.set(ip, had ? [...had, id].sort((a, b) => a - b) : [id]);
  }

  private without(ip: string, id: number): void {
    const left = (this.atomsOf.get(ip) ?? []).filter((other) => other !== id);
    if (left.length > 0) this.atomsOf.set(ip, left);
    else this.atomsOf.delete(ip);
  }
}
