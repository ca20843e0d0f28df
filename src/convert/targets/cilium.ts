/**
 * Converts to CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy of cilium.io/v2: rules have no order, denies have
 * precedence, and CIDRs never match addresses of the cluster.
 */
import type { Placed } from '../../dialects/base/dialect.js';
import { type NamesPeer, type ServiceMatch, VIRTUAL } from '../../ir/peers.js';
import { EVERY_NAME, isExact } from '../../names/pattern.js';
import { protocolName } from '../../net/protocol.js';
import {
  actionText,
  allows,
  attempt,
  chunks,
  type Context,
  type Maker,
  type Manifest,
  metadata,
  numbered,
  OWN_HINT,
  type Plan,
  planOf,
  type TermRule,
  type Source,
  subjectField,
  subjects,
  wideName,
  withoutDenyAll,
} from '../terms/common.js';
import { alternatives, type Literal, selectorOf, type SelectorObject, Unsayable } from '../terms/labels.js';
import { byProtocol, fromOne, icmpParts, isIcmp, type ProtocolPorts } from '../terms/ports.js';
import {
  type Assumptions,
  blockText,
  cover,
  describe,
  isAnywhere,
  isNamedOutside,
  isPlain,
  saysOnly,
  type Term,
  touches,
} from '../terms/terms.js';

const NAME = 'cilium';
const NAMESPACE = 'k8s:io.kubernetes.pod.namespace';
const OF_NAMESPACE = 'k8s:io.cilium.k8s.namespace.labels.';
const ACCOUNT = 'io.cilium.k8s.policy.serviceaccount';
/** Maximum number of items in a list of ports, or of ICMP types. */
const LIMIT = 40;

export const toCilium: Maker = (source, context) => {
  const { parts } = source;
  return parts.flatMap((part, i) => ofPart(source, part, i, parts.length, context));
};

function ofPart(source: Source, part: Placed, index: number, count: number, context: Context): Manifest[] {
  const plan = planOf(part, context);
  const closed = withoutDenyAll(plan.rules);
  const isolates = (plan.isolates || closed !== undefined) && !plan.opens;
  checkSelf(plan, isolates, closed ?? plan.rules, context);
  const lists: Record<'egress' | 'egressDeny', object[]> = { egress: [], egressDeny: [] };
  for (const termRule of closed ?? plan.rules) {
    const { action } = termRule.rule;
    if (action === 'allow') lists.egress.push(...rulesOf(termRule, context));
    else if (action === 'deny') lists.egressDeny.push(...rulesOf(termRule, context));
    else context.refuse(termRule.field, `${actionText(source, termRule.rule)} has no counterpart in ${NAME}`);
  }
  const ownNode = plan.always.has('own-node') && isolates && !context.assumed.ignoreOwn && !allows(plan, 'own');
  if (ownNode) lists.egress.push({ toEntities: ['host'] });
  // Cilium's guide denies everything with an empty rule, which matches nothing.
  if (isolates && lists.egress.length === 0) lists.egress.push({});
  if (lists.egress.length === 0 && lists.egressDeny.length === 0) return [];
  const spec = {
    enableDefaultDeny: { egress: isolates },
    ...(lists.egress.length > 0 ? { egress: lists.egress } : {}),
    ...(lists.egressDeny.length > 0 ? { egressDeny: lists.egressDeny } : {}),
  };
  const where = subjects(plan.policy, context) ?? [];
  const objects = where.flatMap((one) => (one.names ?? [undefined]).map((namespace) => ({ namespace, one })));
  return objects.map(({ namespace, one }, i): Manifest => {
    const wide = namespace === undefined;
    const name = numbered(numbered(wide ? wideName(source) : source.raw.name, index, count), i, objects.length);
    const literals = [...(wide ? one.namespace.map(ofNamespace) : []), ...one.pods, ...one.account];
    return {
      apiVersion: 'cilium.io/v2',
      kind: wide ? 'CiliumClusterwideNetworkPolicy' : 'CiliumNetworkPolicy',
      metadata: metadata(source, plan.policy.staged, name, namespace),
      spec: {
        endpointSelector: attempt(context, subjectField(plan.policy), () => selectorOf(literals, keyOf)) ?? {},
        ...spec,
      },
    };
  });
}

/** Cilium does not judge packets of a pod to itself. */
function checkSelf(plan: Plan, isolates: boolean, rules: readonly TermRule[], { assumed, refuse }: Context): void {
  if (assumed.ignoreOwn) return;
  if (isolates && !plan.always.has('self') && !allows(plan, 'self'))
    refuse('spec', `Cilium always lets a pod reach itself, this policy does not${OWN_HINT}`);
  if (plan.sparesSelf) return;
  for (const { rule, field, terms } of rules)
    if (rule.action === 'deny' && terms.some((t) => !t.node && t.self !== false))
      refuse(field, `may deny what a pod sends to itself: egressDeny never does${OWN_HINT}`);
}

function rulesOf({ field, terms, ports }: TermRule, context: Context): object[] {
  const places = attempt(context, field, () => placesOf(terms, context.assumed)) ?? [];
  const ports4 = ports === null ? [{}] : (attempt(context, field, () => portsOf(ports)) ?? []);
  return places.flatMap((place) =>
    // A rule with neither destinations nor ports would match nothing.
    ports4.map((some) =>
      ports === null && Object.keys(place).length === 0 ? { toEntities: ['all'] } : { ...place, ...some },
    ),
  );
}

/** The fields for destinations. A rule can have one of them, so several kinds need several rules. */
function placesOf(terms: readonly Term[], assumed: Assumptions): object[] {
  if (terms.some(isAnywhere)) return [{}];
  const toEndpoints: SelectorObject[] = [];
  const toCIDRSet: object[] = [];
  const toEntities = new Set<string>();
  const toNodes: SelectorObject[] = [];
  const toServices: object[] = [];
  const toFQDNs: object[] = [];
  const blocks = (term: Term) => {
    for (const { cidr, except } of term.blocks ?? [])
      toCIDRSet.push({ cidr: cidr.text, ...(except.length > 0 ? { except: except.map((e) => e.text) } : {}) });
  };
  for (const term of terms) {
    if (isPlain(term)) {
      plainPlaces(term, assumed, toEndpoints, toEntities);
      blocks(term);
    } else if (term.pod && saysOnly(term, 'pod')) toEndpoints.push(...alternatives(term.pod).map(endpointsOf));
    else if (term.own && saysOnly(term, 'own')) toEntities.add('host');
    else if (term.node && saysOnly(term, 'node', 'own') && term.own !== true) {
      // toNodes never matches the own node.
      const own = term.own === undefined && !assumed.ignoreOwn;
      if (term.node.op === 'true') toEntities.add('remote-node');
      else if (own)
        throw new Unsayable(`means ${describe(term)}, the own one too: toNodes means the others alone${OWN_HINT}`);
      else toNodes.push(...alternatives(term.node).map((one) => selectorOf(one)));
      if (own) toEntities.add('host');
    } else if (term.service && saysOnly(term, 'service')) toServices.push(serviceOf(term.service));
    else if (term.names) toFQDNs.push(...namesOf(term.names, term));
    else throw new Unsayable(`means ${describe(term)}: ${NAME} has no such peer`);
  }
  return [
    ...(toEndpoints.length > 0 ? [{ toEndpoints }] : []),
    ...(toCIDRSet.length > 0 ? [{ toCIDRSet }] : []),
    ...(toEntities.size > 0 ? [{ toEntities: [...toEntities] }] : []),
    ...(toNodes.length > 0 ? [{ toNodes }] : []),
    ...(toServices.length > 0 ? [{ toServices }] : []),
    ...(toFQDNs.length > 0 ? [{ toFQDNs }] : []),
  ];
}

/** Canonical patterns are written as Cilium's, but for `***`, and `**` behind another label. */
function namesOf({ patterns, aliases }: NamesPeer, term: Term): object[] {
  if (aliases) throw new Unsayable(`means ${describe(term)}: toFQDNs means no aliases`);
  if (saysOnly(term, 'names')) throw new Unsayable(`means ${describe(term)}: toFQDNs never means pods and nodes`);
  if (!isNamedOutside(term)) throw new Unsayable(`means ${describe(term)}: toFQDNs stands alone`);
  return patterns.map((pattern) => {
    if (pattern === EVERY_NAME) return { matchPattern: '*' };
    if (isExact(pattern)) return { matchName: pattern };
    if (pattern.split('.').indexOf('**', 1) > 0)
      throw new Unsayable(`${pattern}: several labels behind another one have no counterpart in ${NAME}`);
    return { matchPattern: pattern };
  });
}

/** Blocks that match any address. Addresses of pods and nodes in them need separate selectors. */
function plainPlaces(term: Term, { cluster }: Assumptions, toEndpoints: SelectorObject[], entities: Set<string>): void {
  const blocks = term.blocks ?? [];
  if (cluster && !touches(blocks, cluster)) return;
  if (cluster && cover(blocks, cluster)) {
    toEndpoints.push({ matchExpressions: [{ key: NAMESPACE, operator: 'Exists' }] });
    entities.add('host').add('remote-node');
    return;
  }
  const text = blocks.map(blockText).join(', ');
  const part = cluster
    ? 'has a part of the networks of the cluster: toCIDR never means pods and nodes, and these cannot be named by their addresses'
    : 'pods and nodes may have addresses in it, which toCIDR never means (--cluster-cidr says where they are)';
  throw new Unsayable(`${text}: ${part}`);
}

/** Only a selector with a positive requirement is limited to pods: every pod has a namespace. */
function endpointsOf(literals: readonly Literal[]): SelectorObject {
  const asks = literals.some((l) => l.key === VIRTUAL.namespace && l.op === 'in');
  const selector = selectorOf(literals, podKey);
  if (asks) return selector;
  const exists = { key: NAMESPACE, operator: 'Exists' };
  return { ...selector, matchExpressions: [exists, ...(selector.matchExpressions ?? [])] };
}

function podKey(key: string): string {
  if (key === VIRTUAL.namespace) return NAMESPACE;
  if (key.startsWith(VIRTUAL.ofNamespace)) return OF_NAMESPACE + key.slice(VIRTUAL.ofNamespace.length);
  return keyOf(key);
}

function keyOf(key: string): string {
  if (key === VIRTUAL.account) return ACCOUNT;
  if (key.startsWith('@')) throw new Unsayable('selects a pod by name');
  return key;
}

/** A requirement on the namespaces of a clusterwide policy's pods. */
function ofNamespace(literal: Literal): Literal {
  if (literal.key === 'kubernetes.io/metadata.name') return { ...literal, key: NAMESPACE };
  return { ...literal, key: OF_NAMESPACE + literal.key };
}

function serviceOf({ name, namespaces, labels }: ServiceMatch): object {
  const names = 'names' in namespaces ? namespaces.names : undefined;
  if (names !== undefined && names.length !== 1) throw new Unsayable('means Services of several namespaces');
  if (names === undefined && 'labels' in namespaces && namespaces.labels.op !== 'true')
    throw new Unsayable('means Services by the labels of their namespaces');
  const where = names === undefined ? {} : { namespace: names[0] };
  if (name !== undefined) {
    if (labels.op !== 'true') throw new Unsayable('means Services by their name and labels');
    return { k8sService: { serviceName: name, ...where } };
  }
  const [one, ...more] = alternatives(labels);
  if (!one || more.length > 0) throw new Unsayable('means Services by alternatives of labels');
  return { k8sServiceSelector: { selector: selectorOf(one), ...where } };
}

/** toPorts and icmps, which cannot be in the same rule. */
function portsOf(ports: NonNullable<TermRule['ports']>): object[] {
  const plain: object[] = [];
  const icmp: object[] = [];
  for (const one of byProtocol(ports)) {
    if (isIcmp(one.protocol) && one.ranges) icmp.push(...icmpOf(one));
    else plain.push(...portOf(one));
  }
  return [
    ...(plain.length > 0 ? [{ toPorts: chunks(plain, LIMIT).map((some) => ({ ports: some })) }] : []),
    ...(icmp.length > 0 ? [{ icmps: chunks(icmp, LIMIT).map((fields) => ({ fields })) }] : []),
  ];
}

function icmpOf({ protocol, ranges }: ProtocolPorts): object[] {
  return (ranges ?? []).flatMap(icmpParts).map(({ type, code }) => {
    if (code !== undefined)
      throw new Unsayable(
        `ICMP type ${type} code ${code} has no counterpart in ${NAME}: it tells types apart, not codes`,
      );
    return { family: protocol === 1 ? 'IPv4' : 'IPv6', type };
  });
}

/** The protocols without ports that Cilium supports. */
const WITHOUT_PORTS: ReadonlyMap<number, string> = new Map([
  [1, 'ICMP'],
  [2, 'IGMP'],
  [58, 'ICMPv6'],
  [112, 'VRRP'],
]);

function portOf({ protocol: number, ranges, names }: ProtocolPorts): object[] {
  const other = WITHOUT_PORTS.get(number);
  if (other !== undefined) return [{ protocol: other }];
  const protocol = protocolName(number);
  if (!['TCP', 'UDP', 'SCTP'].includes(protocol))
    throw new Unsayable(`protocol ${protocol} has no counterpart in ${NAME}: TCP, UDP, SCTP, ICMP, IGMP and VRRP have`);
  if (ranges === null) return [{ port: '0', protocol }];
  return [
    ...ranges.map((range) => {
      fromOne(range, NAME);
      const [lo, hi] = range;
      return { port: String(lo), ...(hi > lo ? { endPort: hi } : {}), protocol };
    }),
    ...names.map((port) => ({ port, protocol })),
  ];
}
