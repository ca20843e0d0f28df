/** The interface between dialects and the registry. */
import type { RawPolicy } from '../../identity/snapshot.js';
import { IMPLICIT_RULE, type IrPolicy, type PolicyRef, type Rule } from '../../ir/types.js';

/** A fault in a policy object, without the file and line. */
export interface Fault {
  readonly severity: 'error' | 'warning';
  /** Field path in the object. */
  readonly field: string;
  readonly message: string;
  /** How to fix it. */
  readonly hint?: string;
  /** What is enforced despite the fault; errors only. */
  readonly effect?: string;
}

/** The tier of a policy. Policies of several objects, and of several languages, may be in the same tier. */
export interface TierPlace {
  readonly name: string;
  readonly order: number;
  readonly defaultAction: 'deny' | 'pass';
}

/** A policy with its position. */
export interface Placed {
  readonly tier: TierPlace;
  /**
   * Sort key among the tier's policies: compared element by element, smaller first; then by kind, namespace and name.
   */
  readonly order: readonly number[];
  readonly policy: IrPolicy;
}

/** The translation of a policy object. */
export interface Understood {
  /** Fails closed if there are errors. Empty if the policy does not concern egress. */
  readonly policies: readonly Placed[];
  readonly faults: readonly Fault[];
  /** Whether there are no errors, so that it may serve as the last valid state. */
  readonly good: boolean;
  /**
   * Whether the object's meaning may change after these supporting objects were added, deleted or changed (states
   * before and after). Absent: it refers to none. A false yes costs time, a false no leaves an outdated policy in
   * force.
   */
  readonly dependsOn?: (changed: readonly RawPolicy[]) => boolean;
}

export interface Dialect {
  readonly name: string;
  /** Whether the object is one of the dialect's policies. */
  claims(raw: RawPolicy): boolean;
  /** Whether the object is not a policy but one to which policies refer (tiers, network sets). */
  supports?(raw: RawPolicy): boolean;
  /** Faults of a supporting object. */
  check?(raw: RawPolicy): readonly Fault[];
  /**
   * Translates an object. Pure: depends on the object's apiVersion, kind, namespace, name and content, and on the
   * supporting objects.
   * @param supporting all objects for which supports() is true, by kind, namespace and name
   */
  understand(raw: RawPolicy, supporting: readonly RawPolicy[]): Understood;
}

/**
 * The order of tiers, which is Calico's and includes every language. Smaller orders are judged first. Tiers of users
 * may be anywhere in between.
 */
export const TIERS = {
  /** ClusterNetworkPolicy tier Admin, AdminNetworkPolicy. */
  admin: { name: 'kube-admin', order: 1000, defaultAction: 'pass' },
  /** Cilium's egressDeny, which has precedence over every allow in any language. */
  deny: { name: 'deny', order: 999_999, defaultAction: 'pass' },
  /** NetworkPolicy, AWS' ApplicationNetworkPolicy, CiliumNetworkPolicy, FQDNNetworkPolicy, and Calico's policies without a tier. */
  default: { name: 'default', order: 1_000_000, defaultAction: 'deny' },
  /** ClusterNetworkPolicy tier Baseline, BaselineAdminNetworkPolicy. */
  baseline: { name: 'kube-baseline', order: 10_000_000, defaultAction: 'pass' },
} as const satisfies Record<string, TierPlace>;

/** The order of NetworkPolicies among Calico's policies of the default tier. */
export const NETWORK_POLICY_ORDER = 1000;

/**
 * Traffic that Kubernetes' own language, and those derived from it, always allow: to the pod itself and to its own
 * node.
 */
export function selfAndOwnNode(policy: PolicyRef): readonly Rule[] {
  const name = 'a pod always reaches itself and its own node';
  const ref = { policy, index: IMPLICIT_RULE, name, tier: TIERS.default.name, staged: false, action: 'allow' } as const;
  const peers = [{ kind: 'self' }, { kind: 'own-node' }] as const;
  return Object.freeze([Object.freeze<Rule>({ ref, action: 'allow', peers, ports: null })]);
}
