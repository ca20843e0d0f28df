/**
 * The Snapshot of a running cluster, kept up to date object by object: what is made of an object is made once, and a
 * change costs as much as it touches. Changes become visible all together, with snapshot().
 */
import { isDeepStrictEqual } from 'node:util';
import type { Problem } from '../errors.js';
import { tryCanonicalAddr } from '../net/addr.js';
import type { Entry } from './entry.js';
import type { Section } from './kinds.js';
import { resolveService } from './services.js';
import { type Change, SharedMap } from './shared-map.js';
import type { Namespace, Node, Pod, RawPolicy, Service, Snapshot } from './snapshot.js';

/** What became of the objects of one kind: all of them anew, or some; `undefined`: deleted. */
export type EntryChanges =
  | { readonly all: ReadonlyMap<string, Entry> }
  | { readonly changed: ReadonlyMap<string, Entry | undefined> };

/** Changes at once for which the place of each is looked for. */
const FEW = 8;

const NOBODY: ReadonlySet<string> = new Set();

export class LiveSnapshot {
  /** By kind (one key, several kinds of policies), then `namespace/name`. */
  private readonly entries = new Map<string, Map<string, Entry>>();
  private readonly kindsOfPolicies = new Set<string>();
  private pods = SharedMap.of<Pod>();
  private namespaces = SharedMap.of<Namespace>();
  private nodes = SharedMap.of<Node>();
  private services = SharedMap.of<Service>();
  private policies: readonly RawPolicy[] | undefined;
  /** Slices, or Endpoints, by the Service they belong to. */
  private readonly behind = new Map<string, Map<string, Entry>>();
  /** Services to resolve again. */
  private readonly dirty = new Set<string>();
  /** What snapshot() said last, while it holds. */
  private current: { snapshot: Snapshot; ownNodeIps: string; problems: readonly Problem[] } | undefined;
  private readonly faulty = new Map<string, readonly Problem[]>();

  constructor(private readonly nodeName: string) {}

  /** @param kind names the source of these entries; what it held before is forgotten with `all` */
  apply(kind: string, section: Section, changes: EntryChanges): void {
    let held = this.entries.get(kind);
    if (!held) this.entries.set(kind, (held = new Map()));
    if (section === 'policies') this.kindsOfPolicies.add(kind);
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
      // It came and went between two looks.
      if (!before && !entry) continue;
      // Most updates of a pod tell what no policy looks at.
      if (before && entry && isDeepStrictEqual(before.value, entry.value) && sameProblems(before, entry)) continue;
      this.current = undefined;
      if (entry) held.set(key, entry);
      else held.delete(key);
      this.note(`${kind} ${key}`, entry?.problems ?? []);
      const value = entry?.value;
      if (section === 'pods') pods.push([key, value?.section === 'pods' ? value.value : undefined]);
      else if (section === 'namespaces')
        namespaces.push([key, value?.section === 'namespaces' ? value.value : undefined]);
      else if (section === 'nodes') nodes.push([key, value?.section === 'nodes' ? value.value : undefined]);
      else if (section === 'services') this.dirty.add(key);
      else if (section === 'policies') this.policy(before, entry, list.length);
      else this.slice(key, before, entry);
    }
    this.pods = this.pods.with(pods);
    this.namespaces = this.namespaces.with(namespaces);
    this.nodes = this.nodes.with(nodes);
  }

  /** Forgets a kind: its CRD is gone. */
  forget(kind: string, section: Section): void {
    this.apply(kind, section, { all: new Map() });
    this.entries.delete(kind);
  }

  /** The world with everything that was applied; the same object while nothing that matters changed. @param ownNodeIps addresses of this node's interfaces */
  snapshot(ownNodeIps: readonly string[], problems: readonly Problem[] = []): Snapshot {
    const { current } = this;
    if (current && current.ownNodeIps === ownNodeIps.join() && isDeepStrictEqual(current.problems, problems)) {
      return current.snapshot;
    }
    this.resolve();
    this.policies ??= this.allPolicies();
    const ips = new Set(ownNodeIps.map((ip) => tryCanonicalAddr(ip)).filter((ip) => ip !== undefined));
    const snapshot: Snapshot = {
      pods: this.pods,
      namespaces: this.namespaces,
      nodes: this.nodes,
      services: this.services,
      policies: this.policies,
      ownNode: { name: this.nodeName, ips: [...ips] },
      problems: [...problems, ...[...this.faulty.values()].flat()],
    };
    this.current = { snapshot, ownNodeIps: ownNodeIps.join(), problems };
    return snapshot;
  }

  private note(name: string, problems: readonly Problem[]): void {
    if (problems.length > 0) this.faulty.set(name, problems);
    else if (this.faulty.size > 0) this.faulty.delete(name);
  }

  /** One that takes the place of another state of itself leaves the others where they are. @param changes of its kind, at once */
  private policy(before: Entry | undefined, now: Entry | undefined, changes: number): void {
    const { policies } = this;
    this.policies = undefined;
    if (!policies || changes > FEW || before?.value?.section !== 'policies' || now?.value?.section !== 'policies')
      return;
    const at = policies.indexOf(before.value.value);
    if (at >= 0) this.policies = policies.with(at, now.value.value);
  }

  /** A slice may go over from one Service to another. */
  private slice(key: string, before: Entry | undefined, now: Entry | undefined): void {
    const old = serviceOf(before);
    const next = serviceOf(now);
    if (old !== undefined) {
      const there = this.behind.get(old);
      there?.delete(key);
      if (there?.size === 0) this.behind.delete(old);
      this.dirty.add(old);
    }
    if (next !== undefined && now) {
      let there = this.behind.get(next);
      if (!there) this.behind.set(next, (there = new Map()));
      there.set(key, now);
      this.dirty.add(next);
    }
  }

  private resolve(): void {
    if (this.dirty.size === 0) return;
    const specs = [...this.entries.values()];
    this.services = this.services.with([...this.dirty].map((key) => [key, this.resolved(key, specs)]));
    this.dirty.clear();
  }

  private resolved(key: string, kinds: readonly ReadonlyMap<string, Entry>[]): Service | undefined {
    for (const kind of kinds) {
      const value = kind.get(key)?.value;
      if (value?.section !== 'services' || !value.value) continue;
      // In a cluster a controller lists what stands behind: without a slice, nothing does.
      const entries = [...(this.behind.get(key)?.entries() ?? [])]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .flatMap(([, { value: v }]) => (v?.section === 'slices' || v?.section === 'endpoints' ? v.value : []));
      return resolveService(value.value, entries, () => [], NOBODY);
    }
    return undefined;
  }

  private allPolicies(): RawPolicy[] {
    const out: RawPolicy[] = [];
    for (const [kind, held] of this.entries) {
      if (!this.kindsOfPolicies.has(kind)) continue;
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
