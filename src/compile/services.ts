/** Service addresses: what the packet path needs to judge packets before kube-proxy translates them. */
import { changedKeys, SharedMap } from '../identity/shared-map.js';
import type { Service, Snapshot } from '../identity/snapshot.js';
import type { Image, ImageBackend, ImageService } from '../image/types.js';

import { isOnLink, isTunnelled, type TunnelTable } from '../net/tunnels.js';
import { isBeside, CLAIM, claimOf, claimOrder, DNS_PORT } from '../ir/services.js';
import { isV6, ServiceBudget } from './service-budget.js';
import { ownNodeIps } from './atoms/world.js';

/** Maximum number of backend kinds of an entry that the kernel judges (EA_MAX_BACKENDS). */
export const MAX_BACKENDS = 16;

/** The inputs that determine the kinds of a Service's backends. */
export interface ServiceWorld {
  readonly snapshot: Snapshot;
  readonly classOf: (ip: string) => number;
  /** Whether names may tell addresses of a class apart. */
  readonly named: (classId: number) => boolean;
  /** Addresses whose class may have changed since the last update. */
  readonly touched: ReadonlySet<string>;
  /** A predicate for further such addresses. */
  readonly inside?: (ip: string) => boolean;
  /** Whether the class of any address may have changed, or what names tell apart. */
  readonly all: boolean;
  /** `namespace/name` of the pods that this node enforces. */
  readonly local: readonly string[];
  /** Whether local pods or nodes' addresses may have changed since the last update. */
  readonly moved: boolean;
  /**
   * Addresses of nodes: encapsulated packets to them are denied, so nodes are not like other backends of their class.
   */
  readonly nodes: Image['nodes'];
  readonly tunnels: TunnelTable;
}

/** A Service's claim to an entry. */
interface Claim {
  /** Sort key: the lowest rank wins. */
  readonly rank: string;
  readonly key: string;
}

/**
 * Makes one entry for each address and port of each Service that has backends of the address's own family, since
 * kube-proxy never translates from one family to the other.
 *
 * Backends with the same class and port are of one kind, because no rule can distinguish them. There are four
 * exceptions: a local pod is a kind of its own, since a pod always reaches itself; a node is, since encapsulated
 * packets to it are denied; a backend on this node is, since no post-DNAT check sees packets to it; and an address is
 * that a rule for names may match, since the sender may have learned it and not the next one. An entry with more than
 * MAX_BACKENDS kinds lists only the backends on this node; the others are judged after the translation.
 * Services beyond the budget of their namespace (service-budget.ts) have no entry.
 *
 * The table remembers its entries and rebuilds only those whose inputs changed.
 */
export class ServiceTable {
  #services: Snapshot['services'] = new Map();
  #localIps: ReadonlySet<string> = new Set();
  #nodes: Image['nodes'] = new Map();
  #tunnels: TunnelTable = new Map();
  #nodeIps: readonly string[] = [];
  #ownNode: Snapshot['ownNode'] = { name: '', ips: [] };
  /** `ip|port` at which the node itself answers. */
  #ownDns: ReadonlySet<string> = new Set();
  /** Entries by Service. */
  readonly #entries = new Map<string, ReadonlyMap<string, ImageService>>();
  readonly #backendsOf = new Map<string, ReadonlySet<string>>();
  /** Services by the address of a backend. */
  readonly #byBackend = new Map<string, Set<string>>();
  /** The Services that claim an `ip|port|protocol`, the strongest claim first. */
  readonly #claims = new Map<string, readonly Claim[]>();
  #result = SharedMap.of<ImageService>();
  readonly #budget = new ServiceBudget();

  /** Services without an entry, with the reasons; the same object while nothing changes. */
  get refused(): ReadonlyMap<string, string> {
    return this.#budget.refused;
  }

  update(world: ServiceWorld): ReadonlyMap<string, ImageService> {
    const dirty = this.#dirty(world);
    const claimed = new Set<string>();
    for (const key of this.#budget.update(dirty, this.#services, this.#nodeIps)) dirty.add(key);
    for (const key of dirty) {
      this.#remove(key, claimed);
      const service = this.#services.get(key);
      if (service && !this.refused.has(key)) this.#add(key, service, world, claimed);
    }
    this.#result = this.#result.with(
      [...claimed].map((id) => {
        const holder = this.#claims.get(id)?.[0]?.key;
        return [id, holder === undefined ? undefined : this.#same(id, this.#entries.get(holder)?.get(id))];
      }),
    );
    return this.#result;
  }

  #dirty({ snapshot, touched, inside, all, local, moved, nodes, tunnels }: ServiceWorld): Set<string> {
    const dirty = new Set(changedKeys(this.#services, snapshot.services));
    this.#services = snapshot.services;
    const add = (ip: string) => {
      for (const key of this.#byBackend.get(ip) ?? []) dirty.add(key);
    };
    for (const ip of touched) add(ip);
    if (inside) for (const ip of this.#byBackend.keys()) if (inside(ip)) add(ip);
    for (const ip of changedKeys(this.#nodes, nodes)) add(ip);
    if (all || tunnels !== this.#tunnels) for (const key of this.#services.keys()) dirty.add(key);
    this.#nodes = nodes;
    this.#tunnels = tunnels;
    if (!moved) return dirty;
    const localIps = new Set(local.flatMap((key) => snapshot.pods.get(key)?.ips ?? []));
    const nodeIps = [...ownNodeIps(snapshot)].sort();
    for (const ip of localIps) if (!this.#localIps.has(ip)) add(ip);
    for (const ip of this.#localIps) if (!localIps.has(ip)) add(ip);
    const dns = new Set((snapshot.ownNode.dns ?? []).map((ip) => `${ip}|${DNS_PORT}`));
    const sameDns = [...dns].join() === [...this.#ownDns].join();
    const otherNetworks = snapshot.ownNode.beside?.join() !== this.#ownNode.beside?.join();
    this.#ownNode = snapshot.ownNode;
    if (nodeIps.join() !== this.#nodeIps.join() || !sameDns || otherNetworks)
      for (const key of this.#services.keys()) dirty.add(key);
    this.#ownDns = dns;
    this.#localIps = localIps;
    this.#nodeIps = nodeIps;
    return dirty;
  }

  #remove(key: string, claimed: Set<string>): void {
    for (const id of this.#entries.get(key)?.keys() ?? []) {
      claimed.add(id);
      const remaining = (this.#claims.get(id) ?? []).filter((claim) => claim.key !== key);
      if (remaining.length > 0) this.#claims.set(id, remaining);
      else this.#claims.delete(id);
    }
    for (const ip of this.#backendsOf.get(key) ?? []) {
      const keys = this.#byBackend.get(ip);
      keys?.delete(key);
      if (keys?.size === 0) this.#byBackend.delete(ip);
    }
    this.#backendsOf.delete(key);
    this.#entries.delete(key);
  }

  #add(key: string, service: Service, { classOf, named: byName }: ServiceWorld, claimed: Set<string>): void {
    const entries = new Map<string, ImageService>();
    const backends = new Set<string>();
    const nodeIps = new Set(this.#nodeIps);
    const vips = service.vips.map((vip) => [vip, claimOf(service, vip)] as const);
    /** The strength of the claim to each entry. */
    const best = new Map<string, number>();
    for (const port of service.ports) {
      const families = new Map<boolean, Pick<ImageService, 'backends' | 'many'>>();
      for (const v6 of [false, true]) {
        const kinds = new Map<string, ImageBackend>();
        for (const b of port.backends) {
          if (isV6(b.ip) !== v6) continue;
          const unwraps =
            isTunnelled(this.#tunnels, port.protocol, b.port) && (this.#nodes.has(b.ip) || isOnLink(b.ip));
          const own = nodeIps.has(b.ip) || (!this.#localIps.has(b.ip) && isBeside(this.#ownNode, b.ip));
          const of = classOf(b.ip);
          const kind = `${this.#localIps.has(b.ip) || byName(of) ? b.ip : of}|${b.port}|${unwraps}|${own}`;
          if (!kinds.has(kind)) kinds.set(kind, { ip: b.ip, port: b.port, ...(own ? { own } : {}) });
          backends.add(b.ip);
        }
        const many = kinds.size > MAX_BACKENDS;
        const named = [...kinds.values()].filter((b) => !many || b.own).slice(0, MAX_BACKENDS);
        if (kinds.size > 0) families.set(v6, { backends: named, many });
      }
      const entry = (ip: string, at: number, claim: number) => {
        const id = `${ip}|${at}|${port.protocol}`;
        const backends = families.get(isV6(ip));
        if (!backends || (best.get(id) ?? Infinity) <= claim) return;
        best.set(id, claim);
        entries.set(id, { ip, port: at, protocol: port.protocol, ...backends });
      };
      for (const [vip, claim] of vips) if (!this.#ownDns.has(`${vip}|${port.port}`)) entry(vip, port.port, claim);
      if (port.nodePort) for (const ip of this.#nodeIps) entry(ip, port.nodePort, CLAIM.node);
    }
    for (const ip of backends) {
      let keys = this.#byBackend.get(ip);
      if (!keys) this.#byBackend.set(ip, (keys = new Set()));
      keys.add(key);
    }
    this.#backendsOf.set(key, backends);
    this.#entries.set(key, entries);
    const order = claimOrder(key, service);
    for (const [id, claim] of best) {
      claimed.add(id);
      const rank = `${claim} ${order}`;
      const claims = [...(this.#claims.get(id) ?? []), { rank, key }];
      this.#claims.set(id, claims.length > 1 ? claims.sort((a, b) => (a.rank < b.rank ? -1 : 1)) : claims);
    }
  }

  /** Returns the existing entry if it is equal, so that nothing is written. */
  #same(id: string, entry: ImageService | undefined): ImageService | undefined {
    const before = this.#result.get(id);
    return before && entry && JSON.stringify(before) === JSON.stringify(entry) ? before : entry;
  }
}
