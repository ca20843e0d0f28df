/**
 * Predecessors and variants of ClusterNetworkPolicy v1alpha2: AdminNetworkPolicy and BaselineAdminNetworkPolicy
 * (policy.networking.k8s.io/v1alpha1), the ClusterNetworkPolicy of AWS (networking.k8s.aws/v1alpha1), and the one that
 * circulates in articles (networking.x-k8s.io/v1alpha1). They have the same meaning in other words; index.ts translates
 * them.
 */
import { apiGroup } from '../../identity/kinds.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import { TCP } from '../../net/protocol.js';
import {
  adminNetworkPolicySchema,
  articleClusterNetworkPolicySchema,
  awsClusterNetworkPolicySchema,
  baselineAdminNetworkPolicySchema,
} from './admin.schema.js';
import { type PlainPortSpec, type PortSpec, type Report, readPlainPort, readPort, readProtocol } from './rules.js';
import { placeByTier, readPriority, type RuleSpec, type Shape, understandShape } from './index.js';
import { type Dialect, type Fault, TIERS } from '../base/dialect.js';
import { compileSchema } from '../base/schema.js';

/** A priority after all that a policy can have. */
const LAST = 1001;

function fieldsOf(schema: { properties: { spec: { properties: object } } }): readonly string[] {
  return Object.keys(schema.properties.spec.properties);
}

/** @param namedProtocol protocol of named ports; null: that of the container port */
function readPorts(namedProtocol: number | null): Shape['ports'] {
  return (rule, path, places, report) =>
    rule.ports?.map((port, i) => readPort(port as PortSpec, `${path}.ports[${i}]`, namedProtocol, places, report));
}

const admin: Shape = {
  dialect: 'adminnetworkpolicy',
  versions: ['policy.networking.k8s.io/v1alpha1'],
  validate: compileSchema(adminNetworkPolicySchema),
  specFields: fieldsOf(adminNetworkPolicySchema),
  limit: 100,
  place: (spec, sound, report) => ({ tier: TIERS.admin, order: readPriority(spec, sound, report) }),
  ports: readPorts(null),
};

/** A cluster has one, without a priority. It is judged after the ClusterNetworkPolicies of its tier. */
const baseline: Shape = {
  ...admin,
  validate: compileSchema(baselineAdminNetworkPolicySchema),
  specFields: fieldsOf(baselineAdminNetworkPolicySchema),
  place: () => ({ tier: TIERS.baseline, order: LAST }),
};

const aws: Shape = {
  dialect: 'aws-clusternetworkpolicy',
  versions: ['networking.k8s.aws/v1alpha1'],
  validate: compileSchema(awsClusterNetworkPolicySchema),
  specFields: fieldsOf(awsClusterNetworkPolicySchema),
  limit: 25,
  // AWS' extension (amazon-network-policy-controller-k8s, api/v1alpha1/clusternetworkpolicy_types.go).
  passesNames: true,
  place: placeByTier,
  // A named port is a TCP port (amazon-network-policy-controller-k8s, pkg/resolvers/clusternetworkpolicy_resolver.go).
  ports: readPorts(TCP),
};

const article: Shape = {
  dialect: 'article-clusternetworkpolicy',
  versions: ['networking.x-k8s.io/v1alpha1'],
  validate: compileSchema(articleClusterNetworkPolicySchema),
  specFields: fieldsOf(articleClusterNetworkPolicySchema),
  limit: 25,
  subjectOptional: true,
  // No project defines it. A policy without precedence is placed in tier Admin, after those that have one.
  place: (spec, sound, report) => {
    const place = placeByTier(spec, sound, report);
    return spec.priority === undefined ? { ...place, order: LAST } : place;
  },
  ports: (rule, path, places, report) => {
    if (rule.protocols && rule.ports) {
      const message = 'cannot be combined with protocols';
      report({ severity: 'error', field: `${path}.ports`, message, hint: 'write everything as ports' });
    }
    if (!rule.protocols) return readPlainPorts(rule, path, places, report);
    return rule.protocols.map((p, i) => readProtocol(p, `${path}.protocols[${i}]`, places, report));
  },
  otherDirection: (spec, sound, report) => {
    const types = spec.policyTypes as readonly string[] | undefined;
    if (!sound('spec.policyTypes') || !types?.length || types.includes('Egress')) return false;
    if (Array.isArray(spec.egress) && spec.egress.length > 0) {
      const message = 'has no effect: policyTypes does not list Egress';
      const hint = 'add Egress to policyTypes, or remove the rules';
      report({ severity: 'warning', field: 'spec.egress', message, hint });
    }
    return true;
  },
};

function readPlainPorts(rule: RuleSpec, path: string, places: boolean, report: Report) {
  return rule.ports?.map((port, i) => readPlainPort(port as PlainPortSpec, `${path}.ports[${i}]`, places, report));
}

const SHAPES: Readonly<Record<string, Shape>> = {
  'policy.networking.k8s.io/AdminNetworkPolicy': admin,
  'policy.networking.k8s.io/BaselineAdminNetworkPolicy': baseline,
  'networking.k8s.aws/ClusterNetworkPolicy': aws,
  'networking.x-k8s.io/ClusterNetworkPolicy': article,
};

function shapeOf({ apiVersion, kind }: RawPolicy): Shape | undefined {
  const key = `${apiGroup(apiVersion)}/${kind}`;
  return Object.hasOwn(SHAPES, key) ? SHAPES[key] : undefined;
}

export const adminNetworkPolicy: Dialect = {
  name: 'adminnetworkpolicy',
  claims: (raw) => shapeOf(raw) !== undefined,
  understand(raw) {
    const shape = shapeOf(raw) as Shape;
    const result = understandShape(shape, raw);
    if (shape !== baseline || raw.name === 'default') return result;
    // The CRD accepts no other name, so that there is only one.
    const message = 'a cluster takes the name default only';
    const fault: Fault = { severity: 'warning', field: 'metadata.name', message, hint: 'name it default' };
    return { ...result, faults: [...result.faults, fault] };
  },
};
