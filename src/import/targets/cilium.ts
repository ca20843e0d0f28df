/** CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: allows unite, and denies of networks win over them. */
import { chunks, type Manifest } from '../../convert/terms/common.js';
import { type Part, withoutBlocks } from '../base/decide.js';
import type { Ports } from '../base/spans.js';
import { ANYWHERE, type NamesItem } from '../base/walk.js';
import {
  isEveryPort,
  type Maker,
  metadataOf,
  type Order,
  type Pack,
  type Packable,
  packed,
  protocolsOf,
  splitNames,
  type Subject,
  tellOthers,
} from './common.js';
import { fitHosts, hostOf, serverNameOf } from './requests.js';

const MAX_PORTS = 40;
const MAX_RULES = 500;
const REFUSAL = 'egress-agent.io/dns-refusal';
const DNS_PORTS = [{ port: '53', protocol: 'ANY' }];

interface Rules {
  readonly egress: Packable[];
  readonly egressDeny: object[];
  /** The hosts of requests are too many to be compared by expressions. */
  readonly manyHosts: boolean;
}

export const toCilium: Maker = (order) => {
  const { subject, listing } = order;
  const rules: Rules = { egress: [], egressDeny: [], manyHosts: tooManyHosts(order) };
  if (listing.about === 'queries') ofQueries(order, rules);
  else {
    for (const resolver of resolversOf(subject)) {
      const dns = { rules: { dns: [{ matchPattern: '*' }] } };
      rules.egress.push({ rule: { ...resolver, toPorts: [{ ports: DNS_PORTS, ...dns }] }, names: 1 });
    }
    for (const part of order.parts) ofPart(order, part, rules);
  }
  // Their order means nothing, so what asks for the same stands together.
  const byVerify = (verify: string) => rules.egress.filter((rule) => (rule.verify ?? '') === verify);
  const objects = packed(['', 'strict', 'off'].flatMap(byVerify), MAX_RULES);
  if (objects.length === 0) objects.push({ rules: [], verify: undefined });
  return objects.map((pack, i) => objectOf(order, pack, i === 0 ? rules.egressDeny : [], i));
};

function objectOf(
  { subject, listing }: Order,
  { rules: egress, verify }: Pack<object>,
  egressDeny: object[],
  index: number,
): Manifest {
  const { labels, namespace } = subject;
  const annotations =
    listing.refusal === undefined || listing.about !== 'queries' ? {} : { annotations: { [REFUSAL]: listing.refusal } };
  return {
    apiVersion: 'cilium.io/v2',
    kind: namespace === undefined ? 'CiliumClusterwideNetworkPolicy' : 'CiliumNetworkPolicy',
    metadata: { ...metadataOf(subject, index, false, verify), ...annotations },
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

/** Tells it, where it matters. */
function tooManyHosts({ parts, listing, notes }: Order): boolean {
  if (listing.about === 'queries') return false;
  const items = parts.flatMap(({ items }) => items.flatMap((item) => (asksForHost(item) ? [item] : [])));
  if (fitHosts(items)) return false;
  notes.say(
    listing.last,
    `more hosts of HTTP requests than an agent takes as expressions: the annotation egress-agent.io/verify-names: strict compares them with the names of their rule, which Cilium's own engine passes over`,
  );
  return true;
}

function asksForHost(item: Part['items'][number]): item is NamesItem {
  return item.kind === 'names' && (item.by === 'http' || item.by === 'either');
}

function ofPart(order: Order, part: Part, rules: Rules): void {
  const { egress, egressDeny } = rules;
  tellOthers(order, part, 'Cilium');
  const toPorts = portsOf(part.ports);
  if (toPorts?.toPorts?.length === 0) return;
  let allowed: string[] = [];
  let named = false;
  for (const item of part.items) {
    if (item.kind === 'names') {
      named = true;
      egress.push(...ofNames(order, item, part.ports, rules.manyHosts));
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

/** The address is judged by the names that were looked up, or by blocks; what the connection says apart from it. */
function ofNames({ refused }: Order, item: NamesItem, ports: Ports, manyHosts: boolean): Packable[] {
  const { by, patterns, at, where } = item;
  if (by === 'lookup')
    return splitNames(patterns).map(
      (some): Packable => ({
        rule: { toFQDNs: some.map(selectorOf), ...portsOf(ports) },
        names: some.length,
        verify: 'off',
      }),
    );
  const place = at && ('blocks' in at ? { toCIDR: at.blocks } : { toFQDNs: at.looked.map(selectorOf) });
  if (place && manyHosts && by !== 'tls') {
    refused.say(where, 'asks for HTTP requests at some addresses, and has too many hosts for that: not allowed');
    return [];
  }
  // What is said is said over TCP.
  const toPorts = portsOf({ ...ports, udp: [], other: false }).toPorts ?? [];
  return splitNames(patterns).map((some): Packable => {
    const tls = toPorts.map((group) => ({ ...group, serverNames: some.map(serverNameOf) }));
    const http = manyHosts ? [{}] : some.map((pattern) => ({ host: hostOf(pattern) }));
    const requests = toPorts.map((group) => ({ ...group, rules: { http } }));
    const asked = [...(by === 'http' ? [] : tls), ...(by === 'tls' ? [] : requests)];
    return {
      rule: { ...(place ?? { toFQDNs: some.map(selectorOf) }), toPorts: asked },
      names: some.length,
      // Names at which others are looked up are no names to verify.
      verify: manyHosts && by !== 'tls' ? 'strict' : at ? 'off' : undefined,
    };
  });
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
