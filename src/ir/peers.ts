/** Predicates on workloads and destinations: the IR's selectors. */

/** A predicate on labels; `true` matches everything. */
export type LabelExpr =
  | { readonly op: 'true' }
  | { readonly op: 'in'; readonly key: string; readonly values: readonly string[] }
  | { readonly op: 'notin'; readonly key: string; readonly values: readonly string[] }
  /** The value has, begins with or ends with a text (Calico). */
  | { readonly op: 'contains' | 'starts' | 'ends'; readonly key: string; readonly value: string }
  | { readonly op: 'exists'; readonly key: string }
  | { readonly op: 'notexists'; readonly key: string }
  | { readonly op: 'and' | 'or'; readonly of: readonly LabelExpr[] }
  | { readonly op: 'not'; readonly of: LabelExpr };

/**
 * Keys that are no labels, but may stand where labels do: what dialects call `projectcalico.org/name` or
 * `io.kubernetes.pod.namespace`. A label's key has no `@`.
 */
export const VIRTUAL = {
  name: '@name',
  namespace: '@namespace',
  account: '@serviceaccount',
  ofNamespace: '@ns/',
} as const;

/** Namespaces by name or by their labels. */
export type NamespaceMatch = { readonly names: readonly string[] } | { readonly labels: LabelExpr };

/** Pods: those whose namespace and labels both match. hostNetwork pods never match. */
export interface WorkloadMatch {
  readonly namespaces: NamespaceMatch;
  readonly pods: LabelExpr;
}

/** Services by name, or by their labels. */
export interface ServiceMatch {
  readonly namespaces: NamespaceMatch;
  /** undefined: by labels. */
  readonly name?: string;
  readonly labels: LabelExpr;
}

/** A destination. */
export type Peer =
  /** Every address. */
  | { readonly kind: 'any' }
  /** All, one, or none of these. `self` cannot stand inside. */
  | { readonly kind: 'all' | 'some'; readonly of: readonly Peer[] }
  | { readonly kind: 'not'; readonly of: Peer }
  /** What stands behind Services. */
  | ({ readonly kind: 'services' } & ServiceMatch)
  /** Any address in `cidr` but in none of `except`; canonical text, `10.0.0.0/8`. */
  | { readonly kind: 'cidr'; readonly cidr: string; readonly except: readonly string[] }
  | ({ readonly kind: 'pods' } & WorkloadMatch)
  /** The endpoint's own addresses. */
  | { readonly kind: 'self' }
  /** Every address of the node that the endpoint runs on. */
  | { readonly kind: 'own-node' }
  /** Nodes by their labels. */
  | { readonly kind: 'nodes'; readonly labels: LabelExpr };
