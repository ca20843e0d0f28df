/**
 * The addresses of nodes. They are recomputed only if nodes change, since there may be thousands and most changes
 * concern pods.
 */
import { changedKeys, SharedMap } from '../identity/shared-map.js';
import type { Snapshot } from '../identity/snapshot.js';
import type { NodeAddress } from '../image/types.js';
import { ownNodeIps } from './atoms/world.js';

/** The table of nodes' addresses. */
export class NodeTable {
  #nodes: Snapshot['nodes'] = new Map();
  #own: ReadonlySet<string> = new Set();
  #broadcasts: ReadonlySet<string> = new Set();
  /** Number of nodes that have an address. */
  readonly #holders = new Map<string, number>();
  #result = SharedMap.of<NodeAddress>();

  /** @param moved whether nodes, or the own node's addresses, may have changed since the last update */
  update(snapshot: Snapshot, moved: boolean): ReadonlyMap<string, NodeAddress> {
    if (!moved) return this.#result;
    const touched = new Set<string>();
    for (const name of changedKeys(this.#nodes, snapshot.nodes)) {
      for (const ip of new Set(this.#nodes.get(name)?.ips)) this.#count(ip, -1, touched);
      for (const ip of new Set(snapshot.nodes.get(name)?.ips)) this.#count(ip, 1, touched);
    }
    this.#nodes = snapshot.nodes;
    const own = ownNodeIps(snapshot);
    const broadcasts = new Set(snapshot.ownNode.broadcasts);
    for (const ip of [...own, ...this.#own, ...broadcasts, ...this.#broadcasts]) touched.add(ip);
    this.#own = own;
    this.#broadcasts = broadcasts;
    const isOther = (ip: string) => this.#holders.has(ip) || broadcasts.has(ip);
    const kindOf = (ip: string) => (own.has(ip) ? 'own' : isOther(ip) ? 'other' : undefined);
    this.#result = this.#result.with([...touched].map((ip) => [ip, kindOf(ip)] as const));
    return this.#result;
  }

  #count(ip: string, by: 1 | -1, touched: Set<string>): void {
    const holders = (this.#holders.get(ip) ?? 0) + by;
    if (holders > 0) this.#holders.set(ip, holders);
    else this.#holders.delete(ip);
    touched.add(ip);
  }
}
