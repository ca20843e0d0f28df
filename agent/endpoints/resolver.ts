/**
 * The node's interfaces as endpoints: those of pods (binding/binder.ts), the uplinks, and those of unknown owners,
 * which may be closed until their pods are known. An endpoint is keyed by the pod's UID and the interface, never by the
 * pod's name.
 */
import type { Problem } from '../../src/errors.js';
import type { Pod, Snapshot } from '../../src/identity/snapshot.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { changedKeys } from '../../src/identity/shared-map.js';
import type { Tunnel } from '../../src/net/tunnels.js';
import { Binder, type BoundNic } from './binding/binder.js';
import { Claims } from './binding/claims.js';
import { EndpointIds } from './ids.js';
import { MAX_ADDRESSES } from '../maps/tables/endpoint-table.js';
import { CgroupEvidence } from './evidence/cgroups.js';
import { CniCacheEvidence } from './evidence/cni-cache.js';
import { type Address, type Link, withNetlink } from '../netlink/netlink.js';
import type { OwnNamespace } from './binding/namespace-scan.js';
import { type Netns, netnsAt, ownNetns } from '../netlink/netns.js';
import { type NextHopMode, withGateways } from './next-hop.js';
import { runtimeNamespaces, StartingVeths } from './starting.js';
import { TunnelPorts } from './tunnel-ports.js';
import { broadcastAddresses, dnsCacheAddresses, findUplinks, networksBeside, ownAddresses } from './uplinks.js';

const noDevices = (): ReadonlySet<number> => new Set();

/** A pod's interface, with the namespace that seeding reads. */
export interface PodBinding extends EndpointBinding {
  readonly kind: 'pod';
  readonly netns: Netns;
  /** Index of the pod's end of the veth, in the pod's namespace. */
  readonly podIfindex: number;
  readonly podIfname: string;
}

/** Whether a pod's namespace can no longer be entered, as no file names it. */
export function isHidden(endpoint: EndpointBinding & { netns?: Netns }): boolean {
  return endpoint.netns !== undefined && netnsAt(endpoint.netns.path)?.id !== endpoint.netns.id;
}

/** The result of resolve(). */
export interface Bindings {
  readonly pods: readonly PodBinding[];
  readonly uplinks: readonly EndpointBinding[];
  /** Interfaces of unknown pods that appeared while the agent ran: of a pod in `waiting`, or made by a pod. */
  readonly starting: readonly EndpointBinding[];
  /** Indices of those in `starting` that lead to a namespace of the node's own. */
  readonly nodes: ReadonlySet<number>;
  /** Interfaces that must be closed: two pods claim them, or their pod no longer exists. */
  readonly closed: readonly EndpointBinding[];
  /** Local pods that are not bound: a starting interface may belong to one of them. */
  readonly waiting: readonly Pod[];
  /** Pods and uplinks together, for MapStore. */
  readonly all: readonly EndpointBinding[];
  /** Global addresses of the agent's own namespace, canonical and sorted. */
  readonly ownIps: readonly string[];
  /** Broadcast addresses of its IPv4 networks. */
  readonly broadcasts: readonly string[];
  /** Tunnels that nodes unwrap; the same list while its content is unchanged. */
  readonly tunnels: readonly Tunnel[];
  /** Those of ownIps on which the node's DNS cache listens. */
  readonly dns: readonly string[];
  /** Snapshot.ownNode.beside. */
  readonly beside: readonly string[];
  /** Indices of all existing devices. */
  readonly present: ReadonlySet<number>;
  /** UIDs of local pods that are not bound: hooks that they have must stay. */
  readonly unbound: ReadonlySet<string>;
  /** Pods that could not be bound, wholly or in part, and why. */
  readonly problems: readonly Problem[];
}

export interface ResolverOptions {
  /** Pods of this node, and pods without a node, are local. */
  nodeName: string;
  /** Device names; without them the devices of default routes, and tunnels. */
  uplinks?: readonly string[];
  /**
   * Whether the namespace annotation counts, by default yes. Not in a cluster: with it, whoever
   * may write a pod could bind another pod's interface to that pod's policies.
   */
  annotations?: boolean;
  /** Pods without a node are local, by default yes: manifests need not name one. In a cluster they do not run yet. */
  unassigned?: boolean;
  /** On a cluster's node: a pod without an address is starting, which is no fault. */
  starting?: boolean;
  /** The check of frames on bridges, by default `auto`. */
  checkNextHop?: NextHopMode;
  /** Whether policies judge packets that nodes unwrap, by default no: they are denied. */
  allowEncapsulation?: boolean;
  ids?: EndpointIds;
  runDir?: string;
  procDir?: string;
  /** libcni's cache, by which a cluster's container runtime shows the namespaces of pods. */
  cniCacheDir?: string;
  /** Whether interfaces of unknown owners count as the node's own (`open`); by default not (`closed`). */
  unknownInterfaces?: 'closed' | 'open';
  /** File of the bindings, for the next agent. */
  statePath?: string;
  /** Interfaces that have hooks of an earlier agent; called once. */
  hooked?: () => ReadonlySet<number>;
}

/** Whether a pod is on this node or (if `unassigned`) on none, has a network of its own, and has not ended. */
export function isLocalPod(pod: Pod, nodeName: string, unassigned = true): boolean {
  return (pod.nodeName === nodeName || (unassigned && pod.nodeName === '')) && !pod.hostNetwork && !pod.ended;
}

/**
 * Binds the local pods of a Snapshot. Call resolve() when pods, links, addresses or
 * namespaces have changed: a bound pod costs a stat(2), the others are looked up again.
 */
export class EndpointResolver {
  readonly #opts: ResolverOptions;
  /** Pods of this node, by `namespace/name`; updated by the changes between snapshots. */
  readonly #local = new Map<string, Pod>();
  #lastPods: Snapshot['pods'] = new Map();
  #lastBindings: Bindings | undefined;
  readonly #starting: StartingVeths | undefined;
  readonly claims = new Claims();
  readonly #binder: Binder;
  readonly #tunnels: TunnelPorts;
  readonly #ids: EndpointIds;

  constructor(opts: ResolverOptions) {
    this.#opts = opts;
    this.#ids = opts.ids ?? new EndpointIds();
    const cluster = opts.starting ?? false;
    this.#starting = cluster ? new StartingVeths() : undefined;
    this.#tunnels = new TunnelPorts(opts.allowEncapsulation ?? false);
    const sources = [
      this.claims,
      new CgroupEvidence(opts.procDir),
      ...(opts.cniCacheDir === undefined ? [] : [new CniCacheEvidence(opts.cniCacheDir)]),
    ];
    this.#binder = new Binder({
      runDir: opts.runDir,
      procDir: opts.procDir,
      annotations: opts.annotations ?? true,
      cluster,
      sources: cluster ? sources : [],
      statePath: opts.statePath,
    });
  }

  /** The node's pods that have a network of their own, as of the last resolve(). */
  get local(): Iterable<Pod> {
    return this.#local.values();
  }

  /**
   * Binds the pods. Throws KERNEL if the agent's own namespace cannot be read; a pod's fault is a Problem.
   * @param network links, addresses, routes, namespaces or claims may have changed. If not, and the local pods are the
   *   same, the result is the last one.
   */
  resolve(snapshot: Snapshot, network = true): Bindings {
    const changed = this.#updateLocal(snapshot);
    if (!network && !changed && this.#lastBindings) return this.#lastBindings;
    this.#lastBindings = undefined;
    const bindings = withNetlink(undefined, (nl) => {
      const links = nl.links();
      const veths = new Map<number, Link[]>();
      for (const l of links) {
        if (l.kind !== 'veth' || l.netnsid === undefined) continue;
        const list = veths.get(l.netnsid);
        if (list) list.push(l);
        else veths.set(l.netnsid, [l]);
      }
      const own: OwnNamespace = { nl, ns: ownNetns(), links: new Map(links.map((l) => [l.ifindex, l])), veths };
      const addresses = nl.addresses();
      const routes = nl.routes();
      const uplinkResult = findUplinks(links, nl.defaultRouteDevices(routes), this.#opts.uplinks);
      const bound = this.#binder.bind(own, this.#sortedLocal());
      const { unbound } = bound;
      const problems: Problem[] = [...uplinkResult.problems, ...bound.problems];
      const podBindings = bound.nics.map((n) => this.#podBinding(n));
      const pods = withGateways(this.#opts.checkNextHop ?? 'auto', podBindings, own, addresses, problems);
      const uplinks = this.#uplinks(uplinkResult.uplinks, addresses);
      const taken = new Set([...pods, ...uplinks].map((b) => b.ifindex));
      const free = (l: Link) => !taken.has(l.ifindex);
      const closed = [
        ...bound.conflicts.filter(free).map((l) => this.#closedBinding('conflict', l)),
        ...bound.orphans.filter(free).map((l) => this.#closedBinding('orphaned', l)),
      ];
      for (const b of closed) taken.add(b.ifindex);
      const firstPass = {
        runtimes: () => runtimeNamespaces(nl, this.#opts.runDir),
        hooked: this.#opts.hooked ?? noDevices,
      };
      const strangers = this.#starting?.unclaimed(veths, taken, firstPass) ?? [];
      const starting = strangers.map((l) => this.#closedBinding('starting', l));
      const open = this.#opts.unknownInterfaces === 'open';
      const nodes = new Set(strangers.filter((l) => open || bound.isNodes(l)).map((l) => l.ifindex));
      this.#ids.keep([...pods, ...uplinks, ...closed, ...starting]);
      return {
        ...{ pods, uplinks, starting, nodes, closed, unbound },
        waiting: [...this.#local.values()].filter((p) => unbound.has(p.uid)),
        all: [...pods, ...uplinks],
        ownIps: ownAddresses(addresses, links),
        present: new Set(own.links.keys()),
        tunnels: this.#tunnels.of(links),
        broadcasts: broadcastAddresses(addresses),
        dns: dnsCacheAddresses(addresses, links),
        beside: networksBeside(routes, links, new Set([...taken, ...starting.map((b) => b.ifindex)])),
        problems,
      };
    });
    this.#lastBindings = bindings;
    return bindings;
  }

  /** Updates the local pods. @returns whether one has changed since the last call */
  #updateLocal(snapshot: Snapshot): boolean {
    let changed = false;
    for (const key of changedKeys(this.#lastPods, snapshot.pods)) {
      const pod = snapshot.pods.get(key);
      const local = pod !== undefined && isLocalPod(pod, this.#opts.nodeName, this.#opts.unassigned);
      changed ||= local || this.#local.has(key);
      if (local) this.#local.set(key, pod);
      else this.#local.delete(key);
    }
    this.#lastPods = snapshot.pods;
    return changed;
  }

  #sortedLocal(): Pod[] {
    return [...this.#local.values()].sort((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1));
  }

  #podBinding({ pod, ns, nic, link, ips }: BoundNic): PodBinding {
    return {
      key: `${pod.namespace}/${pod.name}`,
      uid: pod.uid,
      ifindex: link.ifindex,
      ifname: link.name,
      id: this.#ids.of(`${pod.uid}/${link.ifindex}`, link.ifindex),
      mac: nic.mac,
      ips: ips.slice(0, MAX_ADDRESSES),
      kind: 'pod',
      l3: false,
      ...(pod.terminating ? { ending: true } : {}),
      netns: ns,
      podIfindex: nic.podIfindex,
      podIfname: nic.podIfname,
    };
  }

  /** The binding of a closed interface without a pod. Its key, `(why)/interface`, cannot be a pod's. */
  #closedBinding(why: 'starting' | 'conflict' | 'orphaned', link: Link): EndpointBinding {
    const uid = `${why}:${link.netnsid}:${link.ifindex}`;
    return {
      key: `(${why})/${link.name}`,
      uid,
      ifindex: link.ifindex,
      ifname: link.name,
      id: this.#ids.of(uid, link.ifindex),
      mac: '',
      ips: [],
      kind: 'pod',
      l3: false,
    };
  }

  /** Bindings of the uplinks. Each has the addresses of all: a packet for one's address may arrive at another. */
  #uplinks(links: readonly Link[], addresses: readonly Address[]): EndpointBinding[] {
    const devices = new Set(links.map((l) => l.ifindex));
    const own = addresses.filter((a) => devices.has(a.ifindex) && a.scope < 253).map((a) => a.address);
    const ips = [...new Set(own)].sort();
    return links.map((l) => this.#uplink(l, ips));
  }

  #uplink(link: Link, ips: readonly string[]): EndpointBinding {
    return {
      key: `node/${link.name}`,
      uid: `node:${this.#opts.nodeName}`,
      ifindex: link.ifindex,
      ifname: link.name,
      id: this.#ids.of(`node:${this.#opts.nodeName}/${link.ifindex}`, link.ifindex),
      mac: '',
      ips,
      kind: 'uplink',
      l3: link.l3,
    };
  }
}
