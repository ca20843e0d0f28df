/** The objects that the agent reads, by API group. Kinds with the same name in other groups are different. */

export type Section = 'namespaces' | 'pods' | 'nodes' | 'services' | 'slices' | 'endpoints' | 'policies';

interface KindInfo {
  readonly section: Section;
  readonly namespaced: boolean;
}

const KINDS: ReadonlyMap<string, KindInfo> = new Map(
  Object.entries({
    '/Namespace': { section: 'namespaces', namespaced: false },
    '/Node': { section: 'nodes', namespaced: false },
    '/Pod': { section: 'pods', namespaced: true },
    '/Service': { section: 'services', namespaced: true },
    '/Endpoints': { section: 'endpoints', namespaced: true },
    // Policies may refer to their labels.
    '/ServiceAccount': { section: 'policies', namespaced: true },
    'discovery.k8s.io/EndpointSlice': { section: 'slices', namespaced: true },
    'networking.k8s.io/NetworkPolicy': { section: 'policies', namespaced: true },
    // The group before Kubernetes 1.7. The shape is the same; the dialect warns the user.
    'extensions/NetworkPolicy': { section: 'policies', namespaced: true },
    'policy.networking.k8s.io/ClusterNetworkPolicy': { section: 'policies', namespaced: false },
    'policy.networking.k8s.io/AdminNetworkPolicy': { section: 'policies', namespaced: false },
    'policy.networking.k8s.io/BaselineAdminNetworkPolicy': { section: 'policies', namespaced: false },
    'networking.k8s.aws/ClusterNetworkPolicy': { section: 'policies', namespaced: false },
    'networking.k8s.aws/ApplicationNetworkPolicy': { section: 'policies', namespaced: true },
    'networking.x-k8s.io/ClusterNetworkPolicy': { section: 'policies', namespaced: false },
    'cilium.io/CiliumNetworkPolicy': { section: 'policies', namespaced: true },
    'cilium.io/CiliumClusterwideNetworkPolicy': { section: 'policies', namespaced: false },
    'cilium.io/CiliumCIDRGroup': { section: 'policies', namespaced: false },
    'networking.gke.io/FQDNNetworkPolicy': { section: 'policies', namespaced: true },
    'projectcalico.org/NetworkPolicy': { section: 'policies', namespaced: true },
    'projectcalico.org/GlobalNetworkPolicy': { section: 'policies', namespaced: false },
    'projectcalico.org/Tier': { section: 'policies', namespaced: false },
    'projectcalico.org/NetworkSet': { section: 'policies', namespaced: true },
    'projectcalico.org/GlobalNetworkSet': { section: 'policies', namespaced: false },
    'projectcalico.org/StagedNetworkPolicy': { section: 'policies', namespaced: true },
    'projectcalico.org/StagedGlobalNetworkPolicy': { section: 'policies', namespaced: false },
    'projectcalico.org/StagedKubernetesNetworkPolicy': { section: 'policies', namespaced: true },
    'crd.projectcalico.org/NetworkPolicy': { section: 'policies', namespaced: true },
    'crd.projectcalico.org/GlobalNetworkPolicy': { section: 'policies', namespaced: false },
    'crd.projectcalico.org/Tier': { section: 'policies', namespaced: false },
    'crd.projectcalico.org/NetworkSet': { section: 'policies', namespaced: true },
    'crd.projectcalico.org/GlobalNetworkSet': { section: 'policies', namespaced: false },
    'crd.projectcalico.org/StagedNetworkPolicy': { section: 'policies', namespaced: true },
    'crd.projectcalico.org/StagedGlobalNetworkPolicy': { section: 'policies', namespaced: false },
    'crd.projectcalico.org/StagedKubernetesNetworkPolicy': { section: 'policies', namespaced: true },
  } satisfies Record<string, KindInfo>),
);

/** `networking.k8s.io/v1` → `networking.k8s.io`; `v1` → empty, the core group. */
export function apiGroup(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}

/** Groups that show the same objects as another group. */
const SAME_GROUP: ReadonlyMap<string, string> = new Map([
  ['extensions', 'networking.k8s.io'],
  ['crd.projectcalico.org', 'projectcalico.org'],
]);

/** The group that an object's name belongs to. Two groups may have a kind with the same name. */
export function objectGroup(apiVersion: string): string {
  const group = apiGroup(apiVersion);
  return SAME_GROUP.get(group) ?? group;
}

/** The groups that are meant if an ambiguous kind is named without a group. */
const PLAIN: ReadonlySet<string> = new Set(['networking.k8s.io', 'policy.networking.k8s.io']);
/** Kinds that exist in several groups. */
const SHARED: ReadonlySet<string> = new Set(['NetworkPolicy', 'ClusterNetworkPolicy']);

/** An unambiguous name of a kind, which kubectl accepts: `NetworkPolicy`, `NetworkPolicy.crd.projectcalico.org`. */
export function kindTitle(apiVersion: string, kind: string): string {
  const group = apiGroup(apiVersion);
  return SHARED.has(kind) && !PLAIN.has(SAME_GROUP.get(group) ?? group) ? `${kind}.${group}` : kind;
}

/** undefined: the agent ignores the kind. */
export function kindInfo(apiVersion: string, kind: string): KindInfo | undefined {
  return KINDS.get(`${apiGroup(apiVersion)}/${kind}`);
}
