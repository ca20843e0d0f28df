/** Finds the kinds of the API server and their versions. It queries only the groups that are wanted. */
import { type KubeClient, KubeError } from './client/client.js';

export interface Resource {
  group: string;
  version: string;
  kind: string;
  plural: string;
  namespaced: boolean;
  /** `/apis/g/v/plural`; `/api/v1/plural` for the core group. */
  path: string;
}

export interface WantedKind {
  /** Empty for the core group. */
  group: string;
  /** In order of preference. */
  versions: readonly string[];
  kind: string;
}

/** A name that may be part of a path: what the API allows for groups, versions and plurals (RFC 1123). */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
const MAX_GROUPS = 10_000;

/** Finds kinds, and remembers earlier answers. */
export class Discovery {
  readonly #client: KubeClient;
  readonly #timeoutMs: number;
  readonly #goneMs: number;
  readonly #now: () => number;
  /** Answers by `group/version`. */
  readonly #known = new Map<string, readonly Resource[]>();
  /** The result of the last `find` by `group/kind`, with the time since which the server no longer has the kind. */
  readonly #previous = new Map<string, { resource: Resource; missingSince?: number }>();
  #failed: ReadonlyMap<string, string> = new Map();

  /**
   * @param opts.goneMs a kind that disappeared counts as deleted if it is still missing after this time, in
   * milliseconds; default 10 s. A starting server does not have all groups yet, and forgetting a policy kind would lift
   * its policies
   */
  constructor(client: KubeClient, opts: { timeoutMs?: number; goneMs?: number; now?: () => number } = {}) {
    this.#client = client;
    this.#timeoutMs = opts.timeoutMs ?? 30_000;
    this.#goneMs = opts.goneMs ?? 10_000;
    this.#now = opts.now ?? Date.now;
  }

  /** Whether a kind is missing, but not for long enough: `find` should be called again after `goneMs`. */
  get unsure(): boolean {
    return [...this.#previous.values()].some((t) => t.missingSince !== undefined);
  }

  /**
   * Groups that did not answer the last `find`, with the error. Their previous answers stay valid. (The usual reason is
   * an aggregated API whose server is down.)
   */
  get failed(): ReadonlyMap<string, string> {
    return this.#failed;
  }

  /**
   * Finds the best served version of each wanted kind that can be listed and watched. Kinds that the server does not
   * have are omitted.
   * @throws KubeError if the list of groups is not available
   */
  async find(wanted: readonly WantedKind[]): Promise<Resource[]> {
    const groups = [...new Set(wanted.map((w) => w.group))];
    const served = groups.some((group) => group !== '') ? await this.#servedVersions() : new Map<string, Set<string>>();
    served.set('', new Set(['v1']));
    for (const name of this.#known.keys()) {
      const [group, version] = split(name);
      if (!served.get(group)?.has(version)) this.#known.delete(name);
    }
    const failed = new Map<string, string>();
    const found = await Promise.all(
      groups.map(async (group) => {
        const ofGroup = wanted.filter((w) => w.group === group);
        const versions = [...new Set(ofGroup.flatMap((w) => w.versions))].filter((v) => served.get(group)?.has(v));
        const answers = new Map<string, readonly Resource[]>();
        for (const version of versions) answers.set(version, await this.#resources(group, version, failed));
        return ofGroup.flatMap((w) => this.#orMissed(w, best(w, answers)) ?? []);
      }),
    );
    this.#failed = failed;
    return found.flat();
  }

  /** The resource that was found, or the previous one if it has disappeared only recently. */
  #orMissed({ group, kind }: WantedKind, resource: Resource | undefined): Resource | undefined {
    const name = `${group}/${kind}`;
    if (resource) {
      this.#previous.set(name, { resource });
      return resource;
    }
    const previous = this.#previous.get(name);
    if (!previous) return undefined;
    previous.missingSince ??= this.#now();
    if (this.#now() - previous.missingSince < this.#goneMs) return previous.resource;
    this.#previous.delete(name);
    return undefined;
  }

  /** `v1.30.2`. @throws KubeError */
  async serverVersion(): Promise<string> {
    const answer = await this.#get('/version');
    const version = answer['gitVersion'];
    if (typeof version !== 'string' || version === '') throw malformed('/version', 'no gitVersion');
    return version.slice(0, 100);
  }

  /** group → versions */
  async #servedVersions(): Promise<Map<string, Set<string>>> {
    const { groups } = await this.#get('/apis');
    if (!Array.isArray(groups) || groups.length > MAX_GROUPS) throw malformed('/apis', 'groups is not an array');
    const out = new Map<string, Set<string>>();
    for (const group of groups as ({ name?: unknown; versions?: unknown } | null)[]) {
      if (typeof group?.name !== 'string' || !Array.isArray(group.versions)) continue;
      const versions = (group.versions as ({ version?: unknown } | null)[]).map((v) => v?.version);
      out.set(group.name, new Set(versions.filter((v) => typeof v === 'string')));
    }
    return out;
  }

  /** The resources in a version of a group. If the server does not answer now: those of its previous answer. */
  async #resources(group: string, version: string, failed: Map<string, string>): Promise<readonly Resource[]> {
    const name = `${group}/${version}`;
    try {
      const resources = await this.#ask(group, version);
      this.#known.set(name, resources);
      return resources;
    } catch (e) {
      if (e instanceof KubeError && e.status === 404) {
        // The last CRD of the group was deleted between the two requests.
        this.#known.delete(name);
        return [];
      }
      failed.set(group, (e as Error).message);
      return this.#known.get(name) ?? [];
    }
  }

  async #ask(group: string, version: string): Promise<Resource[]> {
    if (!NAME.test(version) || (group !== '' && !NAME.test(group)))
      throw malformed(`${group}/${version}`, 'a wrong name');
    const base = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
    const { resources } = await this.#get(base);
    // A group without resources has null there.
    if (!Array.isArray(resources ?? [])) throw malformed(base, 'resources is not an array');
    return ((resources ?? []) as (Record<string, unknown> | null)[]).flatMap((r) => {
      const { name: plural, kind, namespaced, verbs } = r ?? {};
      // Subresources (`pods/status`) do not match the pattern of names.
      if (typeof plural !== 'string' || !NAME.test(plural) || typeof kind !== 'string') return [];
      if (!Array.isArray(verbs) || !verbs.includes('list') || !verbs.includes('watch')) return [];
      return [{ group, version, kind, plural, namespaced: namespaced === true, path: `${base}/${plural}` }];
    });
  }

  async #get(path: string): Promise<Record<string, unknown>> {
    const answer = await this.#client.request('GET', path, { timeoutMs: this.#timeoutMs });
    if (typeof answer !== 'object' || answer === null) throw malformed(path, 'no object');
    return answer as Record<string, unknown>;
  }
}

function best(wanted: WantedKind, answers: ReadonlyMap<string, readonly Resource[]>): Resource | undefined {
  for (const version of wanted.versions) {
    const resource = answers.get(version)?.find((r) => r.kind === wanted.kind);
    if (resource) return resource;
  }
  return undefined;
}

function split(name: string): [string, string] {
  const slash = name.indexOf('/');
  return [name.slice(0, slash), name.slice(slash + 1)];
}

function malformed(path: string, why: string): KubeError {
  return new KubeError(0, 'Malformed', `discovery: ${path}: ${why}`);
}
