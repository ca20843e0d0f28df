/**
 * NetworkPolicy and GlobalNetworkPolicy of projectcalico.org/v3: rules in order; domains in Allow rules only. Its `http`
 * is not used: it has methods and paths and no host, and Calico itself refuses it in egress.
 */
import { chunks, type Manifest } from '../../convert/terms/common.js';
import type { Part } from '../base/decide.js';
import type { Ports } from '../base/spans.js';
import {
  isEveryPort,
  type Maker,
  metadataOf,
  type Order,
  originOf,
  type Pack,
  type Packable,
  packed,
  protocolsOf,
  splitNames,
  type Subject,
  tellOthers,
  verifiedNames,
} from './common.js';

const LANGUAGE = 'a Calico policy';
const MAX_PORTS = 50;
const MAX_RULES = 1024;
const MAX_NETS = 256;

export const toCalico: Maker = (order) => {
  const { subject } = order;
  const rules: Packable[] = subject.resolvers.flatMap((one) => {
    const place =
      'cidr' in one
        ? { nets: [one.cidr] }
        : {
            selector: selectorOf(one.labels),
            namespaceSelector: `projectcalico.org/name == '${one.namespace}'`,
          };
    return ['UDP', 'TCP'].map((protocol) => ({
      rule: { action: 'Allow', protocol, destination: { ...place, ports: [53] } },
      names: 1,
    }));
  });
  for (const part of order.parts) rules.push(...ofPart(order, part));
  if (order.parts.some(({ items }) => items.some(({ kind }) => kind === 'names')))
    order.notes.say(
      order.listing.last,
      "Calico's domains also mean the names to which a CNAME leads: an address that was looked up under another name counts, if a listed name stood in the answer",
    );
  return packed(rules, MAX_RULES).map((pack, i) => objectOf(subject, pack, i));
};

function objectOf(subject: Subject, { rules, verify }: Pack<object>, index: number): Manifest {
  const { namespace, labels, priority } = subject;
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: namespace === undefined ? 'GlobalNetworkPolicy' : 'NetworkPolicy',
    metadata: metadataOf(subject, index, false, verify),
    spec: {
      order: priority + index,
      selector: selectorOf(labels),
      // Without it, host endpoints are selected too.
      ...(namespace === undefined ? { namespaceSelector: 'all()' } : {}),
      types: ['Egress'],
      egress: rules,
    },
  };
}

function selectorOf(labels: Subject['labels']): string {
  const all = Object.entries(labels).map(([key, value]) => `${key} == '${value}'`);
  return all.join(' && ') || 'all()';
}

function ofPart(order: Order, part: Part): Packable[] {
  tellOthers(order, part, LANGUAGE);
  const limits = portsOf(part.ports);
  return part.items.flatMap((item) => {
    const action = item.kind === 'deny' ? 'Deny' : 'Allow';
    const verify = item.kind === 'names' ? verifiedNames(order, item, LANGUAGE) : undefined;
    if (item.kind === 'names' && verify === undefined) return [];
    const places =
      item.kind === 'names'
        ? splitNames(namesOf(order, item.patterns, item.where)).map((domains) => ({ domains }))
        : chunks(item.blocks, MAX_NETS).map((nets) => ({ nets }));
    return places.flatMap((place) =>
      limits.map(({ fields, ports }) => ({
        rule: { action, ...fields, destination: { ...place, ...(ports ? { ports } : {}) } },
        names: Object.values(place)[0]!.length,
        verify,
      })),
    );
  });
}

function namesOf(order: Order, patterns: readonly string[], where: Order['listing']['last']): string[] {
  return patterns.flatMap((pattern) => {
    if (pattern !== '***') return [pattern.replace(/^\*\*/, '*')];
    order.refused.say(originOf(order, pattern, where), 'every name: a Calico policy has no such domain: not allowed');
    return [];
  });
}

function portsOf(ports: Ports): { fields: object; ports?: (number | string)[] }[] {
  if (isEveryPort(ports)) return [{ fields: {} }];
  return protocolsOf(ports).flatMap(({ name, ranges }) =>
    chunks(
      ranges.map(([lo, hi]) => (lo === hi ? lo : `${lo}:${hi}`)),
      MAX_PORTS,
    ).map((some) => ({ fields: { protocol: name }, ports: some })),
  );
}
