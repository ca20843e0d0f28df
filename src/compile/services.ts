/** Service addresses: what the packet path needs to judge them before kube-proxy translates them. */
import { changedKeys, SharedMap } from '../identity/shared-map.js';
import type { Service, Snapshot } from '../identity/snapshot.js';
import type { ImageService } from '../image/types.js';
import { ownNodeIps } from './world.js';

/** Kinds of backends that are judged one by one in the kernel (EA_MAX_BACKENDS). */
export const MAX_BACKENDS = 16;

/** What the kinds of a Service's backends depend on. */
export interface ServiceWorld {
  readonly snapshot: Snapshot;
  readonly classOf: (ip: string) => number;
  /** Addresses that may have another class than last time. */
  readonly touched: ReadonlySet<string>;
  /** So may those for which this says yes. */
  readonly inside?: (ip: string) => boolean;
  /** Any address may. */
  readonly all: boolean;
  /** `namespace/name` of the pods that this node enforces. */
  readonly local: readonly string[];
  /** Local pods, or nodes' addresses, may be other ones than last time. */
  readonly moved: boolean;
}

/**
 * One entry for each address and port of each Service that has backends of the address's own family: kube-proxy never
 * translates from one to the other.
 * Backends of one class and port are one kind: no rule can tell them apart, except
 * that a pod always reaches itself, so local pods are kinds of their own. More than
 * MAX_BACKENDS kinds are judged after the translation only.
 *
 * Remembers what it made, and makes anew what depends on something that changed.
 */
export class ServiceTable {
  private services: Snapshot['services'] = new Map();
  private localIps: ReadonlySet<string> = new Set();
  private nodeIps: readonly string[] = [];
  /** By Service. */
  private readonly entries = new Map<string, ReadonlyMap<string, ImageService>>();
  private readonly backendsOf = new Map<string, ReadonlySet<string>>();
  /** Services by the address of a backend. */
  private readonly behind = new Map<string, Set<string>>();
  /** Services that claim an `ip|port|protocol`, by name. */
  private readonly claims = new Map<string, readonly string[]>();
  private result = SharedMap.of<ImageService>();

  update(world: ServiceWorld): ReadonlyMap<string, ImageService> {
    const dirty = this.dirty(world);
    const claimed = new Set<string>();
    for (const key of dirty) {
      this.remove(key, claimed);
      const service = this.services.get(key);
      if (service) this.add(key, service, world.classOf, claimed);
    }
    this.result = this.result.with(
      [...claimed].map((id) => {
        // Two Services that claim one address: the first by name holds it, as in the API server's allocator.
        const holder = this.claims.get(id)?.[0];
        return [id, holder === undefined ? undefined : this.same(id, this.entries.get(holder)?.get(id))];
      }),
    );
    return this.result;
  }

  private dirty({ snapshot, touched, inside, all, local, moved }: ServiceWorld): Set<string> {
    const dirty = new Set(changedKeys(this.services, snapshot.services));
    this.services = snapshot.services;
    const add = (ip: string) => {
      for (const key of this.behind.get(ip) ?? []) dirty.add(key);
    };
    for (const ip of touched) add(ip);
    if (inside) for (const ip of this.behind.keys()) if (inside(ip)) add(ip);
    if (all) for (const key of this.services.keys()) dirty.add(key);
    if (!moved) return dirty;
    const localIps = new Set(local.flatMap((key) => snapshot.pods.get(key)?.ips ?? []));
    const nodeIps = [...ownNodeIps(snapshot)].sort();
    for (const ip of localIps) if (!this.localIps.has(ip)) add(ip);
    for (const ip of this.localIps) if (!localIps.has(ip)) add(ip);
    if (nodeIps.join() !== this.nodeIps.join()) for (const key of this.services.keys()) dirty.add(key);
    this.localIps = localIps;
    this.nodeIps = nodeIps;
    return dirty;
  }

  private remove(key: string, claimed: Set<string>): void {
    for (const id of this.entries.get(key)?.keys() ?? []) {
      claimed.add(id);
      const left = (this.claims.get(id) ?? []).filter((k) => k !== key);
      if (left.length > 0) this.claims.set(id, left);
      else this.claims.delete(id);
    }
    for (const ip of this.backendsOf.get(key) ?? []) {
      const there = this.behind.get(ip);
      there?.delete(key);
      if (there?.size === 0) this.behind.delete(ip);
    }
    this.backendsOf.delete(key);
    this.entries.delete(key);
  }

  private add(key: string, service: Service, classOf: (ip: string) => number, claimed: Set<string>): void {
    const entries = new Map<string, ImageService>();
    const backends = new Set<string>();
    for (const port of service.ports) {
      const families = new Map<boolean, Pick<ImageService, 'backends' | 'many'>>();
      for (const v6 of [false, true]) {
        const kinds = new Map<string, { ip: string; port: number }>();
        for (const b of port.backends) {
          if (isV6(b.ip) !== v6) continue;
          const kind = `${this.localIps.has(b.ip) ? b.ip : classOf(b.ip)}|${b.port}`;
          if (!kinds.has(kind)) kinds.set(kind, { ip: b.ip, port: b.port });
          backends.add(b.ip);
        }
        const many = kinds.size > MAX_BACKENDS;
        if (kinds.size > 0) families.set(v6, { backends: many ? [] : [...kinds.values()], many });
      }
      const entry = (ip: string, at: number) => {
        const id = `${ip}|${at}|${port.protocol}`;
        const behind = families.get(isV6(ip));
        if (behind && !entries.has(id)) entries.set(id, { ip, port: at, protocol: port.protocol, ...behind });
      };
      for (const vip of service.vips) entry(vip, port.port);
      if (port.nodePort) for (const ip of this.nodeIps) entry(ip, port.nodePort);
    }
    for (const ip of backends) {
      let there = this.behind.get(ip);
      if (!there) this.behind.set(ip, (there = new Set()));
      there.add(key);
    }
    this.backendsOf.set(key, backends);
    this.entries.set(key, entries);
    for (const id of entries.keys()) {
      claimed.add(id);
      this.claims.set(id, [...(this.claims.get(id) ?? []), key].sort());
    }
  }

  /** The entry that is there already, if it says the same: nothing is written then. */
  private same(id: string, entry: ImageService | undefined): ImageService | undefined {
    const before = this.result.get(id);
    return before && entry && JSON.stringify(before) === JSON.stringify(entry) ? before : entry;
  }
}

/** Of canonical text. */
function isV6(ip: string): boolean {
  return ip.includes(':');
}
