/**
 * The outcome of a packet that a sender sends. evaluate(), the Image and the kernel give the verdict of the hook at the
 * sender's interface. But a packet from a pod to one of its own addresses is delivered inside the pod and reaches no
 * hook, so no policy language is enforced there: a pod always reaches itself by its own address. By a Service's address
 * it may not (network-policy-api, "hairpin" traffic of ClusterNetworkPolicy).
 */
import type { Service, Snapshot } from '../identity/snapshot.js';
import type { Learned, Packet, Verdict } from './packet.js';
import { evaluate } from './evaluate.js';
import { isSelectable, senderOf } from './sender.js';
import type { Ir, IrPolicy } from './types.js';

/** Whether the packet goes to an address of the sender itself, which is a pod or the node. */
export function staysInside(snapshot: Snapshot, { from, to }: Pick<Packet, 'from' | 'to'>): boolean {
  const sender = senderOf(snapshot, from);
  return sender !== undefined && isSelectable(sender) && sender.ips.includes(to);
}

/** The policies whose language itself says that a pod always reaches itself. Other languages are not consulted. */
export function allowingItself(ir: Ir): Ir {
  const allowsItself = (policy: IrPolicy) =>
    policy.implicit?.some((rule) => rule.action === 'allow' && rule.peers?.some((peer) => peer.kind === 'self'));
  return { tiers: ir.tiers.map((tier) => ({ ...tier, policies: tier.policies.filter(allowsItself) })) };
}

/**
 * The outcome of a packet, including packets to the sender's own addresses.
 * @param learned what endpoints learned from DNS answers
 */
export function outcomeOf(ir: Ir, snapshot: Snapshot, packet: Packet, learned?: Learned): Verdict {
  if (!staysInside(snapshot, packet)) return evaluate(ir, snapshot, packet, learned);
  const alone = { ...snapshot, services: withoutAddresses(snapshot) };
  const verdict = evaluate(allowingItself(ir), alone, packet, learned);
  if (verdict.verdict === 'allow' && verdict.audit?.verdict !== 'deny') return verdict;
  return { verdict: 'allow', rule: 0, logged: [] };
}

/** The Services with their backends but without addresses of their own, so that every address is judged as itself. */
export function withoutAddresses({ services }: Pick<Snapshot, 'services'>): Snapshot['services'] {
  const bare = new Map<string, Service>();
  for (const [key, service] of services) {
    const ports = service.ports.map(({ nodePort: _, ...port }) => port);
    bare.set(key, { ...service, vips: [], ports });
  }
  return bare;
}
