/** Which policies select a pod: looked up by its namespace, remembered while nothing that decides it has changed. */
import type { Namespace, Pod, Snapshot } from '../identity/snapshot.js';
import { matchWorkload } from '../ir/match.js';
import type { Ir, IrPolicy, Tier } from '../ir/types.js';
import type { Selection } from './sets.js';

interface Placed {
  readonly policy: IrPolicy;
  /** Its place in the tier. */
  readonly at: number;
}

interface TierIndex {
  readonly tier: Tier;
  /** Policies whose subject names namespaces. */
  readonly byNamespace: ReadonlyMap<string, readonly Placed[]>;
  /** Those that select namespaces by label. */
  readonly others: readonly Placed[];
}

interface Remembered {
  readonly ir: Ir;
  readonly pod: Pod;
  readonly namespace: Namespace | undefined;
  readonly selections: readonly Selection[];
}

export class Selector {
  private readonly index = new WeakMap<Tier, TierIndex>();
  private remembered = new Map<string, Remembered>();

  /** Selections of the local pods, in the order of `keys`; pods that the snapshot does not have are left out. */
  select(ir: Ir, snapshot: Snapshot, keys: readonly string[]): Map<string, readonly Selection[]> {
    const out = new Map<string, readonly Selection[]>();
    const remembered = new Map<string, Remembered>();
    for (const key of keys) {
      const pod = snapshot.pods.get(key);
      if (!pod) continue;
      const namespace = snapshot.namespaces.get(pod.namespace);
      let known = this.remembered.get(key);
      if (!known || known.ir !== ir || known.pod !== pod || known.namespace !== namespace) {
        known = { ir, pod, namespace, selections: this.selectionsOf(ir, pod, snapshot) };
      }
      remembered.set(key, known);
      out.set(key, known.selections);
    }
    this.remembered = remembered;
    return out;
  }

  private selectionsOf(ir: Ir, pod: Pod, snapshot: Snapshot): readonly Selection[] {
    const out: Selection[] = [];
    for (const tier of ir.tiers) {
      const { byNamespace, others } = this.indexOf(tier);
      const placed = [...(byNamespace.get(pod.namespace) ?? []), ...others]
        .filter(({ policy }) => matchWorkload(policy.subject, pod, snapshot))
        .sort((a, b) => a.at - b.at);
      if (placed.length > 0) out.push({ tier, policies: placed.map((p) => p.policy) });
    }
    return out;
  }

  private indexOf(tier: Tier): TierIndex {
    let index = this.index.get(tier);
    if (index) return index;
    const byNamespace = new Map<string, Placed[]>();
    const others: Placed[] = [];
    tier.policies.forEach((policy, at) => {
      const match = policy.subject.namespaces;
      if (!('names' in match)) {
        others.push({ policy, at });
        return;
      }
      for (const name of new Set(match.names)) {
        const list = byNamespace.get(name);
        if (list) list.push({ policy, at });
        else byNamespace.set(name, [{ policy, at }]);
      }
    });
    this.index.set(tier, (index = { tier, byNamespace, others }));
    return index;
  }
}
