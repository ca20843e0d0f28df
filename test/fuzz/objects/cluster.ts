/** Random namespaces, nodes, pods, Services and what stands behind them, one object at a time. */
import type { Random } from '../random.js';
import { ACCOUNTS, APPS, type Manifest, NODE_IPS, NODES, POD_IPS4, POD_IPS6, VIPS4, VIPS6 } from './names.js';

export const ENFORCEMENT = 'egress-agent.io/enforcement';

export function namespace(r: Random, name: string): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name,
      labels: {
        ...(r.chance(85) ? { env: r.pick(['prod', 'test']) } : {}),
        ...(r.chance(30) ? { team: r.pick(['a', 'b']) } : {}),
      },
      ...(r.chance(7) ? { annotations: { [ENFORCEMENT]: 'audit' } } : {}),
    },
    ...(r.chance(4) ? { status: { phase: 'Terminating' } } : {}),
  };
}

/** Its labels are what Calico's selectors may ask for. */
export function account(r: Random, key: string): Manifest {
  const [space, name] = key.split('/') as [string, string];
  const labels = r.chance(75) ? { team: r.pick(['a', 'b']) } : {};
  return { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: space, labels } };
}

export function node(r: Random, name: string): Manifest {
  const own = NODE_IPS[NODES.indexOf(name as (typeof NODES)[number])] as string;
  const ips = [...new Set([r.chance(90) ? own : r.pick(NODE_IPS), ...r.some(NODE_IPS, 2)])];
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { zone: r.pick(['z1', 'z2']), ...(r.chance(60) ? { role: r.pick(['a', 'b']) } : {}) } },
    status: { addresses: ips.map((address) => ({ type: r.pick(['InternalIP', 'ExternalIP']), address })) },
  };
}

/** Dual stack, IPv4 or IPv6 alone; ports with names; now and then in the host's network, ended, or sharing an address. */
export function pod(r: Random, key: string, uid: string): Manifest {
  const [space, name] = key.split('/') as [string, string];
  const n = (key.charCodeAt(key.length - 1) + space.length) % POD_IPS4.length;
  const v4 = r.chance(88) ? (POD_IPS4[n] as string) : r.pick(POD_IPS4);
  const v6 = r.pick(POD_IPS6);
  const ips = r.chance(4) ? [] : r.pick([[v4], [v4], [v4, v6], [v4, v6], [v6]]);
  const ports = [
    ...(r.chance(65) ? [{ name: 'http', containerPort: r.pick([80, 81, 8080]) }] : []),
    ...(r.chance(40)
      ? [{ name: 'dns', containerPort: r.pick([53, 5353]), protocol: r.pick(['UDP', 'UDP', 'TCP']) }]
      : []),
    ...(r.chance(15) ? [{ name: 'http', containerPort: 443, protocol: 'SCTP' }] : []),
  ];
  const labels = {
    ...(r.chance(85) ? { app: r.pick(APPS) } : {}),
    ...(r.chance(25) ? { tier: r.pick(['x', 'y']) } : {}),
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: space, uid, labels },
    spec: {
      nodeName: r.chance(75) ? NODES[0] : r.pick(NODES),
      serviceAccountName: r.pick(ACCOUNTS),
      ...(r.chance(6) ? { hostNetwork: true } : {}),
      containers: [{ name: 'c', ports }],
    },
    status: { phase: r.chance(4) ? 'Succeeded' : 'Running', podIPs: ips.map((ip) => ({ ip })) },
  };
}

export function service(r: Random, key: string): Manifest {
  const [space, name] = key.split('/') as [string, string];
  const v4 = r.pick(VIPS4);
  const clusterIPs = r.pick([[v4], [v4], [v4, r.pick(VIPS6)], ['None']]);
  const protocol = r.pick(['TCP', 'TCP', 'UDP', 'UDP', 'SCTP']);
  const ports = [
    { name: 'one', port: r.pick([80, 81, 443]), protocol, ...(r.chance(35) ? { nodePort: 30080 + r.below(2) } : {}) },
    ...(r.chance(30) ? [{ name: 'two', port: 8443, protocol: 'TCP' }] : []),
  ];
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: space, labels: r.chance(60) ? { kind: r.pick(['in', 'out']) } : {} },
    spec: { clusterIPs, ports, ...(r.chance(10) ? { externalIPs: ['192.0.2.201'] } : {}) },
  };
}

/** Backends in the cluster and beyond it, some of which policies allow. */
export function slice(r: Random, key: string): Manifest {
  const [space, name] = key.split('/') as [string, string];
  const v6 = name.endsWith('v6');
  const ips = v6
    ? [...POD_IPS6, '2001:db8:2::9', 'fd00:1::1']
    : [...POD_IPS4, '192.0.2.130', '198.51.100.7', '192.168.0.2'];
  const endpoints = r.some(ips, 4).map((ip) => ({
    addresses: [ip],
    ...(r.chance(12) ? { conditions: { ready: false, serving: r.chance(50), terminating: r.chance(50) } } : {}),
  }));
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, namespace: space, labels: { 'kubernetes.io/service-name': name.split('-')[0] as string } },
    addressType: v6 ? 'IPv6' : 'IPv4',
    ports: [
      { name: 'one', port: r.pick([80, 80, 8080, 443, 8472]), protocol: r.pick(['TCP', 'TCP', 'UDP', 'UDP', 'SCTP']) },
      ...(r.chance(50) ? [{ name: 'two', port: 8443, protocol: 'TCP' }] : []),
    ],
    endpoints,
  };
}

export const SLICES = ['v4', 'v6'] as const;

/** What Cilium calls kube-apiserver stands behind this Service. */
export const API_SERVER: readonly Manifest[] = [
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'kubernetes', namespace: 'default' },
    spec: { clusterIPs: ['10.96.0.9'], ports: [{ name: 'https', port: 443, protocol: 'TCP' }] },
  },
  {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: 'kubernetes-v4',
      namespace: 'default',
      labels: { 'kubernetes.io/service-name': 'kubernetes' },
    },
    addressType: 'IPv4',
    ports: [{ name: 'https', port: 6443, protocol: 'TCP' }],
    endpoints: [{ addresses: ['192.168.0.3'] }, { addresses: ['198.51.100.7'] }],
  },
];
