/** Who an address belongs to: the snapshot's pods, nodes and Services by address, and the pods that had it before. */
import { changedKeys } from '../identity/shared-map.js';
import type { Pod, Service, Snapshot } from '../identity/snapshot.js';
import type { Party } from './types.js';

/** Everything of a Party but its address and port. */
export type Who = Omit<Party, 'ip' | 'port'>;

/** Pods that went away are remembered for events that are still on their way: so many addresses, so long. */
const REMEMBERED = 8192;
const GRACE_NS = 30e9;
/** A flow that began this long before an address changed hands was the former owner's. */
const SETTLED_NS = 10e9;

const NO_LABELS = {};
const WORLD: Who = { kind: 'world', namespace: '', pod: '', labels: NO_LABELS };

interface Former {
  who: Who;
  /** When it was noticed, CLOCK_MONOTONIC. */
  at: number;
}

export class AddressBook {
  #snapshot: Snapshot | undefined;
  /** What the tables are made of; differs from #snapshot until somebody asks. */
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
  /** Two pods claim one address: taking one away must bring the other back. */
  #disputed = false;

  /** Costs nothing until somebody asks. @param now nanoseconds of CLOCK_MONOTONIC */
  update(snapshot: Snapshot, now: number): void {
    this.#snapshot = snapshot;
    this.#changedAt = now;
  }

  /** @param began when the flow began, nanoseconds of CLOCK_MONOTONIC */
  at(ip: string, began: number): Who {
    this.#sync();
    const former = this.#former.size === 0 ? undefined : this.#former.get(ip);
    if (former && began < former.at - SETTLED_NS) return former.who;
    const pod = this.#podIps.get(ip);
    const who = pod ? whoIs(pod) : (this.#nodeIps.get(ip) ?? this.#serviceWho.get(ip));
    if (who) return who;
    return former && began <= former.at + GRACE_NS ? former.who : WORLD;
  }

  /** The Service that an address is one of, or that a node's port leads to. @param port 0 if there is none */
  service(ip: string, port: number, protocol: number): Service | undefined {
    this.#sync();
    const services = this.#serviceIps.get(ip);
    if (services) {
      // One address can serve several Services, told apart by port.
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

  /** Touches what changed alone: most of a cluster's pods stay the same, most of the time. */
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
        const there = this.#serviceIps.get(vip);
        if (there) there.push(service);
        else this.#serviceIps.set(vip, [service]);
        if (!there) this.#serviceWho.set(vip, who);
      }
      for (const p of service.ports) if (p.nodePort) this.#nodePorts.set(p.nodePort * 256 + p.protocol, service);
    }
    this.#services = services;
  }
}

/** hostNetwork pods have their node's addresses, ended pods none that are still theirs. */
function addresses(pod: Pod): readonly string[] {
  return pod.hostNetwork || pod.ended ? [] : pod.ips;
}

const whos = new WeakMap<Pod, Who>();

/** The same value for the same pod: made for those that somebody asks for. */
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

export function nodeWho(name: string, labels: Who['labels'] = NO_LABELS): Who {
  return { kind: 'node', namespace: '', pod: '', labels, node: name };
}

/** Bounded: the one that was set longest ago goes. */
export function remember<K, V>(map: Map<K, V>, key: K, value: V, most: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > most) map.delete(map.keys().next().value as K);
}
