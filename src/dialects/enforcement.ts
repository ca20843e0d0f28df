/** Audit mode: policies whose verdicts are computed and reported, but not enforced. */
import type { Problem } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import type { RawPolicy } from '../identity/snapshot.js';
import type { Placed } from './base/dialect.js';

/** Annotation on a policy, or on a namespace for all of its policies, that selects audit mode. */
export const ENFORCEMENT = 'egress-agent.io/enforcement';

/** Whether annotations select audit mode. */
export function isAudit(annotations: Readonly<Record<string, unknown>> | undefined): boolean {
  return annotations !== undefined && Object.hasOwn(annotations, ENFORCEMENT) && annotations[ENFORCEMENT] === 'audit';
}

/**
 * Problems of the annotation. A misspelt value does not select audit mode: the policy is enforced, and its author gets
 * a warning.
 */
export function enforcementProblems(raw: RawPolicy): Problem[] {
  const value = annotationsOf(raw)?.[ENFORCEMENT];
  if (value === undefined || value === 'audit' || value === 'enforce') return [];
  const where = { ...raw.where, field: `metadata.annotations["${ENFORCEMENT}"]` };
  const message = `${JSON.stringify(value)} is not a way of enforcement: the policy is in force`;
  return [{ severity: 'warning', where, message, hint: 'write audit, or enforce' }];
}

/** An object's annotations; undefined if it has none. */
export function annotationsOf({ object }: Pick<RawPolicy, 'object'>): Readonly<Record<string, unknown>> | undefined {
  const annotations = isRecord(object.metadata) ? object.metadata.annotations : undefined;
  return isRecord(annotations) ? annotations : undefined;
}

/** The policy as a staged one, which is not enforced. */
export function staged(placed: Placed): Placed {
  return { ...placed, policy: Object.freeze({ ...placed.policy, staged: true }) };
}
