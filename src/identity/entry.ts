/** Converts one parsed object to an entry, the unit from which snapshots are made, both from files and from the API. */
import { counted } from '../counted.js';
import type { Problem } from '../errors.js';
import { Field, isRecord, type ParsedObject } from './fields.js';
import { kindInfo, kindTitle, objectGroup, type Section } from './kinds.js';
import { isReady, readNamespace, readNode, readPod } from './objects.js';
import { type EndpointGroup, readEndpointSlice, readEndpoints, readService, type ServiceSpec } from './services.js';
import type { Namespace, Node, Pod, RawPolicy } from './snapshot.js';

/** Maximum number of problems of one object: a list of thousands of wrong entries is usually one mistake. */
const MAX_PROBLEMS = 100;

export type Value =
  | { section: 'namespaces'; value: Namespace }
  | { section: 'nodes'; value: Node }
  | { section: 'pods'; value: Pod; ready: boolean }
  | { section: 'services'; value: ServiceSpec | undefined }
  | { section: 'slices' | 'endpoints'; value: readonly EndpointGroup[]; service: string }
  | { section: 'policies'; value: RawPolicy };

/** The content of one object. */
export interface Entry {
  /** Two objects must not share it: kind and name, or only the kind if it is ignored. */
  readonly id: string;
  /** `namespace/name`, or the name of a cluster-wide object; empty if it has none. */
  readonly key: string;
  readonly kind: string;
  readonly apiVersion: string;
  /** `Kind namespace/name`. The kind has its group if other groups have a kind with that name. */
  readonly title: string;
  /** undefined: the object is ignored. */
  readonly value: Value | undefined;
  readonly problems: readonly Problem[];
}

/** Converts one object. Its faults are in the entry's problems. */
export function readEntry(parsed: ParsedObject): Entry {
  const problems: Problem[] = [];
  const apiVersion = typeof parsed.object.apiVersion === 'string' ? parsed.object.apiVersion : '';
  const kind = typeof parsed.object.kind === 'string' ? parsed.object.kind : '';
  const nothing = { id: `${apiVersion} ${kind}`, key: '', kind, apiVersion, title: kind, value: undefined, problems };
  if (apiVersion === '' || kind === '') {
    const message = 'is not a Kubernetes object: apiVersion and kind must be strings';
    problems.push({
      severity: 'error',
      where: { ...parsed.where, field: kind === '' ? 'kind' : 'apiVersion' },
      message,
    });
    return nothing;
  }
  const info = kindInfo(apiVersion, kind);
  if (!info) return nothing;
  const metadata = isRecord(parsed.object.metadata) ? parsed.object.metadata : {};
  const name = typeof metadata.name === 'string' ? metadata.name : '';
  const namespace =
    typeof metadata.namespace === 'string' && metadata.namespace !== '' ? metadata.namespace : 'default';
  const key = info.namespaced ? `${namespace}/${name}` : name;
  const title = `${kindTitle(apiVersion, kind)} ${key}`;
  const root = Field.root(parsed, title, problems);
  if (name === '' || name.includes('/') || namespace.includes('/')) {
    const field = root.at('metadata').at(namespace.includes('/') ? 'namespace' : 'name');
    field.problem('must be a name', 'objects without a name of their own (generateName) cannot be read from files');
    return { ...nothing, title };
  }
  if (info.namespaced) root.at('metadata').at('namespace').string();
  const value = readValue(info.section, root, namespace, name, parsed, {
    apiVersion,
    kind,
    namespaced: info.namespaced,
    title,
  });
  const more = problems.length - MAX_PROBLEMS;
  if (more > 0) {
    problems.length = MAX_PROBLEMS;
    const message = `has ${counted(more, 'more problem')}`;
    problems.push({ severity: 'error', where: { ...parsed.where, object: title }, message });
  }
  const id = [info.section, objectGroup(apiVersion), kind, key].join('|');
  return { id, key, kind, apiVersion, title, value, problems };
}

function readValue(
  section: Section,
  root: Field,
  namespace: string,
  name: string,
  parsed: ParsedObject,
  type: { apiVersion: string; kind: string; namespaced: boolean; title: string },
): Value | undefined {
  switch (section) {
    case 'namespaces':
      return { section, value: readNamespace(root, name) };
    case 'nodes':
      return { section, value: readNode(root, name) };
    case 'pods':
      return { section, value: readPod(root, namespace, name), ready: isReady(root) };
    case 'services':
      return { section, value: readService(root, namespace, name) };
    case 'slices': {
      const service = root.at('metadata').at('labels').at('kubernetes.io/service-name').string();
      return { section, value: readEndpointSlice(root), service: `${namespace}/${service ?? ''}` };
    }
    case 'endpoints':
      return { section, value: readEndpoints(root), service: `${namespace}/${name}` };
    case 'policies': {
      const { apiVersion, kind, namespaced, title } = type;
      const raw = { apiVersion, kind, name, object: parsed.object, where: { ...parsed.where, object: title } };
      return { section, value: namespaced ? { ...raw, namespace } : raw };
    }
    default:
      return section satisfies never;
  }
}
