/** ClusterNetworkPolicy: rules in order; names in Accept rules only, one label or more below a domain. */
import { chunks, type Manifest } from '../../convert/terms/common.js';
import type { Part } from '../base/decide.js';
import type { Ports } from '../base/spans.js';
import { ANYWHERE } from '../base/walk.js';
import {
  isEveryPort,
  type Maker,
  metadataOf,
  NAMESPACE_LABEL,
  type Order,
  originOf,
  type Pack,
  type Packable,
  packed,
  protocolsOf,
  type Subject,
  tellOthers,
  verifiedNames,
} from './common.js';

const LANGUAGE = 'a ClusterNetworkPolicy';
/** The API server's limits for each list. */
const MAX = 25;
const LAST_PRIORITY = 1000;
/** domainNames of v1alpha2, `**.` as `*.`. */
const DOMAIN = /^(\*\*\.)?([a-z\d]([-\w]*[a-z\d])?\.)+[a-z\d]([-\w]*[a-z\d])?$/;

export const toCnp: Maker = (order) => {
  const { subject } = order;
  const dns = subject.resolvers.map((one) => ({
    name: 'dns',
    action: 'Accept',
    to: [
      'cidr' in one
        ? { networks: [one.cidr] }
        : {
            pods: {
              namespaceSelector: { matchLabels: { [NAMESPACE_LABEL]: one.namespace } },
              podSelector: { matchLabels: one.labels },
            },
          },
    ],
    protocols: [{ udp: { destinationPort: { number: 53 } } }, { tcp: { destinationPort: { number: 53 } } }],
  }));
  const rest = { name: 'default', action: 'Deny', to: [{ networks: ANYWHERE }] };
  const rules: Packable[] = [
    ...dns.map((rule) => ({ rule, names: 0 })),
    ...order.parts.flatMap((part) => ofPart(order, part)),
    { rule: rest, names: 0 },
  ];
  const objects = packed(rules, MAX);
  if (subject.priority + objects.length - 1 > LAST_PRIORITY)
    order.refused.say(order.listing.last, `becomes ${objects.length} objects: priorities end at ${LAST_PRIORITY}`);
  return objects.map((pack, i) => objectOf(subject, pack, i));
};

function objectOf(subject: Subject, { rules, verify }: Pack<object>, index: number): Manifest {
  const { namespace, labels, priority } = subject;
  const namespaces = namespace === undefined ? {} : { matchLabels: { [NAMESPACE_LABEL]: namespace } };
  const pods = Object.keys(labels).length > 0;
  return {
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: metadataOf(subject, index, true, verify),
    spec: {
      tier: 'Admin',
      priority: priority + index,
      subject: pods
        ? { pods: { namespaceSelector: namespaces, podSelector: { matchLabels: labels } } }
        : { namespaces },
      egress: rules,
    },
  };
}

function ofPart(order: Order, part: Part): Packable[] {
  tellOthers(order, part, 'ClusterNetworkPolicy');
  const limits = portsOf(part.ports);
  if (limits.length === 0) return [];
  return part.items.flatMap((item) => {
    const action = item.kind === 'deny' ? 'Deny' : 'Accept';
    const verify = item.kind === 'names' ? verifiedNames(order, item, LANGUAGE) : undefined;
    if (item.kind === 'names' && verify === undefined) return [];
    const peers: object[] =
      item.kind === 'names'
        ? chunks(namesOf(order, item.patterns, item.where), MAX).map((domainNames) => ({ domainNames }))
        : chunks(item.blocks, MAX).map((networks) => ({ networks }));
    return chunks(peers, MAX).flatMap((to) =>
      limits.map((limit) => ({ rule: { action, to, ...limit }, names: 0, verify })),
    );
  });
}

function namesOf(order: Order, patterns: readonly string[], where: Order['listing']['last']): string[] {
  return patterns.flatMap((pattern) => {
    if (DOMAIN.test(pattern)) return [pattern.replace(/^\*\*/, '*')];
    const shown = pattern === '***' ? 'every name' : pattern.replace(/^\*\*\./, 'what is below ');
    order.refused.say(
      originOf(order, pattern, where),
      `${shown}: a ClusterNetworkPolicy has names of two labels or more, of letters, digits, "-" and "_": not allowed`,
    );
    return [];
  });
}

/** The fields for protocols and ports of one rule or several. */
function portsOf(ports: Ports): object[] {
  if (isEveryPort(ports)) return [{}];
  const all = protocolsOf(ports).flatMap(({ name, ranges }) =>
    ranges.map(([lo, hi]) => ({
      [name.toLowerCase()]: { destinationPort: lo === hi ? { number: lo } : { range: { start: lo, end: hi } } },
    })),
  );
  return chunks(all, MAX).map((protocols) => ({ protocols }));
}
