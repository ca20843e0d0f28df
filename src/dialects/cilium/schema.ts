/**
 * JSON schemas of CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy and CiliumCIDRGroup (cilium.io/v2). The meaning
 * is checked in the other files.
 */

const string = { type: 'string' };
const strings = { type: 'array', items: string };
const anything = { type: 'object' };

/** A list of objects without unknown fields. */
const list = (properties: object, required: readonly string[] = []) => ({
  type: 'array',
  items: { type: 'object', additionalProperties: false, required, properties },
});

const labelSelector = {
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
const selectors = { type: 'array', items: labelSelector };

/** From pkg/policy/api/l4.go. VRRP and IGMP came with `enable-extended-ip-protocols`. */
const ports = list({
  port: string,
  endPort: { type: 'integer' },
  protocol: { enum: ['TCP', 'UDP', 'SCTP', 'ICMP', 'ICMPv6', 'ICMPV6', 'VRRP', 'IGMP', 'ANY'] },
});

const icmps = list({
  fields: list({ family: { enum: ['IPv4', 'IPv6'] }, type: { type: ['integer', 'string'] } }, ['type']),
});

const names = list({ matchName: string, matchPattern: string });

/** From pkg/policy/api/http.go. */
const http = list({
  path: string,
  method: string,
  host: string,
  headers: strings,
  headerMatches: list(
    {
      name: string,
      value: string,
      secret: { type: 'object', additionalProperties: false, properties: { namespace: string, name: string } },
      mismatch: { enum: ['LOG', 'ADD', 'DELETE', 'REPLACE', ''] },
    },
    ['name'],
  ),
});

/** `dns` and `http` are enforced. The others are refused by name. */
const rules = {
  type: 'object',
  additionalProperties: false,
  properties: {
    dns: names,
    http,
    kafka: { type: 'array', items: anything },
    l7: { type: 'array', items: anything },
    l7proto: string,
  },
};

const common = {
  toEndpoints: selectors,
  toRequires: selectors,
  toNodes: selectors,
  toCIDR: strings,
  toCIDRSet: list({ cidr: string, cidrGroupRef: string, cidrGroupSelector: labelSelector, except: strings }),
  toEntities: strings,
  toServices: list({
    k8sService: {
      type: 'object',
      additionalProperties: false,
      properties: { serviceName: string, namespace: string },
    },
    k8sServiceSelector: {
      type: 'object',
      additionalProperties: false,
      required: ['selector'],
      properties: { selector: labelSelector, namespace: string },
    },
  }),
  toGroups: { type: 'array', items: anything },
  icmps,
};

const allowRules = list({
  ...common,
  toFQDNs: names,
  toPorts: list({
    ports,
    rules,
    serverNames: strings,
    terminatingTLS: anything,
    originatingTLS: anything,
    listener: anything,
  }),
  authentication: {
    type: 'object',
    additionalProperties: false,
    required: ['mode'],
    properties: { mode: { enum: ['disabled', 'required', 'test-always-fail'] } },
  },
});

const denyRules = list({ ...common, toPorts: list({ ports }) });

/** Schema of `spec` and of each of `specs[]`. */
export const ruleSpec = {
  type: 'object',
  additionalProperties: false,
  properties: {
    endpointSelector: labelSelector,
    nodeSelector: labelSelector,
    description: string,
    labels: { type: 'array', items: anything },
    enableDefaultDeny: {
      type: 'object',
      additionalProperties: false,
      properties: { egress: { type: 'boolean' }, ingress: { type: 'boolean' } },
    },
    log: { type: 'object', additionalProperties: false, properties: { value: string } },
    egress: allowRules,
    egressDeny: denyRules,
    ingress: { type: 'array', items: anything },
    ingressDeny: { type: 'array', items: anything },
  },
};

const frame = { apiVersion: string, kind: string, metadata: anything, status: anything };

export const policySchema = {
  type: 'object',
  additionalProperties: false,
  properties: { ...frame, spec: ruleSpec, specs: { type: 'array', items: ruleSpec } },
};

export const cidrGroupSchema = {
  type: 'object',
  additionalProperties: false,
  required: ['spec'],
  properties: {
    ...frame,
    spec: {
      type: 'object',
      additionalProperties: false,
      required: ['externalCIDRs'],
      properties: { externalCIDRs: strings },
    },
  },
};
