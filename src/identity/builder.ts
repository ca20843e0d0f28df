/**
 * Builds a Snapshot from parsed objects. The result depends on the input alone. The builder caches what it read from
 * objects whose identity has not changed, and returns the same maps while their content is the same, so that later
 * steps can detect changes cheaply.
 */
import type { Problem } from '../errors.js';
import { tryCanonicalAddr } from '../net/addr.js';
import { type Entry, readEntry } from './entry.js';
import type { ParsedObject } from './fields.js';
import type { Section } from './kinds.js';
import { type EndpointGroup, resolveService } from './services.js';
import type { Namespace, Node, Pod, RawPolicy, Service, Snapshot } from './snapshot.js';
import { sameList } from './unchanged.js';

export interface BuildOptions {
  readonly nodeName: string;
  /** Addresses of this node's interfaces. */
  readonly ownNodeIps: readonly string[];
  /** Problems from before there were objects. They come first in Snapshot.problems. */
  readonly problems?: readonly Problem[];
}

type Sections = { [S in Section]: Entry[] };

/** Builds Snapshots from parsed objects, one after the other. */
export class SnapshotBuilder {
  readonly #known = new WeakMap<ParsedObject, Entry>();
  #last:
    | {
        objects: readonly ParsedObject[];
        entries: readonly Entry[];
        duplicates: boolean;
        sections: Sections;
        snapshot: Snapshot;
      }
    | undefined;

  /** Builds a Snapshot. Of two objects with the same kind and name the first one counts, and there is a Problem. */
  build(input: Iterable<ParsedObject>, options: BuildOptions): Snapshot {
    const problems: Problem[] = [...(options.problems ?? [])];
    const sections: Sections = {
      namespaces: [],
      pods: [],
      nodes: [],
      services: [],
      slices: [],
      endpoints: [],
      policies: [],
    };
    const objects = [...input];
    const entries = objects.map(
      (parsed, i) => (parsed === this.#last?.objects[i] ? this.#last.entries[i] : undefined) ?? this.#read(parsed),
    );
    const seen = this.#sameNames(entries) ? undefined : new Map<string, ParsedObject>();
    let duplicates = false;
    const passedOver = new Set<string>();
    entries.forEach((entry, i) => {
      const parsed = objects[i] as ParsedObject;
      if (entry.problems.length > 0) problems.push(...entry.problems);
      if (!entry.value) {
        if (entry.problems.length === 0 && !passedOver.has(entry.id)) {
          passedOver.add(entry.id);
          problems.push(passedOverProblem(parsed, entry));
        }
        return;
      }
      const first = seen?.get(entry.id);
      if (first) {
        duplicates = true;
        problems.push(duplicateProblem(parsed, entry, first));
        return;
      }
      seen?.set(entry.id, parsed);
      sections[entry.value.section].push(entry);
    });
    const snapshot = this.#assemble(sections, options, problems);
    this.#last = { objects, entries, duplicates, sections, snapshot };
    return snapshot;
  }

  #read(parsed: ParsedObject): Entry {
    let entry = this.#known.get(parsed);
    if (!entry) {
      entry = readEntry(parsed);
      this.#known.set(parsed, entry);
    }
    return entry;
  }

  /** Whether the names are the same as last time, without duplicates, so that duplicates need not be searched. */
  #sameNames(entries: readonly Entry[]): boolean {
    const last = this.#last;
    if (!last || last.duplicates || last.entries.length !== entries.length) return false;
    return entries.every((e, i) => e === last.entries[i] || e.id === last.entries[i]?.id);
  }

  #assemble(sections: Sections, options: BuildOptions, problems: readonly Problem[]): Snapshot {
    const last = this.#last;
    const same = (...names: Section[]) =>
      last !== undefined && names.every((n) => sameList(last.sections[n], sections[n]));
    const pods = last && same('pods') ? last.snapshot.pods : byKey<Pod>(sections.pods);
    const namespaces = last && same('namespaces') ? last.snapshot.namespaces : byKey<Namespace>(sections.namespaces);
    const nodes = last && same('nodes') ? last.snapshot.nodes : byKey<Node>(sections.nodes);
    const services =
      last && same('services', 'slices', 'endpoints', 'pods')
        ? last.snapshot.services
        : resolveServices(sections, pods);
    const policies =
      last && same('policies') ? last.snapshot.policies : sections.policies.map((e) => e.value?.value as RawPolicy);
    const ips = new Set(options.ownNodeIps.map((ip) => tryCanonicalAddr(ip)).filter((ip) => ip !== undefined));
    return {
      pods,
      namespaces,
      nodes,
      services,
      policies,
      ownNode: { name: options.nodeName, ips: [...ips] },
      problems,
    };
  }
}

/** Builds a single Snapshot, without a cache. */
export function buildSnapshot(objects: Iterable<ParsedObject>, options: BuildOptions): Snapshot {
  return new SnapshotBuilder().build(objects, options);
}

function byKey<T>(entries: readonly Entry[]): Map<string, T> {
  return new Map(entries.map((e) => [e.key, e.value?.value as T]));
}

function resolveServices(sections: Sections, pods: ReadonlyMap<string, Pod>): Map<string, Service> {
  const listed = new Map<string, EndpointGroup[]>();
  const collect = (entries: readonly Entry[]) => {
    const found = new Map<string, EndpointGroup[]>();
    for (const { value } of entries) {
      if (value?.section !== 'slices' && value?.section !== 'endpoints') continue;
      const list = found.get(value.service);
      if (list) for (const group of value.value) list.push(group);
      else found.set(value.service, [...value.value]);
    }
    for (const [service, list] of found) if (!listed.has(service)) listed.set(service, list);
  };
  collect(sections.slices);
  collect(sections.endpoints); // used only for Services without slices

  let podsByNamespace: Map<string, Pod[]> | undefined;
  const podsOf = (namespace: string): readonly Pod[] => {
    if (!podsByNamespace) {
      podsByNamespace = new Map();
      for (const pod of pods.values()) {
        const list = podsByNamespace.get(pod.namespace);
        if (list) list.push(pod);
        else podsByNamespace.set(pod.namespace, [pod]);
      }
    }
    return podsByNamespace.get(namespace) ?? [];
  };
  const notReady = new Set(
    sections.pods.filter((e) => e.value?.section === 'pods' && !e.value.ready).map((e) => e.key),
  );
  const services = new Map<string, Service>();
  for (const { key, value } of sections.services) {
    if (value?.section !== 'services' || !value.value) continue;
    const spec = value.value;
    services.set(
      key,
      resolveService(spec, listed.get(key), () => podsOf(spec.namespace), notReady),
    );
  }
  return services;
}

function passedOverProblem(parsed: ParsedObject, entry: Entry): Problem {
  const message = `objects of kind ${entry.kind} (${entry.apiVersion}) are not read and have no effect`;
  return { severity: 'warning', where: { ...parsed.where, object: entry.kind, field: 'kind' }, message };
}

function duplicateProblem(parsed: ParsedObject, entry: Entry, first: ParsedObject): Problem {
  const { file, document } = first.where;
  const place =
    file === undefined ? 'before' : `in ${file}${document === undefined ? '' : ` (document ${document + 1})`}`;
  return {
    severity: 'error',
    where: { ...parsed.where, object: entry.title, field: 'metadata.name' },
    message: `is defined a second time; the first, ${place}, counts`,
    hint: 'remove one of the two, or give it another name or namespace',
  };
}
