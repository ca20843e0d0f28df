/** What lint finds, and where. */
import type { Where } from '../../errors.js';
import { rawOf } from '../../dialects/problems.js';
import type { RawPolicy, Snapshot } from '../../identity/snapshot.js';
import { formatPolicy } from '../../ir/names.js';
import type { IrPolicy, RuleRef } from '../../ir/types.js';

export type Check =
  | 'shadowed' // a rule with another effect always decides first
  | 'redundant' // a rule with the same effect always decides first
  | 'no-destination' // a rule that cannot match anything
  | 'refused' // an invalid rule, or one that is not enforced: it matches nothing
  | 'empty-selector' // a selector that matches no existing object
  | 'no-pods' // a policy that selects no pod, or no node
  | 'no-dns' // a pod that can reach something, but no DNS server
  | 'unresolved' // names that no pod of the policy may ask a DNS server for
  | 'void-filter' // a filter of DNS queries, server names or requests beside a rule that allows all of them
  | 'service-name' // a name of a Service, whose address no name means
  | 'wide-pattern' // a pattern that matches names which anybody may register
  | 'unfiltered-names' // names of Cilium without a filter, which Cilium itself would not learn
  | 'cidr-covers-pods' // a CIDR block that contains pods, in a language whose blocks never match pods
  | 'service-address' // a CIDR block with a Service's address, although its backends are judged
  | 'too-many-rules'; // a set that does not fit into the maps

export interface Finding {
  readonly severity: 'warning' | 'info';
  readonly check: Check;
  readonly where: Where;
  readonly message: string;
  /** How to fix it. */
  readonly hint: string;
}

/** Maximum number of names in a list. */
export const NAMES = 5;

export type Add = (
  severity: Finding['severity'],
  check: Check,
  ref: RuleRef | undefined,
  message: string,
  hint: string,
) => void;

export function adder(findings: Finding[], snapshot: Snapshot, policy: IrPolicy): Add {
  const raw = rawOf(snapshot.policies, policy.ref);
  return (severity, check, ref, message, hint) => {
    const field = ref && fieldOf(ref, raw);
    const where: Where = { object: formatPolicy(policy.ref), ...raw?.where, ...(field === undefined ? {} : { field }) };
    findings.push({ severity, check, where, message, hint });
  };
}

/**
 * The field path of a rule in the user's list. The rules of Cilium's `specs` are numbered across all specs, so their
 * path is unknown.
 */
function fieldOf(ref: RuleRef, raw: RawPolicy | undefined): string | undefined {
  if (ref.index < 0 || (raw && raw.object.spec === undefined)) return undefined;
  const list = ref.policy.dialect === 'cilium' && ref.action === 'deny' ? 'egressDeny' : 'egress';
  return `spec.${list}[${ref.index}]`;
}
