/**
 * FQDNNetworkPolicy of GKE, with a NetworkPolicy for DNS and for networks. There is no deny, a pattern is one label, and
 * ports have no ranges. Both unite.
 */
import { chunks, type Manifest } from '../../convert/terms/common.js';
import type { Part } from '../base/decide.js';
import { noPorts, portsText, type Ports } from '../base/spans.js';
import { ANYWHERE } from '../base/walk.js';
import {
  isEveryPort,
  type Maker,
  metadataOf,
  NAMES_OF_RULE,
  NAMESPACE_LABEL,
  type Order,
  originOf,
  type Packable,
  packed,
  protocolsOf,
  tellOthers,
  verifiedNames,
} from './common.js';

const LANGUAGE = 'an FQDNNetworkPolicy';
/** Single ports in place of a range. */
const MAX_PORTS = 100;
/** A pod's own addresses: no packet to them leaves it. As blocks that the walk makes of them. */
const LOOPBACK = /^(127\.\d+\.\d+\.\d+\/([89]|[12]\d|3[0-2])|0\.0\.0\.0\/32|::\/12[78]|::1\/128)$/;

interface Rules {
  readonly names: Packable[];
  readonly blocks: object[];
}

export const toFqdn: Maker = (order) => {
  const { subject } = order;
  const rules: Rules = { names: [], blocks: [] };
  for (const part of order.parts) ofPart(order, part, rules);
  const podSelector = Object.keys(subject.labels).length > 0 ? { matchLabels: subject.labels } : {};
  const dns = subject.resolvers.map((one) => ({
    to: [
      'cidr' in one
        ? { ipBlock: { cidr: one.cidr } }
        : {
            namespaceSelector: { matchLabels: { [NAMESPACE_LABEL]: one.namespace } },
            podSelector: { matchLabels: one.labels },
          },
    ],
    ports: ['UDP', 'TCP'].map((protocol) => ({ protocol, port: 53 })),
  }));
  const network: Manifest = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: metadataOf(subject, 0, false),
    spec: { podSelector, policyTypes: ['Egress'], egress: [...dns, ...rules.blocks] },
  };
  order.notes.say(
    order.listing.last,
    'the NetworkPolicy beside the FQDNNetworkPolicy allows DNS; a NetworkPolicy always lets a pod reach its own node',
  );
  const named = packed(rules.names, Number.POSITIVE_INFINITY).map(
    ({ rules: egress, verify }, i): Manifest => ({
      apiVersion: 'networking.gke.io/v1alpha1',
      kind: 'FQDNNetworkPolicy',
      metadata: metadataOf(subject, i, false, verify),
      spec: { podSelector, egress },
    }),
  );
  return [network, ...named];
};

function ofPart(order: Order, part: Part, rules: Rules): void {
  tellOthers(order, part, LANGUAGE);
  for (const item of part.items) {
    if (item.kind === 'deny') {
      if (item.blocks.every((block) => LOOPBACK.test(block))) continue;
      order.refused.say(
        item.where,
        `denies addresses (${portsText(part.ports)}): ${LANGUAGE} has no deny, so what the rules after it allow there is not allowed`,
      );
      return;
    }
    if (item.kind === 'names') {
      const verify = verifiedNames(order, item, LANGUAGE);
      if (verify === undefined) continue;
      const ports = singlePorts(order, part.ports, item.where);
      const matches = item.patterns.flatMap((pattern) => matchOf(order, pattern, item.where));
      if (ports)
        for (const some of chunks(matches, NAMES_OF_RULE))
          rules.names.push({ rule: { matches: some, ...ports }, names: some.length, verify });
    } else if (!noPorts({ ...part.ports, other: isEveryPort(part.ports) })) {
      // An empty list of ports would be every port.
      const to = item.blocks.map((cidr) => ({ ipBlock: { cidr } }));
      for (const some of chunks(to, 1000)) rules.blocks.push({ to: some, ...rangesOf(part.ports) });
      if (item.blocks === ANYWHERE) break;
    }
  }
}

/** GKE's star is one label. */
function matchOf(order: Order, pattern: string, where: Order['listing']['last']): object[] {
  if (!pattern.includes('*')) return [{ name: pattern }];
  const name = pattern.slice(3);
  if (pattern === '***') return [{ pattern: '*' }];
  order.refused.say(
    originOf(order, pattern, where),
    `what is below ${name}: in a pattern of ${LANGUAGE} a star is one label, so only names one label below are allowed`,
  );
  return [{ pattern: `*.${name}` }];
}

/** undefined: nothing can be said. */
function singlePorts(order: Order, ports: Ports, where: Order['listing']['last']): { ports?: object[] } | undefined {
  if (isEveryPort(ports)) return {};
  const out: object[] = [];
  for (const { name: protocol, ranges } of protocolsOf(ports)) {
    if (ranges.length === 1 && ranges[0]![0] === 1 && ranges[0]![1] === 65535) {
      out.push({ protocol });
      continue;
    }
    for (const [lo, hi] of ranges) {
      if (hi - lo >= MAX_PORTS) {
        const message = `ports ${lo}–${hi} (${protocol}): ${LANGUAGE} has single ports alone: they are not allowed`;
        order.refused.say(where, message);
      } else for (let port = lo; port <= hi; port++) out.push({ protocol, port });
    }
  }
  return out.length > 0 ? { ports: out } : undefined;
}

function rangesOf(ports: Ports): { ports?: object[] } {
  if (isEveryPort(ports)) return {};
  return {
    ports: protocolsOf(ports).flatMap(({ name: protocol, ranges }) =>
      ranges.map(([lo, hi]) => ({ protocol, port: lo, ...(hi > lo ? { endPort: hi } : {}) })),
    ),
  };
}
