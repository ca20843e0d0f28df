import { AgentError } from '../errors.js';
import type { Entry } from '../identity/entry.js';
import { LiveSnapshot } from '../identity/live.js';
import type { Snapshot } from '../identity/snapshot.js';
import type { Logger } from '../log.js';
import type { KubeClient, KubeObject } from './client.js';
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
import { keepOf } from './keep.js';
import { EntryReader } from './read.js';
import { Reflector } from './reflector.js';

export interface ClusterOptions {
  readonly client: KubeClient;
  readonly nodeName: string;
  /** Addresses of this node's interfaces, asked for at each load. */
  readonly ownNodeIps: () => readonly string[];
  readonly log: Logger;
  /** Milliseconds between discoveries where nothing asks for one; for aggregated APIs, that come without a CRD. */
  readonly discoveryMs?: number;
}

/** How one kind is followed. */
export interface KindStatus {
  /** `networking.k8s.io/v1 NetworkPolicy` */
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

/** Discovery is asked again this long after a CRD changed: they come in groups. */
const CRD_QUIET_MS = 500;
const DISCOVERY_MS = 5 * 60_000;
/** While the API server does not answer. */
const RETRY_MS = 2000;
const LATER_MS = 30_000;
/** A kind that vanished is believed at the second look. */
const UNSURE_MS = 11_000;

export class ClusterSource {
  private readonly live: LiveSnapshot;
  private readonly reader = new EntryReader();
  private readonly discovery: Discovery;
  private readonly followed = new Map<string, Followed>();
  private crds: Reflector<string> | undefined;
  private onChange: () => void = () => {};
  private timer: NodeJS.Timeout | undefined;
  private discovered = false;
  private complete = false;
  private discovering = false;
  private askedAgain = false;
  private discoveryError: { message: string; since: number } | undefined;
  private closed = false;

  constructor(private readonly options: ClusterOptions) {
    this.live = new LiveSnapshot(options.nodeName);
    this.discovery = new Discovery(options.client);
  }

  /** Begins to follow the cluster; `onChange` is called when load() would tell something new. */
  watch(onChange: () => void): void {
    this.onChange = onChange;
    for (const resource of CORE) this.follow(resource);
    void this.discover();
  }

  /**
   * Every kind that the cluster has has been listed once. From then on for good: a kind that comes later joins when it has been
   * listed, and one that may not be read holds up nothing that is enforced already.
   */
  get synced(): boolean {
    this.complete ||= this.discovered && [...this.followed.values()].every((f) => f.reflector.synced);
    return this.complete;
  }

  /** Since when some kind cannot be followed, milliseconds since 1970. */
  get staleSince(): number | undefined {
    const times = [...this.followed.values()].map((f) => f.reflector.staleSince).filter((t) => t !== undefined);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  get lastError(): string | undefined {
    const failing = [...this.followed.values()].find((f) => f.reflector.staleSince !== undefined);
    return failing?.reflector.lastError ?? this.discoveryError?.message;
  }

  kinds(): KindStatus[] {
    return [...this.followed.values()].map(({ resource, reflector }) => ({
      kind: nameOf(resource),
      objects: reflector.size,
      synced: reflector.synced,
      staleSince: reflector.staleSince,
      error: reflector.staleSince === undefined ? undefined : reflector.lastError,
    }));
  }

  /**
   * Everything that the watches brought so far.
   * @throws AgentError AGENT before the first complete view: half a view would open what it does not show
   */
  load(): Snapshot {
    if (!this.synced) {
      throw new AgentError('AGENT', `the cluster is not known yet: ${this.missing()}`, {
        hint: 'what was in force before stays in force',
      });
    }
    for (const [name, followed] of this.followed) {
      if (!followed.dirty) continue;
      followed.dirty = false;
      const changes = followed.reflector.take();
      this.live.apply(name, sectionOf(followed.resource), changes);
    }
    return this.live.snapshot(this.options.ownNodeIps());
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.crds?.close();
    for (const { reflector } of this.followed.values()) reflector.close();
  }

  private follow(resource: Resource): void {
    const name = nameOf(resource);
    const { client, log } = this.options;
    const keep = keepOf(resource.kind);
    const reflector = new Reflector<Entry>({
      client,
      path: resource.path,
      ...(keep ? { keep } : {}),
      read: (object: KubeObject, key: string) => this.reader.read(object, key),
      onChange: () => {
        followed.dirty = true;
        if (this.synced) this.onChange();
      },
      log,
    });
    const followed: Followed = { resource, reflector, dirty: false };
    this.followed.set(name, followed);
    reflector.start();
  }

  private async discover(): Promise<void> {
    if (this.closed) return;
    if (this.discovering) {
      this.askedAgain = true;
      return;
    }
    this.discovering = true;
    this.askedAgain = false;
    clearTimeout(this.timer);
    let again = this.options.discoveryMs ?? DISCOVERY_MS;
    try {
      const found = await this.discovery.find([SLICES, NETWORK_POLICIES, CRDS, ...FURTHER]);
      if (this.closed) return;
      this.take(found);
      this.discovered = true;
      this.discoveryError = undefined;
      if (this.discovery.unsure) again = UNSURE_MS;
      if (this.synced) this.onChange();
    } catch (e) {
      this.discoveryError ??= { message: '', since: Date.now() };
      this.discoveryError.message = (e as Error).message;
      again = this.discovered ? LATER_MS : RETRY_MS;
    } finally {
      this.discovering = false;
    }
    if (!this.closed) this.discoverIn(this.askedAgain ? CRD_QUIET_MS : again);
  }

  private discoverIn(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.discover(), ms);
    this.timer.unref();
  }

  /** Follows what is there now, and no longer what is not. A new version of a kind takes over when it is complete. */
  private take(found: readonly Resource[]): void {
    const crds = found.find((r) => r.kind === CRDS.kind);
    if (crds && !this.crds) this.followCrds(crds);
    const wanted = new Map<string, Resource>();
    for (const resource of found) if (resource.kind !== CRDS.kind) wanted.set(nameOf(resource), resource);
    if (!found.some((r) => r.kind === SLICES.kind)) wanted.set(nameOf(ENDPOINTS), ENDPOINTS);
    if (found.some((r) => r.group === CALICO_GROUP)) wanted.set(nameOf(ACCOUNTS), ACCOUNTS);
    const core = new Set(CORE.map(nameOf));
    for (const [name, { resource, reflector }] of this.followed) {
      if (core.has(name) || wanted.has(name)) continue;
      reflector.close();
      this.followed.delete(name);
      this.live.forget(name, sectionOf(resource));
      this.options.log.info('a kind is not served any more', { kind: name });
    }
    for (const [name, resource] of wanted) {
      if (this.followed.has(name)) continue;
      this.follow(resource);
      if (this.discovered) this.options.log.info('a kind is served now, and followed', { kind: name });
    }
  }

  /** A CRD that comes or goes asks for another discovery; what it says itself is of no interest. */
  private followCrds({ path }: Resource): void {
    const { client, log } = this.options;
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
        // One that is under way may have asked already; when it ends, it begins again.
        if (this.discovering) this.askedAgain = true;
        else this.discoverIn(CRD_QUIET_MS);
      },
      log,
    });
    this.crds = crds;
    crds.start();
  }

  private missing(): string {
    if (!this.discovered) return this.discoveryError ? this.discoveryError.message : 'asking for its API versions';
    const waiting = [...this.followed.values()].filter((f) => !f.reflector.synced);
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

/** Served versions, and whether the API server serves it yet. */
function crdState(object: KubeObject): string {
  const spec = (object.spec ?? {}) as { version?: string; versions?: { name?: string; served?: boolean }[] };
  const { conditions = [] } = (object.status ?? {}) as { conditions?: { type?: string; status?: string }[] };
  const served = Array.isArray(spec.versions) ? spec.versions.filter((v) => v?.served).map((v) => v.name) : [];
  const established =
    Array.isArray(conditions) && conditions.some((c) => c?.type === 'Established' && c.status === 'True');
  return `${spec.version ?? ''} ${served.join(',')} ${established}`;
}
