/** Policies that are only watched: verdicts are computed and told, and not in force. */
import type { Problem } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import type { RawPolicy } from '../identity/snapshot.js';
import type { Placed } from './dialect.js';

/** On a policy, or on a namespace for all of its policies: verdicts are computed and told, and not in force. */
const ENFORCEMENT = 'egress-agent.io/enforcement';

export function isAudit(annotations: Readonly<Record<string, unknown>> | undefined): boolean {
  return annotations !== undefined && Object.hasOwn(annotations, ENFORCEMENT) && annotations[ENFORCEMENT] === 'audit';
}

/** A misspelt wish to watch is not one to watch: the policy is in force, and its author is told. */
export function enforcementProblems(raw: RawPolicy): Problem[] {
  const value = annotationsOf(raw)?.[ENFORCEMENT];
  if (value === undefined || value === 'audit' || value === 'enforce') return [];
  const where = { ...raw.where, field: `metadata.annotations["${ENFORCEMENT}"]` };
  const message = `${JSON.stringify(value)} is not a way of enforcement: the policy is in force`;
  return [{ severity: 'warning', where, message, hint: 'write audit, or enforce' }];
}

export function annotationsOf({ object }: RawPolicy): Readonly<Record<string, unknown>> | undefined {
  const annotations = isRecord(object.metadata) ? object.metadata.annotations : undefined;
  return isRecord(annotations) ? annotations : undefined;
}

export function staged(placed: Placed): Placed {
  return { ...placed, policy: Object.freeze({ ...placed.policy, staged: true }) };
}
