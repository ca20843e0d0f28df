/**
 * A snapshot with indices for membership. It is carried from one compilation to the next, so an update costs as much as
 * it changes.
 */
import { isDeepStrictEqual } from 'node:util';
import { changedKeys } from '../../identity/shared-map.js';
import type { Pod, Service, Snapshot } from '../../identity/snapshot.js';

/** The differences that an update found. */
export interface WorldChanges {
  /** `namespace/name` of pods that changed or are gone. */
  readonly pods: readonly string[];
  /** Whether a namespace changed or is gone. */
  readonly namespaces: boolean;
  /** Addresses whose pods, or whose pods' namespaces, changed. */
  readonly ips: ReadonlySet<string>;
  /** Whether nodes or the addresses of the own node changed. */
  readonly nodes: boolean;
  /** Whether Services changed, or namespaces, by which Services may be selected. */
  readonly services: boolean;
  /** `name|protocol` of port names, and `@namespace/name` of Services, whose port numbers changed. */
  readonly portNames: ReadonlySet<string>;
}

const EMPTY: Snapshot = {
  pods: new Map(),
  namespaces: new Map(),
  nodes: new Map(),
  services: new Map(),
  policies: [],
  ownNode: { name: '', ips: [] },
  problems: [],
};

const NO_PODS: ReadonlySet<Pod> = new Set();

/** The snapshot with its indices. */
export class World {
  snapshot: Snapshot = EMPTY;
  /**
   * Pods with an address of their own, by address. There may be several while an address passes from one pod to
   * another.
   */
  readonly #byIp = new Map<string, Pod | readonly Pod[]>();
  readonly #byNamespace = new Map<string, Set<Pod>>();
  /** `name|protocol` → number → the pods that give this port that name. */
  readonly #byPort = new Map<string, Map<number, Set<Pod>>>();

  /** Updates to a snapshot, and finds the changes by comparing it with the previous one. */
  update(snapshot: Snapshot): WorldChanges {
    const before = this.snapshot;
    this.snapshot = snapshot;
    const ips = new Set<string>();
    const portNames = new Set<string>();
    const pods = changedKeys(before.pods, snapshot.pods);
    for (const key of pods) {
      const [old, now] = [before.pods.get(key), snapshot.pods.get(key)];
      if (old && now && sameForPolicies(old, now)) {
        this.#replace(old, now);
        continue;
      }
      if (old) this.#remove(old, ips, portNames);
      if (now) this.#add(now, ips, portNames);
    }
    const namespaces = changedKeys(before.namespaces, snapshot.namespaces);
    for (const name of namespaces) {
      const [old, now] = [before.namespaces.get(name), snapshot.namespaces.get(name)];
      if (old && now && sameRecord(old.labels, now.labels)) continue;
      for (const pod of this.podsOf(name)) for (const ip of pod.ips) ips.add(ip);
    }
    const nodes =
      changedKeys(before.nodes, snapshot.nodes).length > 0 ||
      before.ownNode.name !== snapshot.ownNode.name ||
      addressesOf(before.ownNode) !== addressesOf(snapshot.ownNode);
    const changed = changedKeys(before.services, snapshot.services);
    for (const key of changed) {
      const [old, now] = [before.services.get(key), snapshot.services.get(key)];
      if (JSON.stringify(backendPorts(old)) !== JSON.stringify(backendPorts(now))) portNames.add(`@${key}`);
    }
    const services = namespaces.length > 0 || changed.length > 0;
    return { pods, namespaces: namespaces.length > 0, ips, nodes, services, portNames };
  }

  podsAt(ip: string): readonly Pod[] {
    const entry = this.#byIp.get(ip);
    if (entry === undefined) return [];
    return isOne(entry) ? [entry] : entry;
  }

  podsOf(namespace: string): ReadonlySet<Pod> {
    return this.#byNamespace.get(namespace) ?? NO_PODS;
  }

  /** Names of the namespaces that have pods with addresses. */
  namespaces(): Iterable<string> {
    return this.#byNamespace.keys();
  }

  /** The numbers that pods give to a port name, ascending. */
  portNumbers(name: string, protocol: number): number[] {
    return [...(this.#byPort.get(`${name}|${protocol}`)?.keys() ?? [])].sort((a, b) => a - b);
  }

  /** The ports on which a Service has backends, in order. @param key `namespace/name` */
  servicePorts(key: string): { protocol: number; port: number }[] {
    return backendPorts(this.snapshot.services.get(key));
  }

  podsWithPort(name: string, protocol: number, number: number): ReadonlySet<Pod> {
    return this.#byPort.get(`${name}|${protocol}`)?.get(number) ?? NO_PODS;
  }

  #add(pod: Pod, ips: Set<string>, portNames: Set<string>): void {
    if (!counts(pod)) return;
    for (const ip of pod.ips) {
      const entry = this.#byIp.get(ip);
      this.#byIp.set(ip, entry === undefined ? pod : isOne(entry) ? [entry, pod] : [...entry, pod]);
      ips.add(ip);
    }
    let pods = this.#byNamespace.get(pod.namespace);
    if (!pods) this.#byNamespace.set(pod.namespace, (pods = new Set()));
    pods.add(pod);
    for (const { name, protocol, port } of pod.ports) {
      if (name === undefined) continue;
      const key = `${name}|${protocol}`;
      let numbers = this.#byPort.get(key);
      if (!numbers) this.#byPort.set(key, (numbers = new Map()));
      let pods = numbers.get(port);
      if (!pods) {
        numbers.set(port, (pods = new Set()));
        portNames.add(key);
      }
      pods.add(pod);
    }
  }

  #remove(pod: Pod, ips: Set<string>, portNames: Set<string>): void {
    if (!counts(pod)) return;
    for (const ip of pod.ips) {
      const remaining = this.podsAt(ip).filter((p) => p !== pod);
      if (remaining.length > 0) this.#byIp.set(ip, remaining.length === 1 ? (remaining[0] as Pod) : remaining);
      else this.#byIp.delete(ip);
      ips.add(ip);
    }
    const pods = this.#byNamespace.get(pod.namespace);
    pods?.delete(pod);
    if (pods?.size === 0) this.#byNamespace.delete(pod.namespace);
    for (const { name, protocol, port } of pod.ports) {
      const key = `${name}|${protocol}`;
      const numbers = this.#byPort.get(key);
      const pods = numbers?.get(port);
      if (!numbers || !pods) continue;
      pods.delete(pod);
      if (pods.size > 0) continue;
      numbers.delete(port);
      portNames.add(key);
      if (numbers.size === 0) this.#byPort.delete(key);
    }
  }

  /** Replaces a pod object by another one that is equal to all policies. */
  #replace(old: Pod, now: Pod): void {
    const nobody = new Set<string>();
    this.#remove(old, nobody, nobody);
    this.#add(now, nobody, nobody);
  }
}

function backendPorts(service: Service | undefined): { protocol: number; port: number }[] {
  const out = new Map<string, { protocol: number; port: number }>();
  for (const { protocol, backends } of service?.ports ?? [])
    for (const { port } of backends) out.set(`${protocol}/${port}`, { protocol, port });
  return [...out.values()].sort((a, b) => a.protocol - b.protocol || a.port - b.port);
}

/**
 * Whether two snapshots are equal to all policies and Services. They may differ in pods that cannot receive packets,
 * before and after, and in properties that no rule reads. (For pods of this node, other differences matter too.)
 */
export function sameToPolicies(a: Snapshot, b: Snapshot): boolean {
  const same =
    a.namespaces === b.namespaces &&
    a.nodes === b.nodes &&
    a.services === b.services &&
    a.policies === b.policies &&
    a.tunnels === b.tunnels &&
    isDeepStrictEqual(a.problems, b.problems) &&
    a.ownNode.name === b.ownNode.name &&
    addressesOf(a.ownNode) === addressesOf(b.ownNode);
  return same && changedKeys(a.pods, b.pods).every((key) => samePod(a.pods.get(key), b.pods.get(key)));
}

function addressesOf({ ips, broadcasts = [], dns = [], beside = [] }: Snapshot['ownNode']): string {
  return [ips, broadcasts, dns, beside].map((list) => list.join()).join(' ');
}

function samePod(a: Pod | undefined, b: Pod | undefined): boolean {
  if (a && b && sameForPolicies(a, b)) return true;
  return !(a && counts(a)) && !(b && counts(b));
}

function isOne(pods: Pod | readonly Pod[]): pods is Pod {
  return !Array.isArray(pods);
}

/**
 * Whether a pod has an address of its own. hostNetwork pods share that of their node; the addresses of ended pods may
 * belong to others.
 */
function counts(pod: Pod): boolean {
  return !pod.hostNetwork && !pod.ended && pod.ips.length > 0;
}

function sameForPolicies(a: Pod, b: Pod): boolean {
  return (
    a.namespace === b.namespace &&
    counts(a) === counts(b) &&
    a.serviceAccount === b.serviceAccount &&
    a.nodeName === b.nodeName &&
    a.ips.join() === b.ips.join() &&
    sameRecord(a.labels, b.labels) &&
    JSON.stringify(a.ports) === JSON.stringify(b.ports)
  );
}

function sameRecord(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  if (a === b) return true;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((k) => Object.hasOwn(b, k) && a[k] === b[k]);
}

/** Addresses of the agent's node: those of the Node object and of its interfaces. */
export function ownNodeIps(snapshot: Snapshot): Set<string> {
  return new Set([...snapshot.ownNode.ips, ...(snapshot.nodes.get(snapshot.ownNode.name)?.ips ?? [])]);
}
