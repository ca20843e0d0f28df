/** Which policies select a pod: looked up by its namespace, remembered while nothing that decides it has changed. */
import type { Namespace, Pod, Snapshot } from '../identity/snapshot.js';
import { governs, NODE_SENDER, senderOf } from '../ir/sender.js';
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
  /** Those that are about nodes. */
  readonly nodes: readonly Placed[];
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

  /** Selections of the local pods, or of the node (NODE_SENDER), in the order of `keys`; pods that the snapshot does not have are left out. */
  select(ir: Ir, snapshot: Snapshot, keys: readonly string[]): Map<string, readonly Selection[]> {
    const out = new Map<string, readonly Selection[]>();
    const remembered = new Map<string, Remembered>();
    for (const key of keys) {
      if (key === NODE_SENDER) {
        out.set(key, this.selectionsOf(ir, senderOf(snapshot, key) as Pod, snapshot));
        continue;
      }
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
      const { byNamespace, others, nodes } = this.indexOf(tier);
      const candidates = pod.name === NODE_SENDER ? nodes : [...(byNamespace.get(pod.namespace) ?? []), ...others];
      const placed = candidates.filter(({ policy }) => governs(policy, pod, snapshot)).sort((a, b) => a.at - b.at);
      if (placed.length > 0) out.push({ tier, policies: placed.map((p) => p.policy) });
    }
    return out;
  }

  private indexOf(tier: Tier): TierIndex {
    let index = this.index.get(tier);
    if (index) return index;
    const byNamespace = new Map<string, Placed[]>();
    const others: Placed[] = [];
    const nodes: Placed[] = [];
    tier.policies.forEach((policy, at) => {
      if (policy.nodes !== undefined) {
        nodes.push({ policy, at });
        return;
      }
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
    this.index.set(tier, (index = { tier, byNamespace, others, nodes }));
    return index;
  }
}
