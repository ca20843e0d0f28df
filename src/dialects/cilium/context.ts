/** The context for parsing the parts of a rule. */
import type { RawPolicy } from '../../identity/snapshot.js';
import type { LabelExpr } from '../../ir/peers.js';
import type { Fault } from '../base/dialect.js';

/** The CIDR groups that a policy looked for. */
export interface GroupLookups {
  readonly names: Set<string>;
  readonly labels: LabelExpr[];
}

/** The context for parsing a rule. */
export interface Context {
  /** Namespace of the policy; undefined for a clusterwide one. */
  readonly namespace: string | undefined;
  /** Whether the rule is one of egressDeny. */
  readonly deny: boolean;
  /** Whether the rule is about what nodes send. */
  readonly ofNodes: boolean;
  /** All CiliumCIDRGroups. */
  readonly groups: readonly RawPolicy[];
  /** Collects the groups that the policy looked for. */
  readonly lookups: GroupLookups;
  readonly report: (fault: Fault) => void;
}
