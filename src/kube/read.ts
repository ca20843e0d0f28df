/** API objects → entries, with only what policies and flows need: 50,000 pods must fit beside everything else. */
import { type Entry, readEntry, type Value } from '../identity/entry.js';
import { isRecord } from '../identity/fields.js';
import type { Pod } from '../identity/snapshot.js';
import type { KubeObject } from './client.js';

/** Annotations that mean something here. */
const OURS = 'egress-agent.io/';
const NO_PROBLEMS: Entry['problems'] = [];
const NOTHING: Pod['annotations'] = Object.freeze({});
/** What is shared of one kind: labels of one workload's pods are the same. Emptied when it has grown beyond this. */
const SHARED = 65536;

/** Reads objects; what is the same in many of them is kept once. */
export class EntryReader {
  private readonly labels = new Map<string, Pod['labels']>();
  private readonly ports = new Map<string, Pod['ports']>();
  private readonly workloads = new Map<string, NonNullable<Pod['workload']>>();
  private readonly texts = new Map<string, string>();

  /** @param key `namespace/name`, or the name, as whoever keeps the entry has it */
  read(object: KubeObject, key?: string): Entry {
    const entry = readEntry({ object, where: {} });
    // Each of these is written out: an object that is made by spreading another gets a shape of its own, larger than itself.
    return {
      id: '',
      key: key === entry.key ? key : entry.key,
      kind: this.text(entry.kind),
      apiVersion: this.text(entry.apiVersion),
      title: '',
      value: this.value(entry.value, object),
      problems: entry.problems.length === 0 ? NO_PROBLEMS : entry.problems,
    };
  }

  private value(value: Value | undefined, object: KubeObject): Value | undefined {
    switch (value?.section) {
      case 'policies':
        return { section: 'policies', value: { ...value.value, object: trimmed(object) } };
      case 'pods':
        // Readiness is told by the slices; here it would make a change out of each probe.
        return { section: 'pods', value: this.pod(value.value), ready: true };
      case 'namespaces': {
        const { name, labels, annotations, terminating } = value.value;
        return { section: 'namespaces', value: { name, labels, annotations: ours(annotations), terminating } };
      }
      default:
        return value;
    }
  }

  private pod(pod: Pod): Pod {
    const { uid, name, ips, hostNetwork, ended, terminating, workload } = pod;
    const small: Pod = {
      uid,
      namespace: this.text(pod.namespace),
      name,
      labels: this.shared(this.labels, pod.labels),
      annotations: ours(pod.annotations),
      ips,
      nodeName: this.text(pod.nodeName),
      serviceAccount: this.text(pod.serviceAccount),
      hostNetwork,
      ended,
      ports: this.shared(this.ports, pod.ports),
    };
    if (terminating) small.terminating = terminating;
    if (workload) small.workload = this.shared(this.workloads, workload);
    return small;
  }

  private text(value: string): string {
    const known = this.texts.get(value);
    if (known !== undefined) return known;
    if (this.texts.size > SHARED) this.texts.clear();
    this.texts.set(value, value);
    return value;
  }

  private shared<T extends object>(known: Map<string, T>, value: T): T {
    const text = JSON.stringify(value);
    const first = known.get(text);
    if (first) return first;
    if (known.size > SHARED) known.clear();
    known.set(text, value);
    return value;
  }
}

/** They may be a quarter of a megabyte. */
function ours(annotations: Pod['annotations']): Pod['annotations'] {
  let out: Record<string, string> | undefined;
  for (const key in annotations) if (key.startsWith(OURS)) (out ??= {})[key] = annotations[key] as string;
  return out ?? NOTHING;
}

/**
 * A policy without what nobody reads: managed fields are half of it. And without its status and versions: with them each
 * update of the status would make another policy of it.
 */
function trimmed({ status: _, ...object }: KubeObject): KubeObject {
  if (!isRecord(object.metadata)) return object;
  const { managedFields: _m, resourceVersion: _v, generation: _g, annotations: _a, ...metadata } = object.metadata;
  const annotations = isRecord(object.metadata.annotations)
    ? Object.fromEntries(Object.entries(object.metadata.annotations).filter(([key]) => key.startsWith(OURS)))
    : {};
  return { ...object, metadata: { ...metadata, ...(Object.keys(annotations).length > 0 ? { annotations } : {}) } };
}
