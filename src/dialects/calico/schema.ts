/**
 * JSON schemas of Calico's objects (projectcalico.org/v3 and crd.projectcalico.org/v1). The meaning is checked
 * elsewhere.
 */

const string = { type: 'string' };
const strings = { type: 'array', items: string };
const integer = { type: 'integer' };

const entity = {
  type: 'object',
  additionalProperties: false,
  properties: {
    nets: strings,
    notNets: strings,
    selector: string,
    notSelector: string,
    namespaceSelector: string,
    services: { type: 'object', additionalProperties: false, properties: { name: string, namespace: string } },
    ports: { type: 'array', items: { type: ['integer', 'string'] } },
    notPorts: { type: 'array', items: { type: ['integer', 'string'] } },
    serviceAccounts: { type: 'object', additionalProperties: false, properties: { names: strings, selector: string } },
    domains: strings,
  },
};

const icmp = { type: 'object', additionalProperties: false, properties: { type: integer, code: integer } };

const http = {
  type: 'object',
  additionalProperties: false,
  properties: {
    methods: strings,
    paths: {
      type: 'array',
      items: { type: 'object', additionalProperties: false, properties: { exact: string, prefix: string } },
    },
  },
};

const rule = {
  type: 'object',
  additionalProperties: false,
  required: ['action'],
  properties: {
    action: { enum: ['Allow', 'Deny', 'Log', 'Pass'] },
    ipVersion: { enum: [4, 6] },
    protocol: { type: ['integer', 'string'] },
    notProtocol: { type: ['integer', 'string'] },
    icmp,
    notICMP: icmp,
    source: entity,
    destination: entity,
    http,
    metadata: { type: 'object' },
  },
};

function object(spec: object): object {
  const root = { apiVersion: string, kind: string, metadata: { type: 'object' }, status: { type: 'object' } };
  return { type: 'object', additionalProperties: false, properties: { ...root, spec } };
}

const boolean = { type: 'boolean' };

/** The fields that every kind of policy has. */
export const policySpec = {
  tier: string,
  order: { type: 'number' },
  selector: string,
  serviceAccountSelector: string,
  types: { type: 'array', items: { enum: ['Ingress', 'Egress'] } },
  egress: { type: 'array', items: rule },
  // Ingress is not enforced by the agent.
  ingress: { type: 'array' },
  /** A hint to Felix about which policies to prepare. It changes no verdict. */
  performanceHints: strings,
};

const globalSpec = {
  ...policySpec,
  namespaceSelector: string,
  doNotTrack: boolean,
  preDNAT: boolean,
  applyOnForward: boolean,
};

const stagedAction = { enum: ['Set', 'Delete', 'Learn', 'Ignore'] };

const spec = (properties: object) => object({ type: 'object', additionalProperties: false, properties });

export const networkPolicySchema = spec(policySpec);
export const globalNetworkPolicySchema = spec(globalSpec);
export const stagedNetworkPolicySchema = spec({ ...policySpec, stagedAction });
export const stagedGlobalNetworkPolicySchema = spec({ ...globalSpec, stagedAction });
/** The rest of the spec is that of a NetworkPolicy, and checked as such. */
export const stagedActionSchema = object({ type: 'object', properties: { stagedAction } });

export const tierSchema = spec({ order: { type: 'number' }, defaultAction: { enum: ['Deny', 'Pass'] } });
export const networkSetSchema = spec({ nets: strings, allowedEgressDomains: strings });
