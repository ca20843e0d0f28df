/**
 * A cluster in which every policy language is in use, as objects: 20,000 pods and 10,000 policies. Pure functions of an
 * index, so that a changed object is the same one with another port or another network.
 */
import { cidr } from './worlds.js';

export type Json = Record<string, unknown>;

export const PODS = 20_000;
export const NAMESPACES = 1000;
/** Pods on the node that compiles: kubelet's default maximum. */
export const LOCAL_PODS = 110;
/** The namespaces that these are in. */
export const LOCAL_NAMESPACES = 55;
export const NODE = 'node-0';

/** How many policies of each kind; 10,000 in all. */
export const MIX = {
  NetworkPolicy: 3500,
  ClusterNetworkPolicy: 150,
  AdminNetworkPolicy: 150,
  CalicoNetworkPolicy: 2800,
  GlobalNetworkPolicy: 100,
  StagedNetworkPolicy: 300,
  CiliumNetworkPolicy: 2900,
  CiliumClusterwideNetworkPolicy: 100,
} as const;
export type Kind = keyof typeof MIX;

/** What policies refer to. */
const CALICO_TIERS = 4;
const NETWORK_SETS = 200;
const NETS_A_SET = 100;
const CIDR_GROUPS = 50;
const CIDRS_A_GROUP = 200;
const TEAMS = 40;
const TIERS = ['web', 'api', 'cache', 'db'] as const;
const CALICO = 'projectcalico.org/v3';
const CILIUM = 'cilium.io/v2';
const POLICY_API = 'policy.networking.k8s.io';

export function namespaceName(n: number): string {
  return `team-${n % TEAMS}-project-${n % NAMESPACES}`;
}

/** The n-th pod: on this node are the first of the first namespaces. */
function podOf(n: number): { namespace: string; local: boolean; app: string; tier: string; ip: string } {
  const namespace = namespaceName(n);
  const local = n % NAMESPACES < LOCAL_NAMESPACES && n < 2 * NAMESPACES;
  const tier = TIERS[Math.floor(n / NAMESPACES) % TIERS.length] as string;
  return { namespace, local, app: `app-${n % 500}`, tier, ip: `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}` };
}

/** `namespace/name` of the pods on this node. */
export function localPods(): string[] {
  return Array.from({ length: PODS }, (_, n) => n)
    .filter((n) => podOf(n).local)
    .map((n) => `${podOf(n).namespace}/pod-${n}`);
}

/** Pods, namespaces, nodes. */
export function clusterObjects(): Json[] {
  const node: Json = {
    ...{ apiVersion: 'v1', kind: 'Node', metadata: { name: NODE } },
    status: { addresses: [{ type: 'InternalIP', address: '172.20.0.1' }] },
  };
  const namespaces = Array.from({ length: NAMESPACES }, (_, n): Json => {
    const name = namespaceName(n);
    const labels = {
      'kubernetes.io/metadata.name': name,
      team: `team-${n % TEAMS}`,
      env: n % 3 === 0 ? 'prod' : 'dev',
    };
    return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
  });
  const pods = Array.from({ length: PODS }, (_, n): Json => {
    const { namespace, local, app, tier, ip } = podOf(n);
    const containers = [{ name: 'main', image: 'none', ports: [{ name: 'http', containerPort: 8080 + (n % 3) }] }];
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: `pod-${n}`,
        namespace,
        uid: `uid-${n}`,
        labels: { app, tier, 'pod-template-hash': `h${n % 997}` },
      },
      spec: { nodeName: local ? NODE : `node-${1 + (n % 199)}`, serviceAccountName: app, containers },
      status: { phase: 'Running', podIP: ip, podIPs: [{ ip }] },
    };
  });
  return [node, ...namespaces, ...pods];
}

/** Tiers, network sets and CIDR groups. */
export function supportingObjects(): Json[] {
  const list = <T>(length: number, make: (n: number) => T) => Array.from({ length }, (_, n) => make(n));
  return [
    ...list(CALICO_TIERS, (n) => ({
      ...{ apiVersion: CALICO, kind: 'Tier', metadata: { name: `tier-${n}` } },
      spec: { order: 100 * (n + 1), defaultAction: 'Pass' },
    })),
    ...list(NETWORK_SETS, networkSet),
    ...list(CIDR_GROUPS, cidrGroup),
  ];
}

/** @param edition another one, another list: one network of it differs */
export function networkSet(n: number, edition = 0): Json {
  const nets = Array.from({ length: NETS_A_SET }, (_, i) => cidr(200_000 + n * NETS_A_SET + i));
  nets[0] = cidr(400_000 + edition * 1000 + n);
  const metadata = { name: `set-${n}`, labels: { use: `use-${n}` } };
  return { apiVersion: CALICO, kind: 'GlobalNetworkSet', metadata, spec: { nets } };
}

/** @param edition another one, another list: one block of it differs */
export function cidrGroup(n: number, edition = 0): Json {
  const externalCIDRs = Array.from({ length: CIDRS_A_GROUP }, (_, i) => cidr(300_000 + n * CIDRS_A_GROUP + i));
  externalCIDRs[0] = cidr(500_000 + edition * 1000 + n);
  return { apiVersion: CILIUM, kind: 'CiliumCIDRGroup', metadata: { name: `group-${n}` }, spec: { externalCIDRs } };
}

/**
 * The n-th policy of a kind.
 * @param edition another one, another port in one of its rules
 */
export function policyObject(kind: Kind, n: number, edition = 0): Json {
  const namespace = namespaceName(n);
  const port = 1000 + ((n * 7 + edition) % 50_000);
  const app = `app-${n % 500}`;
  const tier = TIERS[n % TIERS.length] as string;
  const blocks = Array.from({ length: 5 }, (_, i) => cidr(n * 5 + i));
  const meta = (name: string, inNamespace: boolean) => ({
    name: `${name}-${n}`,
    ...(inNamespace ? { namespace } : {}),
  });
  switch (kind) {
    case 'NetworkPolicy':
      return {
        ...{ apiVersion: 'networking.k8s.io/v1', kind, metadata: meta('np', true) },
        spec: {
          podSelector: n % 2 === 0 ? {} : { matchLabels: { tier } },
          policyTypes: ['Egress'],
          egress: [
            { to: blocks.map((block) => ({ ipBlock: { cidr: block } })), ports: [{ protocol: 'TCP', port }] },
            { to: [{ namespaceSelector: { matchLabels: { team: `team-${n % TEAMS}` } } }], ports: [{ port: 'http' }] },
            { to: [{ podSelector: { matchLabels: { app } } }] },
          ],
        },
      };
    case 'ClusterNetworkPolicy':
      return {
        ...{ apiVersion: `${POLICY_API}/v1alpha2`, kind, metadata: meta('cnp', false) },
        spec: {
          ...{ tier: n % 5 === 0 ? 'Baseline' : 'Admin', priority: n },
          subject: { namespaces: { matchLabels: { team: `team-${n % TEAMS}` } } },
          egress: [
            {
              ...{ name: 'out', action: 'Accept', to: [{ networks: blocks }] },
              protocols: [{ tcp: { destinationPort: { number: port } } }],
            },
            { name: 'env', action: 'Pass', to: [{ namespaces: { matchLabels: { env: 'dev' } } }] },
          ],
        },
      };
    case 'AdminNetworkPolicy':
      return {
        ...{ apiVersion: `${POLICY_API}/v1alpha1`, kind, metadata: meta('anp', false) },
        spec: {
          priority: n,
          subject: {
            pods: { namespaceSelector: { matchLabels: { env: 'prod' } }, podSelector: { matchLabels: { app } } },
          },
          egress: [
            {
              ...{ name: 'deny', action: 'Deny', to: [{ networks: blocks }] },
              ports: [{ portNumber: { protocol: 'TCP', port } }],
            },
          ],
        },
      };
    case 'CalicoNetworkPolicy':
    case 'StagedNetworkPolicy':
      return {
        apiVersion: CALICO,
        kind: kind === 'StagedNetworkPolicy' ? kind : 'NetworkPolicy',
        metadata: meta(kind === 'StagedNetworkPolicy' ? 'staged' : 'calico', true),
        spec: {
          ...(n % 5 < CALICO_TIERS ? { tier: `tier-${n % 5}` } : {}),
          ...{ order: n % 100, selector: `tier == '${tier}'`, types: ['Egress'] },
          egress: [
            { action: 'Allow', protocol: 'TCP', destination: { nets: blocks, ports: [port] } },
            {
              ...{ action: 'Deny', protocol: 'TCP' },
              destination: {
                namespaceSelector: 'global()',
                selector: `use == 'use-${n % NETWORK_SETS}'`,
                ports: ['1:1024'],
              },
            },
            { action: 'Allow', protocol: 'UDP', destination: { selector: `app in {'${app}', 'dns'}`, ports: [53] } },
            { action: 'Pass' },
          ],
        },
      };
    case 'GlobalNetworkPolicy':
      return {
        ...{ apiVersion: CALICO, kind, metadata: meta('global', false) },
        spec: {
          ...{ tier: `tier-${n % CALICO_TIERS}`, order: 1000 + n, selector: `app == '${app}'`, types: ['Egress'] },
          egress: [
            { action: 'Log', destination: { nets: blocks } },
            { action: 'Deny', protocol: 'TCP', destination: { notNets: ['10.0.0.0/8', ...blocks], ports: [port] } },
            { action: 'Pass' },
          ],
        },
      };
    case 'CiliumNetworkPolicy':
    case 'CiliumClusterwideNetworkPolicy': {
      const toPorts = [{ ports: [{ port: String(port), protocol: 'TCP' }] }];
      return {
        ...{ apiVersion: CILIUM, kind, metadata: meta('cilium', kind === 'CiliumNetworkPolicy') },
        spec: {
          endpointSelector: { matchLabels: kind === 'CiliumNetworkPolicy' ? { tier } : { app } },
          egress: [
            { toCIDRSet: [{ cidrGroupRef: `group-${n % CIDR_GROUPS}` }], toPorts },
            { toCIDRSet: [{ cidr: '172.16.0.0/12', except: [`172.${16 + (n % 16)}.0.0/16`] }] },
            { toEndpoints: [{ matchLabels: { app } }] },
          ],
          ...(n % 4 === 0 ? { egressDeny: [{ toCIDR: blocks }] } : {}),
        },
      };
    }
    default:
      return kind satisfies never;
  }
}

export function allPolicies(): Json[] {
  return (Object.keys(MIX) as Kind[]).flatMap((kind) =>
    Array.from({ length: MIX[kind] }, (_, n) => policyObject(kind, n)),
  );
}
