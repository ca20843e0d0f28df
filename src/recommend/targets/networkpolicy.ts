/** NetworkPolicy, and its kin for names: ApplicationNetworkPolicy of EKS, FQDNNetworkPolicy of GKE. */
import type { ModelRule } from '../rules/model.js';
import {
  blocksOf,
  type Maker,
  type Manifest,
  NAMESPACE_LABEL,
  ofKind,
  protocolText,
  type Said,
  type Subject,
  written,
} from './common.js';

export const toNetworkPolicy: Maker = (subject, rules) => {
  const said = rules.map((rule): Said => [itemOf(subject, rule), { rule }]);
  return [written(objectOf('networking.k8s.io/v1', 'NetworkPolicy', subject, said), said)];
};

export const toApplicationNetworkPolicy: Maker = (subject, rules) => {
  const said = rules.map((rule): Said => [itemOf(subject, rule), { rule }]);
  return [written(objectOf('networking.k8s.aws/v1alpha1', 'ApplicationNetworkPolicy', subject, said), said)];
};

/** Names go to an object of their own; the NetworkPolicy beside it isolates. */
export const toFqdn: Maker = (subject, rules) => {
  const isNamed = (rule: ModelRule) => ofKind(rule, 'name').length > 0;
  const own = toNetworkPolicy(
    subject,
    rules.filter((rule) => !isNamed(rule)),
  );
  const named = rules.filter(isNamed).map((rule): Said => {
    const matches = ofKind(rule, 'name').map(({ name }) => ({ name }));
    const ports = rule.ports.flatMap((range) =>
      Array.from({ length: range.hi - range.lo + 1 }, (_, i) => ({
        protocol: protocolText(range),
        port: range.lo + i,
      })),
    );
    return [{ matches, ports }, { rule }];
  });
  if (named.length === 0) return own;
  const object: Manifest = {
    apiVersion: 'networking.gke.io/v1alpha1',
    kind: 'FQDNNetworkPolicy',
    metadata: { name: subject.name, namespace: subject.namespace },
    spec: { podSelector: { matchLabels: subject.labels }, egress: named.map(([item]) => item) },
  };
  return [...own, written(object, named)];
};

function objectOf(apiVersion: string, kind: string, subject: Subject, said: readonly Said[]): Manifest {
  return {
    apiVersion,
    kind,
    metadata: { name: subject.name, namespace: subject.namespace },
    spec: {
      podSelector: { matchLabels: subject.labels },
      policyTypes: ['Egress'],
      egress: said.map(([item]) => item),
    },
  };
}

function itemOf({ namespace }: Subject, rule: ModelRule): object {
  const pods = ofKind(rule, 'pods').map((pod) => ({
    ...(pod.namespace === namespace
      ? {}
      : { namespaceSelector: { matchLabels: { [NAMESPACE_LABEL]: pod.namespace } } }),
    podSelector: { matchLabels: pod.labels },
  }));
  const blocks = blocksOf(rule).map((cidr) => ({ ipBlock: { cidr } }));
  const names = ofKind(rule, 'name').map(({ name }) => name);
  return {
    to: [...pods, ...blocks, ...(names.length > 0 ? [{ domainNames: names }] : [])],
    ports: rule.ports.map((range) => ({
      protocol: protocolText(range),
      port: range.lo,
      ...(range.hi > range.lo ? { endPort: range.hi } : {}),
    })),
  };
}
