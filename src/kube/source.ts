import { AgentError } from '../errors.js';
import type { Entry } from '../identity/entry.js';
import { LiveSnapshot } from '../identity/live.js';
import type { Snapshot } from '../identity/snapshot.js';
import type { Logger } from '../log.js';
import type { KubeClient, KubeObject } from './client/client.js';
import { Discovery, type Resource } from './discovery.js';
import {
  ACCOUNTS,
  CALICO_GROUP,
  CORE,
  CRDS,
  ENDPOINTS,
  FURTHER,
  NETWORK_POLICIES,
  sectionOf,
  SLICES,
} from './kinds.js';
import { keepOf } from './client/keep.js';
import { EntryReader } from './read.js';
import { Reflector } from './reflector/reflector.js';

export interface ClusterOptions {
  readonly client: KubeClient;
  readonly nodeName: string;
  /** Addresses of this node's interfaces; called by each load(). */
  readonly ownNodeIps: () => readonly string[];
  readonly log: Logger;
  /** Milliseconds between discoveries without a trigger. They find aggregated APIs, which come without a CRD. */
  readonly discoveryMs?: number;
}

/** The state of the watch of one kind. */
export interface KindStatus {
  /** Such as `networking.k8s.io/v1 NetworkPolicy`. */
  readonly kind: string;
  readonly objects: number;
  readonly synced: boolean;
  /** Milliseconds since 1970; undefined while the watch is healthy. */
  readonly staleSince: number | undefined;
  readonly error: string | undefined;
}

interface Followed {
  readonly resource: Resource;
  readonly reflector: Reflector<Entry>;
  dirty: boolean;
}

/** Delay of a discovery after a CRD changed, in milliseconds. CRDs usually change in groups. */
const CRD_QUIET_MS = 500;
const DISCOVERY_MS = 5 * 60_000;
/** Delay between attempts while the API server does not answer, in milliseconds. */
const RETRY_MS = 2000;
const LATER_MS = 30_000;
/**
 * Delay until a missing kind is checked again, in milliseconds. It counts as deleted only if it is still missing then.
 */
const UNSURE_MS = 11_000;

/** The source of Snapshots from a cluster. */
export class ClusterSource {
  readonly #options: ClusterOptions;
  readonly #live: LiveSnapshot;
  readonly #reader = new EntryReader();
  readonly #discovery: Discovery;
  readonly #followed = new Map<string, Followed>();
  #crds: Reflector<string> | undefined;
  #onChange: () => void = () => {};
  #timer: NodeJS.Timeout | undefined;
  #discovered = false;
  #complete = false;
  #discovering = false;
  #askedAgain = false;
  #discoveryError: { message: string; since: number } | undefined;
  #closed = false;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#live = new LiveSnapshot(options.nodeName);
    this.#discovery = new Discovery(options.client);
  }

  /** Starts to follow the cluster. `onChange` is called when load() would return something new. */
  watch(onChange: () => void): void {
    this.#onChange = onChange;
    for (const resource of CORE) this.#follow(resource);
    void this.#discover();
  }

  /**
   * Whether every kind of the cluster has been listed once. It stays true from then on: a kind that appears later joins
   * when it has been listed, and one that may not be read does not block the others.
   */
  get synced(): boolean {
    this.#complete ||= this.#discovered && [...this.#followed.values()].every((f) => f.reflector.synced);
    return this.#complete;
  }

  /** Time since which some kind cannot be watched, milliseconds since 1970. */
  get staleSince(): number | undefined {
    const times = [...this.#followed.values()].map((f) => f.reflector.staleSince).filter((t) => t !== undefined);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  get lastError(): string | undefined {
    const failing = [...this.#followed.values()].find((f) => f.reflector.staleSince !== undefined);
    return failing?.reflector.lastError ?? this.#discoveryError?.message;
  }

  kinds(): KindStatus[] {
    return [...this.#followed.values()].map(({ resource, reflector }) => ({
      kind: nameOf(resource),
      objects: reflector.size,
      synced: reflector.synced,
      staleSince: reflector.staleSince,
      error: reflector.staleSince === undefined ? undefined : reflector.lastError,
    }));
  }

  /**
   * A Snapshot of everything that the watches have delivered.
   * @throws AgentError AGENT before the first complete view: with an incomplete one, policies that are not listed yet
   * would be missing, and their pods open
   */
  load(): Snapshot {
    if (!this.synced) {
      throw new AgentError('AGENT', `the cluster is not known yet: ${this.#missing()}`, {
        hint: 'what was in force before stays in force',
      });
    }
    for (const [name, followed] of this.#followed) {
      if (!followed.dirty) continue;
      followed.dirty = false;
      const changes = followed.reflector.take();
      this.#live.apply(name, sectionOf(followed.resource), changes);
    }
    return this.#live.snapshot(this.#options.ownNodeIps());
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#crds?.close();
    for (const { reflector } of this.#followed.values()) reflector.close();
  }

  #follow(resource: Resource): void {
    const name = nameOf(resource);
    const { client, log } = this.#options;
    const keep = keepOf(resource.kind);
    const reflector = new Reflector<Entry>({
      client,
      path: resource.path,
      ...(keep ? { keep } : {}),
      read: (object: KubeObject, key: string) => this.#reader.read(object, key),
      onChange: () => {
        followed.dirty = true;
        if (this.synced) this.#onChange();
      },
      log,
    });
    const followed: Followed = { resource, reflector, dirty: false };
    this.#followed.set(name, followed);
    reflector.start();
  }

  async #discover(): Promise<void> {
    if (this.#closed) return;
    if (this.#discovering) {
      this.#askedAgain = true;
      return;
    }
    this.#discovering = true;
    this.#askedAgain = false;
    clearTimeout(this.#timer);
    let again = this.#options.discoveryMs ?? DISCOVERY_MS;
    try {
      const found = await this.#discovery.find([SLICES, NETWORK_POLICIES, CRDS, ...FURTHER]);
      if (this.#closed) return;
      this.#take(found);
      this.#discovered = true;
      this.#discoveryError = undefined;
      if (this.#discovery.unsure) again = UNSURE_MS;
      if (this.synced) this.#onChange();
    } catch (e) {
      this.#discoveryError ??= { message: '', since: Date.now() };
      this.#discoveryError.message = (e as Error).message;
      again = this.#discovered ? LATER_MS : RETRY_MS;
    } finally {
      this.#discovering = false;
    }
    if (!this.#closed) this.#discoverIn(this.#askedAgain ? CRD_QUIET_MS : again);
  }

  #discoverIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#discover(), ms);
    this.#timer.unref();
  }

  /**
   * Starts to follow new kinds, and stops to follow those that are gone. A new version of a kind replaces the old one
   * when its list is complete.
   */
  #take(found: readonly Resource[]): void {
    const crds = found.find((r) => r.kind === CRDS.kind);
    if (crds && !this.#crds) this.#followCrds(crds);
    const wanted = new Map<string, Resource>();
    for (const resource of found) if (resource.kind !== CRDS.kind) wanted.set(nameOf(resource), resource);
    if (!found.some((r) => r.kind === SLICES.kind)) wanted.set(nameOf(ENDPOINTS), ENDPOINTS);
    if (found.some((r) => r.group === CALICO_GROUP)) wanted.set(nameOf(ACCOUNTS), ACCOUNTS);
    const core = new Set(CORE.map(nameOf));
    for (const [name, { resource, reflector }] of this.#followed) {
      if (core.has(name) || wanted.has(name)) continue;
      reflector.close();
      this.#followed.delete(name);
      this.#live.forget(name, sectionOf(resource));
      this.#options.log.info('a kind is not served any more', { kind: name });
    }
    for (const [name, resource] of wanted) {
      if (this.#followed.has(name)) continue;
      this.#follow(resource);
      if (this.#discovered) this.#options.log.info('a kind is served now, and followed', { kind: name });
    }
  }

  /** Watches CRDs: a change triggers another discovery. The content of the CRDs is not used. */
  #followCrds({ path }: Resource): void {
    const { client, log } = this.#options;
    const groups = new Set(FURTHER.map((f) => f.group));
    const known = new Map<string, string>();
    const crds = new Reflector<string>({
      client,
      path,
      read: crdState,
      onChange: () => {
        const changes = crds.take();
        let matters = false;
        for (const [key, state] of 'all' in changes ? changes.all : changes.changed) {
          const group = key.slice(key.indexOf('.') + 1);
          if (known.get(key) === state || !groups.has(group)) continue;
          if (state === undefined) known.delete(key);
          else known.set(key, state);
          matters = true;
        }
        if (!matters) return;
        // A running discovery may have read the old state, so another one follows it.
        if (this.#discovering) this.#askedAgain = true;
        else this.#discoverIn(CRD_QUIET_MS);
      },
      log,
    });
    this.#crds = crds;
    crds.start();
  }

  #missing(): string {
    if (!this.#discovered) return this.#discoveryError ? this.#discoveryError.message : 'asking for its API versions';
    const waiting = [...this.#followed.values()].filter((f) => !f.reflector.synced);
    const error = waiting.find((f) => f.reflector.lastError !== undefined)?.reflector.lastError;
    return `waiting for ${waiting.map((f) => nameOf(f.resource)).join(', ')}${error === undefined ? '' : ` (${error})`}`;
  }
}

function apiVersion({ group, version }: Resource): string {
  return group === '' ? version : `${group}/${version}`;
}

function nameOf(resource: Resource): string {
  return `${apiVersion(resource)} ${resource.kind}`;
}

/** The served versions of a CRD, and whether the API server serves it yet. */
function crdState(object: KubeObject): string {
  const spec = (object.spec ?? {}) as { version?: string; versions?: { name?: string; served?: boolean }[] };
  const { conditions = [] } = (object.status ?? {}) as { conditions?: { type?: string; status?: string }[] };
  const served = Array.isArray(spec.versions) ? spec.versions.filter((v) => v?.served).map((v) => v.name) : [];
  const established =
    Array.isArray(conditions) && conditions.some((c) => c?.type === 'Established' && c.status === 'True');
  return `${spec.version ?? ''} ${served.join(',')} ${established}`;
}
