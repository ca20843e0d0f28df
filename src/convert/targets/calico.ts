/** Converts to NetworkPolicy and GlobalNetworkPolicy of projectcalico.org/v3, with a Tier where needed. */
import { type Placed, TIERS } from '../../dialects/base/dialect.js';
import { type LabelExpr, VIRTUAL } from '../../ir/peers.js';
import type { Rule } from '../../ir/types.js';
import {
  attempt,
  checkAlways,
  chunks,
  clusterHint,
  type Context,
  type Maker,
  type Manifest,
  metadata,
  numbered,
  type Plan,
  planOf,
  type TermRule,
  type Source,
  subjectField,
  subjects,
  wideName,
} from '../terms/common.js';
import { alternatives, type Literal, parted, type Parted, Unsayable } from '../terms/labels.js';
import { byProtocol, icmpParts, isIcmp, type ProtocolPorts } from '../terms/ports.js';
import { type Assumptions, blockText, describe, isAnywhere, saysOnly, type Term } from '../terms/terms.js';

const API = 'projectcalico.org/v3';
/**
 * A tier for policies that do not isolate and must precede denies: at the position of Cilium's egressDeny (TIERS.deny).
 */
const FIRST = 'before-default';
const MAX_PORTS = 50;
const MAX_RULES = 1024;
const NAMESPACE = 'projectcalico.org/namespace';
const NAME = 'projectcalico.org/name';
const ACCOUNT = 'projectcalico.org/serviceaccount';

const ACTIONS = { allow: 'Allow', deny: 'Deny', pass: 'Pass', log: 'Log' } as const;

export const toCalico: Maker = (source, context) => {
  const objects = source.parts.flatMap((part, i) => ofPart(source, part, i, source.parts.length, context));
  if (!objects.some((o) => o.spec.tier === FIRST)) return objects;
  const spec = { order: TIERS.deny.order, defaultAction: 'Pass' };
  return [{ apiVersion: API, kind: 'Tier', metadata: { name: FIRST }, spec }, ...objects];
};

function ofPart(source: Source, part: Placed, index: number, count: number, context: Context): Manifest[] {
  const plan = planOf(part, context);
  checkAlways(plan, 'a Calico policy', context);
  const where = subjects(plan.policy, context);
  if (!where) return [];
  // In a namespaced policy without any selector of its own namespace, notSelector means everywhere.
  const wide = plan.rules.some(({ terms }) => terms.some((t) => t.notPod));
  return where.flatMap((one, i) => {
    const spaces = wide ? [undefined] : (one.names ?? [undefined]);
    return spaces.map((namespace, j) => {
      const egress = plan.rules.flatMap((termRule) => rulesOf(termRule, namespace, context));
      if (egress.length > MAX_RULES)
        context.refuse('spec.egress', `becomes ${egress.length} rules: Calico takes ${MAX_RULES} at most`);
      const own = namespace === undefined ? wideName(source) : source.raw.name;
      const name = numbered(numbered(numbered(own, index, count), i, where.length), j, spaces.length);
      return policyOf(source, plan, placeOf(part), name, namespace, one, egress, context);
    });
  });
}

function policyOf(
  source: Source,
  plan: Plan,
  { tier, order }: { tier: string; order: number | undefined },
  name: string,
  namespace: string | undefined,
  { namespace: spaces, pods, account }: Parted,
  egress: object[],
  context: Context,
): Manifest {
  const text = attempt(context, subjectField(plan.policy), () => textOf([...pods, ...account]));
  const ofSpaces =
    namespace === undefined ? attempt(context, subjectField(plan.policy), () => textOf(spaces)) : undefined;
  return {
    apiVersion: API,
    kind: namespace === undefined ? 'GlobalNetworkPolicy' : 'NetworkPolicy',
    // Calico requires that a policy's name begins with that of its tier.
    metadata: metadata(source, plan.policy.staged, tier === TIERS.default.name ? name : `${tier}.${name}`, namespace),
    spec: {
      ...(tier === TIERS.default.name ? {} : { tier }),
      ...(order === undefined ? {} : { order }),
      selector: text || 'all()',
      ...(ofSpaces ? { namespaceSelector: ofSpaces } : {}),
      types: ['Egress'],
      egress,
    },
  };
}

/**
 * The tier and order. Every language has a place among Calico's tiers, except policies that only add to others: a
 * Calico policy isolates in its tier.
 */
function placeOf({ tier, order, policy }: Placed): { tier: string; order: number | undefined } {
  const [first = 0] = order;
  const at = Number.isFinite(first) ? first : undefined;
  if (tier.name === TIERS.deny.name) return { tier: FIRST, order: at };
  if (tier.defaultAction === 'deny' && policy.isolates === false) return { tier: FIRST, order: at };
  return { tier: tier.name, order: at };
}

function rulesOf({ rule, field, terms, ports }: TermRule, namespace: string | undefined, context: Context): object[] {
  const action = ACTIONS[rule.action];
  const places = terms.some(isAnywhere)
    ? [{}]
    : terms.flatMap((term) => attempt(context, field, () => placesOf(term, namespace, context.assumed)) ?? []);
  const protocols = ports === null ? [{}] : (attempt(context, field, () => protocolsOf(ports)) ?? []);
  return places.flatMap((place) => protocols.map((one) => ruleOf(rule, action, place, one)));
}

interface Said4 {
  readonly fields?: object;
  readonly ports?: readonly (number | string)[];
}

function ruleOf(rule: Rule, action: string, place: object, { fields, ports }: Said4): object {
  const destination = { ...place, ...(ports ? { ports } : {}) };
  const name = rule.ref.policy.dialect === 'cilium' ? undefined : rule.ref.name;
  return {
    action,
    ...(name === undefined ? {} : { metadata: { annotations: { 'egress-agent.io/rule': name } } }),
    ...fields,
    ...(Object.keys(destination).length > 0 ? { destination } : {}),
  };
}

function placesOf(term: Term, namespace: string | undefined, assumed: Assumptions): object[] {
  const nets: object[] = netsOf(term);
  if (saysOnly(term, 'blocks')) return nets;
  if (term.pod && saysOnly(term, 'blocks', 'pod')) {
    const pods = alternatives(term.pod).map((one) => podsOf(parted(one), namespace));
    return pods.flatMap((pod) => nets.map((net) => ({ ...pod, ...net })));
  }
  if (term.notPod && saysOnly(term, 'blocks', 'notPod')) {
    const notSelector = exprText(term.notPod);
    return nets.map((net) => ({ ...net, notSelector }));
  }
  if (term.blocks && term.notPod?.op === 'true' && term.notNode?.op === 'true') {
    const blocks = term.blocks.map(blockText).join(', ');
    throw new Unsayable(`${blocks}: means no node, nets mean them too${clusterHint(assumed)}`);
  }
  if (term.names) throw new Unsayable(`means ${describe(term)}: Calico's domains mean aliases too`);
  throw new Unsayable(`means ${describe(term)}: Calico has no such peer`);
}

/** Each block with exceptions needs a rule of its own; the others form one list. */
function netsOf({ blocks }: Term): object[] {
  if (blocks === null) return [{}];
  const plain = blocks.filter((b) => b.except.length === 0).map((b) => b.cidr.text);
  const cut = blocks.filter((b) => b.except.length > 0);
  return [
    ...(plain.length > 0 ? [{ nets: [...new Set(plain)] }] : []),
    ...cut.map(({ cidr, except }) => ({ nets: [cidr.text], notNets: except.map((e) => e.text) })),
  ];
}

function podsOf({ namespace: spaces, pods, account, names }: Parted, own: string | undefined): object {
  const selector = textOf([...pods, ...account]) || 'all()';
  if (own !== undefined && names?.length === 1 && names[0] === own) return { selector };
  // Without it, network sets with these labels would match too, or in a namespaced policy only its own namespace.
  return { selector, namespaceSelector: textOf(spaces) || 'all()' };
}

/** An empty list matches everything. */
function textOf(literals: readonly Literal[]): string {
  return literals.map((literal) => literalText(literal, plainKey(literal.key))).join(' && ');
}

/** In a namespaceSelector the name is a label, and so is the name of a service account. */
function plainKey(key: string): string {
  if (key === 'kubernetes.io/metadata.name') return NAME;
  return key === VIRTUAL.account ? ACCOUNT : key;
}

function literalText(literal: Literal, key: string): string {
  switch (literal.op) {
    case 'in':
    case 'notin': {
      const [value] = literal.values;
      const not = literal.op === 'notin';
      if (literal.values.length === 1) return `${key} ${not ? '!=' : '=='} ${quoted(value as string)}`;
      return `${key} ${not ? 'not in' : 'in'} { ${literal.values.map(quoted).join(', ')} }`;
    }
    case 'exists':
      return `has(${key})`;
    case 'notexists':
      return `!has(${key})`;
    case 'contains':
      return `${literal.not ? '!' : ''}${key} contains ${quoted(literal.value)}`;
    case 'starts':
    case 'ends':
      return `${literal.not ? '!' : ''}${key} ${literal.op} with ${quoted(literal.value)}`;
    default:
      return literal satisfies never;
  }
}

function quoted(value: string): string {
  if (!value.includes("'")) return `'${value}'`;
  if (!value.includes('"')) return `"${value}"`;
  throw new Unsayable(
    `selects the value ${JSON.stringify(value)}: a Calico string cannot contain both kinds of quotes`,
  );
}

/** The whole expression in one selector on pods of any namespace, for notSelector of a global policy. */
function exprText(expr: LabelExpr): string {
  const all = alternatives(expr).map((one) => {
    if (one.length === 0) return `has(${NAMESPACE})`;
    return one.map((literal) => literalText(literal, wideKey(literal.key))).join(' && ');
  });
  if (all.length === 0) return `!has(${NAMESPACE})`;
  return all.map((text) => (all.length > 1 ? `(${text})` : text)).join(' || ');
}

function wideKey(key: string): string {
  if (key === VIRTUAL.namespace) return NAMESPACE;
  if (key === VIRTUAL.account) return ACCOUNT;
  if (key.startsWith(VIRTUAL.ofNamespace)) return `pcns.${key.slice(VIRTUAL.ofNamespace.length)}`;
  if (key.startsWith('@')) throw new Unsayable('selects a pod by name');
  return key;
}

const PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [1, 'ICMP'],
  [6, 'TCP'],
  [17, 'UDP'],
  [58, 'ICMPv6'],
  [132, 'SCTP'],
  [136, 'UDPLite'],
]);

function protocolsOf(ports: NonNullable<TermRule['ports']>): Said4[] {
  const all = byProtocol(ports);
  const whole = new Set(all.filter((p) => p.ranges === null).map((p) => p.protocol));
  if (whole.size === 255 && all.length === 255) {
    const missing = Array.from({ length: 256 }, (_, n) => n).find((n) => !whole.has(n)) as number;
    if (missing > 0) return [{ fields: { notProtocol: protocolName(missing) } }];
  }
  return all.flatMap(ofProtocol);
}

function protocolName(protocol: number): string | number {
  if (protocol === 0) throw new Unsayable('protocol 0 has no counterpart in calico: its protocols begin at 1');
  return PROTOCOLS.get(protocol) ?? protocol;
}

function ofProtocol({ protocol: number, ranges, names }: ProtocolPorts): Said4[] {
  const protocol = protocolName(number);
  if (ranges === null) return [{ fields: { protocol } }];
  if (isIcmp(number)) {
    const parts = ranges.flatMap(icmpParts);
    if (parts.some((p) => p.type === 255)) throw new Unsayable('ICMP type 255 has no counterpart in calico');
    return parts.map((icmp) => ({ fields: { protocol, icmp } }));
  }
  const list = [...ranges.map(([lo, hi]) => (lo === hi ? lo : `${lo}:${hi}`)), ...names];
  return chunks(list, MAX_PORTS).map((ports) => ({ fields: { protocol }, ports }));
}
