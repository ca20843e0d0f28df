/** Since when policies have their present contents. */
import { policyGeneration } from '../../edges/generation.js';
import { objectGroup } from '../../identity/kinds.js';
import type { RawPolicy, Snapshot } from '../../identity/snapshot.js';

interface Seen {
  readonly generation: number;
  readonly ms: number;
}

/** Remembers when each policy's content was met first. */
export class PolicyAges {
  #policies: Snapshot['policies'] = [];
  #seen = new Map<string, Seen>();

  /**
   * Takes the policies in force. What is there at the first call has its content since its object was created, if it
   * was never edited, and otherwise since an unknown time: that of the call counts.
   * @param nowMs milliseconds since 1970
   */
  take(policies: Snapshot['policies'], nowMs: number): void {
    if (policies === this.#policies) return;
    const before = this.#seen;
    this.#seen = new Map();
    for (const raw of policies) {
      const key = keyOf(raw);
      const generation = policyGeneration(raw);
      const known = before.get(key);
      this.#seen.set(key, known?.generation === generation ? known : { generation, ms: startOf(raw, nowMs) });
    }
    this.#policies = policies;
  }

  /** Milliseconds since 1970; undefined: the policy is not known. */
  since(raw: RawPolicy): number | undefined {
    const seen = this.#seen.get(keyOf(raw));
    return seen?.generation === policyGeneration(raw) ? seen.ms : undefined;
  }
}

/** An object whose metadata.generation is 1 has the content with which it was created. */
function startOf({ object }: RawPolicy, nowMs: number): number {
  const metadata = object.metadata as { generation?: unknown; creationTimestamp?: unknown } | undefined;
  const created = metadata?.generation === 1 ? Date.parse(String(metadata.creationTimestamp)) : Number.NaN;
  return Number.isFinite(created) ? Math.min(created, nowMs) : nowMs;
}

function keyOf({ apiVersion, kind, namespace, name }: RawPolicy): string {
  return [objectGroup(apiVersion), kind, namespace ?? '', name].join('\0');
}
