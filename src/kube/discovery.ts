/** Which kinds the API server has, and in which versions. Only the groups that are wanted are asked for. */
import { type KubeClient, KubeError } from './client.js';

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
  /** Empty: the core group. */
  group: string;
  /** The best first. */
  versions: readonly string[];
  kind: string;
}

/** A name that can stand in a path: what the API allows for groups, versions and plurals (RFC 1123). */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
const MAX_GROUPS = 10_000;

export class Discovery {
  readonly #client: KubeClient;
  readonly #timeoutMs: number;
  readonly #goneMs: number;
  readonly #now: () => number;
  /** Answers by `group/version`. */
  readonly #known = new Map<string, readonly Resource[]>();
  /** What the last `find` told, by `group/kind`; with the time since when the server does not have it any more. */
  readonly #told = new Map<string, { resource: Resource; missingSince?: number }>();
  #failed: ReadonlyMap<string, string> = new Map();

  /**
   * @param opts.goneMs a kind that was there is believed to be gone when it is still missing so much later; 10 s unless told. A server that
   *   is about to start has not all its groups yet, and forgetting a policy kind lifts its policies
   */
  constructor(client: KubeClient, opts: { timeoutMs?: number; goneMs?: number; now?: () => number } = {}) {
    this.#client = client;
    this.#timeoutMs = opts.timeoutMs ?? 30_000;
    this.#goneMs = opts.goneMs ?? 10_000;
    this.#now = opts.now ?? Date.now;
  }

  /** A kind is missing, but not for long enough to be believed: `find` should be asked again after `goneMs`. */
  get unsure(): boolean {
    return [...this.#told.values()].some((t) => t.missingSince !== undefined);
  }

  /**
   * Groups that did not answer the last `find`, with the error. What is known of them is what they answered before. (An aggregated
   * API whose server is down is the usual reason.)
   */
  get failed(): ReadonlyMap<string, string> {
    return this.#failed;
  }

  /**
   * The best served version of each wanted kind that can be listed and watched; kinds that the server does not have are left out.
   * @throws KubeError where the list of groups cannot be had
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

  /** What was found; else what was there until a moment ago. */
  #orMissed({ group, kind }: WantedKind, resource: Resource | undefined): Resource | undefined {
    const name = `${group}/${kind}`;
    if (resource) {
      this.#told.set(name, { resource });
      return resource;
    }
    const told = this.#told.get(name);
    if (!told) return undefined;
    told.missingSince ??= this.#now();
    if (this.#now() - told.missingSince < this.#goneMs) return told.resource;
    this.#told.delete(name);
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
    if (!Array.isArray(groups) || groups.length > MAX_GROUPS) throw malformed('/apis', 'groups is no array');
    const out = new Map<string, Set<string>>();
    for (const group of groups as ({ name?: unknown; versions?: unknown } | null)[]) {
      if (typeof group?.name !== 'string' || !Array.isArray(group.versions)) continue;
      const versions = (group.versions as ({ version?: unknown } | null)[]).map((v) => v?.version);
      out.set(group.name, new Set(versions.filter((v) => typeof v === 'string')));
    }
    return out;
  }

  /** What the server has in a version of a group; what it had, where it does not answer now. */
  async #resources(group: string, version: string, failed: Map<string, string>): Promise<readonly Resource[]> {
    const name = `${group}/${version}`;
    try {
      const resources = await this.#ask(group, version);
      this.#known.set(name, resources);
      return resources;
    } catch (e) {
      if (e instanceof KubeError && e.status === 404) {
        // Its last CRD was deleted between the two requests.
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
    if (!Array.isArray(resources ?? [])) throw malformed(base, 'resources is no array');
    return ((resources ?? []) as (Record<string, unknown> | null)[]).flatMap((r) => {
      const { name: plural, kind, namespaced, verbs } = r ?? {};
      // Subresources (`pods/status`) fail the test of the name.
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
