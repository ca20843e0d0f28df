/** Who sends: a pod, or the node itself with the pods that use its network. */
import type { Pod, Snapshot } from '../identity/snapshot.js';
import { matchLabels, matchWorkload } from './match.js';
import type { IrPolicy } from './types.js';

/**
 * Packet.from, and key of Image.endpoints, of what the node that the agent runs on sends itself. No pod has such a key. It is met
 * where it leaves the node, after every translation: a Service's address is an address like any other there.
 */
export const NODE_SENDER = '@node';

/** @param key `namespace/name` of a pod, or NODE_SENDER; undefined: no such pod is known */
export function senderOf(snapshot: Snapshot, key: string): Pod | undefined {
  if (key !== NODE_SENDER) return snapshot.pods.get(key);
  const { name, ips } = snapshot.ownNode;
  const node = snapshot.nodes.get(name);
  return {
    ...{ uid: '', namespace: '', name: NODE_SENDER, serviceAccount: '', nodeName: name },
    ...{ labels: node?.labels ?? {}, annotations: {}, ports: [] },
    ips: [...new Set([...ips, ...(node?.ips ?? [])])],
    hostNetwork: true,
    ended: false,
  };
}

export function isNode(sender: Pod): boolean {
  return sender.namespace === '' && sender.name === NODE_SENDER;
}

/** Can policies select it at all? */
export function isSelectable(sender: Pod): boolean {
  return isNode(sender) || (!sender.hostNetwork && !sender.ended);
}

/** Does the policy govern this sender? */
export function governs(policy: IrPolicy, sender: Pod, snapshot: Pick<Snapshot, 'namespaces'>): boolean {
  if (policy.nodes === undefined) return matchWorkload(policy.subject, sender, snapshot);
  return isNode(sender) && matchLabels(policy.nodes, sender.labels);
}

/** `namespace/name`, `@node`, or `@node/NAME` of one node among several, as users write it. */
export function parseSender(text: string): { readonly from: string; readonly node?: string } {
  return text.startsWith(`${NODE_SENDER}/`)
    ? { from: NODE_SENDER, node: text.slice(NODE_SENDER.length + 1) }
    : { from: text };
}
