/** Matches selectors against labels, pods, namespaces and Services. evaluate() and compile() share these functions. */
import type { Namespace, Pod, Service, Snapshot } from '../identity/snapshot.js';
import { matchesName } from '../names/pattern.js';
import type { LearnedName } from './packet.js';
import {
  type LabelExpr,
  type NamespaceMatch,
  type NamesPeer,
  type ServiceMatch,
  VIRTUAL,
  type WorkloadMatch,
} from './peers.js';

type Labels = Readonly<Record<string, string>>;

/**
 * Matches labels by Kubernetes' rules (apimachinery labels.Requirement): NotIn and DoesNotExist match a missing key.
 */
export function matchLabels(expr: LabelExpr, labels: Labels): boolean {
  return matchExpr(expr, (key) => ownLabel(labels, key));
}

/** @param value returns the value of a key, or undefined if the key is missing */
function matchExpr(expr: LabelExpr, value: (key: string) => string | undefined): boolean {
  switch (expr.op) {
    case 'true':
      return true;
    case 'in': {
      const v = value(expr.key);
      return v !== undefined && expr.values.includes(v);
    }
    case 'notin': {
      const v = value(expr.key);
      return v === undefined || !expr.values.includes(v);
    }
    case 'contains':
      return value(expr.key)?.includes(expr.value) ?? false;
    case 'starts':
      return value(expr.key)?.startsWith(expr.value) ?? false;
    case 'ends':
      return value(expr.key)?.endsWith(expr.value) ?? false;
    case 'exists':
      return value(expr.key) !== undefined;
    case 'notexists':
      return value(expr.key) === undefined;
    case 'and':
      return expr.of.every((e) => matchExpr(e, value));
    case 'or':
      return expr.of.some((e) => matchExpr(e, value));
    case 'not':
      return !matchExpr(expr.of, value);
    default:
      return expr satisfies never;
  }
}

/** Reads an own property: labels come from users, so a key such as `constructor` must not find the prototype's. */
function ownLabel(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

/**
 * Matches a namespace. One without a Namespace object matches by its name and by the name label, which every namespace
 * has.
 */
export function matchNamespace(match: NamespaceMatch, name: string, ns: Namespace | undefined): boolean {
  if ('names' in match) return match.names.includes(name);
  return matchLabels(match.labels, ns?.labels ?? { 'kubernetes.io/metadata.name': name });
}

/** Matches a pod. hostNetwork pods share the node's address and cannot be selected; ended pods have no address. */
export function matchWorkload(match: WorkloadMatch, pod: Pod, snapshot: Pick<Snapshot, 'namespaces'>): boolean {
  if (pod.hostNetwork || pod.ended) return false;
  return (
    matchNamespace(match.namespaces, pod.namespace, snapshot.namespaces.get(pod.namespace)) &&
    matchExpr(match.pods, (key) => podValue(key, pod, snapshot))
  );
}

/** The value of a pod's label, or of a virtual key. */
function podValue(key: string, pod: Pod, snapshot: Pick<Snapshot, 'namespaces'>): string | undefined {
  if (!key.startsWith('@')) return ownLabel(pod.labels, key);
  if (key === VIRTUAL.name) return pod.name;
  if (key === VIRTUAL.namespace) return pod.namespace;
  if (key === VIRTUAL.account) return pod.serviceAccount;
  if (!key.startsWith(VIRTUAL.ofNamespace)) return undefined;
  const label = key.slice(VIRTUAL.ofNamespace.length);
  const labels = snapshot.namespaces.get(pod.namespace)?.labels ?? { 'kubernetes.io/metadata.name': pod.namespace };
  return ownLabel(labels, label);
}

/** Matches a Service by its namespace, and by its name or labels. */
export function matchService(match: ServiceMatch, service: Service, snapshot: Pick<Snapshot, 'namespaces'>): boolean {
  return (
    matchNamespace(match.namespaces, service.namespace, snapshot.namespaces.get(service.namespace)) &&
    (match.name === undefined || match.name === service.name) &&
    matchLabels(match.labels, service.labels)
  );
}

/** Whether an address that was learned for these names matches: by a name that was asked for, or by an alias. */
export function matchNames(peer: NamesPeer, names: readonly LearnedName[]): boolean {
  return names.some((name) => matchName(peer, name));
}

/** Whether one learned name matches. */
export function matchName({ patterns, aliases }: NamesPeer, { name, alias }: LearnedName): boolean {
  return (!alias || aliases === true) && patterns.some((pattern) => matchesName(pattern, name));
}
