/**
 * Membership of addresses in predicate atoms, updated incrementally. An event costs the number of atoms in force times
 * the number of addresses that it touches, independently of the cluster's size.
 */
import { ascending } from '../../image/edited.js';
import type { Atom } from './atoms.js';
import type { World, WorldChanges } from './world.js';

/**
 * Maximum number of cached lists. Most addresses share their list of atoms with many others. The cache is emptied when
 * it exceeds this size.
 */
const SHARED = 65536;

/** The members of all predicate atoms in force. */
export class Members {
  #inForce: ReadonlyMap<string, Atom> | undefined;
  /** Predicate atoms in force, by id. */
  readonly #atoms = new Map<string, Atom>();
  /**
   * Members of the atoms that depend on nodes or Services. Their previous members cannot be computed any more after a
   * change.
   */
  readonly #ofNodes = new Map<string, ReadonlySet<string>>();
  /** Ids of atoms by address, ascending. Lists are shared and never modified. */
  readonly #atomsOf = new Map<string, readonly string[]>();
  readonly #lists = new Map<string, readonly string[]>();

  /** Ids of the atoms of an address, ascending. Usually the same list object for the same atoms. */
  at(ip: string): readonly string[] | undefined {
    return this.#atomsOf.get(ip);
  }

  ips(): Iterable<string> {
    return this.#atomsOf.keys();
  }

  /** Applies changes and a new set of atoms. @returns the addresses whose atoms changed */
  update(world: World, changes: WorldChanges, inForce: ReadonlyMap<string, Atom>): Set<string> {
    const touched = new Set<string>();
    for (const ip of changes.ips) this.#recompute(ip, world, touched);
    const stale = (atom: Atom) =>
      (changes.nodes && decidedElsewhere(atom)) || (changes.services && decidedElsewhere(atom) && !ofNodesAlone(atom));
    if (inForce === this.#inForce && ![...this.#ofNodes.keys()].some((id) => stale(this.#atoms.get(id) as Atom)))
      return touched;
    this.#inForce = inForce;
    const removed = new Map<string, Set<string>>();
    for (const [id, before] of [...this.#atoms]) {
      const atom = inForce.get(id);
      if (atom && !stale(atom)) continue;
      for (const ip of this.#ofNodes.get(id) ?? membersOf(before, world)) add(removed, ip, id);
      this.#ofNodes.delete(id);
      this.#atoms.delete(id);
    }
    for (const [ip, ids] of removed) {
      this.#set(
        ip,
        (this.#atomsOf.get(ip) ?? []).filter((id) => !ids.has(id)),
      );
      touched.add(ip);
    }
    const added = new Map<string, Set<string>>();
    for (const [id, atom] of inForce) {
      if (!atom.select || this.#atoms.has(id)) continue;
      const ips = new Set(membersOf(atom, world));
      for (const ip of ips) add(added, ip, id);
      this.#atoms.set(id, atom);
      if (decidedElsewhere(atom)) this.#ofNodes.set(id, ips);
    }
    for (const [ip, ids] of added) {
      this.#set(ip, [...(this.#atomsOf.get(ip) ?? []), ...ids]);
      touched.add(ip);
    }
    return touched;
  }

  /** Recomputes the atoms of an address whose pods changed. */
  #recompute(ip: string, world: World, touched: Set<string>): void {
    const pods = world.podsAt(ip);
    const had = this.#atomsOf.get(ip) ?? [];
    let changed = false;
    const current: string[] = [];
    for (const [id, atom] of this.#atoms) {
      const { select } = atom;
      const wasMember = had.includes(id);
      const isMember = select?.of === 'pods' ? pods.some((pod) => select.matches(pod, ip, world)) : wasMember;
      if (isMember) current.push(id);
      if (isMember === wasMember) continue;
      changed = true;
      const ips = this.#ofNodes.get(id);
      if (ips) this.#ofNodes.set(id, new Set(isMember ? [...ips, ip] : [...ips].filter((other) => other !== ip)));
    }
    if (!changed) return;
    this.#set(ip, current);
    touched.add(ip);
  }

  #set(ip: string, ids: string[]): void {
    if (ids.length === 0) {
      this.#atomsOf.delete(ip);
      return;
    }
    const list = ids.sort(ascending);
    const text = list.join();
    let shared = this.#lists.get(text);
    if (!shared) {
      if (this.#lists.size > SHARED) this.#lists.clear();
      this.#lists.set(text, (shared = list));
    }
    this.#atomsOf.set(ip, shared);
  }
}

/** Whether its members change without a change of pods: it depends on nodes or Services. */
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

function add(to: Map<string, Set<string>>, ip: string, id: string): void {
  const ids = to.get(ip);
  if (ids) ids.add(id);
  else to.set(ip, new Set([id]));
}
