/**
 * Pods → interfaces. A pod is bound by its network namespace and the kernel's own
 * account of who a veth's peer is, never by an interface's name; an endpoint is keyed
 * by the pod's UID and the interface, never by the pod's name.
 */
import { createHash } from 'node:crypto';
import { AgentError, type Problem } from '../src/errors.js';
import type { Pod, Snapshot } from '../src/identity/snapshot.js';
import type { EndpointBinding } from '../src/image/store.js';
import { type Address, IFF_LOOPBACK, type Link, type NetlinkSocket, withNetlink } from './netlink.js';
import { annotationPath, listNamespaces, type Netns, netnsAt, ownNetns } from './netns.js';
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
  /** Pods and uplinks together, as MapStore wants them. */
  readonly all: readonly EndpointBinding[];
  /** Global addresses of the agent's own namespace, canonical and sorted. */
  readonly ownIps: readonly string[];
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
  runDir?: string;
  procDir?: string;
}

/** What one namespace has, as seen from inside. */
interface View {
  readonly ns: Netns;
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  /** The id by which our namespace knows it; undefined: no link leads there. */
  readonly netnsid: number | undefined;
  /** `ours:theirs` indices of our veths whose peers are there: unchanged, the view holds. */
  readonly pairs: readonly string[];
}

/** The agent's side of the world during one resolve(). */
interface Own {
  readonly nl: NetlinkSocket;
  readonly ns: Netns;
  /** By index. */
  readonly links: ReadonlyMap<number, Link>;
  /** Our veths by the namespace id of their peers. */
  readonly veths: ReadonlyMap<number, readonly Link[]>;
}

function pairsOf(own: Own, netnsid: number | undefined): string[] {
  const veths = netnsid === undefined ? [] : (own.veths.get(netnsid) ?? []);
  return veths.map((l) => `${l.ifindex}:${l.iflink}`);
}

/** Local: on this node or on none, with a network of its own, and still running. */
export function isLocalPod(pod: Pod, nodeName: string): boolean {
  return (pod.nodeName === nodeName || pod.nodeName === '') && !pod.hostNetwork && !pod.ended;
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
  /** By UID: what bound the pod, where nothing in its namespace that can still change matters. */
  #settled: ReadonlyMap<string, View> = new Map();
  /** `uid/ifindex` → id, and back. */
  readonly #ids = new Map<string, number>();
  readonly #keys = new Map<number, string>();

  constructor(opts: ResolverOptions) {
    this.#opts = opts;
  }

  /** Throws KERNEL where the agent's own namespace cannot be read; a pod's fault is a Problem. */
  resolve(snapshot: Snapshot): Bindings {
    return withNetlink(undefined, (nl) => {
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
      const pods = this.#pods(snapshot, own, problems, unbound);
      const uplinks = found.uplinks.map((l) => this.#uplink(l));
      this.#forgetIds([...pods, ...uplinks]);
      const ownIps = ownAddresses(addresses, links);
      return { pods, uplinks, all: [...pods, ...uplinks], ownIps, unbound, problems };
    });
  }

  #pods(snapshot: Snapshot, own: Own, problems: Problem[], unbound: Set<string>): PodBinding[] {
    const scan = new Scan(own, this.#opts, this.#settled.values());
    const out: PodBinding[] = [];
    const taken = new Map<number, PodBinding>();
    const settled = new Map<string, View>();
    const local = [...snapshot.pods.values()].filter((p) => isLocalPod(p, this.#opts.nodeName));
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

  #uplink(link: Link): EndpointBinding {
    return {
      key: `node/${link.name}`,
      uid: `node:${this.#opts.nodeName}`,
      ifindex: link.ifindex,
      ifname: link.name,
      id: this.#id(`node:${this.#opts.nodeName}/${link.ifindex}`),
      mac: '',
      ips: [],
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

/** The namespaces at the other ends of our veths, looked into at most once, and not if it is known what is there. */
class Scan {
  readonly #own: Own;
  readonly #opts: ResolverOptions;
  readonly #views = new Map<string, View | AgentError>();
  #all: Map<string, View[]> | undefined;

  constructor(own: Own, opts: ResolverOptions, known: Iterable<View>) {
    this.#own = own;
    this.#opts = opts;
    for (const view of known) if (this.holds(view)) this.#views.set(view.ns.id, view);
  }

  /**
   * Whether the same veths still lead to the same namespace. Sure, although an inode
   * and a namespace's id may be used again: an index of ours is not.
   */
  holds(view: View): boolean {
    return view.pairs.length > 0 && pairsOf(this.#own, view.netnsid).join() === view.pairs.join();
  }

  /** Throws KERNEL or NETNS where the namespace cannot be entered or has gone meanwhile. */
  view(ns: Netns): View {
    const known = this.#views.get(ns.id);
    if (known instanceof AgentError) throw known;
    if (known) return known;
    try {
      const view = withNetlink(ns.path, (nl, nsFd): View => {
        const netnsid = this.#own.nl.netnsid(nsFd as number);
        return { ns, netnsid, pairs: pairsOf(this.#own, netnsid), links: nl.links(), addresses: nl.addresses() };
      });
      this.#views.set(ns.id, view);
      return view;
    } catch (e) {
      const error = e instanceof AgentError ? e : new AgentError('NETNS', `${ns.path}: ${(e as Error).message}`);
      this.#views.set(ns.id, error);
      throw error;
    }
  }

  /** The namespaces, each once, in which one of the addresses is. */
  owners(ips: readonly string[]): View[] {
    this.#all ??= this.#index();
    const out = new Set<View>();
    for (const ip of ips) for (const view of this.#all.get(ip) ?? []) out.add(view);
    return [...out];
  }

  #index(): Map<string, View[]> {
    const index = new Map<string, View[]>();
    for (const ns of listNamespaces({ runDir: this.#opts.runDir, procDir: this.#opts.procDir })) {
      if (ns.id === this.#own.ns.id) continue;
      let view: View;
      try {
        view = this.view(ns);
      } catch {
        continue; // Of no pod that we know of, or gone meanwhile.
      }
      if (view.pairs.length === 0) continue;
      for (const a of view.addresses) {
        const list = index.get(a.address);
        if (!list) index.set(a.address, [view]);
        else if (!list.includes(view)) list.push(view);
      }
    }
    return index;
  }
}
