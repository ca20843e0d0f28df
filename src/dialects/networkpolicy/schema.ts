/**
 * JSON schemas of NetworkPolicy (networking.k8s.io/v1) and ApplicationNetworkPolicy (networking.k8s.aws/v1alpha1). The
 * meaning is checked in index.ts.
 */

const string = { type: 'string' };

/** metav1.LabelSelector. */
export const labelSelector = {
  type: 'object',
  additionalProperties: false,
  properties: {
    matchLabels: { type: 'object', additionalProperties: string },
    matchExpressions: {
      type: 'array',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['key', 'operator'],
        properties: {
          key: string,
          operator: { enum: ['In', 'NotIn', 'Exists', 'DoesNotExist'] },
          values: { type: 'array', items: string },
        },
      },
    },
  },
};

const ports = {
  type: 'array',
  items: {
    type: 'object',
    additionalProperties: false,
    properties: {
      protocol: { enum: ['TCP', 'UDP', 'SCTP'] },
      port: { type: ['integer', 'string'] },
      endPort: { type: 'integer' },
    },
  },
};

const peerFields = {
  podSelector: labelSelector,
  namespaceSelector: labelSelector,
  ipBlock: {
    type: 'object',
    additionalProperties: false,
    required: ['cidr'],
    properties: { cidr: string, except: { type: 'array', items: string } },
  },
};

const list = (properties: object) => ({
  type: 'array',
  items: { type: 'object', additionalProperties: false, properties },
});

const peers = list(peerFields);

/** @param to schema of egress peers */
const policySchema = (to: object) => ({
  type: 'object',
  additionalProperties: false,
  properties: {
    apiVersion: string,
    kind: string,
    metadata: { type: 'object' },
    status: { type: 'object' },
    spec: {
      type: 'object',
      additionalProperties: false,
      properties: {
        podSelector: labelSelector,
        policyTypes: { type: 'array', items: { enum: ['Ingress', 'Egress'] } },
        egress: list({ to, ports }),
        ingress: list({ from: peers, ports }),
      },
    },
  },
});

export const networkPolicySchema = policySchema(peers);

export const applicationNetworkPolicySchema = policySchema(
  list({ ...peerFields, domainNames: { type: 'array', items: string } }),
);
