/**
 * CiliumNetworkPolicy. Its blocks mean neither pods nor nodes: these are entities. It learns names only where a rule for
 * DNS reads the queries, so that one stands at the DNS servers if a rule has names.
 */
import type { ModelRule } from '../rules/model.js';
import { single, type Target } from '../rules/resolve.js';
import type { PortRange } from '../base/types.js';
import { chunks, type Maker, ofKind, protocolText, type Said, written } from './common.js';

const MAX_PORTS = 40;
const NAMESPACE = 'k8s:io.kubernetes.pod.namespace';
const HOSTNAME = 'kubernetes.io/hostname';

export const toCilium: Maker = ({ namespace, name, labels }, rules) => {
  const hasNames = rules.some((rule) => ofKind(rule, 'name').length > 0);
  const said = rules.flatMap((rule) => itemsOf(rule, hasNames));
  const object = {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name, namespace },
    spec: { endpointSelector: { matchLabels: labels }, egress: said.map(([item]) => item) },
  };
  return [written(object, said)];
};

function itemsOf(rule: ModelRule, hasNames: boolean): Said[] {
  const places = placesOf(rule);
  const icmp = rule.ports.filter(({ protocol }) => protocol === 1 || protocol === 58);
  const others = rule.ports.filter((range) => !icmp.includes(range));
  return places.flatMap((place): Said[] => [
    ...(others.length === 0
      ? []
      : [[{ ...place, toPorts: portsOf(others, rule.isDns && hasNames) }, { rule }] as Said]),
    ...(icmp.length === 0 ? [] : [[{ ...place, icmps: icmpsOf(icmp) }, { rule }] as Said]),
  ]);
}

function placesOf(rule: ModelRule): object[] {
  const pods = ofKind(rule, 'pods').map((pod) => ({ matchLabels: { [NAMESPACE]: pod.namespace, ...pod.labels } }));
  const blocks = ofKind(rule, 'block').map(({ cidr }) => cidr);
  const local = ofKind(rule, 'local').map(({ ip }) => single(ip));
  const names = ofKind(rule, 'name').map(({ name }) => ({ matchName: name }));
  const cidrs = [...blocks, ...local];
  return [
    ...(pods.length > 0 ? [{ toEndpoints: pods }] : []),
    ...(ofKind(rule, 'api-server').length > 0 ? [{ toEntities: ['kube-apiserver'] }] : []),
    ...nodesOf(ofKind(rule, 'node')),
    // Where the node answers itself, it has the address.
    ...(local.length > 0 ? [{ toEntities: ['host'] }] : []),
    ...(cidrs.length > 0 ? [{ toCIDR: cidrs }] : []),
    ...(names.length > 0 ? [{ toFQDNs: names }] : []),
  ];
}

/** toNodes never means the pod's own node, wherever it runs. */
function nodesOf(nodes: readonly Extract<Target, { kind: 'node' }>[]): object[] {
  if (nodes.length === 0) return [];
  if (nodes.some(({ hostname }) => hostname === '')) return [{ toEntities: ['host', 'remote-node'] }];
  const names = [...new Set(nodes.map(({ hostname }) => hostname))];
  return [{ toEntities: ['host'] }, { toNodes: names.map((name) => ({ matchLabels: { [HOSTNAME]: name } })) }];
}

function portsOf(ranges: readonly PortRange[], withQueries: boolean): object[] {
  const ports = ranges.map((range) => ({
    port: String(range.lo),
    ...(range.hi > range.lo ? { endPort: range.hi } : {}),
    protocol: protocolText(range),
  }));
  const rules = withQueries ? { rules: { dns: [{ matchPattern: '*' }] } } : {};
  return chunks(ports, MAX_PORTS).map((some) => ({ ports: some, ...rules }));
}

/** Types alone: Cilium does not tell their codes apart. */
function icmpsOf(ranges: readonly PortRange[]): object[] {
  const types = new Map(
    ranges.map(({ protocol, lo }) => [
      `${protocol} ${lo >> 8}`,
      { family: protocol === 1 ? 'IPv4' : 'IPv6', type: lo >> 8 },
    ]),
  );
  return [{ fields: [...types.values()] }];
}
