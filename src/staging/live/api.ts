/** Reads and writes policies through the Kubernetes API, with the rights of the client that is given. */
import { isAudit } from '../../dialects/enforcement.js';
import { AgentError } from '../../errors.js';
import { apiGroup } from '../../identity/kinds.js';
import { isRecord } from '../../identity/fields.js';
import { type KubeClient, KubeError, type KubeObject, type Method } from '../../kube/client/client.js';
import { Discovery, type Resource } from '../../kube/discovery.js';
import { FURTHER, NETWORK_POLICIES } from '../../kube/kinds.js';
import { annotationsIn, isStaged, type PlainObject, twinOf } from '../forms.js';
import type { CronJob } from '../impact.js';
import type { PolicyName } from '../names.js';
import { type Plan, presentOf, type Present, type Write } from '../plan.js';
import { type Manager, stepEvent } from './event.js';
import { generationOf } from './generation.js';

const MERGE_PATCH = 'application/merge-patch+json';
/** More CronJobs than this are not looked at one by one. */
const MAX_CRON_JOBS = 2000;

/** A policy as it is in the cluster. */
export interface Found {
  readonly present: Present;
  /** Of what is staged, or else of what is enforced. */
  readonly generation: number;
  readonly namespaceIsStaged: boolean;
}

/** What the cluster has of a policy's name: the object of its kind, that of its other form, both or none. */
export interface Seen {
  readonly objects: readonly PlainObject[];
  readonly present: Present;
  readonly namespaceIsStaged: boolean;
}

/** The object is not as the caller knew it: it was changed, created or deleted meanwhile. Nothing was written. */
export class ConflictError extends AgentError {}

/** The policies of a cluster. close() ends the client's connections. Errors of the API are AgentErrors AGENT. */
export class PolicyApi {
  readonly #client: KubeClient;
  readonly #manager: Manager;
  readonly #discovery: Discovery;
  /** By `group/kind`. */
  #resources = new Map<string, Resource>();

  /** @param manager who writes: the field manager of objects, and the component of Events */
  constructor(client: KubeClient, manager: Manager) {
    this.#client = client;
    this.#manager = manager;
    this.#discovery = new Discovery(client);
  }

  close(): void {
    this.#client.close();
  }

  /** @throws AgentError USAGE if there is no such policy, AGENT if the API refuses */
  async find(name: PolicyName): Promise<Found> {
    const { present, namespaceIsStaged } = await this.look(name);
    const object = present.staged ?? present.enforced;
    if (!object) throw new AgentError('USAGE', `there is no ${name.text} in the cluster`);
    return { present, generation: generationOf(object), namespaceIsStaged };
  }

  /**
   * What there is of a policy, which may be nothing.
   * @throws AgentError USAGE if the cluster has no such kind, AGENT if the API refuses
   */
  async look(name: PolicyName): Promise<Seen> {
    const objects: PlainObject[] = [];
    for (const resource of await this.#resourcesOf(name)) {
      const object = await this.#get(resource, name);
      if (object) objects.push(object);
    }
    const { namespace } = name;
    const namespaceIsStaged = namespace !== undefined && (await this.#isStagedNamespace(namespace));
    return { objects, present: presentOf(objects), namespaceIsStaged };
  }

  /** The object of the policy's own kind, and of no other form; undefined: there is none. @throws AgentError */
  async read(name: PolicyName): Promise<PlainObject | undefined> {
    for (const resource of await this.#resourcesOf(name)) {
      if (resource.kind !== name.kind || !name.groups.includes(resource.group)) continue;
      const object = await this.#get(resource, name);
      if (object) return object;
    }
    return undefined;
  }

  /** The version of a kind that is written here; undefined: look() has not found the kind. */
  versionOf(group: string, kind: string): string | undefined {
    const resource = this.#resources.get(`${group}/${kind}`);
    return resource && `${resource.group}/${resource.version}`;
  }

  /**
   * Makes the writes of a plan, one after the other.
   * @returns the object that the plan is about, as the API has it now
   * @throws AgentError AGENT; says what was done before, and how to go on
   */
  async apply({ writes, about }: Pick<Plan, 'writes' | 'about'>, dryRun: boolean): Promise<PlainObject> {
    let result = about;
    for (const [n, write] of writes.entries()) {
      try {
        const answer = await this.#write(write, dryRun);
        if (write.object === about) result = answer;
      } catch (e) {
        if (n === 0 || dryRun) throw e;
        const { kind, metadata } = write.object;
        const { namespace, name } = isRecord(metadata) ? metadata : {};
        const place = namespace === undefined ? '' : ` -n ${namespace}`;
        throw new AgentError('AGENT', `only half is done: ${(e as Error).message}`, {
          hint:
            write.verb === 'delete'
              ? `both forms are there now; this is left: kubectl delete ${String(kind)}.${apiGroup(String(write.object.apiVersion))} ${String(name)}${place}`
              : 'both forms are there now: look at them, and try again',
          cause: e,
        });
      }
    }
    return result;
  }

  /** Notes what was done as an Event of an object. @throws KubeError */
  async note(object: PlainObject, reason: string, message: string, now: Date): Promise<void> {
    const event = stepEvent(object, { reason, message, now, manager: this.#manager });
    await this.#client.request('POST', `/api/v1/namespaces/${event.metadata.namespace}/events`, { body: event });
  }

  /** The CronJobs of a namespace, or of all. @throws KubeError */
  async cronJobs(namespace: string | undefined): Promise<CronJob[]> {
    const place = namespace === undefined ? '' : `/namespaces/${namespace}`;
    const query = { limit: String(MAX_CRON_JOBS) };
    const ask = (version: string) =>
      this.#client.request<{ items?: unknown }>('GET', `/apis/batch/${version}${place}/cronjobs`, { query });
    const list = await ask('v1').catch((e) => {
      // Before Kubernetes 1.21.
      if (e instanceof KubeError && e.status === 404) return ask('v1beta1');
      throw e;
    });
    const items = Array.isArray(list.items) ? (list.items as KubeObject[]) : [];
    return items.map(({ metadata, spec, status }) => {
      const last = isRecord(status) ? Date.parse(String(status.lastScheduleTime)) : Number.NaN;
      const { schedule, suspend } = isRecord(spec) ? spec : {};
      return {
        name: `${metadata?.namespace ?? ''}/${metadata?.name ?? ''}`,
        schedule: String(schedule ?? ''),
        suspended: suspend === true,
        lastRunMs: Number.isFinite(last) ? last : undefined,
      };
    });
  }

  /** The kinds of both forms of a policy that the cluster has. @throws AgentError USAGE if its own is not there */
  async #resourcesOf(name: PolicyName): Promise<Resource[]> {
    const twins = name.groups.flatMap((group) => twinOf(`${group}/v1`, name.kind) ?? []);
    const wanted = [
      ...name.groups.map((group) => ({ group, kind: name.kind })),
      ...twins.map(({ apiVersion, kind }) => ({ group: apiGroup(apiVersion), kind })),
    ];
    const known = [NETWORK_POLICIES, ...FURTHER].filter((k) =>
      wanted.some((w) => w.group === k.group && w.kind === k.kind),
    );
    const resources = await this.#asked('the kinds of policies', () => this.#discovery.find(known));
    for (const resource of resources) this.#resources.set(`${resource.group}/${resource.kind}`, resource);
    if (!resources.some((r) => r.kind === name.kind && name.groups.includes(r.group)))
      throw new AgentError('USAGE', `the cluster has no kind ${name.kind} of ${name.groups.join(' or ')}`);
    return resources;
  }

  async #isStagedNamespace(namespace: string): Promise<boolean> {
    try {
      const object = await this.#client.request<PlainObject>('GET', `/api/v1/namespaces/${namespace}`);
      return isAudit(annotationsIn(object));
    } catch (e) {
      // Whoever may not read namespaces may still change policies in theirs.
      if (e instanceof KubeError && (e.status === 403 || e.status === 404)) return false;
      throw this.#fault(e, `namespace ${namespace}`);
    }
  }

  async #get(resource: Resource, name: Pick<PolicyName, 'namespace' | 'name'>): Promise<PlainObject | undefined> {
    try {
      const object = await this.#client.request<PlainObject>('GET', pathOf(resource, name));
      return { ...object, apiVersion: `${resource.group}/${resource.version}`, kind: resource.kind };
    } catch (e) {
      if (e instanceof KubeError && e.status === 404) return undefined;
      throw this.#fault(e, `get on ${resource.plural}.${resource.group}`);
    }
  }

  async #write(write: Write, dryRun: boolean): Promise<PlainObject> {
    const { object, verb } = write;
    const { resource, name, namespace } = this.#placeOf(object);
    const place = pathOf(resource, { name, ...(namespace === undefined ? {} : { namespace }) });
    const query = { fieldManager: this.#manager, ...(dryRun ? { dryRun: 'All' } : {}) };
    const send = (method: Method, path: string, body: unknown, contentType = 'application/json') =>
      this.#client.request<PlainObject>(method, path, { query, body, contentType });
    const { resourceVersion, uid } = isRecord(object.metadata) ? object.metadata : {};
    try {
      switch (verb) {
        case 'create':
          return await send('POST', place.slice(0, place.lastIndexOf('/')), object);
        case 'replace':
          return await send('PUT', place, object);
        case 'delete': {
          const preconditions = { uid, resourceVersion };
          return await send('DELETE', place, { apiVersion: 'v1', kind: 'DeleteOptions', preconditions });
        }
        default: {
          const patch = (version: unknown) =>
            send(
              'PATCH',
              place,
              { metadata: { resourceVersion: version, annotations: write.annotations } },
              MERGE_PATCH,
            );
          try {
            return await patch(resourceVersion);
          } catch (e) {
            if (!(e instanceof KubeError) || e.status !== 409) throw e;
            // Something else was written meanwhile. A status, or a label, is no reason to ask the user again.
            const now = await this.#get(resource, { name, ...(namespace === undefined ? {} : { namespace }) });
            if (!now || !isSame(now, object)) throw e;
            return await patch((now.metadata as KubeObject['metadata'])?.resourceVersion);
          }
        }
      }
    } catch (e) {
      throw this.#fault(
        e,
        `${verb === 'annotate' ? 'patch' : verb === 'replace' ? 'update' : verb} on ${resource.plural}.${resource.group}`,
      );
    }
  }

  #placeOf({ apiVersion, kind, metadata }: PlainObject) {
    const resource = this.#resources.get(`${apiGroup(String(apiVersion))}/${String(kind)}`);
    if (!resource) throw new AgentError('AGENT', `the cluster has no kind ${String(kind)} of ${String(apiVersion)}`);
    const { name, namespace } = isRecord(metadata) ? metadata : {};
    return { resource, name: String(name), namespace: namespace === undefined ? undefined : String(namespace) };
  }

  /** @param what what the right is for that may be missing */
  #fault(e: unknown, what: string): Error {
    if (!(e instanceof KubeError)) return e as Error;
    const ofCli = e.status === 0 && this.#manager === 'egressctl' ? 'see --kubeconfig and --context' : undefined;
    const hint = e.status === 403 ? `${what} is what this needs` : (HINTS[e.status] ?? ofCli);
    const Kind = e.status === 409 ? ConflictError : AgentError;
    return new Kind('AGENT', `the API server: ${e.message}`, { ...(hint ? { hint } : {}), cause: e });
  }

  async #asked<T>(what: string, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (e) {
      throw this.#fault(e, what);
    }
  }
}

const HINTS: Readonly<Record<number, string>> = {
  409: 'it was changed meanwhile: look at it, and try again',
  422: 'the API server does not take it as it is',
};

/** The same content, and staged or not as before. */
function isSame(now: PlainObject, before: PlainObject): boolean {
  const uid = ({ metadata }: PlainObject) => (isRecord(metadata) ? metadata.uid : undefined);
  return uid(now) === uid(before) && isStaged(now) === isStaged(before) && generationOf(now) === generationOf(before);
}

function pathOf(
  { path, plural, namespaced }: Resource,
  { namespace, name }: Pick<PolicyName, 'namespace' | 'name'>,
): string {
  const base = path.slice(0, path.length - plural.length);
  const place = namespaced ? `namespaces/${encodeURIComponent(namespace ?? 'default')}/` : '';
  return `${base}${place}${plural}/${encodeURIComponent(name)}`;
}
