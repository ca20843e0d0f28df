/** JSON schemas of FQDNNetworkPolicy (networking.gke.io): GKE's own, and the open-source add-on's. */

const string = { type: 'string' };
const strings = { type: 'array', items: string };

const list = (properties: object, required: readonly string[] = []) => ({
  type: 'array',
  items: { type: 'object', additionalProperties: false, required, properties },
});

const podSelector = {
  type: 'object',
  additionalProperties: false,
  properties: {
    matchLabels: { type: 'object', additionalProperties: string },
    matchExpressions: list(
      { key: string, operator: { enum: ['In', 'NotIn', 'Exists', 'DoesNotExist'] }, values: strings },
      ['key', 'operator'],
    ),
  },
};

const object = (spec: object) => ({
  type: 'object',
  additionalProperties: false,
  properties: {
    apiVersion: string,
    kind: string,
    metadata: { type: 'object' },
    status: { type: 'object' },
    spec: { type: 'object', additionalProperties: false, properties: spec },
  },
});

/** v1alpha1, and v1 with the same fields. */
export const gkeSchema = object({
  podSelector,
  egress: list({
    matches: list({ name: string, pattern: string }),
    ports: list({ protocol: { enum: ['TCP', 'UDP', 'ALL'] }, port: { type: 'integer' } }),
  }),
});

const addOnPorts = list({
  protocol: { enum: ['TCP', 'UDP', 'SCTP'] },
  port: { type: ['integer', 'string'] },
  endPort: { type: 'integer' },
});
const fqdns = list({ fqdns: strings }, ['fqdns']);

/** v1alpha3 (api/v1alpha3/fqdnnetworkpolicy_types.go of gke-fqdnnetworkpolicies-golang). */
export const addOnSchema = object({
  podSelector,
  policyTypes: { type: 'array', items: { enum: ['Ingress', 'Egress'] } },
  egress: list({ to: fqdns, ports: addOnPorts }),
  ingress: list({ from: fqdns, ports: addOnPorts }),
});
