/** The shapes that came before ClusterNetworkPolicy v1alpha2, and beside it, as JSON schemas. */
import {
  adminTo,
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
} from './clusternetworkpolicy.schema.js';

export const adminNetworkPolicySchema = policyObject(
  object(
    { priority, subject: strictSubject, ...rules(['Allow', 'Deny', 'Pass'], { ports }, adminTo) },
    'priority',
    'subject',
  ),
);

export const baselineAdminNetworkPolicySchema = policyObject(
  object({ subject: strictSubject, ...rules(['Allow', 'Deny'], { ports }, adminTo) }, 'subject'),
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
    // Nobody has said what it is like.
    ingress: { type: 'array' },
  }),
);
