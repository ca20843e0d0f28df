/**
 * CustomResourceDefinitions of the policy languages, made from the agent's own schemas. A project's definition says more (defaults,
 * patterns, rules in CEL); what an author can write into the object is the same.
 */
import {
  adminNetworkPolicySchema,
  baselineAdminNetworkPolicySchema,
} from '../../src/dialects/clusternetworkpolicy/admin.schema.js';
import * as calico from '../../src/dialects/calico/schema.js';
import * as cilium from '../../src/dialects/cilium/schema.js';
import { clusterNetworkPolicySchema } from '../../src/dialects/clusternetworkpolicy/schema.js';
import { gkeSchema } from '../../src/dialects/fqdn/schema.js';
import { applicationNetworkPolicySchema, networkPolicySchema } from '../../src/dialects/networkpolicy/schema.js';
import { until } from '../netns/shell.js';
import type { Cluster } from './cluster.js';

interface Schema {
  readonly type?: string | readonly string[];
  readonly enum?: readonly (string | number)[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly required?: readonly string[];
}

const ANYTHING = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };

/** The same as a structural schema: the only kind that apiextensions.k8s.io/v1 takes. */
function structural(schema: Schema): object {
  const { type, properties, additionalProperties, items, required = [] } = schema;
  if (Array.isArray(type)) return { 'x-kubernetes-int-or-string': true };
  if (schema.enum) return { type: typeof schema.enum[0] === 'number' ? 'integer' : 'string', enum: schema.enum };
  if (type === 'array') return { type, items: items ? structural(items) : ANYTHING };
  if (type !== 'object') return { type };
  if (typeof additionalProperties === 'object') return { type, additionalProperties: structural(additionalProperties) };
  if (!properties) return ANYTHING;
  const each = Object.entries(properties).map(([name, property]) => [name, structural(property)] as const);
  return { type, properties: Object.fromEntries(each), ...(required.length === 0 ? {} : { required }) };
}

/** @param plural of a namespaced kind; with `*` before it, of a cluster-wide one */
function crd(group: string, version: string, kind: string, plural: string, given: object): object {
  const name = plural.replace('*', '');
  const schema = given as Schema;
  const { properties = {} } = schema;
  // What the API server says of metadata itself is not to be said again.
  const root = { ...properties, metadata: { type: 'object', properties: {} } };
  const openAPIV3Schema = structural({ ...schema, properties: root });
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${name}.${group}`,
      labels: { 'egress-e2e': 'yes' },
      // Groups of *.k8s.io are refused without it.
      annotations: { 'api-approved.kubernetes.io': 'unapproved, for a test' },
    },
    spec: {
      group,
      scope: plural.startsWith('*') ? 'Cluster' : 'Namespaced',
      names: { kind, plural: name, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [{ name: version, served: true, storage: true, schema: { openAPIV3Schema } }],
    },
  };
}

/** A Kubernetes NetworkPolicy, and what is to become of it. */
function stagedKubernetes(): Schema {
  const specOf = (schema: object) => (schema as Schema).properties?.spec?.properties;
  const properties = { ...specOf(networkPolicySchema), ...specOf(calico.stagedActionSchema) };
  const spec: Schema = { type: 'object', properties };
  return { ...networkPolicySchema, properties: { ...networkPolicySchema.properties, spec } };
}

const SIG = 'policy.networking.k8s.io';
const AWS = 'networking.k8s.aws';
const CALICO = 'crd.projectcalico.org';
const CILIUM = 'cilium.io';

/** Of every language but one. */
export const CRDS: readonly object[] = [
  crd(SIG, 'v1alpha2', 'ClusterNetworkPolicy', '*clusternetworkpolicies', clusterNetworkPolicySchema),
  crd(SIG, 'v1alpha1', 'AdminNetworkPolicy', '*adminnetworkpolicies', adminNetworkPolicySchema),
  crd(SIG, 'v1alpha1', 'BaselineAdminNetworkPolicy', '*baselineadminnetworkpolicies', baselineAdminNetworkPolicySchema),
  crd(AWS, 'v1alpha1', 'ApplicationNetworkPolicy', 'applicationnetworkpolicies', applicationNetworkPolicySchema),
  crd(CALICO, 'v1', 'Tier', '*tiers', calico.tierSchema),
  crd(CALICO, 'v1', 'NetworkPolicy', 'networkpolicies', calico.networkPolicySchema),
  crd(CALICO, 'v1', 'GlobalNetworkPolicy', '*globalnetworkpolicies', calico.globalNetworkPolicySchema),
  crd(CALICO, 'v1', 'NetworkSet', 'networksets', calico.networkSetSchema),
  crd(CALICO, 'v1', 'GlobalNetworkSet', '*globalnetworksets', calico.networkSetSchema),
  crd(CALICO, 'v1', 'StagedNetworkPolicy', 'stagednetworkpolicies', calico.stagedNetworkPolicySchema),
  crd(
    CALICO,
    'v1',
    'StagedGlobalNetworkPolicy',
    '*stagedglobalnetworkpolicies',
    calico.stagedGlobalNetworkPolicySchema,
  ),
  crd(CALICO, 'v1', 'StagedKubernetesNetworkPolicy', 'stagedkubernetesnetworkpolicies', stagedKubernetes()),
  crd(CILIUM, 'v2', 'CiliumNetworkPolicy', 'ciliumnetworkpolicies', cilium.policySchema),
  crd(CILIUM, 'v2', 'CiliumClusterwideNetworkPolicy', '*ciliumclusterwidenetworkpolicies', cilium.policySchema),
  crd(CILIUM, 'v2', 'CiliumCIDRGroup', '*ciliumcidrgroups', cilium.cidrGroupSchema),
];

/** GKE's: comes and goes by itself. */
export const FQDN_CRD: object = crd(
  'networking.gke.io',
  'v1alpha1',
  'FQDNNetworkPolicy',
  'fqdnnetworkpolicies',
  gkeSchema,
);

/** The API server serves them all. While a definition has no status at all yet, kubectl fails at once. */
export async function established(cluster: Cluster): Promise<void> {
  const all = ['--for=condition=Established', '--timeout=5s', 'crds', '-l', 'egress-e2e=yes'];
  await until('the kinds are served', () => cluster.kubectl('wait', ...all), 30_000);
}
