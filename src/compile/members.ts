/**
 * Which addresses belong to which predicate atoms, kept up to date by what changed: an event costs the atoms in
 * force times the addresses it touches, whatever the cluster's size.
 */
import type { Atom } from './atoms.js';
import type { World, WorldChanges } from './world.js';

/** Lists that are shared: most addresses belong to the same atoms as many others. Emptied when it has grown beyond this. */
const SHARED = 65536;

export class Members {
  private wanted: ReadonlyMap<number, Atom> | undefined;
  /** Predicate atoms in force, by id. */
  private readonly atoms = new Map<number, Atom>();
  /** Members of the atoms that nodes or Services decide about: once those have changed nobody can tell who they were. */
  private readonly ofNodes = new Map<number, ReadonlySet<string>>();
  /** Atoms' ids by address, ascending; a list is shared, and never written. */
  private readonly atomsOf = new Map<string, readonly number[]>();
  private readonly lists = new Map<string, readonly number[]>();

  /** Atoms' ids of an address, ascending; the same list for the same atoms, as a rule. */
  at(ip: string): readonly number[] | undefined {
    return this.atomsOf.get(ip);
  }

  ips(): Iterable<string> {
    return this.atomsOf.keys();
  }

  /** Takes over changes, and other atoms; returns the addresses that belong to other atoms than before. */
  update(world: World, changes: WorldChanges, wanted: ReadonlyMap<number, Atom>): Set<string> {
    const touched = new Set<string>();
    for (const ip of changes.ips) this.lookAgain(ip, world, touched);
    const stale = (atom: Atom) =>
      (changes.nodes && decidedElsewhere(atom)) || (changes.services && decidedElsewhere(atom) && !ofNodesAlone(atom));
    if (wanted === this.wanted && ![...this.ofNodes.keys()].some((id) => stale(this.atoms.get(id) as Atom)))
      return touched;
    this.wanted = wanted;
    const gone = new Map<string, Set<number>>();
    for (const [id, before] of [...this.atoms]) {
      const atom = wanted.get(id);
      if (atom && !stale(atom)) continue;
      for (const ip of this.ofNodes.get(id) ?? membersOf(before, world)) add(gone, ip, id);
      this.ofNodes.delete(id);
      this.atoms.delete(id);
    }
    for (const [ip, ids] of gone) {
      this.set(
        ip,
        (this.atomsOf.get(ip) ?? []).filter((id) => !ids.has(id)),
      );
      touched.add(ip);
    }
    const come = new Map<string, Set<number>>();
    for (const [id, atom] of wanted) {
      if (!atom.select || this.atoms.has(id)) continue;
      const ips = new Set(membersOf(atom, world));
      for (const ip of ips) add(come, ip, id);
      this.atoms.set(id, atom);
      if (decidedElsewhere(atom)) this.ofNodes.set(id, ips);
    }
    for (const [ip, ids] of come) {
      this.set(ip, [...(this.atomsOf.get(ip) ?? []), ...ids]);
      touched.add(ip);
    }
    return touched;
  }

  /** The pods at one address are other ones, or look different now. */
  private lookAgain(ip: string, world: World, touched: Set<string>): void {
    const pods = world.podsAt(ip);
    const had = this.atomsOf.get(ip) ?? [];
    let changed = false;
    const now: number[] = [];
    for (const [id, atom] of this.atoms) {
      const { select } = atom;
      const was = had.includes(id);
      const is = select?.of === 'pods' ? pods.some((pod) => select.matches(pod, ip, world)) : was;
      if (is) now.push(id);
      if (is === was) continue;
      changed = true;
      const ips = this.ofNodes.get(id);
      if (ips) this.ofNodes.set(id, new Set(is ? [...ips, ip] : [...ips].filter((other) => other !== ip)));
    }
    if (!changed) return;
    this.set(ip, now);
    touched.add(ip);
  }

  private set(ip: string, ids: number[]): void {
    if (ids.length === 0) {
      this.atomsOf.delete(ip);
      return;
    }
    const list = ids.sort((a, b) => a - b);
    const text = list.join();
    let shared = this.lists.get(text);
    if (!shared) {
      if (this.lists.size > SHARED) this.lists.clear();
      this.lists.set(text, (shared = list));
    }
    this.atomsOf.set(ip, shared);
  }
}

/** Its members change although no pod does: with nodes, or with Services. */
function decidedElsewhere({ select }: Atom): boolean {
  return select !== undefined && (select.of !== 'pods' || select.nodes);
}

function ofNodesAlone({ select }: Atom): boolean {
  return select?.of === 'nodes';
}

function* membersOf({ select }: Atom, world: World): Generator<string> {
  if (!select) return;
  if (select.of !== 'pods') {
    yield* select.members(world);
    return;
  }
  for (const pod of select.candidates(world)) for (const ip of pod.ips) if (select.matches(pod, ip, world)) yield ip;
}

function add(to: Map<string, Set<number>>, ip: string, id: number): void {
  const there = to.get(ip);
  if (there) there.add(id);
  else to.set(ip, new Set([id]));
}
