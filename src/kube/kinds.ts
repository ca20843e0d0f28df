/**
 * The kinds that the agent follows in a cluster. The core kinds exist everywhere. Of the others, discovery finds the
 * best served version (Kubernetes 1.20 to 1.35). Policy languages that come as CRDs are followed where they are
 * installed.
 */
import type { Section } from '../identity/kinds.js';
import type { Resource } from './discovery.js';

const core = (kind: string, plural: string, namespaced: boolean): Resource => ({
  group: '',
  version: 'v1',
  kind,
  plural,
  namespaced,
  path: `/api/v1/${plural}`,
});

export const CORE: readonly Resource[] = [
  core('Namespace', 'namespaces', false),
  core('Node', 'nodes', false),
  core('Service', 'services', true),
  core('Pod', 'pods', true),
];

/** Followed if the cluster has no EndpointSlices. */
export const ENDPOINTS = core('Endpoints', 'endpoints', true);

/** Followed if Calico's policies are, which may select service accounts by label. */
export const ACCOUNTS = core('ServiceAccount', 'serviceaccounts', true);
export const CALICO_GROUP = 'crd.projectcalico.org';

export interface Wanted {
  readonly group: string;
  readonly versions: readonly string[];
  readonly kind: string;
}

export const SLICES: Wanted = { group: 'discovery.k8s.io', versions: ['v1', 'v1beta1'], kind: 'EndpointSlice' };
export const NETWORK_POLICIES: Wanted = { group: 'networking.k8s.io', versions: ['v1'], kind: 'NetworkPolicy' };
export const CRDS: Wanted = {
  group: 'apiextensions.k8s.io',
  versions: ['v1', 'v1beta1'],
  kind: 'CustomResourceDefinition',
};

const further = (group: string, versions: string[], ...kinds: string[]): Wanted[] =>
  kinds.map((kind) => ({ group, versions, kind }));

/** Policies of other languages. Calico's aggregated API has precedence over its CRDs: both show the same objects. */
export const FURTHER: readonly Wanted[] = [
  ...further(
    'policy.networking.k8s.io',
    ['v1', 'v1beta1', 'v1alpha2', 'v1alpha1'],
    'ClusterNetworkPolicy',
    'AdminNetworkPolicy',
    'BaselineAdminNetworkPolicy',
  ),
  ...further('networking.k8s.aws', ['v1alpha1'], 'ClusterNetworkPolicy', 'ApplicationNetworkPolicy'),
  ...further('networking.x-k8s.io', ['v1alpha1'], 'ClusterNetworkPolicy'),
  ...further(
    CALICO_GROUP,
    ['v1'],
    'NetworkPolicy',
    'GlobalNetworkPolicy',
    'Tier',
    'NetworkSet',
    'GlobalNetworkSet',
    'StagedNetworkPolicy',
    'StagedGlobalNetworkPolicy',
    'StagedKubernetesNetworkPolicy',
  ),
  ...further(
    'cilium.io',
    ['v2', 'v2alpha1'],
    'CiliumNetworkPolicy',
    'CiliumClusterwideNetworkPolicy',
    'CiliumCIDRGroup',
  ),
  ...further('networking.gke.io', ['v1', 'v1alpha3', 'v1alpha1'], 'FQDNNetworkPolicy'),
];

const SECTIONS: Readonly<Record<string, Section>> = {
  Namespace: 'namespaces',
  Node: 'nodes',
  Service: 'services',
  Pod: 'pods',
  Endpoints: 'endpoints',
  EndpointSlice: 'slices',
};

/** The section of a kind. Every kind without a section of its own is a policy. */
export function sectionOf({ group, kind }: { group: string; kind: string }): Section {
  return (group === '' || group === SLICES.group ? SECTIONS[kind] : undefined) ?? 'policies';
}
