/** The state of one policy across snapshots: its last valid content, and whether its object still exists. */
import type { Problem } from '../errors.js';
import type { RawPolicy, Snapshot } from '../identity/snapshot.js';
import type { Placed, Understood } from './base/dialect.js';
import { enforcementProblems, staged } from './enforcement.js';
import { hearingProblems } from './hearing.js';
import { faultProblems } from './problems.js';
import { refusalProblems } from './refusal.js';

export interface Slot {
  readonly key: string;
  readonly namespace: string | undefined;
  /** The last state of its object. */
  raw: RawPolicy;
  readonly memory: Memory;
  readonly life: Life;
}

/** The current and the last valid content of an object. */
export class Memory {
  /** Content of the object's last state without errors; empty if it did not concern egress then. */
  #lastGood: readonly Placed[] | undefined;
  #dependsOn: Understood['dependsOn'];
  /** The policies in force. */
  policies: readonly Placed[] = [];
  problems: readonly Problem[] = [];
  /** Whether it must be translated again, because an object to which it refers, or its audit mode, changed. */
  stale = false;

  /** @param audited whether the policy is in audit mode */
  take(raw: RawPolicy, result: Understood, audited: boolean): void {
    this.stale = false;
    this.#dependsOn = result.dependsOn;
    if (result.good) this.#lastGood = result.policies;
    this.policies = (this.#lastGood ?? result.policies).map((p) => (audited ? staged(p) : p));
    const faults = faultProblems(result, raw, this.#lastGood !== undefined);
    this.problems = [...faults, ...enforcementProblems(raw), ...refusalProblems(raw), ...hearingProblems(raw)];
  }

  /** Whether its meaning may change after these objects were added, deleted or changed. */
  refersTo(changed: readonly RawPolicy[]): boolean {
    return this.#dependsOn?.(changed) ?? false;
  }
}

export interface Patience {
  /**
   * In a cluster: milliseconds for which a deleted policy stays in force. Each kind has a watch of its own, so the
   * deletion of a namespace may be reported after the deletion of its first policy.
   */
  readonly holdMs?: number;
  /** Clock in milliseconds, for tests. */
  readonly now?: () => number;
}

/** Whether the object of a policy exists, and what keeps the policy in force if it does not. */
export class Life {
  /** The last snapshot that contained it. */
  round = 0;
  /** Whether the object is gone while its namespace is being deleted. */
  held = false;
  /** Whether the policy is gone together with its object. */
  removed = false;
  /** Time since which the object is gone, while the policy is still held. */
  #absentSince: number | undefined;

  /** Records that a snapshot contains the object. */
  markPresent(round: number): void {
    this.round = round;
    this.held = false;
    this.#absentSince = undefined;
  }

  /**
   * Records that the object is gone. @returns milliseconds for which the policy still stays in force: 0 for none,
   * infinite until its namespace decides
   */
  markAbsent(name: string, snapshot: Snapshot, { holdMs, now = () => performance.now() }: Patience): number {
    const namespace = snapshot.namespaces.get(name);
    if (namespace?.terminating) return Number.POSITIVE_INFINITY;
    // Manifests need not contain the namespace. In a cluster, a namespace that is gone lost its pods before.
    if (!namespace) return this.held || holdMs !== undefined ? Number.POSITIVE_INFINITY : 0;
    if (holdMs === undefined) return 0;
    this.#absentSince ??= now();
    return Math.max(this.#absentSince + holdMs - now(), 0);
  }
}
