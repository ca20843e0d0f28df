/** The cluster of the web UI's bench: workloads, policies of every language, and who talks to whom. */
import { LEDGER_EDGES } from '../../src/edges/ledger.js';
import { buildSnapshot } from '../../src/identity/builder.js';
import type { ParsedObject } from '../../src/identity/fields.js';
import type { Snapshot } from '../../src/identity/snapshot.js';

export const NODE = 'n0';
const [NAMESPACES, WORKLOADS, REPLICAS, NODES] = [40, 1000, 2, 30];
const PER_NAMESPACE = WORKLOADS / NAMESPACES;
/** What a workload does; each namespace has some of each. */
const TIERS = ['web', 'api', 'data', 'batch', 'cache'] as const;
const TEAMS = ['shop', 'pay', 'ship', 'mail', 'data', 'risk', 'auth', 'blog'];
const DNS_VIP = '10.96.0.10';

/** A connection that somebody makes again and again. */
export interface Talk {
  /** `namespace/name` of the pod that opens it. */
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly protocol: number;
  /** The name under which the pod has learned the address. */
  readonly name?: string;
}

const namespaceOf = (n: number) => `${TEAMS[n % TEAMS.length]}-${Math.floor(n / TEAMS.length)}`;
const tierOf = (n: number) => TIERS[Math.floor(n / NAMESPACES) % TIERS.length] as (typeof TIERS)[number];
const workload = (n: number) => ({
  namespace: namespaceOf(n % NAMESPACES),
  name: `${tierOf(n)}-${Math.floor(n / NAMESPACES)}`,
});
const podName = (n: number, replica: number) => `${workload(n).name}-6d4b8c7f9d-x${replica}${n}`;
const ipOf = (n: number, replica: number) => `10.${200 + replica}.${n >> 8}.${n & 255}`;
const vipOf = (n: number) => `10.96.${1 + (n >> 8)}.${n & 255}`;
const resolver = (n: number) => `10.210.0.${n + 1}`;

/** Of pods: `namespace/name`, one for each workload. */
export function senders(): string[] {
  return Array.from({ length: WORKLOADS }, (_, n) => `${workload(n).namespace}/${podName(n, 0)}`);
}

export function clusterSnapshot(): Snapshot {
  const all = objects().map((object) => ({ object: object as ParsedObject['object'], where: {} }));
  return buildSnapshot(all, { nodeName: NODE, ownNodeIps: [] });
}

function meta(name: string, namespace?: string, labels: Record<string, string> = {}): object {
  return { name, ...(namespace === undefined ? {} : { namespace }), labels };
}

function objects(): object[] {
  const all: object[] = [];
  for (let n = 0; n < NODES; n++) {
    const addresses = [{ type: 'InternalIP', address: `172.16.0.${n + 1}` }];
    all.push({ apiVersion: 'v1', kind: 'Node', metadata: { name: `n${n}` }, status: { addresses } });
  }
  for (const name of ['kube-system', ...Array.from({ length: NAMESPACES }, (_, n) => namespaceOf(n))])
    all.push({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: meta(name, undefined, { team: name.split('-')[0] ?? '' }),
    });
  for (let n = 0; n < WORKLOADS; n++) {
    const { namespace, name } = workload(n);
    const pods = Array.from({ length: REPLICAS }, (_, r) =>
      pod(namespace, podName(n, r), name, tierOf(n), ipOf(n, r), n + r),
    );
    const ips = Array.from({ length: REPLICAS }, (_, r) => ipOf(n, r));
    all.push(...pods, ...service(namespace, name, vipOf(n), [['TCP', 80, 8080]], ips));
  }
  const dns = [resolver(0), resolver(1)];
  dns.forEach((ip, n) => {
    all.push(pod('kube-system', `coredns-6d4b8c7f9d-x${n}`, 'coredns', 'dns', ip, n, { 'k8s-app': 'kube-dns' }));
  });
  all.push(
    ...service(
      'kube-system',
      'kube-dns',
      DNS_VIP,
      [
        ['UDP', 53, 53],
        ['TCP', 53, 53],
      ],
      dns,
    ),
  );
  for (let n = 0; n < NAMESPACES; n++) all.push(...policiesOf(namespaceOf(n), namespaceOf((n + 1) % NAMESPACES), n));
  for (let n = 0; n < 10; n++) all.push(...clusterPolicies(n));
  all.push({
    apiVersion: 'projectcalico.org/v3',
    kind: 'Tier',
    metadata: { name: 'security' },
    spec: { order: 100, defaultAction: 'Pass' },
  });
  return all;
}

function pod(namespace: string, name: string, app: string, tier: string, ip: string, node: number, more = {}): object {
  const hash = { 'pod-template-hash': '6d4b8c7f9d' };
  const ownerReferences = [{ kind: 'ReplicaSet', name: `${app}-6d4b8c7f9d`, controller: true }];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...meta(name, namespace, { app, tier, ...hash, ...more }),
      uid: `uid-${namespace}-${name}`,
      ownerReferences,
    },
    spec: { nodeName: `n${node % NODES}`, containers: [] },
    status: { phase: 'Running', podIPs: [{ ip }] },
  };
}

type ServicePorts = readonly (readonly [protocol: string, port: number, target: number])[];

function service(namespace: string, name: string, vip: string, ports: ServicePorts, ips: readonly string[]): object[] {
  const named = ports.map(([protocol, port, target], n) => ({ name: `p${n}`, protocol, port, target }));
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: meta(`${name}-1`, namespace, { 'kubernetes.io/service-name': name }),
    addressType: 'IPv4',
    ports: named.map(({ name, protocol, target: port }) => ({ name, protocol, port })),
    endpoints: ips.map((ip) => ({ addresses: [ip], conditions: { ready: true } })),
  };
  const spec = {
    clusterIP: vip,
    clusterIPs: [vip],
    ports: named.map(({ target: targetPort, ...p }) => ({ ...p, targetPort })),
  };
  return [{ apiVersion: 'v1', kind: 'Service', metadata: meta(name, namespace), spec }, slice];
}

/** Seven of each namespace. */
function policiesOf(namespace: string, next: string, n: number): object[] {
  const np = (name: string, podSelector: object, egress: object[]) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace },
    spec: { podSelector, policyTypes: ['Egress'], egress },
  });
  const tier = (name: string) => ({ matchLabels: { tier: name } });
  const inside = (name: string) => ({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } } });
  const tcp = (port: number) => [{ protocol: 'TCP', port }];
  const dns = [
    { protocol: 'UDP', port: 53 },
    { protocol: 'TCP', port: 53 },
  ];
  return [
    np('own-namespace', {}, [{ to: [{ podSelector: {} }] }]),
    np('dns', {}, [
      { to: [{ ...inside('kube-system'), podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } } }], ports: dns },
    ]),
    np('neighbours', tier('api'), [{ to: [{ ...inside(next), podSelector: tier('data') }], ports: tcp(8080) }]),
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { name: 'partners', namespace },
      spec: {
        endpointSelector: tier('web'),
        egress: [
          {
            toFQDNs: [{ matchPattern: '*.partner.example.com' }],
            toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }],
          },
        ],
        egressDeny: [{ toCIDR: [`198.51.100.${n}/32`] }],
      },
    },
    {
      apiVersion: 'projectcalico.org/v3',
      kind: 'NetworkPolicy',
      metadata: { name: 'default.networks', namespace },
      spec: {
        order: 10,
        selector: "tier in {'api', 'batch'}",
        types: ['Egress'],
        egress: [
          { action: 'Log', protocol: 'TCP', destination: { nets: ['203.0.113.128/25'] } },
          { action: 'Allow', protocol: 'TCP', destination: { nets: ['203.0.113.0/24'], ports: [443] } },
        ],
      },
    },
    {
      apiVersion: 'networking.gke.io/v1alpha1',
      kind: 'FQDNNetworkPolicy',
      metadata: { name: 'registries', namespace },
      spec: {
        podSelector: tier('batch'),
        egress: [{ matches: [{ pattern: '*.registry.example.net' }], ports: tcp(443) }],
      },
    },
    {
      apiVersion: 'projectcalico.org/v3',
      kind: 'StagedNetworkPolicy',
      metadata: { name: 'default.no-cache', namespace },
      spec: {
        order: 5,
        selector: "tier in {'data', 'batch'}",
        types: ['Egress'],
        egress: [{ action: 'Deny', protocol: 'TCP', destination: { selector: "tier == 'cache'" } }],
      },
    },
  ];
}

/** Two of ten. */
function clusterPolicies(n: number): object[] {
  return [
    {
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
      kind: 'ClusterNetworkPolicy',
      metadata: { name: `admin-${n}` },
      spec: {
        tier: n < 8 ? 'Admin' : 'Baseline',
        priority: 10 + n,
        subject: { namespaces: {} },
        egress: [{ name: `network ${n}`, action: 'Deny', to: [{ networks: [`192.0.2.${n}/32`] }] }],
      },
    },
    {
      apiVersion: 'projectcalico.org/v3',
      kind: 'GlobalNetworkPolicy',
      metadata: { name: `security.rule-${n}` },
      spec: {
        tier: 'security',
        order: n,
        selector: `tier == '${TIERS[n % TIERS.length]}'`,
        types: ['Egress'],
        egress: [
          { action: 'Deny', protocol: 'TCP', destination: { nets: [`198.18.${n}.0/24`], ports: [25] } },
          { action: 'Pass' },
        ],
      },
    },
  ];
}

/** So many different connections, spread over all workloads. The same each time. @param count at most what a ledger holds */
export function talks(count: number): Talk[] {
  if (count > LEDGER_EDGES) throw new Error(`${count} edges: ${LEDGER_EDGES} at most`);
  const random = sequence(7);
  const below = (n: number) => Math.floor(random() * n);
  const froms = senders();
  const out = new Map<string, Talk>();
  for (let n = 0; out.size < count; n++) {
    const source = n % WORKLOADS;
    const talk: Talk = {
      from: froms[source] as string,
      ...whereTo(source, out.size < WORKLOADS ? 5 : below(6), below),
    };
    out.set(`${talk.from} ${talk.to} ${talk.port}`, talk);
  }
  return [...out.values()];
}

/** A destination of one kind. */
function whereTo(source: number, kind: number, below: (n: number) => number): Omit<Talk, 'from'> {
  const tcp = { protocol: 6 };
  switch (kind) {
    case 0: // through a Service of the same namespace
      return { ...tcp, to: vipOf((source + NAMESPACES * (1 + below(PER_NAMESPACE - 1))) % WORKLOADS), port: 80 };
    case 1: // a pod of the next namespace
      return { ...tcp, to: ipOf((source + 1 + NAMESPACES * below(PER_NAMESPACE)) % WORKLOADS, 0), port: 8080 };
    case 2: {
      const n = below(120);
      const name = n % 3 === 0 ? `p${n}.registry.example.net` : `api-${n}.partner.example.com`;
      return { ...tcp, to: `203.0.114.${n}`, port: 443, name };
    }
    case 3:
      return { ...tcp, to: `203.0.113.${below(256)}`, port: 443 };
    case 4: // mostly denied
      return { ...tcp, to: `198.18.${below(10)}.${below(8)}`, port: [25, 80, 443][below(3)] as number };
    default:
      return { to: DNS_VIP, port: 53, protocol: 17 };
  }
}

/** Numbers from 0 to 1 that are the same each time. */
export function sequence(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
