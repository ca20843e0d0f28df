/** What is wrong with an object, as users are told. */
import type { Problem } from '../errors.js';
import type { RawPolicy } from '../identity/snapshot.js';
import type { Fault, Understood } from './dialect.js';

/** A list of a million wrong entries is one mistake: the first of them will do. */
const MAX_PROBLEMS = 100;

export function faultProblems(result: Understood, raw: RawPolicy, hasLast: boolean): Problem[] {
  const problems = result.faults.slice(0, MAX_PROBLEMS).map((fault) => toProblem(fault, raw, !result.good && hasLast));
  const more = result.faults.length - MAX_PROBLEMS;
  if (more > 0) problems.push({ severity: 'error', where: raw.where, message: `has ${more} more problems` });
  return problems;
}

/** @param keptLast an earlier state of the object stays in force */
export function toProblem(fault: Fault, raw: RawPolicy, keptLast: boolean): Problem {
  const effect =
    fault.severity === 'error' ? (keptLast ? 'its last good version stays in force' : fault.effect) : undefined;
  const hint = [fault.hint, effect && `until then ${effect}`].filter((s) => s !== undefined).join('; ');
  const where = { ...raw.where, field: fault.field };
  return { severity: fault.severity, where, message: fault.message, hint: hint === '' ? undefined : hint };
}
