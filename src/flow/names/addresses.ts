/** Finds the owner of an address: the snapshot's pods, nodes and Services, and the pods that had the address before. */
import { changedKeys } from '../../identity/shared-map.js';
import type { Pod, Service, Snapshot } from '../../identity/snapshot.js';
import type { Party } from '../event/types.js';

/** A Party without its address and port. */
export type Who = Omit<Party, 'ip' | 'port'>;

/** Maximum number of addresses of deleted pods that are remembered for events in transit, and for how long. */
const REMEMBERED = 8192;
const GRACE_NS = 30e9;
/** If a flow began this long before an address changed hands, it belongs to the former owner. */
const SETTLED_NS = 10e9;

const NO_LABELS = {};
const WORLD: Who = { kind: 'world', namespace: '', pod: '', labels: NO_LABELS };

interface Former {
  who: Who;
  /** When the change was noticed, CLOCK_MONOTONIC. */
  at: number;
}

/** The owners of addresses, now and recently. */
export class AddressBook {
  #snapshot: Snapshot | undefined;
  /** The snapshot parts that the tables represent. They differ from #snapshot until somebody asks. */
  #pods: Snapshot['pods'] = new Map();
  #nodes: Snapshot['nodes'] | undefined;
  #services: Snapshot['services'] | undefined;
  #ownNode: Snapshot['ownNode'] | undefined;
  #changedAt = 0;
  #podIps = new Map<string, Pod>();
  readonly #nodeIps = new Map<string, Who>();
  readonly #serviceIps = new Map<string, Service[]>();
  readonly #serviceWho = new Map<string, Who>();
  /** By port × 256 + protocol. */
  readonly #nodePorts = new Map<number, Service>();
  readonly #former = new Map<string, Former>();
  /** Whether two pods claim one address: if one is removed, the other must get the address back. */
  #disputed = false;

  /** Sets the snapshot. The tables are updated when somebody asks. @param now nanoseconds of CLOCK_MONOTONIC */
  update(snapshot: Snapshot, now: number): void {
    this.#snapshot = snapshot;
    this.#changedAt = now;
  }

  /** The owner of an address. @param began when the flow began, nanoseconds of CLOCK_MONOTONIC */
  at(ip: string, began: number): Who {
    this.#sync();
    const former = this.#former.size === 0 ? undefined : this.#former.get(ip);
    if (former && began < former.at - SETTLED_NS) return former.who;
    const pod = this.#podIps.get(ip);
    const who = pod ? whoIs(pod) : (this.#nodeIps.get(ip) ?? this.#serviceWho.get(ip));
    if (who) return who;
    return former && began <= former.at + GRACE_NS ? former.who : WORLD;
  }

  /** The Service with this address, or with this node port. @param port 0 if there is none */
  service(ip: string, port: number, protocol: number): Service | undefined {
    this.#sync();
    const services = this.#serviceIps.get(ip);
    if (services) {
      // One address can belong to several Services with different ports.
      return services.find((s) => s.ports.some((p) => p.port === port && p.protocol === protocol)) ?? services[0];
    }
    return this.#nodePorts.size > 0 && this.#nodeIps.has(ip) ? this.#nodePorts.get(port * 256 + protocol) : undefined;
  }

  #sync(): void {
    const s = this.#snapshot;
    if (s === undefined) return;
    this.#snapshot = undefined;
    if (s.pods !== this.#pods) this.#syncPods(s.pods);
    if (s.nodes !== this.#nodes || s.ownNode !== this.#ownNode) this.#syncNodes(s);
    if (s.services !== this.#services) this.#syncServices(s);
  }

  /** Updates only the changed pods, since most pods of a cluster rarely change. */
  #syncPods(pods: Snapshot['pods']): void {
    const before = this.#disputed ? new Map<string, Pod>() : this.#pods;
    const lost = new Map<string, Pod>();
    if (this.#disputed) {
      for (const [ip, pod] of this.#podIps) lost.set(ip, pod);
      this.#podIps = new Map();
      this.#disputed = false;
    }
    const changed = changedKeys(before, pods);
    for (const key of changed) {
      const pod = before.get(key);
      for (const ip of pod ? addresses(pod) : []) {
        const had = this.#podIps.get(ip);
        if (!had) continue;
        lost.set(ip, had);
        this.#podIps.delete(ip);
      }
    }
    for (const key of changed) {
      const pod = pods.get(key);
      if (!pod) continue;
      for (const ip of addresses(pod)) {
        if (this.#podIps.has(ip)) this.#disputed = true;
        this.#podIps.set(ip, pod);
      }
    }
    for (const [ip, pod] of lost) {
      const now = this.#podIps.get(ip);
      if (now && now.name === pod.name && now.namespace === pod.namespace) continue;
      remember(this.#former, ip, { who: whoIs(pod), at: this.#changedAt }, REMEMBERED);
    }
    this.#pods = pods;
  }

  #syncNodes({ nodes, ownNode }: Snapshot): void {
    this.#nodeIps.clear();
    for (const node of nodes.values()) {
      const who = nodeWho(node.name, node.labels);
      for (const ip of node.ips) this.#nodeIps.set(ip, who);
    }
    const own = nodeWho(ownNode.name, nodes.get(ownNode.name)?.labels);
    for (const ip of ownNode.ips) this.#nodeIps.set(ip, own);
    this.#nodes = nodes;
    this.#ownNode = ownNode;
  }

  #syncServices({ services }: Snapshot): void {
    this.#serviceIps.clear();
    this.#serviceWho.clear();
    this.#nodePorts.clear();
    for (const service of services.values()) {
      const who: Who = { kind: 'service', namespace: service.namespace, pod: '', labels: service.labels };
      for (const vip of service.vips) {
        const services = this.#serviceIps.get(vip);
        if (services) services.push(service);
        else this.#serviceIps.set(vip, [service]);
        if (!services) this.#serviceWho.set(vip, who);
      }
      for (const p of service.ports) if (p.nodePort) this.#nodePorts.set(p.nodePort * 256 + p.protocol, service);
    }
    this.#services = services;
  }
}

/**
 * The addresses that a pod owns: hostNetwork pods share those of their node, and the addresses of ended pods may belong
 * to others.
 */
function addresses(pod: Pod): readonly string[] {
  return pod.hostNetwork || pod.ended ? [] : pod.ips;
}

const whos = new WeakMap<Pod, Who>();

/** The names of a pod; the same object for the same pod. Made on demand. */
export function whoIs(pod: Pod): Who {
  let who = whos.get(pod);
  if (!who) whos.set(pod, (who = makeWho(pod)));
  return who;
}

function makeWho(pod: Pod): Who {
  return {
    kind: 'pod',
    namespace: pod.namespace,
    pod: pod.name,
    labels: pod.labels,
    ...(pod.workload ? { workload: pod.workload } : {}),
    ...(pod.nodeName === '' ? {} : { node: pod.nodeName }),
  };
}

/** The names of a node. */
export function nodeWho(name: string, labels: Who['labels'] = NO_LABELS): Who {
  return { kind: 'node', namespace: '', pod: '', labels, node: name };
}

/** Sets an entry in a bounded map: the entry that was set least recently is evicted. */
export function remember<K, V>(map: Map<K, V>, key: K, value: V, most: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > most) map.delete(map.keys().next().value as K);
}
