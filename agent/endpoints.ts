/**
 * Pods → interfaces. A pod is bound by its network namespace and the kernel's own
 * account of who a veth's peer is, never by an interface's name; an endpoint is keyed
 * by the pod's UID and the interface, never by the pod's name.
 */
import { createHash } from 'node:crypto';
import { AgentError, type Problem } from '../src/errors.js';
import type { Pod, Snapshot } from '../src/identity/snapshot.js';
import type { EndpointBinding } from '../src/image/store.js';
import { changedKeys } from '../src/identity/shared-map.js';
import { Claims, runtimeNamespaces, STARTING, StartingVeths } from './claims.js';
import { type Address, IFF_LOOPBACK, type Link, withNetlink } from './netlink.js';
import { type Own, Scan, type View } from './namespace-scan.js';
import { annotationPath, type Netns, netnsAt, ownNetns } from './netns.js';
import { findUplinks, ownAddresses } from './uplinks.js';

export const NETNS_ANNOTATION = 'egress-agent.io/netns';

/** A pod's interface, with what seeding needs to look into its namespace. */
export interface PodBinding extends EndpointBinding {
  readonly kind: 'pod';
  readonly netns: Netns;
  /** Of the pod's side of the veth, in the pod's namespace. */
  readonly podIfindex: number;
  readonly podIfname: string;
}

/** What resolve() found. */
export interface Bindings {
  readonly pods: readonly PodBinding[];
  readonly uplinks: readonly EndpointBinding[];
  /** Interfaces that appeared while the agent ran and whose pods are not known yet. */
  readonly starting: readonly EndpointBinding[];
  /** Local pods that have neither an address nor an interface yet: one of them may be behind a starting interface. */
  readonly waiting: readonly Pod[];
  /** Pods and uplinks together, as MapStore wants them. */
  readonly all: readonly EndpointBinding[];
  /** Global addresses of the agent's own namespace, canonical and sorted. */
  readonly ownIps: readonly string[];
  /** Indices of all devices that are there. */
  readonly present: ReadonlySet<number>;
  /** UIDs of local pods that are not bound: their hooks, if they have any, are to stay. */
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
   * Heed the namespace annotation, by default yes. To be refused where whoever may
   * write a pod is not to choose whose traffic the pod's policies apply to.
   */
  annotations?: boolean;
  /** Pods without a node are local, by default yes: manifests need not name one. In a cluster they are not anywhere yet. */
  unassigned?: boolean;
  /** A pod without an address is one that is starting, and no fault. */
  starting?: boolean;
  runDir?: string;
  procDir?: string;
}

/** Local: on this node or (where manifests need not say) on none, with a network of its own, and still running. */
export function isLocalPod(pod: Pod, nodeName: string, unassigned = true): boolean {
  return (pod.nodeName === nodeName || (unassigned && pod.nodeName === '')) && !pod.hostNetwork && !pod.ended;
}

function fail(pod: Pod, field: string, message: string, hint?: string): AgentError {
  return new AgentError('NETNS', message, { where: { object: `Pod ${pod.namespace}/${pod.name}`, field }, hint });
}

/**
 * Binds the local pods of a Snapshot. Call it when pods, links, addresses or
 * namespaces have changed: what is bound already costs a stat(2), the rest is looked up again.
 */
export class EndpointResolver {
  readonly #opts: ResolverOptions;
  /** Pods of this node, by `namespace/name`, kept up to date by what changes. */
  readonly #local = new Map<string, Pod>();
  #seen: Snapshot['pods'] = new Map();
  #last: Bindings | undefined;
  readonly #starting: StartingVeths | undefined;
  readonly claims = new Claims();
  /** By UID: what bound the pod, where nothing in its namespace that can still change matters. */
  #settled: ReadonlyMap<string, View> = new Map();
  /** `uid/ifindex` → id, and back. */
  readonly #ids = new Map<string, number>();
  readonly #keys = new Map<number, string>();

  constructor(opts: ResolverOptions) {
    this.#opts = opts;
    this.#starting = opts.starting ? new StartingVeths() : undefined;
  }

  /**
   * Throws KERNEL where the agent's own namespace cannot be read; a pod's fault is a Problem.
   * @param network links, addresses, routes, namespaces or claims may have changed; without, and with the same local pods,
   *   the answer is the last one
   */
  resolve(snapshot: Snapshot, network = true): Bindings {
    const changed = this.#updateLocal(snapshot);
    if (!network && !changed && this.#last) return this.#last;
    this.#last = undefined;
    const bindings = withNetlink(undefined, (nl) => {
      const links = nl.links();
      const veths = new Map<number, Link[]>();
      for (const l of links) {
        if (l.kind !== 'veth' || l.netnsid === undefined) continue;
        const list = veths.get(l.netnsid);
        if (list) list.push(l);
        else veths.set(l.netnsid, [l]);
      }
      const own: Own = { nl, ns: ownNetns(), links: new Map(links.map((l) => [l.ifindex, l])), veths };
      const addresses = nl.addresses();
      const found = findUplinks(links, nl.defaultRouteDevices(), this.#opts.uplinks);
      const problems: Problem[] = [...found.problems];
      const unbound = new Set<string>();
      const pods = this.#pods(own, problems, unbound);
      const uplinks = this.#uplinks(found.uplinks, addresses);
      const taken = new Set([...pods, ...uplinks].map((b) => b.ifindex));
      const unclaimed = this.#starting?.unclaimed(veths, taken, () => runtimeNamespaces(nl, this.#opts.runDir)) ?? [];
      const waiting = [...this.#local.values()].filter((p) => p.ips.length === 0 && unbound.has(p.uid));
      const starting = unclaimed.map((l) => this.#startingVeth(l));
      this.#forgetIds([...pods, ...uplinks, ...starting]);
      const ownIps = ownAddresses(addresses, links);
      const present = new Set(own.links.keys());
      return { pods, uplinks, starting, waiting, all: [...pods, ...uplinks], ownIps, present, unbound, problems };
    });
    this.#last = bindings;
    return bindings;
  }

  /** Whether a pod of this node is another one than last time. */
  #updateLocal(snapshot: Snapshot): boolean {
    let changed = false;
    for (const key of changedKeys(this.#seen, snapshot.pods)) {
      const pod = snapshot.pods.get(key);
      const local = pod !== undefined && isLocalPod(pod, this.#opts.nodeName, this.#opts.unassigned);
      changed ||= local || this.#local.has(key);
      if (local) this.#local.set(key, pod);
      else this.#local.delete(key);
    }
    this.#seen = snapshot.pods;
    return changed;
  }

  #pods(own: Own, problems: Problem[], unbound: Set<string>): PodBinding[] {
    const scan = new Scan(own, this.#opts, this.#settled.values());
    const out: PodBinding[] = [];
    const taken = new Map<number, PodBinding>();
    const settled = new Map<string, View>();
    const local = [...this.#local.values()];
    for (const pod of local.sort((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1))) {
      try {
        const view = this.#viewOf(pod, scan, own);
        const { bindings, final } = this.#bind(pod, view, own);
        for (const b of bindings) {
          const other = taken.get(b.ifindex);
          if (other) {
            throw fail(
              pod,
              'status.podIP',
              `interface ${b.ifname} belongs to Pod ${other.key} already`,
              'give each pod a network namespace of its own',
            );
          }
        }
        for (const b of bindings) taken.set(b.ifindex, b);
        out.push(...bindings);
        if (final) settled.set(pod.uid, view);
      } catch (e) {
        if (!(e instanceof AgentError)) throw e;
        unbound.add(pod.uid);
        // On its way, or on its way out: nothing to tell.
        if (this.#opts.starting && (pod.ips.length === 0 || pod.terminating)) continue;
        const where = { object: `Pod ${pod.namespace}/${pod.name}`, ...e.where };
        problems.push({ severity: 'error', where, message: e.message, hint: e.hint });
      }
    }
    this.#settled = settled;
    return out;
  }

  #viewOf(pod: Pod, scan: Scan, own: Own): View {
    const field = `metadata.annotations["${NETNS_ANNOTATION}"]`;
    const settled = this.#settled.get(pod.uid);
    const before = settled && scan.holds(settled) ? settled : undefined;
    const claimed = this.claims.netnsOf(pod);
    if (claimed) {
      const view = scan.view(claimed.ns);
      // Without a UID it may be the namespace of this pod's successor, which has the same name.
      const own = pod.ips.length === 0 || view.addresses.some((a) => pod.ips.includes(a.address));
      if (claimed.sure || own) return view;
    }
    const annotation = this.#opts.annotations === false ? undefined : pod.annotations[NETNS_ANNOTATION];
    if (annotation !== undefined) {
      const path = annotationPath(annotation, this.#opts.runDir);
      const ns = netnsAt(path);
      // A namespace whose name was removed lives on while a process is in it.
      if (!ns && before) return before;
      if (!ns) throw fail(pod, field, `there is no network namespace at ${path}`, 'it is bound when it appears');
      if (ns.id === own.ns.id) throw fail(pod, field, `${path} is the agent's own namespace`, 'set spec.hostNetwork');
      return scan.view(ns);
    }
    if (pod.ips.length === 0) {
      throw fail(pod, 'status.podIP', 'has no address, so that its namespace cannot be found', `set ${field}`);
    }
    if (before?.addresses.some((a) => pod.ips.includes(a.address))) return before;
    const owners = scan.owners(pod.ips);
    const [first, ...more] = owners;
    if (!first) {
      throw fail(
        pod,
        'status.podIP',
        `no network namespace with a veth here owns ${pod.ips.join(', ')}`,
        `set ${field}`,
      );
    }
    if (more.length > 0) {
      const paths = owners.map((v) => v.ns.path).join(', ');
      throw fail(pod, 'status.podIP', `${pod.ips.join(', ')} is owned by several namespaces: ${paths}`, `set ${field}`);
    }
    return first;
  }

  #bind(pod: Pod, view: View, own: Own): { bindings: PodBinding[]; final: boolean } {
    const nics: { inner: Link; outer: Link; ips: string[] }[] = [];
    for (const inner of view.links) {
      if (inner.flags & IFF_LOOPBACK || inner.iflink === undefined) continue;
      const outer = own.links.get(inner.iflink);
      // The index alone says nothing: it counts in whichever namespace the peer is. Both ends must agree.
      if (!outer || !view.pairs.includes(`${outer.ifindex}:${inner.ifindex}`)) continue;
      nics.push({
        inner,
        outer,
        ips: view.addresses.filter((a) => a.ifindex === inner.ifindex && a.scope === 0).map((a) => a.address),
      });
    }
    if (nics.length === 0) {
      throw fail(pod, 'status.podIP', `no interface in ${view.ns.path} is a veth whose other end is here`);
    }
    const holds = (ips: readonly string[]) => ips.some((ip) => pod.ips.includes(ip));
    const held = nics.some((n) => holds(n.ips));
    let final = pod.ips.length > 0 && (held || nics.length === 1);
    const bindings = nics.map(({ inner, outer, ips }): PodBinding => {
      // A further NIC has addresses that the pod's status does not show.
      const further = pod.ips.length === 0 || (held && !holds(ips));
      if (further) final = false;
      return {
        key: `${pod.namespace}/${pod.name}`,
        uid: pod.uid,
        ifindex: outer.ifindex,
        ifname: outer.name,
        id: this.#id(`${pod.uid}/${outer.ifindex}`),
        mac: inner.mac,
        ips: further ? ips : pod.ips,
        kind: 'pod',
        l3: false,
        netns: view.ns,
        podIfindex: inner.ifindex,
        podIfname: inner.name,
      };
    });
    return { bindings, final };
  }

  /** An interface whose pod is not known yet. */
  #startingVeth(link: Link): EndpointBinding {
    const uid = `starting:${link.netnsid}:${link.ifindex}`;
    return {
      key: `${STARTING}/${link.name}`,
      uid,
      ifindex: link.ifindex,
      ifname: link.name,
      id: this.#id(uid),
      mac: '',
      ips: [],
      kind: 'pod',
      l3: false,
    };
  }

  /** Each has the addresses of all of them: what arrives at one may be meant for another's. */
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
      id: this.#id(`node:${this.#opts.nodeName}/${link.ifindex}`),
      mac: '',
      ips,
      kind: 'uplink',
      l3: link.l3,
    };
  }

  /**
   * A hash, so that a restarted agent finds the flows that the kernel kept under
   * the same id. Of two keys with one hash (1 in 100,000 at 250 endpoints) the later takes another.
   */
  #id(key: string): number {
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    for (let salt = 0; ; salt++) {
      const text = salt === 0 ? key : `${key}#${salt}`;
      const id = createHash('sha256').update(text).digest().readUInt32BE(0);
      if (id === 0 || this.#keys.has(id)) continue;
      this.#ids.set(key, id);
      this.#keys.set(id, key);
      return id;
    }
  }

  #forgetIds(bound: readonly EndpointBinding[]): void {
    const live = new Set(bound.map((b) => b.id));
    for (const [key, id] of this.#ids) {
      if (live.has(id)) continue;
      this.#ids.delete(key);
      this.#keys.delete(id);
    }
  }
}
