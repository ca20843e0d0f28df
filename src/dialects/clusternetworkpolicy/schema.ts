/**
 * JSON schema of a ClusterNetworkPolicy (policy.networking.k8s.io), and the parts that the older shapes share. rules.ts
 * checks that exactly one of several alternative fields is present, and what the fields mean.
 */
import { labelSelector } from '../networkpolicy/schema.js';

export const string = { type: 'string' };
export const strings = { type: 'array', items: string };
const integer = { type: 'integer' };

export function object<P extends object>(properties: P, ...required: string[]) {
  return { type: 'object', additionalProperties: false, properties, required };
}

export function list(items: object) {
  return { type: 'array', items };
}

/** v1alpha2 made namespaceSelector optional. Without it: every namespace. */
const namespacedPod = object({ namespaceSelector: labelSelector, podSelector: labelSelector }, 'podSelector');
/** The older shapes require both selectors. */
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
/** BaselineAdminNetworkPolicy never had domain names. */
export const baselineTo = list(object({ ...workloads(strictNamespacedPod), nodes: labelSelector, networks: strings }));
/** AWS' controller does not support nodes as peers. */
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
/** Ports of AdminNetworkPolicy, AWS' policies, and the first versions of ClusterNetworkPolicy v1alpha2. */
export const ports = list(
  object({
    portNumber: object({ protocol, port: integer }, 'port'),
    portRange: object({ protocol, ...range }, 'start', 'end'),
    namedPort: string,
  }),
);
/** Ports in the form of a NetworkPolicy. */
export const plainPorts = list(object({ protocol, port: { type: ['integer', 'string'] }, endPort: integer }));

/** The schema of an object with this spec. */
export function policyObject<S extends object>(spec: S) {
  return object({ apiVersion: string, kind: string, metadata: { type: 'object' }, status: { type: 'object' }, spec });
}

/** @param limits schema of the fields for protocols and ports */
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
