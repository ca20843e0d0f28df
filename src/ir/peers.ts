/** The selectors of the IR: predicates on workloads and destinations. */

/** A predicate on labels; `true` matches everything. */
export type LabelExpr =
  | { readonly op: 'true' }
  | { readonly op: 'in'; readonly key: string; readonly values: readonly string[] }
  | { readonly op: 'notin'; readonly key: string; readonly values: readonly string[] }
  /** The value contains, starts with or ends with a text (Calico). */
  | { readonly op: 'contains' | 'starts' | 'ends'; readonly key: string; readonly value: string }
  | { readonly op: 'exists'; readonly key: string }
  | { readonly op: 'notexists'; readonly key: string }
  | { readonly op: 'and' | 'or'; readonly of: readonly LabelExpr[] }
  | { readonly op: 'not'; readonly of: LabelExpr };

/**
 * Virtual keys: properties that are not labels but may be used in label expressions. Dialects call them
 * `projectcalico.org/name` or `io.kubernetes.pod.namespace`. They contain `@`, which a label's key cannot.
 */
export const VIRTUAL = {
  name: '@name',
  namespace: '@namespace',
  account: '@serviceaccount',
  ofNamespace: '@ns/',
} as const;

/** Namespaces by name or by label. */
export type NamespaceMatch = { readonly names: readonly string[] } | { readonly labels: LabelExpr };

/** Pods whose namespace and labels both match. hostNetwork pods never match. */
export interface WorkloadMatch {
  readonly namespaces: NamespaceMatch;
  readonly pods: LabelExpr;
}

/** Services by name or by label. */
export interface ServiceMatch {
  readonly namespaces: NamespaceMatch;
  /** undefined: selects by labels. */
  readonly name?: string;
  readonly labels: LabelExpr;
}

/** A destination. */
export type Peer =
  /** Every address. */
  | { readonly kind: 'any' }
  /** All, any, or none of these peers. `self` cannot be nested. */
  | { readonly kind: 'all' | 'some'; readonly of: readonly Peer[] }
  | { readonly kind: 'not'; readonly of: Peer }
  /** The backends of Services. */
  | ({ readonly kind: 'services' } & ServiceMatch)
  /** Any address in `cidr` except those in `except`; canonical text, such as `10.0.0.0/8`. */
  | { readonly kind: 'cidr'; readonly cidr: string; readonly except: readonly string[] }
  | ({ readonly kind: 'pods' } & WorkloadMatch)
  /** The endpoint's own addresses. */
  | { readonly kind: 'self' }
  /** Every address of the endpoint's own node. */
  | { readonly kind: 'own-node' }
  /** Nodes by label. */
  | { readonly kind: 'nodes'; readonly labels: LabelExpr }
  /**
   * The addresses that the endpoint learned, from DNS answers, for a name that matches any of these patterns
   * (canonical text, see src/names/pattern.ts). `aliases`: also as the target of a CNAME, not only as the name that it
   * asked for. May stand alone or in `all`; cannot be nested deeper, or negated.
   */
  | NamesPeer;

export interface NamesPeer {
  readonly kind: 'names';
  readonly patterns: readonly string[];
  readonly aliases?: true;
  /** Whether the connection must name one of these names itself; absent: it need not. */
  readonly verify?: Verification;
}

/**
 * What a connection to an address that was learned for a name must say, in the server name of TLS or QUIC, or as the
 * host of an HTTP request: `tls`: no other name than the patterns admit; `strict`: one that they admit. `audit`: it
 * need not, but the audit verdict is that of `tls`.
 */
export const VERIFICATIONS = ['audit', 'tls', 'strict'] as const;
export type Verification = (typeof VERIFICATIONS)[number];

/** Whether what the peer matches depends on learned names. */
export function asksForName(peer: Peer): boolean {
  if (peer.kind === 'all' || peer.kind === 'some') return peer.of.some(asksForName);
  return peer.kind === 'not' ? asksForName(peer.of) : peer.kind === 'names';
}
