/** CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: allows unite, and denies of networks win over them. */
import { chunks, type Manifest } from '../../convert/terms/common.js';
import { ANYWHERE, type Part, withoutBlocks } from '../base/decide.js';
import type { Ports } from '../base/spans.js';
import {
  isEveryPort,
  type Maker,
  metadataOf,
  type Order,
  packed,
  protocolsOf,
  splitNames,
  type Subject,
  tellOthers,
} from './common.js';

const MAX_PORTS = 40;
const MAX_RULES = 500;
const REFUSAL = 'egress-agent.io/dns-refusal';
const DNS_PORTS = [{ port: '53', protocol: 'ANY' }];

interface Rules {
  readonly egress: { rule: object; names: number }[];
  readonly egressDeny: object[];
}

export const toCilium: Maker = (order) => {
  const { subject, listing } = order;
  const rules: Rules = { egress: [], egressDeny: [] };
  if (listing.about === 'queries') ofQueries(order, rules);
  else {
    for (const resolver of resolversOf(subject)) {
      const dns = { rules: { dns: [{ matchPattern: '*' }] } };
      rules.egress.push({ rule: { ...resolver, toPorts: [{ ports: DNS_PORTS, ...dns }] }, names: 1 });
    }
    for (const part of order.parts) ofPart(order, part, rules);
  }
  const objects = packed(rules.egress, MAX_RULES);
  if (objects.length === 0) objects.push([]);
  return objects.map((egress, i) => objectOf(order, egress, i === 0 ? rules.egressDeny : [], i));
};

function objectOf({ subject, listing }: Order, egress: object[], egressDeny: object[], index: number): Manifest {
  const { labels, namespace } = subject;
  const annotations =
    listing.refusal === undefined || listing.about !== 'queries' ? {} : { annotations: { [REFUSAL]: listing.refusal } };
  return {
    apiVersion: 'cilium.io/v2',
    kind: namespace === undefined ? 'CiliumClusterwideNetworkPolicy' : 'CiliumNetworkPolicy',
    metadata: { ...metadataOf(subject, index, false), ...annotations },
    spec: {
      endpointSelector: Object.keys(labels).length > 0 ? { matchLabels: labels } : {},
      enableDefaultDeny: { egress: true },
      egress: egress.length > 0 ? egress : [{}],
      ...(egressDeny.length > 0 ? { egressDeny } : {}),
    },
  };
}

function resolversOf({ resolvers }: Subject): object[] {
  return resolvers.map((one) =>
    'cidr' in one
      ? { toCIDR: [one.cidr] }
      : { toEndpoints: [{ matchLabels: { 'k8s:io.kubernetes.pod.namespace': one.namespace, ...one.labels } }] },
  );
}

function ofPart(order: Order, part: Part, { egress, egressDeny }: Rules): void {
  tellOthers(order, part, 'Cilium');
  const toPorts = portsOf(part.ports);
  if (toPorts?.toPorts?.length === 0) return;
  let allowed: string[] = [];
  let named = false;
  for (const item of part.items) {
    if (item.kind === 'names') {
      named = true;
      for (const some of splitNames(item.patterns))
        egress.push({ rule: { toFQDNs: some.map(selectorOf), ...toPorts }, names: some.length });
    } else if (item.kind === 'allow') {
      allowed = [...allowed, ...item.blocks];
      if (item.blocks === ANYWHERE)
        order.notes.say(
          item.where,
          'allows everything: a toCIDR of 0.0.0.0/0 means no pod and no node of the cluster, which stay closed',
        );
      for (const toCIDR of chunks(item.blocks, MAX_RULES))
        egress.push({ rule: { toCIDR, ...toPorts }, names: toCIDR.length });
    } else {
      // A deny wins over every allow, also over those that came first.
      const blocks = withoutBlocks(item.blocks, allowed);
      if (named)
        order.refused.say(
          item.where,
          'denies addresses after a rule that allows names: in Cilium the deny wins, so these addresses are denied under those names too',
        );
      for (const toCIDR of chunks(blocks, MAX_RULES)) egressDeny.push({ toCIDR, ...toPorts });
    }
  }
}

/** Cilium's words for a pattern. */
function selectorOf(pattern: string): object {
  if (pattern === '***') return { matchPattern: '*' };
  return pattern.startsWith('**.') ? { matchPattern: pattern } : { matchName: pattern };
}

function portsOf(ports: Ports): { toPorts?: object[] } {
  if (isEveryPort(ports)) return {};
  const all = protocolsOf(ports).flatMap(({ name, ranges }) =>
    ranges.map(([lo, hi]) => ({ port: String(lo), ...(hi > lo ? { endPort: hi } : {}), protocol: name })),
  );
  return { toPorts: chunks(all, MAX_PORTS).map((some) => ({ ports: some })) };
}

function ofQueries({ subject, parts }: Order, { egress }: Rules): void {
  const patterns = parts.flatMap(({ items }) =>
    items.flatMap((item) => (item.kind === 'names' ? item.patterns : item.kind === 'allow' ? ['***'] : [])),
  );
  for (const resolver of resolversOf(subject))
    for (const some of splitNames(patterns)) {
      const dns = some.map(selectorOf);
      egress.push({ rule: { ...resolver, toPorts: [{ ports: DNS_PORTS, rules: { dns } }] }, names: some.length });
    }
  if (!subject.connections) return;
  const others = ['TCP', 'UDP', 'SCTP'].flatMap((protocol) => [
    { port: '1', endPort: 52, protocol },
    { port: '54', endPort: 65535, protocol },
  ]);
  egress.push({ rule: { toEntities: ['all'], toPorts: [{ ports: others }] }, names: 0 });
  const echo = [
    { family: 'IPv4', type: 8 },
    { family: 'IPv6', type: 128 },
  ];
  egress.push({ rule: { toEntities: ['all'], icmps: [{ fields: echo }] }, names: 0 });
}
