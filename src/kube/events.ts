/**
 * Reports problems of policy objects as Events on them, which their authors see with `kubectl describe`. Every node's
 * agent finds the same problem. The Event's name is derived from the problem, so that the API server stores one and
 * answers 409 to the other agents.
 */
import { createHash } from 'node:crypto';
import { formatProblem, type Problem } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import type { RawPolicy } from '../identity/snapshot.js';
import type { Logger } from '../log.js';
import type { KubeClient } from './client/client.js';
import { KubeError } from './client/list-errors.js';

export interface PolicyProblem {
  readonly policy: RawPolicy;
  readonly problem: Problem;
}

export interface EventOptions {
  readonly client: Pick<KubeClient, 'request'>;
  readonly nodeName: string;
  readonly log: Logger;
  readonly random?: () => number;
  /** Maximum delay of the first attempt in milliseconds, so that the nodes do not send at the same moment. */
  readonly spreadMs?: number;
  readonly now?: () => number;
}

const SPREAD_MS = 5000;
/**
 * Events are deleted after an hour (kube-apiserver --event-ttl). If the problem persists, the Event is sent again after
 * this time.
 */
const AGAIN_MS = 65 * 60_000;
/** Minimum delay in milliseconds until an Event is sent again that the API server did not accept. */
const RETRY_MS = 60_000;
/** Delay between two Events in milliseconds. */
const PACE_MS = 200;
/** Maximum number of Events at once. More would be a flood that helps nobody. */
const MOST = 200;
const LONGEST = 1000;

/** Sends Events about the present problems, at a limited rate. */
export class PolicyEvents {
  readonly #options: EventOptions;
  /** Name of the Event → when it was sent. */
  readonly #sentAt = new Map<string, number>();
  readonly #queue = new Map<string, PolicyProblem>();
  #timer: NodeJS.Timeout | undefined;
  #complained = false;

  constructor(options: EventOptions) {
    this.#options = options;
  }

  /** Sets the complete list of present problems. Returns at once; failures are logged. */
  report(problems: readonly PolicyProblem[]): void {
    const names = new Set<string>();
    for (const item of problems.slice(0, MOST)) {
      const name = eventName(item);
      names.add(name);
      if (this.#now() - (this.#sentAt.get(name) ?? 0) > AGAIN_MS) this.#queue.set(name, item);
    }
    for (const name of this.#sentAt.keys()) if (!names.has(name)) this.#sentAt.delete(name);
    for (const name of this.#queue.keys()) if (!names.has(name)) this.#queue.delete(name);
    if (this.#queue.size > 0) this.#in((this.#options.spreadMs ?? SPREAD_MS) * (this.#options.random ?? Math.random)());
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#queue.clear();
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  #in(ms: number): void {
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#next();
    }, ms);
    this.#timer.unref();
  }

  async #next(): Promise<void> {
    const [first] = this.#queue;
    if (!first) return;
    const [name, item] = first;
    this.#queue.delete(name);
    this.#sentAt.set(name, this.#now());
    const { client, nodeName, log } = this.#options;
    const event = makeEvent(name, item, nodeName);
    try {
      await client.request('POST', `/api/v1/namespaces/${event.metadata.namespace}/events`, { body: event });
    } catch (e) {
      const status = e instanceof KubeError ? e.status : 0;
      if (status === 0 || status === 429 || status >= 500) this.#sentAt.set(name, this.#now() - AGAIN_MS + RETRY_MS);
      if (!expected(e) && !this.#complained) {
        this.#complained = true;
        log.warn(`an Event about a policy could not be written: ${(e as Error).message}`);
      }
    }
    if (this.#queue.size > 0) this.#in(PACE_MS);
  }
}

/**
 * Expected answers. 409: another node's agent was first. 404, and 403 with that reason: the namespace is being deleted
 * with its policies.
 */
function expected(e: unknown): boolean {
  if (!(e instanceof KubeError)) return false;
  return e.status === 409 || e.status === 404 || (e.status === 403 && /being terminated/.test(e.message));
}

function uidOf({ object }: RawPolicy): string {
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  return typeof metadata.uid === 'string' ? metadata.uid : '';
}

function eventName({ policy, problem }: PolicyProblem): string {
  const text = JSON.stringify([uidOf(policy), problem.where.field, problem.message]);
  // An RFC 1123 subdomain has at most 253 characters. The object's own name is one already, and so is a prefix of it
  // that does not end with a sign.
  return `${policy.name.slice(0, 200).replace(/[-.]+$/, '')}.${createHash('sha256').update(text).digest('hex').slice(0, 16)}`;
}

function makeEvent(name: string, { policy, problem }: PolicyProblem, nodeName: string) {
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  // Events of cluster-wide objects are in `default`.
  const namespace = policy.namespace ?? 'default';
  const { field, ...where } = problem.where;
  const message = formatProblem({ ...problem, where: { ...(field === undefined ? {} : { field }) } });
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name, namespace },
    involvedObject: {
      apiVersion: policy.apiVersion,
      kind: policy.kind,
      ...(policy.namespace === undefined ? {} : { namespace: policy.namespace }),
      name: policy.name,
      uid: uidOf(policy),
      ...(field === undefined ? {} : { fieldPath: field }),
    },
    type: problem.severity === 'error' ? 'Warning' : 'Normal',
    reason: problem.severity === 'error' ? 'PolicyRefused' : 'PolicyQuestionable',
    message: message.length > LONGEST ? `${message.slice(0, LONGEST)}…` : message || (where.object ?? ''),
    source: { component: 'egress-agent', host: nodeName },
    reportingComponent: 'egress-agent.io/egress-agent',
    reportingInstance: nodeName,
    firstTimestamp: now,
    lastTimestamp: now,
    count: 1,
  };
}
