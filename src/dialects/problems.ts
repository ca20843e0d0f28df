/** Turns faults of objects into problems for users. */
import { counted } from '../counted.js';
import type { Problem } from '../errors.js';
import type { RawPolicy } from '../identity/snapshot.js';
import type { PolicyRef } from '../ir/types.js';
import { type Dialect, type Fault, NETWORK_POLICY_ORDER, TIERS, type Understood } from './base/dialect.js';

/** Maximum number of problems of one object: a list of a million wrong entries is usually one mistake. */
const MAX_PROBLEMS = 100;

/** The problems of a translated object. @param hasLast whether an earlier valid state exists */
export function faultProblems(result: Understood, raw: RawPolicy, hasLast: boolean): Problem[] {
  const problems = result.faults.slice(0, MAX_PROBLEMS).map((fault) => toProblem(fault, raw, !result.good && hasLast));
  const more = result.faults.length - MAX_PROBLEMS;
  if (more > 0) problems.push({ severity: 'error', where: raw.where, message: `has ${counted(more, 'more problem')}` });
  return problems;
}

/** @param keptLast whether an earlier state of the object stays in force */
export function toProblem(fault: Fault, raw: RawPolicy, keptLast: boolean): Problem {
  const effect =
    fault.severity === 'error' ? (keptLast ? 'its last good version stays in force' : fault.effect) : undefined;
  const hint = [fault.hint, effect && `until then ${effect}`].filter((s) => s !== undefined).join('; ');
  const where = { ...raw.where, field: fault.field };
  return { severity: fault.severity, where, message: fault.message, hint: hint === '' ? undefined : hint };
}

/** understand() with protection against bugs: an exception affects only the object that causes it. */
export function guarded(dialect: Dialect, raw: RawPolicy, supporting: readonly RawPolicy[]): Understood {
  try {
    return dialect.understand(raw, supporting);
  } catch (e) {
    const { kind, namespace, name } = raw;
    const fault = { severity: 'error', field: '', message: `cannot be read: ${(e as Error).message}` } as const;
    if (namespace === undefined)
      return { policies: [], good: false, faults: [{ ...fault, effect: 'it does nothing' }] };
    const policy = {
      ref: { dialect: dialect.name, kind, namespace, name },
      subject: { namespaces: { names: [namespace] }, pods: { op: 'true' } },
      rules: [],
      staged: false,
    } as const;
    const effect = `it isolates every pod of namespace ${namespace}`;
    return {
      policies: [{ tier: TIERS.default, order: [NETWORK_POLICY_ORDER], policy }],
      good: false,
      faults: [{ ...fault, effect }],
    };
  }
}

/** The object from which a policy was made. Kinds of Calico and Kubernetes may have the same name. */
export function rawOf(policies: readonly RawPolicy[], ref: PolicyRef): RawPolicy | undefined {
  const same = policies.filter(
    (raw) => raw.kind === ref.kind && raw.name === ref.name && (raw.namespace ?? ref.namespace) === ref.namespace,
  );
  return same.find((raw) => raw.apiVersion.includes('calico') === (ref.dialect === 'calico')) ?? same[0];
}
