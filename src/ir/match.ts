/** Do these labels, this pod, this namespace match? The leaves that evaluate() and compile() share. */
import type { Namespace, Pod, Snapshot } from '../identity/snapshot.js';
import type { LabelExpr, NamespaceMatch, WorkloadMatch } from './peers.js';

type Labels = Readonly<Record<string, string>>;

/** Kubernetes' rules (apimachinery labels.Requirement): NotIn and DoesNotExist match a missing key. */
export function matchLabels(expr: LabelExpr, labels: Labels): boolean {
  switch (expr.op) {
    case 'true':
      return true;
    case 'in': {
      const value = own(labels, expr.key);
      return value !== undefined && expr.values.includes(value);
    }
    case 'notin': {
      const value = own(labels, expr.key);
      return value === undefined || !expr.values.includes(value);
    }
    case 'exists':
      return own(labels, expr.key) !== undefined;
    case 'notexists':
      return own(labels, expr.key) === undefined;
    case 'and':
      return expr.of.every((e) => matchLabels(e, labels));
    case 'or':
      return expr.of.some((e) => matchLabels(e, labels));
    case 'not':
      return !matchLabels(expr.of, labels);
    default:
      return expr satisfies never;
  }
}

/** Labels come from users: a key such as `constructor` must not find the prototype's. */
function own(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

/** A namespace that no one has described matches by its name alone, and by the label that every namespace carries. */
export function matchNamespace(match: NamespaceMatch, name: string, ns: Namespace | undefined): boolean {
  if ('names' in match) return match.names.includes(name);
  return matchLabels(match.labels, ns?.labels ?? { 'kubernetes.io/metadata.name': name });
}

/** hostNetwork pods have the node's address and cannot be selected; ended pods have none. */
export function matchWorkload(match: WorkloadMatch, pod: Pod, snapshot: Pick<Snapshot, 'namespaces'>): boolean {
  if (pod.hostNetwork || pod.ended) return false;
  return (
    matchNamespace(match.namespaces, pod.namespace, snapshot.namespaces.get(pod.namespace)) &&
    matchLabels(match.pods, pod.labels)
  );
}
