/**
 * The Snapshot of a running cluster, updated object by object. Each object is converted once, and a change costs only
 * what it touches. Changes become visible together, with snapshot().
 */
import { isDeepStrictEqual } from 'node:util';
import type { Problem } from '../errors.js';
import { tryCanonicalAddr } from '../net/addr.js';
import type { Entry } from './entry.js';
import type { Section } from './kinds.js';
import { resolveService } from './services.js';
import { type Change, SharedMap } from './shared-map.js';
import type { Namespace, Node, Pod, RawPolicy, Service, Snapshot } from './snapshot.js';

/** Changes of the objects of one kind: a complete new set, or single objects, where `undefined` means deleted. */
export type EntryChanges =
  | { readonly all: ReadonlyMap<string, Entry> }
  | { readonly changed: ReadonlyMap<string, Entry | undefined> };

/** Up to this number of changes, each is inserted at its position in the sorted list. */
const FEW = 8;

const NOBODY: ReadonlySet<string> = new Set();

/** The incrementally updated Snapshot of a cluster. */
export class LiveSnapshot {
  readonly #nodeName: string;
  /** By kind (one key may stand for several kinds of policies), then by `namespace/name`. */
  readonly #entries = new Map<string, Map<string, Entry>>();
  readonly #kindsOfPolicies = new Set<string>();
  #pods = SharedMap.of<Pod>();
  #namespaces = SharedMap.of<Namespace>();
  #nodes = SharedMap.of<Node>();
  #services = SharedMap.of<Service>();
  #policies: readonly RawPolicy[] | undefined;
  /** EndpointSlices or Endpoints, by their Service. */
  readonly #groups = new Map<string, Map<string, Entry>>();
  /** Services whose backends must be resolved again. */
  readonly #dirty = new Set<string>();
  /** The last result of snapshot(), as long as it is valid. */
  #current: { snapshot: Snapshot; ownNodeIps: string; problems: readonly Problem[] } | undefined;
  readonly #faulty = new Map<string, readonly Problem[]>();

  constructor(nodeName: string) {
    this.#nodeName = nodeName;
  }

  /** Applies changes. @param kind names the source of the entries; with `all`, its previous entries are replaced */
  apply(kind: string, section: Section, changes: EntryChanges): void {
    let held = this.#entries.get(kind);
    if (!held) this.#entries.set(kind, (held = new Map()));
    if (section === 'policies') this.#kindsOfPolicies.add(kind);
    const list: (readonly [string, Entry | undefined])[] = [];
    if ('all' in changes) {
      for (const key of held.keys()) if (!changes.all.has(key)) list.push([key, undefined]);
      list.push(...changes.all);
    } else list.push(...changes.changed);

    const pods: Change<Pod>[] = [];
    const namespaces: Change<Namespace>[] = [];
    const nodes: Change<Node>[] = [];
    for (const [key, entry] of list) {
      const before = held.get(key);
      // It was created and deleted between two calls.
      if (!before && !entry) continue;
      // Most updates of a pod change nothing that policies read.
      if (before && entry && isDeepStrictEqual(before.value, entry.value) && sameProblems(before, entry)) continue;
      this.#current = undefined;
      if (entry) held.set(key, entry);
      else held.delete(key);
      this.#note(`${kind} ${key}`, entry?.problems ?? []);
      const value = entry?.value;
      if (section === 'pods') pods.push([key, value?.section === 'pods' ? value.value : undefined]);
      else if (section === 'namespaces')
        namespaces.push([key, value?.section === 'namespaces' ? value.value : undefined]);
      else if (section === 'nodes') nodes.push([key, value?.section === 'nodes' ? value.value : undefined]);
      else if (section === 'services') this.#dirty.add(key);
      else if (section === 'policies') this.#policy(before, entry, list.length);
      else this.#slice(key, before, entry);
    }
    this.#pods = this.#pods.with(pods);
    this.#namespaces = this.#namespaces.with(namespaces);
    this.#nodes = this.#nodes.with(nodes);
  }

  /** Removes a kind whose CRD was deleted. */
  forget(kind: string, section: Section): void {
    this.apply(kind, section, { all: new Map() });
    this.#entries.delete(kind);
  }

  /**
   * The Snapshot with all applied changes; the same object while nothing relevant changed. @param ownNodeIps addresses
   * of this node's interfaces
   */
  snapshot(ownNodeIps: readonly string[], problems: readonly Problem[] = []): Snapshot {
    const current = this.#current;
    if (current && current.ownNodeIps === ownNodeIps.join() && isDeepStrictEqual(current.problems, problems)) {
      return current.snapshot;
    }
    this.#resolve();
    this.#policies ??= this.#allPolicies();
    const ips = new Set(ownNodeIps.map((ip) => tryCanonicalAddr(ip)).filter((ip) => ip !== undefined));
    const snapshot: Snapshot = {
      pods: this.#pods,
      namespaces: this.#namespaces,
      nodes: this.#nodes,
      services: this.#services,
      policies: this.#policies,
      ownNode: { name: this.#nodeName, ips: [...ips] },
      problems: [...problems, ...[...this.#faulty.values()].flat()],
    };
    this.#current = { snapshot, ownNodeIps: ownNodeIps.join(), problems };
    return snapshot;
  }

  #note(name: string, problems: readonly Problem[]): void {
    if (problems.length > 0) this.#faulty.set(name, problems);
    else if (this.#faulty.size > 0) this.#faulty.delete(name);
  }

  /**
   * Updates a policy. One that is replaced by a new state of itself keeps its position. @param changes number of
   * changes of its kind in this batch
   */
  #policy(before: Entry | undefined, now: Entry | undefined, changes: number): void {
    const policies = this.#policies;
    this.#policies = undefined;
    if (!policies || changes > FEW || before?.value?.section !== 'policies' || now?.value?.section !== 'policies')
      return;
    const at = policies.indexOf(before.value.value);
    if (at >= 0) this.#policies = policies.with(at, now.value.value);
  }

  /** Updates a slice, which may change its Service. */
  #slice(key: string, before: Entry | undefined, now: Entry | undefined): void {
    const old = serviceOf(before);
    const next = serviceOf(now);
    if (old !== undefined) {
      const groups = this.#groups.get(old);
      groups?.delete(key);
      if (groups?.size === 0) this.#groups.delete(old);
      this.#dirty.add(old);
    }
    if (next !== undefined && now) {
      let groups = this.#groups.get(next);
      if (!groups) this.#groups.set(next, (groups = new Map()));
      groups.set(key, now);
      this.#dirty.add(next);
    }
  }

  #resolve(): void {
    if (this.#dirty.size === 0) return;
    const specs = [...this.#entries.values()];
    this.#services = this.#services.with([...this.#dirty].map((key) => [key, this.#resolved(key, specs)]));
    this.#dirty.clear();
  }

  #resolved(key: string, kinds: readonly ReadonlyMap<string, Entry>[]): Service | undefined {
    for (const kind of kinds) {
      const value = kind.get(key)?.value;
      if (value?.section !== 'services' || !value.value) continue;
      // In a cluster, a controller lists the backends: a Service without slices has none.
      const groups = [...(this.#groups.get(key)?.entries() ?? [])]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .flatMap(([, { value: v }]) => (v?.section === 'slices' || v?.section === 'endpoints' ? v.value : []));
      return resolveService(value.value, groups, () => [], NOBODY);
    }
    return undefined;
  }

  #allPolicies(): RawPolicy[] {
    const out: RawPolicy[] = [];
    for (const [kind, held] of this.#entries) {
      if (!this.#kindsOfPolicies.has(kind)) continue;
      for (const { value } of held.values()) if (value?.section === 'policies') out.push(value.value);
    }
    return out;
  }
}

function sameProblems(a: Entry, b: Entry): boolean {
  return a.problems.length + b.problems.length === 0 || isDeepStrictEqual(a.problems, b.problems);
}

function serviceOf(entry: Entry | undefined): string | undefined {
  const value = entry?.value;
  return value?.section === 'slices' || value?.section === 'endpoints' ? value.service : undefined;
}
