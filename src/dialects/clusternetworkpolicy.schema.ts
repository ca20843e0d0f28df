/**
 * The shape of a ClusterNetworkPolicy (policy.networking.k8s.io), as JSON schema, and the parts that the older shapes share.
 * That exactly one of several fields is there, and what the fields mean, is checked in clusternetworkpolicy.rules.ts.
 */
import { labelSelector } from './networkpolicy.schema.js';

export const string = { type: 'string' };
export const strings = { type: 'array', items: string };
const integer = { type: 'integer' };

export function object<P extends object>(properties: P, ...required: string[]) {
  return { type: 'object', additionalProperties: false, properties, required };
}

export function list(items: object) {
  return { type: 'array', items };
}

/** v1alpha2 made namespaceSelector optional: without it, every namespace. */
const namespacedPod = object({ namespaceSelector: labelSelector, podSelector: labelSelector }, 'podSelector');
/** The shapes before it require both. */
const strictNamespacedPod = object(
  { namespaceSelector: labelSelector, podSelector: labelSelector },
  'namespaceSelector',
  'podSelector',
);

function workloads(pods: object) {
  return { namespaces: labelSelector, pods };
}

export const subject = object(workloads(namespacedPod));
export const strictSubject = object(workloads(strictNamespacedPod));

/** Peers of ingress rules. */
export const from = list(object(workloads(namespacedPod)));

const far = { networks: strings, domainNames: strings };
const to = list(object({ ...workloads(namespacedPod), nodes: labelSelector, ...far }));
export const adminTo = list(object({ ...workloads(strictNamespacedPod), nodes: labelSelector, ...far }));
/** AWS' controller has no peers that are nodes. */
export const awsTo = list(object({ ...workloads(strictNamespacedPod), ...far }));
export const articleTo = list(
  object({ ...workloads(namespacedPod), ipBlock: object({ cidr: string, except: strings }, 'cidr') }),
);

const range = { start: integer, end: integer };
const destination = object({
  destinationPort: object({ number: integer, range: object(range, 'start', 'end') }),
});
export const protocols = list(
  object({ tcp: destination, udp: destination, sctp: destination, destinationNamedPort: string }),
);

const protocol = { enum: ['TCP', 'UDP', 'SCTP'] };
/** AdminNetworkPolicy's, AWS' and those of the first weeks of ClusterNetworkPolicy v1alpha2. */
export const ports = list(
  object({
    portNumber: object({ protocol, port: integer }, 'port'),
    portRange: object({ protocol, ...range }, 'start', 'end'),
    namedPort: string,
  }),
);
/** As in a NetworkPolicy. */
export const plainPorts = list(object({ protocol, port: { type: ['integer', 'string'] }, endPort: integer }));

/** The whole object around a spec. */
export function policyObject<S extends object>(spec: S) {
  return object({ apiVersion: string, kind: string, metadata: { type: 'object' }, status: { type: 'object' }, spec });
}

/** @param limits what a rule says of protocols and ports */
export function rules(actions: readonly string[], limits: object, to: object) {
  const head = { name: string, action: { enum: actions } };
  return {
    egress: list(object({ ...head, ...limits, to }, 'action', 'to')),
    ingress: list(object({ ...head, ...limits, from }, 'action', 'from')),
  };
}

export const tier = { enum: ['Admin', 'Baseline'] };
export const priority = integer;

export const clusterNetworkPolicySchema = policyObject(
  object(
    { tier, priority, subject, ...rules(['Accept', 'Deny', 'Pass'], { protocols, ports }, to) },
    'tier',
    'priority',
    'subject',
  ),
);
