/** Senders: pods, and the node itself with the pods that use its network. */
import type { Pod, Snapshot } from '../identity/snapshot.js';
import { matchLabels, matchWorkload } from './match.js';
import type { IrPolicy } from './types.js';

/**
 * The sender "this node": value of Packet.from and key of Image.endpoints. No pod has such a key. Packets of the node
 * are judged where they leave it, after every translation, so a Service's address is treated like any other address.
 */
export const NODE_SENDER = '@node';

/**
 * The sender with this key, or undefined if no such pod is known. @param key `namespace/name` of a pod, or NODE_SENDER
 */
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

/** Whether the sender is the node itself. */
export function isNode(sender: Pod): boolean {
  return sender.namespace === '' && sender.name === NODE_SENDER;
}

/**
 * The name of the node that judges what a pod sends: the node in its manifest, or the snapshot's own node if the
 * manifest names none. All tools use this function, so that they agree on the node.
 */
export function nodeOf(snapshot: Snapshot, sender: Pod): string {
  return sender.nodeName || snapshot.ownNode.name;
}

/** The snapshot as the named node sees it. */
export function onNode(snapshot: Snapshot, name: string): Snapshot {
  return name === snapshot.ownNode.name ? snapshot : { ...snapshot, ownNode: { name, ips: [] } };
}

/** The snapshot as the sender's node sees it. @param key `namespace/name` of a pod, or NODE_SENDER */
export function viewOf(snapshot: Snapshot, key: string): Snapshot {
  const sender = senderOf(snapshot, key);
  return sender ? onNode(snapshot, nodeOf(snapshot, sender)) : snapshot;
}

/** Whether policies can select the sender. */
export function isSelectable(sender: Pod): boolean {
  return isNode(sender) || (!sender.hostNetwork && !sender.ended);
}

/** Whether the policy governs the sender. */
export function governs(policy: IrPolicy, sender: Pod, snapshot: Pick<Snapshot, 'namespaces'>): boolean {
  if (policy.nodes === undefined) return matchWorkload(policy.subject, sender, snapshot);
  return isNode(sender) && matchLabels(policy.nodes, sender.labels);
}

/** Parses a sender as users write it: `namespace/name`, `@node`, or `@node/NAME` for a certain node. */
export function parseSender(text: string): { readonly from: string; readonly node?: string } {
  return text.startsWith(`${NODE_SENDER}/`)
    ? { from: NODE_SENDER, node: text.slice(NODE_SENDER.length + 1) }
    : { from: text };
}
