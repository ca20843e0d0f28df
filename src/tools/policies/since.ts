/** Since when policies have their present contents, and are staged or enforced as they are now. */
import { annotationsOf, isAudit } from '../../dialects/enforcement.js';
import { policyGeneration } from '../../edges/generation.js';
import { objectGroup } from '../../identity/kinds.js';
import type { RawPolicy, Snapshot } from '../../identity/snapshot.js';

interface Seen {
  readonly generation: number;
  readonly isStaged: boolean;
  readonly ms: number;
}

/** Remembers when each policy was met first with its present content, staged or not. */
export class PolicyAges {
  #last: Pick<Snapshot, 'policies' | 'namespaces'> | undefined;
  #seen = new Map<string, Seen>();

  /**
   * Takes the policies in force. An enforced policy that is there at the first call and was never edited has its content
   * since its object was created. Of the others it is not known since when: the time of the call counts.
   * @param nowMs milliseconds since 1970
   */
  take({ policies, namespaces }: Pick<Snapshot, 'policies' | 'namespaces'>, nowMs: number): void {
    if (policies === this.#last?.policies && namespaces === this.#last.namespaces) return;
    const before = this.#seen;
    this.#seen = new Map();
    for (const raw of policies) {
      const key = keyOf(raw);
      const generation = policyGeneration(raw);
      const isStaged = isAudit(annotationsOf(raw)) || isAudit(namespaces.get(raw.namespace ?? '')?.annotations);
      const known = before.get(key);
      const same = known?.generation === generation && known.isStaged === isStaged;
      const start = () => (known || isStaged ? nowMs : createdAt(raw, nowMs));
      this.#seen.set(key, same ? known : { generation, isStaged, ms: start() });
    }
    this.#last = { policies, namespaces };
  }

  /** Milliseconds since 1970; undefined: the policy is not known. */
  since(raw: RawPolicy): number | undefined {
    const seen = this.#seen.get(keyOf(raw));
    return seen?.generation === policyGeneration(raw) ? seen.ms : undefined;
  }
}

/** An object whose metadata.generation is 1 has the content with which it was created. */
function createdAt({ object }: RawPolicy, nowMs: number): number {
  const metadata = object.metadata as { generation?: unknown; creationTimestamp?: unknown } | undefined;
  const created = metadata?.generation === 1 ? Date.parse(String(metadata.creationTimestamp)) : Number.NaN;
  return Number.isFinite(created) ? Math.min(created, nowMs) : nowMs;
}

function keyOf({ apiVersion, kind, namespace, name }: RawPolicy): string {
  return [objectGroup(apiVersion), kind, namespace ?? '', name].join('\0');
}
