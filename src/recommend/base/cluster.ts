/** The cluster by the keys that a recommendation asks for: a snapshot that is read a thousand times. */
import type { EdgeParty } from '../../edges/edge.js';
import type { Node, Pod, Service, Snapshot } from '../../identity/snapshot.js';
import { DNS_PORT } from '../../ir/services.js';

export class Cluster {
  readonly snapshot: Snapshot;
  /** Pods of each workload, those that have ended too, by workloadKey(). */
  readonly #pods = new Map<string, Pod[]>();
  readonly #byNamespace = new Map<string, Pod[]>();
  readonly #byAddress = new Map<string, Pod[]>();
  readonly #nodes = new Map<string, Node[]>();
  readonly #services = new Map<string, [string, Service][]>();

  constructor(snapshot: Snapshot) {
    this.snapshot = snapshot;
    const sorted = [...snapshot.pods.values()].sort((a, b) => compare(keyOf(a), keyOf(b)));
    for (const pod of sorted) {
      push(this.#pods, workloadKey(partyOf(pod)), pod);
      push(this.#byNamespace, pod.namespace, pod);
      if (!pod.hostNetwork && !pod.ended) for (const ip of pod.ips) push(this.#byAddress, ip, pod);
    }
    for (const node of [...snapshot.nodes.values()].sort((a, b) => compare(a.name, b.name)))
      for (const ip of node.ips) push(this.#nodes, ip, node);
    for (const entry of [...snapshot.services].sort(([a], [b]) => compare(a, b))) {
      const ips = new Set([...entry[1].vips, ...entry[1].ports.flatMap((p) => p.backends.map((b) => b.ip))]);
      for (const ip of ips) push(this.#services, ip, entry);
    }
  }

  /** The pods of a workload, in the order of their names; those that run first. */
  podsOf(party: EdgeParty): readonly Pod[] {
    return this.#pods.get(workloadKey(party)) ?? [];
  }

  podsIn(namespace: string): readonly Pod[] {
    return this.#byNamespace.get(namespace) ?? [];
  }

  podsAt(ip: string): readonly Pod[] {
    return this.#byAddress.get(ip) ?? [];
  }

  nodesAt(ip: string): readonly Node[] {
    return this.#nodes.get(ip) ?? [];
  }

  /** Services that have this address, or a backend there. */
  servicesAt(ip: string): readonly [string, Service][] {
    return this.#services.get(ip) ?? [];
  }

  /** Every workload that has a pod. */
  workloads(): EdgeParty[] {
    return [...this.#pods.values()].map(([pod]) => partyOf(pod as Pod));
  }

  /** Services of the cluster's DNS: in a namespace of the system, for names, by the names and labels that they have. */
  dnsServices(): [string, Service][] {
    return [...this.snapshot.services]
      .filter(([, service]) => service.ports.some(({ port }) => port === DNS_PORT) && isClusterDns(service))
      .sort(([a], [b]) => compare(a, b));
  }
}

const DNS_NAMES = /^(kube-dns|coredns|.*-coredns|dns-default|kube-dns-upstream|node-local-dns)$/;
const DNS_NAMESPACES: ReadonlySet<string> = new Set(['kube-system', 'openshift-dns']);

function isClusterDns({ namespace, name, labels }: Service): boolean {
  if (!DNS_NAMESPACES.has(namespace)) return false;
  return DNS_NAMES.test(name) || labels['k8s-app'] === 'kube-dns';
}

/** The workload of a pod, as edges name it. */
export function partyOf({ namespace, name, workload }: Pod): EdgeParty {
  return workload
    ? { kind: 'workload', namespace, workloadKind: workload.kind, name: workload.name }
    : { kind: 'workload', namespace, workloadKind: 'Pod', name };
}

export function workloadKey({ namespace, workloadKind, name }: EdgeParty): string {
  return `${namespace}/${workloadKind}/${name}`;
}

export function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
