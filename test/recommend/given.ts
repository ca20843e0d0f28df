/** A small cluster for tests of recommendations, and the evidence of its workloads. */
import type { EdgeHistory, EdgeParty } from '../../src/edges/edge.js';
import type { Namespace, Node, Pod, RawPolicy, Service, Snapshot } from '../../src/identity/snapshot.js';
import { policiesIn } from '../../src/convert/text.js';
import { recommend } from '../../src/recommend/index.js';
import type { RecommendOptions, WorkloadRecommendation } from '../../src/recommend/base/types.js';
import { A_DAY, makeDay, makeEdge } from '../edges/given.js';

export { A_DAY };

export const OPTIONS: RecommendOptions = {
  language: 'networkpolicy',
  minDays: 2,
  holdOut: 0.3,
  networks: [],
  ranges: [],
  clusterCidrs: [],
  withDenied: false,
  resolvers: [],
};

export interface GivenWorkload {
  /** `shop/web` */
  readonly name: string;
  readonly kind?: string;
  readonly labels?: Record<string, string>;
  readonly ips?: readonly string[];
  readonly ended?: boolean;
  readonly hostNetwork?: boolean;
  readonly nodeName?: string;
  /** Labels of pod n, beyond. */
  readonly own?: (n: number) => Record<string, string>;
}

export interface GivenService {
  readonly name: string;
  readonly vip?: string;
  readonly port: number;
  readonly protocol?: number;
  readonly labels?: Record<string, string>;
  readonly backends: readonly (readonly [ip: string, port: number])[];
}

export interface Given {
  readonly workloads: readonly GivenWorkload[];
  readonly services?: readonly GivenService[];
  readonly nodes?: readonly Node[];
  readonly policies?: string;
  readonly namespaces?: readonly Namespace[];
  readonly dns?: readonly string[];
}

/** DNS as kubeadm has it: the Service kube-dns in front of the Deployment coredns. */
export const DNS: GivenWorkload = {
  name: 'kube-system/coredns',
  labels: { 'k8s-app': 'kube-dns' },
  ips: ['10.0.9.1', '10.0.9.2'],
};
export const DNS_SERVICE: GivenService = {
  name: 'kube-system/kube-dns',
  vip: '10.96.0.10',
  port: 53,
  protocol: 17,
  labels: { 'k8s-app': 'kube-dns' },
  backends: [
    ['10.0.9.1', 53],
    ['10.0.9.2', 53],
  ],
};

export function snapshotOf(given: Given): Snapshot {
  const pods = new Map<string, Pod>();
  const namespaces = new Map<string, Namespace>();
  for (const one of [...given.workloads, DNS]) {
    const [namespace, name] = one.name.split('/') as [string, string];
    namespaces.set(namespace, {
      name: namespace,
      labels: { 'kubernetes.io/metadata.name': namespace },
      annotations: {},
      terminating: false,
    });
    const kind = one.kind ?? 'Deployment';
    (one.ips ?? []).forEach((ip, n) => {
      const pod = kind === 'Pod' ? name : `${name}-${n}`;
      pods.set(`${namespace}/${pod}`, {
        ...{ uid: `${one.name}-${n}`, namespace, name: pod, annotations: {}, serviceAccount: 'default', ports: [] },
        labels: { ...(one.labels ?? { app: name }), ...one.own?.(n) },
        ips: one.ended ? [] : [ip],
        nodeName: one.nodeName ?? '',
        hostNetwork: one.hostNetwork ?? false,
        ended: one.ended ?? false,
        ...(kind === 'Pod' ? {} : { workload: { kind, name } }),
      });
    });
  }
  for (const namespace of given.namespaces ?? []) namespaces.set(namespace.name, namespace);
  const services = new Map<string, Service>();
  for (const one of [...(given.services ?? []), DNS_SERVICE]) {
    const [namespace, name] = one.name.split('/') as [string, string];
    const backends = one.backends.map(([ip, port]) => ({ ip, port }));
    const ports = [{ protocol: one.protocol ?? 6, port: one.port, backends }];
    if (one === DNS_SERVICE) ports.push({ protocol: 6, port: 53, backends });
    services.set(one.name, { namespace, name, labels: one.labels ?? {}, vips: one.vip ? [one.vip] : [], ports });
  }
  const policies: readonly RawPolicy[] = given.policies === undefined ? [] : policiesIn(given.policies).policies;
  return {
    ...{ pods, namespaces, services, policies, problems: [] },
    nodes: new Map((given.nodes ?? []).map((node) => [node.name, node])),
    ownNode: { name: '', ips: [], ...(given.dns ? { dns: given.dns } : {}) },
  };
}

export function party(name: string, workloadKind = 'Deployment'): EdgeParty {
  const [namespace, own] = name.split('/') as [string, string];
  return { kind: 'workload', namespace, workloadKind, name: own };
}

export const WEB = party('shop/web');

/** Days from the first of the window, each with so many connections. */
export function on(days: readonly number[], connections = 10, bytes = 10_000): EdgeHistory['days'] {
  return days.map((day) => makeDay(A_DAY + day, { connections, bytes }));
}

export const MONTH = Array.from({ length: 30 }, (_, n) => n);

/** What web sends, each day of a month unless told otherwise. */
export function seen(given: Parameters<typeof makeEdge>[0], days = on(MONTH)): EdgeHistory {
  return { edge: makeEdge({ source: WEB, ...given }), days };
}

/** The recommendation for one workload. */
export function forOne(
  histories: readonly EdgeHistory[],
  given: Given,
  options: Partial<RecommendOptions> = {},
  workload = 'shop/web',
): WorkloadRecommendation {
  const all = recommend(histories, snapshotOf(given), { ...OPTIONS, workloads: [workload], ...options });
  const [one, ...more] = all.workloads;
  if (!one || more.length > 0) throw new Error(`${all.workloads.length} workloads`);
  return one;
}
