/**
 * Converts API objects to entries with only the parts that policies and flows need, so that 50,000 pods fit into
 * memory.
 */
import { type Entry, readEntry, type Value } from '../identity/entry.js';
import { isRecord } from '../identity/fields.js';
import { MIRROR_ANNOTATION, type Pod } from '../identity/snapshot.js';
import type { KubeObject } from './client/client.js';

/** Prefix of the annotations that the agent reads. */
const OURS = 'egress-agent.io/';
const NO_PROBLEMS: Entry['problems'] = [];
const NOTHING: Pod['annotations'] = Object.freeze({});
/**
 * Maximum number of shared values of one kind: the pods of a workload have equal labels. The cache is emptied when it
 * exceeds this size.
 */
const SHARED = 65536;

/** Converts objects, and shares equal values. */
export class EntryReader {
  readonly #labels = new Map<string, Pod['labels']>();
  readonly #ports = new Map<string, Pod['ports']>();
  readonly #workloads = new Map<string, NonNullable<Pod['workload']>>();
  readonly #texts = new Map<string, string>();

  /** @param key `namespace/name`, or the name, as the entry's owner has it */
  read(object: KubeObject, key?: string): Entry {
    const entry = readEntry({ object, where: {} });
    // All properties are written out: an object made by spreading another one gets a hidden class of its own, which is
    // larger than the object.
    return {
      id: '',
      key: key === entry.key ? key : entry.key,
      kind: this.#text(entry.kind),
      apiVersion: this.#text(entry.apiVersion),
      title: '',
      value: this.#value(entry.value, object),
      problems: entry.problems.length === 0 ? NO_PROBLEMS : entry.problems,
    };
  }

  #value(value: Value | undefined, object: KubeObject): Value | undefined {
    switch (value?.section) {
      case 'policies':
        return { section: 'policies', value: { ...value.value, object: trimmed(object) } };
      case 'pods':
        // EndpointSlices report readiness. In the pod it would turn each change of a probe into a change of the entry.
        return { section: 'pods', value: this.#pod(value.value), ready: true };
      case 'namespaces': {
        const { name, labels, annotations, terminating } = value.value;
        return { section: 'namespaces', value: { name, labels, annotations: ours(annotations), terminating } };
      }
      default:
        return value;
    }
  }

  #pod(pod: Pod): Pod {
    const { uid, name, ips, hostNetwork, ended, terminating, workload } = pod;
    const small: Pod = {
      uid,
      namespace: this.#text(pod.namespace),
      name,
      labels: this.#shared(this.#labels, pod.labels),
      annotations: ours(pod.annotations),
      ips,
      nodeName: this.#text(pod.nodeName),
      serviceAccount: this.#text(pod.serviceAccount),
      hostNetwork,
      ended,
      ports: this.#shared(this.#ports, pod.ports),
    };
    if (terminating) small.terminating = terminating;
    if (workload) small.workload = this.#shared(this.#workloads, workload);
    return small;
  }

  #text(value: string): string {
    const known = this.#texts.get(value);
    if (known !== undefined) return known;
    if (this.#texts.size > SHARED) this.#texts.clear();
    this.#texts.set(value, value);
    return value;
  }

  #shared<T extends object>(known: Map<string, T>, value: T): T {
    const text = JSON.stringify(value);
    const first = known.get(text);
    if (first) return first;
    if (known.size > SHARED) known.clear();
    known.set(text, value);
    return value;
  }
}

/** Keeps only our own annotations, since all of them may have a quarter of a megabyte. */
function ours(annotations: Pod['annotations']): Pod['annotations'] {
  let out: Record<string, string> | undefined;
  for (const key in annotations) {
    if (key.startsWith(OURS) || key === MIRROR_ANNOTATION) (out ??= {})[key] = annotations[key] as string;
  }
  return out ?? NOTHING;
}

/**
 * A policy without unused parts. Managed fields are half of it. Status and versions must go, or each update of the
 * status would make a new policy of it.
 */
function trimmed({ status: _, ...object }: KubeObject): KubeObject {
  if (!isRecord(object.metadata)) return object;
  const { managedFields: _m, resourceVersion: _v, generation: _g, annotations: _a, ...metadata } = object.metadata;
  const annotations = isRecord(object.metadata.annotations)
    ? Object.fromEntries(Object.entries(object.metadata.annotations).filter(([key]) => key.startsWith(OURS)))
    : {};
  return { ...object, metadata: { ...metadata, ...(Object.keys(annotations).length > 0 ? { annotations } : {}) } };
}
