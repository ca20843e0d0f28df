/** JSON schema of a NetworkPolicy (networking.k8s.io/v1). The meaning is checked in index.ts. */

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

const peers = {
  type: 'array',
  items: {
    type: 'object',
    additionalProperties: false,
    properties: {
      podSelector: labelSelector,
      namespaceSelector: labelSelector,
      ipBlock: {
        type: 'object',
        additionalProperties: false,
        required: ['cidr'],
        properties: { cidr: string, except: { type: 'array', items: string } },
      },
    },
  },
};

export const networkPolicySchema = {
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
        egress: {
          type: 'array',
          items: { type: 'object', additionalProperties: false, properties: { to: peers, ports } },
        },
        ingress: {
          type: 'array',
          items: { type: 'object', additionalProperties: false, properties: { from: peers, ports } },
        },
      },
    },
  },
};
