/** JSON schemas of the predecessors and variants of ClusterNetworkPolicy v1alpha2. */
import {
  adminTo,
  baselineTo,
  articleTo,
  awsTo,
  plainPorts,
  policyObject,
  ports,
  priority,
  protocols,
  rules,
  object,
  strictSubject,
  subject,
  tier,
} from './schema.js';

export const adminNetworkPolicySchema = policyObject(
  object(
    { priority, subject: strictSubject, ...rules(['Allow', 'Deny', 'Pass'], { ports }, adminTo) },
    'priority',
    'subject',
  ),
);

export const baselineAdminNetworkPolicySchema = policyObject(
  object({ subject: strictSubject, ...rules(['Allow', 'Deny'], { ports }, baselineTo) }, 'subject'),
);

export const awsClusterNetworkPolicySchema = policyObject(
  object(
    { tier, priority, subject: strictSubject, ...rules(['Accept', 'Deny', 'Pass'], { ports }, awsTo) },
    'tier',
    'priority',
    'subject',
  ),
);

export const articleClusterNetworkPolicySchema = policyObject(
  object({
    tier,
    priority,
    subject,
    policyTypes: { type: 'array', items: { enum: ['Ingress', 'Egress'] } },
    ...rules(['Accept', 'Allow', 'Deny', 'Pass'], { protocols, ports: plainPorts }, articleTo),
    // Its content is not specified.
    ingress: { type: 'array' },
  }),
);
