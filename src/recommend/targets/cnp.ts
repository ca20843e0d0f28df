/**
 * ClusterNetworkPolicy v1alpha2, in the tier Baseline: where nobody has written a NetworkPolicy for the pods. It accepts,
 * and denies the rest with its last rule.
 */
import { ANYWHERE } from '../../import/base/walk.js';
import type { ModelRule } from '../rules/model.js';
import { ruleTo } from '../rules/model.js';
import {
  blocksOf,
  chunks,
  type Maker,
  type Manifest,
  NAMESPACE_LABEL,
  ofKind,
  protocolText,
  type Said,
  type Subject,
  written,
} from './common.js';

/** The API server's limits for each list, and for the name of a rule. */
const MAX = 25;
const MAX_NAME = 100;
const PRIORITY = 500;

export const toCnp: Maker = (subject, rules) => {
  const rest: Said = [{ name: 'the rest', action: 'Deny', to: [{ networks: ANYWHERE }] }, undefined];
  const packs = chunks([...rules.flatMap((rule) => itemsOf(rule)), rest], MAX);
  return packs.map((said, i) => written(objectOf(subject, said, i), said));
};

function objectOf({ namespace, name, labels }: Subject, said: readonly Said[], index: number): Manifest {
  return {
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: { name: index === 0 ? `${namespace}.${name}` : `${namespace}.${name}-${index + 1}` },
    spec: {
      tier: 'Baseline',
      priority: PRIORITY + index,
      subject: {
        pods: {
          namespaceSelector: { matchLabels: { [NAMESPACE_LABEL]: namespace } },
          podSelector: { matchLabels: labels },
        },
      },
      egress: said.map(([item]) => item),
    },
  };
}

function itemsOf(rule: ModelRule): Said[] {
  const pods = ofKind(rule, 'pods').map((pod) => ({
    pods: {
      namespaceSelector: { matchLabels: { [NAMESPACE_LABEL]: pod.namespace } },
      podSelector: { matchLabels: pod.labels },
    },
  }));
  const networks = chunks(blocksOf(rule), MAX).map((some) => ({ networks: some }));
  const names = ofKind(rule, 'name').map(({ name }) => name);
  const domains = chunks(names, MAX).map((some) => ({ domainNames: some }));
  const protocols = rule.ports.map((range) => ({
    [protocolText(range).toLowerCase()]: {
      destinationPort: range.lo === range.hi ? { number: range.lo } : { range: { start: range.lo, end: range.hi } },
    },
  }));
  const text = ruleTo(rule);
  const name = text.length <= MAX_NAME ? text : `${text.slice(0, MAX_NAME - 3)}...`;
  return chunks([...pods, ...networks, ...domains], MAX).flatMap((to) =>
    chunks(protocols, MAX).map((some): Said => [{ name, action: 'Accept', to, protocols: some }, { rule }]),
  );
}
