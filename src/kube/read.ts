/** API objects → entries, with only what policies and flows need: 50,000 pods must fit beside everything else. */
import { type Entry, readEntry } from '../identity/entry.js';
import { isRecord } from '../identity/fields.js';
import type { Pod } from '../identity/snapshot.js';
import type { KubeObject } from './client.js';

/** Annotations that mean something here. */
const OURS = 'egress-agent.io/';
const NO_PROBLEMS: Entry['problems'] = [];
/** Label sets that are shared: those of one workload's pods are the same. Emptied when it has grown beyond this. */
const SHARED = 65536;

/** Reads objects; texts and label sets that are the same in many of them are kept once. */
export class EntryReader {
  private readonly labels = new Map<string, Pod['labels']>();
  private readonly texts = new Map<string, string>();

  read(object: KubeObject): Entry {
    const entry = readEntry({ object: trimmed(object), where: {} });
    const slim = {
      id: '',
      key: entry.key,
      kind: this.text(entry.kind),
      apiVersion: this.text(entry.apiVersion),
      title: '',
      problems: entry.problems.length === 0 ? NO_PROBLEMS : entry.problems,
    };
    const { value } = entry;
    if (value?.section === 'policies') {
      const { status: _, ...rest } = value.value.object;
      return { ...slim, value: { section: 'policies', value: { ...value.value, object: rest } } };
    }
    if (value?.section !== 'pods') return { ...slim, value };
    // Readiness is told by the slices; here it would make a change out of each probe.
    return { ...slim, value: { section: 'pods', value: this.pod(value.value), ready: true } };
  }

  private pod(pod: Pod): Pod {
    const small: Pod = {
      ...pod,
      namespace: this.text(pod.namespace),
      nodeName: this.text(pod.nodeName),
      serviceAccount: this.text(pod.serviceAccount),
      labels: this.shared(pod.labels),
    };
    if (small.workload) {
      small.workload = { kind: this.text(small.workload.kind), name: this.text(small.workload.name) };
    }
    return small;
  }

  private text(value: string): string {
    const known = this.texts.get(value);
    if (known !== undefined) return known;
    if (this.texts.size > SHARED) this.texts.clear();
    this.texts.set(value, value);
    return value;
  }

  private shared(labels: Pod['labels']): Pod['labels'] {
    const key = JSON.stringify(labels);
    const known = this.labels.get(key);
    if (known) return known;
    if (this.labels.size > SHARED) this.labels.clear();
    this.labels.set(key, labels);
    return labels;
  }
}

/**
 * Without what nobody reads: managed fields are half of an object, annotations may be a quarter of a megabyte. And without
 * the versions: with them each update of a policy's status would make another policy of it.
 */
function trimmed(object: KubeObject): KubeObject {
  if (!isRecord(object.metadata)) return object;
  const { managedFields: _, resourceVersion: _v, generation: _g, annotations, ...metadata } = object.metadata;
  const ours = isRecord(annotations)
    ? Object.fromEntries(Object.entries(annotations).filter(([key]) => key.startsWith(OURS)))
    : {};
  return { ...object, metadata: { ...metadata, ...(Object.keys(ours).length > 0 ? { annotations: ours } : {}) } };
}
