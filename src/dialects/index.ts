/** All dialects → one IR. */
import type { Problem } from '../errors.js';
import type { Pod, RawPolicy, Snapshot } from '../identity/snapshot.js';
import type { Ir, IrPolicy, Tier } from '../ir/types.js';
import type { Dialect, Fault, Understood } from './dialect.js';
import { DEFAULT_TIER, IMPLICIT, networkPolicy } from './networkpolicy.js';

const DIALECTS: readonly Dialect[] = [networkPolicy];

export interface IrResult {
  readonly ir: Ir;
  readonly problems: readonly Problem[];
}

/** What was made of a raw object; holds for as long as the object is the same. */
const understood = new WeakMap<object, { raw: RawPolicy; result: Understood }>();

interface Known {
  /** Of the object's last state without errors; undefined if it did not concern egress then. */
  readonly lastGood?: { readonly policy: IrPolicy | undefined };
  /** In force now. */
  readonly policy: IrPolicy | undefined;
  readonly namespace: string | undefined;
  /** Its object is gone while its namespace ends. */
  readonly held: boolean;
}

/**
 * Turns snapshots into IR, one after the other, and remembers what must outlive
 * a snapshot: the last good state of each policy, and the policies of namespaces that end.
 */
export class DialectRegistry {
  private known = new Map<string, Known>();
  private last: { policies: readonly IrPolicy[]; ir: Ir } | undefined;

  toIr(snapshot: Snapshot): IrResult {
    const problems: Problem[] = [];
    const now = new Map<string, Known>();
    for (const raw of snapshot.policies) {
      const key = `${raw.kind}|${raw.namespace ?? ''}|${raw.name}`;
      const result = understand(raw);
      if (!result) continue;
      const before = this.known.get(key);
      const lastGood = result.good ? { policy: result.policy } : before?.lastGood;
      const inForce = lastGood ?? result;
      reportFaults(result, raw, lastGood !== undefined, problems);
      now.set(key, { lastGood, policy: inForce.policy, namespace: raw.namespace, held: false });
    }
    this.holdEnding(snapshot, now);
    this.known = now;
    return { ir: this.assemble(now), problems };
  }

  /**
   * A namespace that is deleted loses its objects in any order: a policy that went
   * before the last pod goes on holding until that pod has gone (CVE-2024-7598).
   */
  private holdEnding(snapshot: Snapshot, now: Map<string, Known>): void {
    let populated: Set<string> | undefined;
    for (const [key, known] of this.known) {
      if (now.has(key) || !known.policy || known.namespace === undefined) continue;
      const namespace = snapshot.namespaces.get(known.namespace);
      const ending = namespace ? namespace.terminating : known.held;
      if (!ending) continue;
      populated ??= new Set([...snapshot.pods.values()].filter((p: Pod) => !p.ended).map((p) => p.namespace));
      if (populated.has(known.namespace)) now.set(key, { ...known, held: true });
    }
  }

  /** The same Ir object while the same policies are in force. */
  private assemble(now: ReadonlyMap<string, Known>): Ir {
    const policies: IrPolicy[] = [];
    for (const { policy } of now.values()) if (policy) policies.push(policy);
    policies.sort(byName);
    const last = this.last;
    if (last && last.policies.length === policies.length && policies.every((p, i) => p === last.policies[i])) return last.ir;
    const tier: Tier = Object.freeze({ ...DEFAULT_TIER, policies: Object.freeze(policies), implicit: IMPLICIT });
    const ir: Ir = Object.freeze({ tiers: Object.freeze([tier]) });
    this.last = { policies, ir };
    return ir;
  }
}

/** IR of one snapshot by itself, without memory of earlier ones. */
export function toIr(snapshot: Snapshot): IrResult {
  return new DialectRegistry().toIr(snapshot);
}

function understand(raw: RawPolicy): Understood | undefined {
  const cached = understood.get(raw.object);
  if (cached && cached.raw.namespace === raw.namespace && cached.raw.name === raw.name) return cached.result;
  const dialect = DIALECTS.find((d) => d.claims(raw));
  if (!dialect) return undefined;
  const result = dialect.understand(raw);
  understood.set(raw.object, { raw, result });
  return result;
}

/** A list of a million wrong entries is one mistake: the first of them will do. */
const MAX_PROBLEMS = 100;

function reportFaults(result: Understood, raw: RawPolicy, hasLast: boolean, problems: Problem[]): void {
  const { faults } = result;
  for (const fault of faults.slice(0, MAX_PROBLEMS)) problems.push(toProblem(fault, raw, !result.good && hasLast));
  const more = faults.length - MAX_PROBLEMS;
  if (more > 0) problems.push({ severity: 'error', where: raw.where, message: `has ${more} more problems` });
}

function toProblem(fault: Fault, raw: RawPolicy, keptLast: boolean): Problem {
  const effect = fault.severity === 'error' ? (keptLast ? 'its last good version stays in force' : fault.effect) : undefined;
  const hint = [fault.hint, effect && `until then ${effect}`].filter((s) => s !== undefined).join('; ');
  const where = { ...raw.where, field: fault.field };
  return { severity: fault.severity, where, message: fault.message, hint: hint === '' ? undefined : hint };
}

/** Order within a tier has no meaning for NetworkPolicy but decides which rule is named: the same everywhere. */
function byName(a: IrPolicy, b: IrPolicy): number {
  return compare(a.ref.namespace ?? '', b.ref.namespace ?? '') || compare(a.ref.name, b.ref.name);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
