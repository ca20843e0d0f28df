/** What every dialect hands over to the registry. */
import type { RawPolicy } from '../identity/snapshot.js';
import { IMPLICIT_RULE, type IrPolicy, type PolicyRef, type Rule } from '../ir/types.js';

/** A fault in a policy object, not yet tied to a file. */
export interface Fault {
  readonly severity: 'error' | 'warning';
  /** Field path in the object. */
  readonly field: string;
  readonly message: string;
  /** What to do. */
  readonly hint?: string;
  /** What is in force while the fault stands; errors only. */
  readonly effect?: string;
}

/** The tier that a policy stands in. Policies of several objects, and of several languages, may name the same one. */
export interface TierPlace {
  readonly name: string;
  readonly order: number;
  readonly defaultAction: 'deny' | 'pass';
}

/** A policy and its place. */
export interface Placed {
  readonly tier: TierPlace;
  /** Among the tier's policies: compared one by one, the smaller first; then by kind, namespace, name. */
  readonly order: readonly number[];
  readonly policy: IrPolicy;
}

/** A policy object as its dialect understood it. */
export interface Understood {
  /** Fails closed where there are errors; none if the policy does not concern egress. */
  readonly policies: readonly Placed[];
  readonly faults: readonly Fault[];
  /** No errors: may serve as the last good state. */
  readonly good: boolean;
  /**
   * May this object mean something else now that these supporting objects came, went or changed (the states before and after)?
   * Absent: it refers to none. A yes too many costs time, a no too many leaves a policy as it was.
   */
  readonly dependsOn?: (changed: readonly RawPolicy[]) => boolean;
}

export interface Dialect {
  readonly name: string;
  /** Is this object one of the dialect's policies? */
  claims(raw: RawPolicy): boolean;
  /** Objects that its policies refer to (tiers, network sets): no policies themselves. */
  supports?(raw: RawPolicy): boolean;
  /** Faults of a supporting object. */
  check?(raw: RawPolicy): readonly Fault[];
  /**
   * Pure: depends on the object's apiVersion, kind, namespace, name and content, and on the supporting objects.
   * @param supporting all that supports() says yes to, by kind, namespace and name
   */
  understand(raw: RawPolicy, supporting: readonly RawPolicy[]): Understood;
}

/**
 * The lattice of tiers: Calico's, in which every language has its place. Smaller orders are judged first. A tier of a user's own may
 * stand anywhere between.
 */
export const TIERS = {
  /** ClusterNetworkPolicy tier Admin, AdminNetworkPolicy. */
  admin: { name: 'kube-admin', order: 1000, defaultAction: 'pass' },
  /** Cilium's egressDeny: it wins over every allow, in whichever language. */
  deny: { name: 'deny', order: 999_999, defaultAction: 'pass' },
  /** NetworkPolicy, CiliumNetworkPolicy, FQDNNetworkPolicy, Calico's policies that name no tier. */
  default: { name: 'default', order: 1_000_000, defaultAction: 'deny' },
  /** ClusterNetworkPolicy tier Baseline, BaselineAdminNetworkPolicy. */
  baseline: { name: 'kube-baseline', order: 10_000_000, defaultAction: 'pass' },
} as const satisfies Record<string, TierPlace>;

/** A NetworkPolicy's place among Calico's policies of the default tier. */
export const NETWORK_POLICY_ORDER = 1000;

/** What Kubernetes' own language always allows, and those made after it: the pod itself and its own node. */
export function selfAndOwnNode(policy: PolicyRef): readonly Rule[] {
  const name = 'a pod always reaches itself and its own node';
  const ref = { policy, index: IMPLICIT_RULE, name, tier: TIERS.default.name, staged: false, action: 'allow' } as const;
  const peers = [{ kind: 'self' }, { kind: 'own-node' }] as const;
  return Object.freeze([Object.freeze<Rule>({ ref, action: 'allow', peers, ports: null })]);
}
