/** Random NetworkPolicies, AWS' ApplicationNetworkPolicies and FQDNNetworkPolicies, as manifests. */
import type { Random } from '../random.js';
import { domainName, exactName, gkeName } from './domains.js';
import { block, list, type Manifest, namespaceSelector, podSelector, PORTS } from './names.js';

/** @param key `namespace/name` */
export function networkPolicy(r: Random, key: string): Manifest {
  const [namespace, name] = key.split('/') as [string, string];
  return {
    apiVersion: r.chance(95) ? 'networking.k8s.io/v1' : 'extensions/v1beta1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace },
    spec: networkPolicySpec(r),
  };
}

/** EKS Auto Mode's: a NetworkPolicy whose peers may be domain names. @param key `namespace/name` */
export function applicationNetworkPolicy(r: Random, key: string): Manifest {
  const [namespace, name] = key.split('/') as [string, string];
  const to = () => (r.chance(70) ? { domainNames: list(r, 3, () => domainName(r)) } : peer(r));
  const rule = () => ({
    ...(r.chance(95) ? { to: list(r, 2, to) } : {}),
    ...(r.chance(50) ? { ports: list(r, 2, () => port(r, r.chance(90))) } : {}),
  });
  const spec = { podSelector: podSelector(r), policyTypes: ['Egress'], egress: list(r, 3, rule) };
  return {
    apiVersion: 'networking.k8s.aws/v1alpha1',
    kind: 'ApplicationNetworkPolicy',
    metadata: { name, namespace },
    spec,
  };
}

export function networkPolicySpec(r: Random): Record<string, unknown> {
  const policyTypes = r.pick([['Egress'], ['Egress'], ['Egress'], ['Ingress', 'Egress'], ['Ingress'], undefined]);
  const rule = () => ({
    ...(r.chance(88) ? { to: r.chance(4) ? [] : list(r, 3, () => peer(r)) } : {}),
    ...(r.chance(65) ? { ports: r.chance(4) ? [] : list(r, 3, () => port(r)) } : {}),
  });
  return {
    podSelector: podSelector(r),
    ...(policyTypes ? { policyTypes } : {}),
    ...(r.chance(92) ? { egress: Array.from({ length: r.below(4) }, rule) } : {}),
  };
}

function peer(r: Random): object {
  if (r.chance(50)) {
    const { cidr, except } = block(r);
    return { ipBlock: { cidr, ...(except.length > 0 ? { except } : {}) } };
  }
  const which = r.below(3);
  return {
    ...(which !== 1 ? { podSelector: podSelector(r) } : {}),
    ...(which !== 0 ? { namespaceSelector: namespaceSelector(r) } : {}),
  };
}

/** @param numeric no port name: names of DNS have none */
function port(r: Random, numeric = false): object {
  const protocol = r.pick(['TCP', 'TCP', 'UDP', 'SCTP']);
  if (r.chance(10)) return { protocol };
  if (!numeric && r.chance(25)) return { ...(r.chance(80) ? { protocol } : {}), port: r.pick(['http', 'dns']) };
  const first = r.pick(PORTS);
  const endPort = r.chance(30) ? { endPort: Math.max(first, r.pick(PORTS)) } : {};
  return { ...(r.chance(90) ? { protocol } : {}), port: first, ...endPort };
}

const FQDN_VERSIONS = ['v1alpha1', 'v1alpha3', 'v1'] as const;

/**
 * GKE's and the add-on's shapes. The version follows from the name: an API server shows an object under one version of its group at a
 * time, so two of one name do not stand side by side.
 */
export function fqdnNetworkPolicy(r: Random, key: string): Manifest {
  const [namespace, name] = key.split('/') as [string, string];
  const version = FQDN_VERSIONS[key.charCodeAt(key.length - 1) % FQDN_VERSIONS.length] as string;
  const gke = () => ({
    matches: list(r, 3, () => gkeName(r)),
    ...(r.chance(60) ? { ports: [{ protocol: r.pick(['TCP', 'UDP', 'ALL']), port: r.pick(PORTS) }] } : {}),
  });
  const addOn = () => ({
    to: list(r, 2, () => ({ fqdns: list(r, 2, () => exactName(r)) })),
    ...(r.chance(60) ? { ports: [{ protocol: r.pick(['TCP', 'UDP', 'SCTP']), port: r.pick(PORTS) }] } : {}),
  });
  return {
    apiVersion: `networking.gke.io/${version}`,
    kind: 'FQDNNetworkPolicy',
    metadata: { name, namespace },
    spec: { podSelector: podSelector(r), egress: list<object>(r, 2, version === 'v1alpha3' ? addOn : gke) },
  };
}
