/**
 * Finds the policies that select a pod: by namespace, and cached while nothing relevant has changed. A changed policy
 * in a tier costs work only for the pods of that policy's namespaces.
 */
import type { Namespace, Pod, Snapshot } from '../identity/snapshot.js';
import { sameList, Unchanged } from '../identity/unchanged.js';
import { governs, isNode, NODE_SENDER, senderOf } from '../ir/sender.js';
import type { Ir, IrPolicy, Tier } from '../ir/types.js';
import type { Selection } from './sets.js';

interface Placed {
  readonly policy: IrPolicy;
  /** Position in the tier. */
  at: number;
}

/** The cached selection of a tier for a pod, and the round in which it was computed. */
interface Found {
  readonly round: number;
  /** undefined: none of the tier's policies selects the pod. */
  readonly selection: Selection | undefined;
}

interface Remembered {
  readonly pod: Pod;
  readonly namespace: Namespace | undefined;
  readonly byTier: ReadonlyMap<TierIndex, Found>;
  readonly selections: readonly Selection[];
}

/** The policies that were added to a tier and removed from it in one round. */
interface Step {
  readonly round: number;
  readonly added: readonly IrPolicy[];
  readonly removed: ReadonlySet<IrPolicy>;
}

/** Maximum number of remembered steps, and of policies in one step. Beyond it, all candidates are evaluated again. */
const STEPS = 8;
const FEW = 16;

const NONE: readonly IrPolicy[] = [];

/** Selects policies for senders, with a cache. */
export class Selector {
  /** By the properties that identify a tier. */
  #tiers = new Map<string, TierIndex>();
  #remembered = new Map<string, Remembered>();
  #round = 0;

  /**
   * The selections of the local pods, or of the node (NODE_SENDER), in the order of `keys`. Pods that are not in the
   * snapshot are omitted.
   */
  select(ir: Ir, snapshot: Snapshot, keys: readonly string[]): Map<string, readonly Selection[]> {
    this.#round++;
    const tiers = this.#indexesOf(ir);
    const out = new Map<string, readonly Selection[]>();
    const remembered = new Map<string, Remembered>();
    for (const key of keys) {
      const pod = key === NODE_SENDER ? senderOf(snapshot, key) : snapshot.pods.get(key);
      if (!pod) continue;
      const namespace = snapshot.namespaces.get(pod.namespace);
      const known = this.#remembered.get(key);
      const same = known?.pod === pod && known.namespace === namespace ? known : undefined;
      const byTier = new Map<TierIndex, Found>();
      for (const tier of tiers) byTier.set(tier, this.#find(tier, pod, snapshot, same?.byTier.get(tier)));
      const now = [...byTier.values()].flatMap(({ selection }) => selection ?? []);
      const selections = same && sameList(same.selections, now) ? same.selections : now;
      remembered.set(key, { pod, namespace, byTier, selections });
      out.set(key, selections);
    }
    this.#remembered = remembered;
    return out;
  }

  #find(tier: TierIndex, pod: Pod, snapshot: Snapshot, before: Found | undefined): Found {
    if (before && tier.changedFor(pod.namespace) <= before.round) return before;
    const old = before?.selection;
    const selects = (policy: IrPolicy) => governs(policy, pod, snapshot);
    const policies =
      (before && tier.since(before.round, old?.policies ?? NONE, isNode(pod), selects)) ??
      tier.candidates(pod).filter(selects);
    const same = old ? sameList(old.policies, policies) : before && policies.length === 0;
    const selection = same ? old : policies.length > 0 ? { tier: tier.head, policies } : undefined;
    return { round: this.#round, selection };
  }

  #indexesOf(ir: Ir): TierIndex[] {
    const tiers = new Map<string, TierIndex>();
    for (const tier of ir.tiers) {
      const key = JSON.stringify([tier.name, tier.order, tier.defaultAction]);
      // The same tier may occur twice under one name; each occurrence has its own index.
      const index = (tiers.has(key) ? undefined : this.#tiers.get(key)) ?? new TierIndex(tier);
      index.take(tier.policies, this.#round);
      tiers.set(tiers.has(key) ? `${key}${tiers.size}` : key, index);
    }
    this.#tiers = tiers;
    return [...tiers.values()];
  }
}

/** Index of a tier's policies by the namespaces that they name, updated incrementally. */
class TierIndex {
  /** The tier without its policies, which change more often. */
  readonly head: Tier;
  #policies: readonly IrPolicy[] = [];
  #placed: Placed[] = [];
  /** Policies whose subject names namespaces. */
  readonly #byNamespace = new Map<string, Set<Placed>>();
  /** Policies that select namespaces by label. */
  readonly #others = new Set<Placed>();
  /** Policies that govern nodes. */
  readonly #nodes = new Set<Placed>();
  /**
   * The last round in which policies that name a namespace changed. `changed` is that of policies without namespaces.
   */
  readonly #changes = new Map<string, number>();
  #changed = 0;
  readonly #byPolicy = new Map<IrPolicy, Placed>();
  #steps: readonly Step[] = [];
  /** Steps of all rounds after this one are remembered. */
  #known = 0;

  constructor(tier: Tier) {
    this.head = Object.freeze({ ...tier, policies: [] });
  }

  /** The last round in which policies that may select pods of this namespace changed. */
  changedFor(namespace: string): number {
    return Math.max(this.#changed, this.#changes.get(namespace) ?? 0);
  }

  /** The policies that may select this sender, in order. */
  candidates(sender: Pod): IrPolicy[] {
    const placed = isNode(sender)
      ? [...this.#nodes]
      : [...(this.#byNamespace.get(sender.namespace) ?? []), ...this.#others];
    return placed.sort((a, b) => a.at - b.at).map(({ policy }) => policy);
  }

  /**
   * The policies that select a sender, derived from an earlier result and the steps since then; undefined if the steps
   * are no longer remembered.
   * @param selects evaluates one policy
   */
  since(
    round: number,
    before: readonly IrPolicy[],
    node: boolean,
    selects: (policy: IrPolicy) => boolean,
  ): readonly IrPolicy[] | undefined {
    if (round < this.#known) return undefined;
    let policies = before;
    for (const { round: at, added, removed } of this.#steps) {
      if (at <= round) continue;
      const additional = added.filter((policy) => node === (policy.nodes !== undefined) && selects(policy));
      if (additional.length > 0 || policies.some((p) => removed.has(p)))
        policies = [...policies.filter((p) => !removed.has(p)), ...additional];
    }
    if (policies === before) return before;
    const place = (policy: IrPolicy) => this.#byPolicy.get(policy)?.at ?? 0;
    return [...policies].sort((a, b) => place(a) - place(b));
  }

  #note(round: number, added: readonly Placed[], removed: readonly Placed[]): void {
    if (added.length + removed.length > FEW) {
      this.#steps = [];
      this.#known = round;
      return;
    }
    const step = { round, added: added.map((one) => one.policy), removed: new Set(removed.map((one) => one.policy)) };
    if (this.#steps.length === STEPS) this.#known = (this.#steps[0] as Step).round;
    this.#steps = [...this.#steps.slice(1 - STEPS), step];
  }

  take(policies: readonly IrPolicy[], round: number): void {
    if (policies === this.#policies) return;
    const same = new Unchanged(this.#policies, policies);
    const added = same.added().map((policy, i): Placed => ({ policy, at: same.common + i }));
    const removed = this.#placed.slice(same.common, same.common + same.removed().length);
    const placed = [
      ...this.#placed.slice(0, same.common),
      ...added,
      ...this.#placed.slice(same.common + removed.length),
    ];
    for (const one of removed) {
      this.#byPolicy.delete(one.policy);
      this.#updateSets(one, round, (set) => set.delete(one));
    }
    for (const one of added) {
      this.#byPolicy.set(one.policy, one);
      this.#updateSets(one, round, (set) => set.add(one));
    }
    this.#note(round, added, removed);
    if (added.length !== removed.length) placed.forEach((one, at) => (one.at = at));
    this.#placed = placed;
    this.#policies = policies;
  }

  /** Applies a function to each index set that a policy belongs to, and records the round. */
  #updateSets({ policy }: Placed, round: number, change: (set: Set<Placed>) => void): void {
    if (policy.nodes !== undefined) {
      change(this.#nodes);
      return;
    }
    const match = policy.subject.namespaces;
    if (!('names' in match)) {
      this.#changed = round;
      change(this.#others);
      return;
    }
    for (const name of match.names) {
      let set = this.#byNamespace.get(name);
      if (!set) this.#byNamespace.set(name, (set = new Set()));
      change(set);
      if (set.size === 0) this.#byNamespace.delete(name);
      this.#changes.set(name, round);
    }
  }
}
