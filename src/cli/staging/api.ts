/** Reads and writes policies through the Kubernetes API, with the rights of the user's kubeconfig. */
import { createHash } from 'node:crypto';
import { isAudit } from '../../dialects/enforcement.js';
import { policyGeneration } from '../../edges/generation.js';
import { AgentError } from '../../errors.js';
import { apiGroup } from '../../identity/kinds.js';
import { isRecord } from '../../identity/fields.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import { KubeClient, KubeError, type KubeObject, loadKubeConfig, type Method } from '../../kube/client/client.js';
import { Discovery, type Resource } from '../../kube/discovery.js';
import { FURTHER, NETWORK_POLICIES } from '../../kube/kinds.js';
import { annotationsIn, isStaged, type PlainObject, twinOf } from '../../staging/forms.js';
import type { CronJob } from '../../staging/impact.js';
import type { PolicyName } from '../../staging/names.js';
import { type Plan, presentOf, type Present, REASONS, type Write } from '../../staging/plan.js';
import type { ClusterFlags } from '../common/target.js';

const MERGE_PATCH = 'application/merge-patch+json';
/** More CronJobs than this are not looked at one by one. */
const MAX_CRON_JOBS = 2000;
const LONGEST_MESSAGE = 1000;

/** A policy as it is in the cluster. */
export interface Found {
  readonly present: Present;
  /** Of what is staged, or else of what is enforced. */
  readonly generation: number;
  readonly namespaceIsStaged: boolean;
}

/** The policies of a cluster. close() ends its connections. */
export class PolicyApi {
  readonly #client: KubeClient;
  readonly #discovery: Discovery;
  /** By `group/kind`. */
  #resources = new Map<string, Resource>();

  constructor(client: KubeClient) {
    this.#client = client;
    this.#discovery = new Discovery(client);
  }

  /** @throws AgentError USAGE if there is no usable kubeconfig */
  static open({ kubeconfig, context }: Pick<ClusterFlags, 'kubeconfig' | 'context'>): PolicyApi {
    return new PolicyApi(new KubeClient(loadKubeConfig({ kubeconfig, context }), { userAgent: 'egressctl' }));
  }

  close(): void {
    this.#client.close();
  }

  /** @throws AgentError USAGE if there is no such policy, AGENT if the API refuses */
  async find(name: PolicyName): Promise<Found> {
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
    const objects: PlainObject[] = [];
    for (const resource of resources) {
      const object = await this.#get(resource, name);
      if (object) objects.push(object);
    }
    const present = presentOf(objects);
    const object = present.staged ?? present.enforced;
    if (!object) throw new AgentError('USAGE', `there is no ${name.text} in the cluster`);
    const { namespace } = name;
    const namespaceIsStaged = namespace !== undefined && (await this.#isStagedNamespace(namespace));
    return { present, generation: policyGeneration(rawOf(object)), namespaceIsStaged };
  }

  /**
   * Makes the writes of a plan, one after the other.
   * @returns the object that the plan is about, as the API has it now
   * @throws AgentError AGENT; says what was done before, and how to go on
   */
  async apply({ writes, about }: Plan, dryRun: boolean): Promise<PlainObject> {
    let result = about;
    for (const [n, write] of writes.entries()) {
      try {
        const answer = await this.#write(write, dryRun);
        if (write.object === about) result = answer;
      } catch (e) {
        if (n === 0) throw e;
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

  /** Notes a step as an Event of the policy. @throws KubeError */
  async note(plan: Plan, object: PlainObject, message: string, now: Date): Promise<void> {
    const event = stepEvent(object, REASONS[plan.step], message, now);
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

  async #isStagedNamespace(namespace: string): Promise<boolean> {
    try {
      const object = await this.#client.request<PlainObject>('GET', `/api/v1/namespaces/${namespace}`);
      return isAudit(annotationsIn(object));
    } catch (e) {
      // Whoever may not read namespaces may still change policies in theirs.
      if (e instanceof KubeError && (e.status === 403 || e.status === 404)) return false;
      throw asAgentError(e, `namespace ${namespace}`);
    }
  }

  async #get(resource: Resource, name: Pick<PolicyName, 'namespace' | 'name'>): Promise<PlainObject | undefined> {
    try {
      const object = await this.#client.request<PlainObject>('GET', pathOf(resource, name));
      return { ...object, apiVersion: `${resource.group}/${resource.version}`, kind: resource.kind };
    } catch (e) {
      if (e instanceof KubeError && e.status === 404) return undefined;
      throw asAgentError(e, `get on ${resource.plural}.${resource.group}`);
    }
  }

  async #write(write: Write, dryRun: boolean): Promise<PlainObject> {
    const { object, verb } = write;
    const { resource, name, namespace } = this.#placeOf(object);
    const place = pathOf(resource, { name, ...(namespace === undefined ? {} : { namespace }) });
    const query = { fieldManager: 'egressctl', ...(dryRun ? { dryRun: 'All' } : {}) };
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
      throw asAgentError(
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

  async #asked<T>(what: string, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (e) {
      throw asAgentError(e, what);
    }
  }
}

/** The same content, and staged or not as before. */
function isSame(now: PlainObject, before: PlainObject): boolean {
  const uid = ({ metadata }: PlainObject) => (isRecord(metadata) ? metadata.uid : undefined);
  return (
    uid(now) === uid(before) &&
    isStaged(now) === isStaged(before) &&
    policyGeneration(rawOf(now)) === policyGeneration(rawOf(before))
  );
}

function rawOf(object: PlainObject): RawPolicy {
  const { name, namespace } = isRecord(object.metadata) ? object.metadata : {};
  const own = {
    apiVersion: String(object.apiVersion),
    kind: String(object.kind),
    name: String(name),
    object,
    where: {},
  };
  return namespace === undefined ? own : { ...own, namespace: String(namespace) };
}

function pathOf(
  { path, plural, namespaced }: Resource,
  { namespace, name }: Pick<PolicyName, 'namespace' | 'name'>,
): string {
  const base = path.slice(0, path.length - plural.length);
  const place = namespaced ? `namespaces/${encodeURIComponent(namespace ?? 'default')}/` : '';
  return `${base}${place}${plural}/${encodeURIComponent(name)}`;
}

function asAgentError(e: unknown, what: string): Error {
  if (!(e instanceof KubeError)) return e as Error;
  const hints: Readonly<Record<number, string>> = {
    0: 'see --kubeconfig and --context',
    403: `${what} is what this needs`,
    409: 'it was changed meanwhile: look at it, and try again',
    422: 'the API server does not take it as it is',
  };
  const hint = hints[e.status];
  return new AgentError('AGENT', `the API server: ${e.message}`, { ...(hint ? { hint } : {}), cause: e });
}

function stepEvent(object: PlainObject, reason: string, message: string, now: Date) {
  const { apiVersion, kind, metadata } = object;
  const { namespace, name, uid, resourceVersion } = isRecord(metadata) ? metadata : {};
  const time = now.toISOString();
  const hash = createHash('sha256')
    .update(JSON.stringify([uid, reason, time, message]))
    .digest('hex')
    .slice(0, 16);
  const seconds = time.replace(/\.\d+Z$/, 'Z');
  return {
    apiVersion: 'v1',
    kind: 'Event',
    // Events of cluster-wide objects are in `default`.
    metadata: {
      name: `${String(name)
        .slice(0, 200)
        .replace(/[-.]+$/, '')}.${hash}`,
      namespace: namespace === undefined ? 'default' : String(namespace),
    },
    involvedObject: { apiVersion, kind, namespace, name, uid, resourceVersion },
    type: 'Normal',
    reason,
    message: message.length > LONGEST_MESSAGE ? `${message.slice(0, LONGEST_MESSAGE)}…` : message,
    source: { component: 'egressctl' },
    reportingComponent: 'egress-agent.io/egressctl',
    reportingInstance: 'egressctl',
    firstTimestamp: seconds,
    lastTimestamp: seconds,
    count: 1,
  };
}
