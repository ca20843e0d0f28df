/** Assigns priorities of ClusterNetworkPolicies to policies of other languages, so that their order is preserved. */
import type { Placed } from '../../dialects/base/dialect.js';
import { TIERS } from '../../dialects/base/dialect.js';
import { tierOf } from './clusternetworkpolicy.js';

type Place = 'rules' | 'rest';

const LAST = 1000;

/**
 * Parts that had a priority keep it. The others are numbered by tier and by their order in it. The default deny of a
 * tier follows all of its rules.
 */
export function priorities(parts: readonly Placed[]): (part: Placed, place: Place) => number {
  const numbers = new Map<string, number>();
  for (const tier of ['Admin', 'Baseline'] as const) {
    const own = parts.filter((part) => tierOf(part) === tier && keptPriority(part) === undefined);
    const slots = new Map<string, readonly [Placed, Place]>();
    for (const part of own)
      for (const place of ['rules', 'rest'] as const) slots.set(keyOf(part, place), [part, place]);
    const sorted = [...slots].sort(([, a], [, b]) => compare(a, b));
    sorted.forEach(([key], i) => {
      numbers.set(key, i);
    });
  }
  return (part, place) =>
    (place === 'rules' ? keptPriority(part) : undefined) ?? numbers.get(keyOf(part, place)) ?? LAST;
}

/** The priority of a policy whose language has the same priorities. */
function keptPriority({ tier, order, policy }: Placed): number | undefined {
  const [priority] = order;
  if (!policy.ref.dialect.endsWith('networkpolicy') || policy.ref.dialect === 'networkpolicy') return undefined;
  if (tier.name !== TIERS.admin.name && tier.name !== TIERS.baseline.name) return undefined;
  return Math.min(priority ?? LAST, LAST);
}

function keyOf({ tier, order }: Placed, place: Place): string {
  return JSON.stringify([tier.name, tier.order, ...(place === 'rules' ? order.map(String) : ['rest'])]);
}

function compare([a, x]: readonly [Placed, Place], [b, y]: readonly [Placed, Place]): number {
  if (a.tier.order !== b.tier.order) return a.tier.order < b.tier.order ? -1 : 1;
  if (x !== y) return x === 'rules' ? -1 : 1;
  for (let i = 0; i < Math.max(a.order.length, b.order.length); i++) {
    const [m, n] = [a.order[i] ?? 0, b.order[i] ?? 0];
    if (m !== n) return m < n ? -1 : 1;
  }
  return 0;
}
