/**
 * A snapshot with the indices that membership needs, carried from one compilation to the next: an update costs
 * as much as changed, not as much as there is.
 */
import { isDeepStrictEqual } from 'node:util';
import { changedKeys } from '../identity/shared-map.js';
import type { Pod, Service, Snapshot } from '../identity/snapshot.js';

/** What an update found to differ. */
export interface WorldChanges {
  /** `namespace/name` of pods that are another object, or gone. */
  readonly pods: readonly string[];
  /** A namespace is another object, or gone. */
  readonly namespaces: boolean;
  /** Addresses whose pods, or whose pods' namespaces, are not what they were. */
  readonly ips: ReadonlySet<string>;
  /** Nodes, or the addresses of the own one. */
  readonly nodes: boolean;
  /** Services, or namespaces, which they may be selected by. */
  readonly services: boolean;
  /** `name|protocol` of port names, and `@namespace/name` of Services, that now stand for other numbers. */
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

export class World {
  snapshot: Snapshot = EMPTY;
  /** Pods that have addresses of their own, by address: more than one while an address changes hands. */
  private readonly byIp = new Map<string, Pod | readonly Pod[]>();
  private readonly byNamespace = new Map<string, Set<Pod>>();
  /** `name|protocol` → number → the pods that call it so. */
  private readonly byPort = new Map<string, Map<number, Set<Pod>>>();

  /** Takes over a snapshot; what changed is found by comparing it with the last. */
  update(snapshot: Snapshot): WorldChanges {
    const before = this.snapshot;
    this.snapshot = snapshot;
    const ips = new Set<string>();
    const portNames = new Set<string>();
    const pods = changedKeys(before.pods, snapshot.pods);
    for (const key of pods) {
      const [old, now] = [before.pods.get(key), snapshot.pods.get(key)];
      if (old && now && sameForPolicies(old, now)) {
        this.replace(old, now);
        continue;
      }
      if (old) this.remove(old, ips, portNames);
      if (now) this.add(now, ips, portNames);
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
      before.ownNode.ips.join() !== snapshot.ownNode.ips.join();
    const changed = changedKeys(before.services, snapshot.services);
    for (const key of changed) {
      const [old, now] = [before.services.get(key), snapshot.services.get(key)];
      if (JSON.stringify(backendPorts(old)) !== JSON.stringify(backendPorts(now))) portNames.add(`@${key}`);
    }
    const services = namespaces.length > 0 || changed.length > 0;
    return { pods, namespaces: namespaces.length > 0, ips, nodes, services, portNames };
  }

  podsAt(ip: string): readonly Pod[] {
    const there = this.byIp.get(ip);
    if (there === undefined) return [];
    return isOne(there) ? [there] : there;
  }

  podsOf(namespace: string): ReadonlySet<Pod> {
    return this.byNamespace.get(namespace) ?? NO_PODS;
  }

  /** Names of namespaces that have pods with addresses. */
  namespaces(): Iterable<string> {
    return this.byNamespace.keys();
  }

  /** Numbers that pods give to a port name, ascending. */
  portNumbers(name: string, protocol: number): number[] {
    return [...(this.byPort.get(`${name}|${protocol}`)?.keys() ?? [])].sort((a, b) => a - b);
  }

  /** The ports on which something stands behind a Service, in order. @param key `namespace/name` */
  servicePorts(key: string): { protocol: number; port: number }[] {
    return backendPorts(this.snapshot.services.get(key));
  }

  podsWithPort(name: string, protocol: number, number: number): ReadonlySet<Pod> {
    return this.byPort.get(`${name}|${protocol}`)?.get(number) ?? NO_PODS;
  }

  private add(pod: Pod, ips: Set<string>, portNames: Set<string>): void {
    if (!counts(pod)) return;
    for (const ip of pod.ips) {
      const there = this.byIp.get(ip);
      this.byIp.set(ip, there === undefined ? pod : isOne(there) ? [there, pod] : [...there, pod]);
      ips.add(ip);
    }
    let there = this.byNamespace.get(pod.namespace);
    if (!there) this.byNamespace.set(pod.namespace, (there = new Set()));
    there.add(pod);
    for (const { name, protocol, port } of pod.ports) {
      if (name === undefined) continue;
      const key = `${name}|${protocol}`;
      let numbers = this.byPort.get(key);
      if (!numbers) this.byPort.set(key, (numbers = new Map()));
      let pods = numbers.get(port);
      if (!pods) {
        numbers.set(port, (pods = new Set()));
        portNames.add(key);
      }
      pods.add(pod);
    }
  }

  private remove(pod: Pod, ips: Set<string>, portNames: Set<string>): void {
    if (!counts(pod)) return;
    for (const ip of pod.ips) {
      const left = this.podsAt(ip).filter((p) => p !== pod);
      if (left.length > 0) this.byIp.set(ip, left.length === 1 ? (left[0] as Pod) : left);
      else this.byIp.delete(ip);
      ips.add(ip);
    }
    const there = this.byNamespace.get(pod.namespace);
    there?.delete(pod);
    if (there?.size === 0) this.byNamespace.delete(pod.namespace);
    for (const { name, protocol, port } of pod.ports) {
      const key = `${name}|${protocol}`;
      const numbers = this.byPort.get(key);
      const pods = numbers?.get(port);
      if (!numbers || !pods) continue;
      pods.delete(pod);
      if (pods.size > 0) continue;
      numbers.delete(port);
      portNames.add(key);
      if (numbers.size === 0) this.byPort.delete(key);
    }
  }

  /** The same to every policy: only the object is another. */
  private replace(old: Pod, now: Pod): void {
    const nobody = new Set<string>();
    this.remove(old, nobody, nobody);
    this.add(now, nobody, nobody);
  }
}

function backendPorts(service: Service | undefined): { protocol: number; port: number }[] {
  const out = new Map<string, { protocol: number; port: number }>();
  for (const { protocol, backends } of service?.ports ?? [])
    for (const { port } of backends) out.set(`${protocol}/${port}`, { protocol, port });
  return [...out.values()].sort((a, b) => a.protocol - b.protocol || a.port - b.port);
}

/**
 * Whether two snapshots are the same to every policy and Service: what differs are pods that nothing can be sent to, before and
 * after, or what no rule looks at. (Pods of this node matter in other ways too.)
 */
export function sameToPolicies(a: Snapshot, b: Snapshot): boolean {
  const same =
    a.namespaces === b.namespaces &&
    a.nodes === b.nodes &&
    a.services === b.services &&
    a.policies === b.policies &&
    isDeepStrictEqual(a.problems, b.problems) &&
    a.ownNode.name === b.ownNode.name &&
    a.ownNode.ips.join() === b.ownNode.ips.join();
  return same && changedKeys(a.pods, b.pods).every((key) => samePod(a.pods.get(key), b.pods.get(key)));
}

function samePod(a: Pod | undefined, b: Pod | undefined): boolean {
  if (a && b && sameForPolicies(a, b)) return true;
  return !(a && counts(a)) && !(b && counts(b));
}

function isOne(there: Pod | readonly Pod[]): there is Pod {
  return !Array.isArray(there);
}

/** hostNetwork pods have their node's addresses, ended pods none that are still theirs. */
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

/** Addresses of the node that the agent runs on: the Node object's and its interfaces' own. */
export function ownNodeIps(snapshot: Snapshot): Set<string> {
  return new Set([...snapshot.ownNode.ips, ...(snapshot.nodes.get(snapshot.ownNode.name)?.ips ?? [])]);
}
