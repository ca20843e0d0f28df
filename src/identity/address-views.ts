import type { Node, Pod, Service, Snapshot } from './snapshot.js';

/**
 * Reduces a snapshot to the pods, nodes and Services of one address, so that evaluating it costs only as much as there
 * is at the address.
 */
export class AddressViews {
  readonly #snapshot: Snapshot;
  readonly #pods = new Map<string, [string, Pod][]>();
  readonly #nodes = new Map<string, Map<string, Node>>();
  readonly #services = new Map<string, Map<string, Service>>();

  constructor(snapshot: Snapshot) {
    this.#snapshot = snapshot;
    for (const entry of snapshot.pods) {
      for (const ip of entry[1].ips) {
        const entries = this.#pods.get(ip);
        if (entries) entries.push(entry);
        else this.#pods.set(ip, [entry]);
      }
    }
    for (const [name, node] of snapshot.nodes) for (const ip of node.ips) into(this.#nodes, ip).set(name, node);
    for (const [name, service] of snapshot.services)
      for (const port of service.ports) for (const { ip } of port.backends) into(this.#services, ip).set(name, service);
  }

  /** The snapshot with the pods, nodes and Services of this address alone, and the own node. */
  at(ip: string): Snapshot {
    const snapshot = this.#snapshot;
    const nodes = new Map(this.#nodes.get(ip));
    const own = snapshot.nodes.get(snapshot.ownNode.name);
    if (own) nodes.set(own.name, own);
    return { ...snapshot, pods: new Map(this.#pods.get(ip)), nodes, services: this.#services.get(ip) ?? new Map() };
  }
}

function into<V>(map: Map<string, Map<string, V>>, key: string): Map<string, V> {
  let found = map.get(key);
  if (!found) map.set(key, (found = new Map()));
  return found;
}
