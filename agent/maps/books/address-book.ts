/** The owners of addresses that this node must know: a local pod, a node, or both. Bookkeeping only, no map. */
import { ENUMS } from '../../../src/image/layout.gen.js';
import type { EntryKind } from '../../../src/image/plan/entries.js';
import type { EndpointBinding } from '../../../src/image/store.js';
import type { Image } from '../../../src/image/types.js';
import { type Change, changedKeys, SharedMap } from '../../../src/identity/shared-map.js';

const { EA_ADDR_NODE, EA_ADDR_OWN_NODE } = ENUMS.ea_address_flags;

/** The map's value for an address. */
export interface Address {
  /** Index of the node's end of the owning local pod's interface; 0: no local pod owns the address. */
  readonly ifindex: number;
  readonly flags: number;
}

const FLAGS = { own: EA_ADDR_OWN_NODE | EA_ADDR_NODE, other: EA_ADDR_NODE } as const;

/** During an update, an address keeps its old owners as well, since packets may still be judged by the old state. */
export const ADDRESS: EntryKind<Address> = {
  same: (a, b) => a.ifindex === b.ifindex && a.flags === b.flags,
  both: (from, to) => ({ ifindex: to.ifindex || from.ifindex, flags: from.flags | to.flags }),
};

export class AddressBook {
  #nodes: Image['nodes'] = new Map();
  #bindings: readonly EndpointBinding[] = [];
  /** Address → interface. */
  #owners: ReadonlyMap<string, number> = new Map();
  /** Owners by an earlier agent, for interfaces that are not bound yet: they may still have hooks. */
  readonly #inheritedOwners: Map<string, number>;
  #result = SharedMap.of<Address>();

  /** @param found an earlier agent's entries in the map */
  constructor(found: ReadonlyMap<string, Address>) {
    this.#inheritedOwners = new Map([...found].flatMap(([ip, { ifindex }]) => (ifindex === 0 ? [] : [[ip, ifindex]])));
    this.#applyChanges([...this.#inheritedOwners.keys()]);
  }

  /** The content that the map should have. */
  get addresses(): ReadonlyMap<string, Address> {
    return this.#result;
  }

  /** Takes over new nodes and bindings. The cost depends on the changes only: there may be thousands of nodes. */
  update(nodes: Image['nodes'], bindings: readonly EndpointBinding[]): ReadonlyMap<string, Address> {
    const touched = changedKeys(this.#nodes, nodes);
    this.#nodes = nodes;
    if (bindings !== this.#bindings) {
      const owners = ownersOf(bindings);
      const bound = new Set(bindings.map((b) => b.ifindex));
      touched.push(...changedKeys(this.#owners, owners), ...this.#forget((ifindex) => bound.has(ifindex)));
      this.#owners = owners;
      this.#bindings = bindings;
    }
    return this.#applyChanges(touched);
  }

  /** Forgets an earlier agent's entries of interfaces without hooks. */
  dropStrangers(hooked: ReadonlySet<number>): ReadonlyMap<string, Address> {
    return this.#applyChanges(this.#forget((ifindex) => !hooked.has(ifindex)));
  }

  #forget(which: (ifindex: number) => boolean): string[] {
    const removedIps = [...this.#inheritedOwners].filter(([, ifindex]) => which(ifindex)).map(([ip]) => ip);
    for (const ip of removedIps) this.#inheritedOwners.delete(ip);
    return removedIps;
  }

  #applyChanges(touched: readonly string[]): ReadonlyMap<string, Address> {
    const changes = touched.map((ip): Change<Address> => {
      const node = this.#nodes.get(ip);
      const ifindex = this.#owners.get(ip) ?? this.#inheritedOwners.get(ip) ?? 0;
      if (node === undefined && ifindex === 0) return [ip, undefined];
      const entry = { ifindex, flags: node === undefined ? 0 : FLAGS[node] };
      const previous = this.#result.get(ip);
      return [ip, previous && ADDRESS.same(previous, entry) ? previous : entry];
    });
    return (this.#result = this.#result.with(changes));
  }
}

/**
 * The owner of each address. If pods share an address for a while, one that is not terminating wins, then the one with
 * the newest interface. Of one pod's interfaces the first wins: the pod could have made further ones itself.
 */
function ownersOf(bindings: readonly EndpointBinding[]): ReadonlyMap<string, number> {
  const chosen = new Map<string, EndpointBinding>();
  const isBetter = (a: EndpointBinding, b: EndpointBinding) =>
    a.uid === b.uid ? a.ifindex < b.ifindex : a.ending === b.ending ? a.ifindex > b.ifindex : !a.ending;
  for (const binding of bindings) {
    if (binding.kind !== 'pod') continue;
    for (const ip of binding.ips) {
      const other = chosen.get(ip);
      if (!other || isBetter(binding, other)) chosen.set(ip, binding);
    }
  }
  return new Map([...chosen].map(([ip, { ifindex }]) => [ip, ifindex]));
}
