/**
 * Which policies select a pod: looked up by its namespace, remembered while nothing that decides it has changed. A tier with one
 * other policy costs the pods of that policy's namespaces.
 */
import type { Namespace, Pod, Snapshot } from '../identity/snapshot.js';
import { Unchanged } from '../identity/unchanged.js';
import { governs, isNode, NODE_SENDER, senderOf } from '../ir/sender.js';
import type { Ir, IrPolicy, Tier } from '../ir/types.js';
import type { Selection } from './sets.js';

interface Placed {
  readonly policy: IrPolicy;
  /** Its place in the tier. */
  at: number;
}

/** What of a tier concerned a pod, and when that was found. */
interface Found {
  readonly round: number;
  /** undefined: none of its policies selects the pod. */
  readonly selection: Selection | undefined;
}

interface Remembered {
  readonly pod: Pod;
  readonly namespace: Namespace | undefined;
  readonly byTier: ReadonlyMap<TierIndex, Found>;
  readonly selections: readonly Selection[];
}

/** Policies that came into a tier and left it, in one round. */
interface Step {
  readonly round: number;
  readonly came: readonly IrPolicy[];
  readonly left: ReadonlySet<IrPolicy>;
}

/** Steps that are remembered, and policies in one of them: beyond that all candidates are asked again. */
const STEPS = 8;
const FEW = 16;

const NONE: readonly IrPolicy[] = [];

export class Selector {
  /** By what makes two tiers the same one. */
  private tiers = new Map<string, TierIndex>();
  private remembered = new Map<string, Remembered>();
  private round = 0;

  /** Selections of the local pods, or of the node (NODE_SENDER), in the order of `keys`; pods that the snapshot does not have are left out. */
  select(ir: Ir, snapshot: Snapshot, keys: readonly string[]): Map<string, readonly Selection[]> {
    this.round++;
    const tiers = this.indexesOf(ir);
    const out = new Map<string, readonly Selection[]>();
    const remembered = new Map<string, Remembered>();
    for (const key of keys) {
      const pod = key === NODE_SENDER ? senderOf(snapshot, key) : snapshot.pods.get(key);
      if (!pod) continue;
      const namespace = snapshot.namespaces.get(pod.namespace);
      const known = this.remembered.get(key);
      const same = known?.pod === pod && known.namespace === namespace ? known : undefined;
      const byTier = new Map<TierIndex, Found>();
      for (const tier of tiers) byTier.set(tier, this.find(tier, pod, snapshot, same?.byTier.get(tier)));
      const now = [...byTier.values()].flatMap(({ selection }) => selection ?? []);
      const selections = same && sameList(same.selections, now) ? same.selections : now;
      remembered.set(key, { pod, namespace, byTier, selections });
      out.set(key, selections);
    }
    this.remembered = remembered;
    return out;
  }

  private find(tier: TierIndex, pod: Pod, snapshot: Snapshot, before: Found | undefined): Found {
    if (before && tier.changedFor(pod.namespace) <= before.round) return before;
    const old = before?.selection;
    const selects = (policy: IrPolicy) => governs(policy, pod, snapshot);
    const policies =
      (before && tier.since(before.round, old?.policies ?? NONE, isNode(pod), selects)) ??
      tier.candidates(pod).filter(selects);
    const same = old ? sameList(old.policies, policies) : before && policies.length === 0;
    const selection = same ? old : policies.length > 0 ? { tier: tier.head, policies } : undefined;
    return { round: this.round, selection };
  }

  private indexesOf(ir: Ir): TierIndex[] {
    const tiers = new Map<string, TierIndex>();
    for (const tier of ir.tiers) {
      const key = JSON.stringify([tier.name, tier.order, tier.defaultAction]);
      // A tier may stand there twice under one name: each is one by itself.
      const index = (tiers.has(key) ? undefined : this.tiers.get(key)) ?? new TierIndex(tier);
      index.take(tier.policies, this.round);
      tiers.set(tiers.has(key) ? `${key}${tiers.size}` : key, index);
    }
    this.tiers = tiers;
    return [...tiers.values()];
  }
}

/** The policies of a tier by the namespaces that they name, kept up to date by what changed. */
class TierIndex {
  /** The tier without its policies: it outlives them. */
  readonly head: Tier;
  private policies: readonly IrPolicy[] = [];
  private placed: Placed[] = [];
  /** Policies whose subject names namespaces. */
  private readonly byNamespace = new Map<string, Set<Placed>>();
  /** Those that select namespaces by label. */
  private readonly others = new Set<Placed>();
  /** Those that are about nodes. */
  private readonly nodes = new Set<Placed>();
  /** When policies that name a namespace changed last; of those that name none, `changed`. */
  private readonly changes = new Map<string, number>();
  private changed = 0;
  private readonly byPolicy = new Map<IrPolicy, Placed>();
  private steps: readonly Step[] = [];
  /** Of rounds after this one each step is remembered. */
  private known = 0;

  constructor(tier: Tier) {
    this.head = Object.freeze({ ...tier, policies: [] });
  }

  /** In which round what may select this namespace's pods changed last. */
  changedFor(namespace: string): number {
    return Math.max(this.changed, this.changes.get(namespace) ?? 0);
  }

  /** What may select this sender, in order. */
  candidates(sender: Pod): IrPolicy[] {
    const placed = isNode(sender)
      ? [...this.nodes]
      : [...(this.byNamespace.get(sender.namespace) ?? []), ...this.others];
    return placed.sort((a, b) => a.at - b.at).map(({ policy }) => policy);
  }

  /**
   * What selects a sender, by what did in an earlier round and what came and went since; undefined: not remembered.
   * @param selects asks one policy
   */
  since(
    round: number,
    before: readonly IrPolicy[],
    node: boolean,
    selects: (policy: IrPolicy) => boolean,
  ): readonly IrPolicy[] | undefined {
    if (round < this.known) return undefined;
    let policies = before;
    for (const { round: at, came, left } of this.steps) {
      if (at <= round) continue;
      const more = came.filter((policy) => node === (policy.nodes !== undefined) && selects(policy));
      if (more.length > 0 || policies.some((p) => left.has(p)))
        policies = [...policies.filter((p) => !left.has(p)), ...more];
    }
    if (policies === before) return before;
    const place = (policy: IrPolicy) => this.byPolicy.get(policy)?.at ?? 0;
    return [...policies].sort((a, b) => place(a) - place(b));
  }

  private note(round: number, came: readonly Placed[], left: readonly Placed[]): void {
    if (came.length + left.length > FEW) {
      this.steps = [];
      this.known = round;
      return;
    }
    const step = { round, came: came.map((one) => one.policy), left: new Set(left.map((one) => one.policy)) };
    if (this.steps.length === STEPS) this.known = (this.steps[0] as Step).round;
    this.steps = [...this.steps.slice(1 - STEPS), step];
  }

  take(policies: readonly IrPolicy[], round: number): void {
    if (policies === this.policies) return;
    const same = new Unchanged(this.policies, policies);
    const added = same.added().map((policy, i): Placed => ({ policy, at: same.common + i }));
    const removed = this.placed.slice(same.common, same.common + same.removed().length);
    const placed = [...this.placed.slice(0, same.common), ...added, ...this.placed.slice(same.common + removed.length)];
    for (const one of removed) {
      this.byPolicy.delete(one.policy);
      this.put(one, round, (set) => set.delete(one));
    }
    for (const one of added) {
      this.byPolicy.set(one.policy, one);
      this.put(one, round, (set) => set.add(one));
    }
    this.note(round, added, removed);
    if (added.length !== removed.length) placed.forEach((one, at) => (one.at = at));
    this.placed = placed;
    this.policies = policies;
  }

  /** Does something to each set that a policy belongs to, and notes when. */
  private put({ policy }: Placed, round: number, change: (set: Set<Placed>) => void): void {
    if (policy.nodes !== undefined) {
      change(this.nodes);
      return;
    }
    const match = policy.subject.namespaces;
    if (!('names' in match)) {
      this.changed = round;
      change(this.others);
      return;
    }
    for (const name of match.names) {
      let set = this.byNamespace.get(name);
      if (!set) this.byNamespace.set(name, (set = new Set()));
      change(set);
      if (set.size === 0) this.byNamespace.delete(name);
      this.changes.set(name, round);
    }
  }
}

function sameList<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((x, i) => x === b[i]);
}
