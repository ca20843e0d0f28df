/** Since when policies have their present contents, and are staged or enforced as they are now. */
import { annotationsOf, isAudit } from '../../dialects/enforcement.js';
import { policyGeneration } from '../../edges/generation.js';
import { objectGroup } from '../../identity/kinds.js';
import { changedKeys } from '../../identity/shared-map.js';
import type { RawPolicy, Snapshot } from '../../identity/snapshot.js';
import { Unchanged } from '../../identity/unchanged.js';

/** When a policy was met first with its present content. */
export interface Seen {
  readonly generation: number;
  readonly isStaged: boolean;
  readonly ms: number;
}

/** Remembers when each policy was met first with its present content, staged or not. */
export class PolicyAges {
  #last: Pick<Snapshot, 'policies' | 'namespaces'> = { policies: [], namespaces: new Map() };
  readonly #seen: Map<string, Seen>;
  /** Policies of before that have not been met again yet. */
  #restored: boolean;
  /** Whether anything has changed since it was last set to false. */
  isChanged = false;

  /** @param before what an earlier one knew, as in `all` */
  constructor(before: Iterable<readonly [string, Seen]> = []) {
    this.#seen = new Map(before);
    this.#restored = this.#seen.size > 0;
  }

  /** Everything that is known, by policy. */
  get all(): ReadonlyMap<string, Seen> {
    return this.#seen;
  }

  /**
   * Takes the policies in force. An enforced policy that is there when it is met first and was never edited has its
   * content since its object was created. Of the others it is not known since when: the time of the call counts.
   * @param nowMs milliseconds since 1970
   */
  take({ policies, namespaces }: Pick<Snapshot, 'policies' | 'namespaces'>, nowMs: number): void {
    const last = this.#last;
    if (policies === last.policies && namespaces === last.namespaces) return;
    const same = new Unchanged(last.policies, policies);
    const turned = new Set<string>();
    for (const name of changedKeys(last.namespaces, namespaces))
      if (isAudit(last.namespaces.get(name)?.annotations) !== isAudit(namespaces.get(name)?.annotations))
        turned.add(name);
    const gone = new Set(same.removed().map(keyOf));
    const take = (raw: RawPolicy) => {
      gone.delete(keyOf(raw));
      this.#take(raw, isAudit(namespaces.get(raw.namespace ?? '')?.annotations), nowMs);
    };
    same.added().forEach(take);
    if (turned.size > 0) for (const raw of policies) if (turned.has(raw.namespace ?? '')) take(raw);
    if (this.#restored) {
      this.#restored = false;
      const present = new Set(policies.map(keyOf));
      for (const key of this.#seen.keys()) if (!present.has(key)) gone.add(key);
    }
    for (const key of gone) this.isChanged = this.#seen.delete(key) || this.isChanged;
    this.#last = { policies, namespaces };
  }

  #take(raw: RawPolicy, namespaceIsStaged: boolean, nowMs: number): void {
    const key = keyOf(raw);
    const generation = policyGeneration(raw);
    const isStaged = isAudit(annotationsOf(raw)) || namespaceIsStaged;
    const known = this.#seen.get(key);
    if (known?.generation === generation && known.isStaged === isStaged) return;
    this.isChanged = true;
    this.#seen.set(key, { generation, isStaged, ms: known || isStaged ? nowMs : createdAt(raw, nowMs) });
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
