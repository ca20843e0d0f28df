/** Groups senders by node, since tools judge each pod as the agent of its own node would. */
import { NODE_SENDER, nodeOf, onNode } from '../ir/sender.js';
import { governNodes, type World } from './packets.js';

/** Two or more worlds as the node of these pods sees them. */
export interface OnNode<W extends readonly World[]> {
  readonly worlds: W;
  /** `namespace/name` of pods; NODE_SENDER if policies govern the node itself. */
  readonly keys: readonly string[];
}

/** Nodes that no world knows have no addresses, so the pods of all such nodes are judged together. */
export function byNode<W extends readonly World[]>(worlds: W): OnNode<W>[] {
  const found = new Map<string, { names: string[]; keys: string[] }>();
  const add = (names: string[], sender: string) => {
    const id = JSON.stringify(names);
    const group = found.get(id);
    if (group) group.keys.push(sender);
    else found.set(id, { names, keys: [sender] });
  };
  const known = worlds.map(({ snapshot }) => new Set([...snapshot.nodes.keys(), snapshot.ownNode.name]));
  for (const key of new Set(worlds.flatMap(({ snapshot }) => [...snapshot.pods.keys()]))) {
    const names = worlds.map(({ snapshot }, i) => {
      const pod = snapshot.pods.get(key);
      const name = pod ? nodeOf(snapshot, pod) : '';
      return known[i]?.has(name) ? name : '';
    });
    add(names, key);
  }
  const nodes = governNodes(worlds) ? new Set(known.flatMap((names) => [...names])) : [];
  for (const name of nodes)
    if (name !== '')
      add(
        worlds.map(() => name),
        NODE_SENDER,
      );
  return [...found.values()].map(({ names, keys }) => {
    const on = worlds.map(({ ir, snapshot }, i) => ({ ir, snapshot: onNode(snapshot, names[i] as string) }));
    return { worlds: on as readonly World[] as W, keys };
  });
}
