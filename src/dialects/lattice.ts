/**
 * Groups policies by tier and sorts them. An unchanged part keeps its object, so that a change costs only its own tier.
 */
import { sameList } from '../identity/unchanged.js';
import type { Ir, IrPolicy, Tier } from '../ir/types.js';
import type { Placed, TierPlace } from './base/dialect.js';

interface Built {
  readonly tier: Tier;
  /** In the order of the input. */
  readonly placed: readonly Placed[];
  /** In the order of evaluation. */
  readonly sorted: readonly Placed[];
}

const keys = new WeakMap<TierPlace, string>();

function keyOf(place: TierPlace): string {
  let key = keys.get(place);
  if (key === undefined) {
    keys.set(place, (key = JSON.stringify([place.name, place.order, place.defaultAction])));
  }
  return key;
}

/** Keeps the IR of the policies in force. */
export class Lattice {
  #built = new Map<string, Built>();
  /** The IR of the last input; the same object while the same policies are in force. */
  ir: Ir = Object.freeze({ tiers: Object.freeze([]) });

  /** @param placed all policies in force; those with equal sort keys are judged in this order */
  take(placed: readonly Placed[]): void {
    const built = new Map<string, Built>();
    for (const [key, { place, list }] of byTier(placed)) {
      const before = this.#built.get(key);
      built.set(key, before && sameList(before.placed, list) ? before : build(place, list, before));
    }
    const sorted = [...built].sort(([a, x], [b, y]) => x.tier.order - y.tier.order || (a < b ? -1 : 1));
    const tiers = sorted.map(([, { tier }]) => tier);
    this.#built = built;
    if (!sameList(this.ir.tiers, tiers)) this.ir = Object.freeze({ tiers: Object.freeze(tiers) });
  }

  /**
   * The same if some policies were replaced by others, and nothing else changed.
   * @returns false if that cannot be done; then take() must be called with all policies
   */
  replace(pairs: readonly (readonly [before: Placed, now: Placed])[]): boolean {
    const tiers = [...this.ir.tiers];
    for (const [old, now] of pairs) {
      const key = keyOf(now.tier);
      const before = this.#built.get(key);
      if (!before || keyOf(old.tier) !== key || compare(old.order, now.order) !== 0) return false;
      const [at, place] = [before.placed.indexOf(old), before.sorted.indexOf(old)];
      const tierAt = tiers.indexOf(before.tier);
      if (at < 0 || place < 0 || tierAt < 0) return false;
      const policies = Object.freeze(before.tier.policies.with(place, now.policy));
      const tier: Tier = Object.freeze({ ...before.tier, policies });
      this.#built.set(key, { tier, placed: before.placed.with(at, now), sorted: before.sorted.with(place, now) });
      tiers[tierAt] = tier;
    }
    this.ir = Object.freeze({ tiers: Object.freeze(tiers) });
    return true;
  }
}

interface Listed {
  readonly place: TierPlace;
  readonly list: Placed[];
}

/** Groups policies by the properties that identify a tier. */
function byTier(placed: readonly Placed[]): Map<string, Listed> {
  const tiers = new Map<string, Listed>();
  const byPlace = new Map<TierPlace, Listed>();
  for (const one of placed) {
    let listed = byPlace.get(one.tier);
    if (!listed) {
      const key = keyOf(one.tier);
      listed = tiers.get(key);
      if (!listed) tiers.set(key, (listed = { place: one.tier, list: [] }));
      byPlace.set(one.tier, listed);
    }
    listed.list.push(one);
  }
  return tiers;
}

function build(place: TierPlace, placed: readonly Placed[], before: Built | undefined): Built {
  const { name, order, defaultAction } = place;
  // The sort is stable: policies with equal sort keys keep their order.
  const sorted = (before && replaced(before, placed)) ?? [...placed].sort((a, b) => compare(a.order, b.order));
  const policies: IrPolicy[] = sorted.map((p) => p.policy);
  const tier: Tier = Object.freeze({ name, order, defaultAction, policies: Object.freeze(policies) });
  return { tier, placed, sorted };
}

/** The same list with some policies replaced by others of the same order; undefined if it is another list. */
function replaced({ placed: before, sorted }: Built, placed: readonly Placed[]): Placed[] | undefined {
  if (before.length !== placed.length) return undefined;
  const instead = new Map<Placed, Placed>();
  for (let i = 0; i < placed.length; i++) {
    const [old, now] = [before[i] as Placed, placed[i] as Placed];
    if (old === now) continue;
    if (compare(old.order, now.order) !== 0) return undefined;
    instead.set(old, now);
  }
  return sorted.map((p) => instead.get(p) ?? p);
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const [x = 0, y = 0] = [a[i], b[i]];
    // Equal infinities compare as equal here; their difference would be NaN.
    if (x !== y) return x < y ? -1 : 1;
  }
  return 0;
}
