/** The endpoints to judge: all bound ones, and interfaces of unknown owners, which are closed. */
import type { Pod, Snapshot } from '../../src/identity/snapshot.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { matchWorkload } from '../../src/ir/match.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import type { Ir } from '../../src/ir/types.js';
import type { Bindings } from './resolver.js';

/** The endpoints of one pass. */
export interface Placement {
  readonly bindings: Bindings;
  /** Closed interfaces: until their pods are known, or permanently. */
  readonly starting: readonly EndpointBinding[];
  readonly endpoints: readonly EndpointBinding[];
  /** `namespace/name` of the pods to judge; NODE_SENDER too, where there are uplinks to judge it at. */
  readonly local: readonly string[];
  /** Keys of the closed interfaces. */
  readonly closed: readonly string[];
}

/**
 * Chooses the endpoints.
 * @param pods of this node
 * @param current endpoints that are in force
 */
export function place(
  ir: Ir,
  snapshot: Snapshot,
  bindings: Bindings,
  pods: Iterable<Pod>,
  current: readonly EndpointBinding[],
): Placement {
  const starting = [...bindings.closed, ...isolatedAtStart(ir, snapshot, bindings, pods)];
  const endpoints = [...withUnbound(bindings, starting, current), ...starting];
  const closed = starting.map((b) => b.key);
  const keys = endpoints.filter((b) => b.kind === 'pod').map((b) => b.key);
  const local = [...new Set(keys)].filter((key) => !closed.includes(key));
  if (bindings.uplinks.length > 0) local.push(NODE_SENDER);
  return { bindings, starting, endpoints, local, closed };
}

/** Adds pods that exist but cannot be bound just now: they keep hooks, entry and set, if the interface still exists. */
function withUnbound(
  bindings: Bindings,
  closed: readonly EndpointBinding[],
  current: readonly EndpointBinding[],
): EndpointBinding[] {
  const seen = new Set([...bindings.all, ...closed].map((b) => b.ifindex));
  const unseen = current.filter(
    (b) => bindings.unbound.has(b.uid) && !seen.has(b.ifindex) && bindings.present.has(b.ifindex),
  );
  return [...bindings.all, ...unseen];
}

/**
 * Interfaces of unknown pods that must be closed. All of them, while a policy isolates a pod that is not bound yet: it
 * would send unjudged through its interface. And those that, by all evidence, are not the node's own, while a policy
 * isolates any pod: it could have made the interface to send past its policy.
 */
function isolatedAtStart(
  ir: Ir,
  snapshot: Snapshot,
  { starting, nodes, waiting }: Bindings,
  local: Iterable<Pod>,
): readonly EndpointBinding[] {
  if (starting.length === 0) return [];
  const isolated = (pod: Pod) =>
    ir.tiers.some((tier) => tier.policies.some((p) => !p.staged && matchWorkload(p.subject, pod, snapshot)));
  if (waiting.some(isolated)) return starting;
  return [...local].some(isolated) ? starting.filter((b) => !nodes.has(b.ifindex)) : [];
}
