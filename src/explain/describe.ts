/** Describes rules, peers and selectors in plain English. */
import { protocolName } from '../net/protocol.js';
import { describePatterns } from '../names/describe.js';
import {
  type LabelExpr,
  type NamespaceMatch,
  type NamesPeer,
  type Peer,
  type Verification,
  VIRTUAL,
  type WorkloadMatch,
} from '../ir/peers.js';
import type { PortMatch, Rule } from '../ir/types.js';
import { describeAsked } from './said.js';

/** Describes a rule: `allow to 10.0.0.0/8 except 10.1.0.0/16 on TCP 443`. */
export function describeRule(rule: Rule): string {
  const to = rule.peers === null ? 'anywhere' : rule.peers.map((p) => describePeer(p)).join(' or ') || 'nothing';
  const on = rule.ports === null ? 'every port' : rule.ports.map(describePort).join(' or ') || 'no port';
  const asking = rule.queries === undefined ? '' : `, DNS queries for ${describePatterns(rule.queries)}`;
  const saying = asks(rule) ? `, ${describeAsked(rule)}` : '';
  return `${rule.action} to ${to} on ${on}${asking}${saying}`;
}

function asks({ serverNames, http }: Rule): boolean {
  return serverNames !== undefined || http !== undefined;
}

const VERIFIED: Readonly<Record<Verification, string>> = {
  audit: '',
  tls: ', asked for by no other name',
  strict: ', asked for by such a name',
};

function describeNames({ patterns, aliases, verify = 'audit' }: NamesPeer, one: boolean): string {
  const what = describePatterns(patterns);
  const names = what.endsWith(' name') ? what : `${one ? 'name' : 'names'} ${what}`;
  return `${one ? 'learned for ' : ''}${names}${aliases ? ', or an alias of it' : ''}${VERIFIED[verify]}`;
}

/**
 * States whether an address matches some peers: `is a pod with app=web in namespace shop`. If the peers are negated
 * ("all but X"), the sentence is about X, to avoid a double negation.
 */
export function saysOf(peers: readonly Peer[], matches: boolean): string {
  const positive = peers.filter((p) => !isNegated(p));
  const is =
    positive.length === 0
      ? []
      : [`is ${matches ? '' : 'not '}${positive.map((p) => describePeer(p, true)).join(' or ')}`];
  const but = peers.filter(isNegated).map((p) => `is ${matches ? 'not ' : ''}${describePart(p.of, true)}`);
  return [...is, ...but].join(matches ? ' or ' : ', and ');
}

type Negated = Extract<Peer, { kind: 'not' }>;

/** Whether the peer is a negation ("all but X") that can be named. */
function isNegated(peer: Peer): peer is Negated {
  return peer.kind === 'not' && !isOutside(peer);
}

/** Whether the peer means all addresses outside of the cluster: no pod, no node, and not the own node. */
function isOutside(peer: Peer): boolean {
  if (peer.kind !== 'not' || peer.of.kind !== 'some' || peer.of.of.length !== 3) return false;
  const parts = peer.of.of.map((p) => describePeer(p));
  return [EVERY_POD, EVERY_NODE, OWN_NODE].every((text) => parts.includes(text));
}

const EVERY_POD = 'every pod in every namespace';
const EVERY_NODE = 'every node';
const OWN_NODE = "the pod's own node";

/** @param one true: describes one address ("a pod with …"); false: describes a set of destinations ("pods with …") */
function describePeer(peer: Peer, one = false): string {
  switch (peer.kind) {
    case 'any':
      return 'anywhere';
    case 'all': {
      const is = peer.of.filter((p) => !isNegated(p)).map((p) => describePart(p, one));
      const but = peer.of.filter(isNegated).map((p) => describePart(p.of));
      if (but.length === 0) return is.join(' and ') || 'anywhere';
      return `${is.join(' and ') || 'anywhere'} except ${but.join(' and ')}`;
    }
    case 'some':
      return peer.of.map((p) => describePart(p, one)).join(' or ') || 'nothing';
    case 'not':
      return isOutside(peer) ? 'outside of the cluster' : `anywhere except ${describePart(peer.of)}`;
    case 'services': {
      const named = peer.name === undefined ? describeNoun('Services', peer.labels) : `Service ${peer.name}`;
      return `${one ? '' : 'what is '}behind ${named} ${describeNamespaces(peer.namespaces)}`;
    }
    case 'cidr':
      return `${one ? 'in ' : ''}${[peer.cidr, ...(peer.except.length > 0 ? [peer.except.join(', ')] : [])].join(' except ')}`;
    case 'pods':
      return one ? describeOne(peer) : describeWorkload(peer);
    case 'names':
      return describeNames(peer, one);
    case 'self':
      return 'the pod itself';
    case 'own-node':
      return OWN_NODE;
    case 'nodes':
      return one ? describeNoun('a node', peer.labels) : describeNodes(peer.labels);
    default:
      return peer satisfies never;
  }
}

function describePart(peer: Peer, one = false): string {
  const text = describePeer(peer, one);
  return (peer.kind === 'all' || peer.kind === 'some') && peer.of.length > 1 ? `(${text})` : text;
}

/** Describes the pods that a match selects. */
export function describeWorkload({ pods, namespaces }: WorkloadMatch): string {
  const noun = pods.op === 'true' ? 'every pod' : describeNoun('pods', pods);
  return `${noun} ${describeNamespaces(namespaces)}`;
}

function describeOne({ pods, namespaces }: WorkloadMatch): string {
  const noun = describeNoun('a pod', pods);
  if ('names' in namespaces) return `${noun} ${describeNamespaces(namespaces)}`;
  return namespaces.labels.op === 'true' ? noun : `${noun} in ${describeNoun('a namespace', namespaces.labels)}`;
}

/** Describes the nodes with these labels. */
export function describeNodes(labels: LabelExpr): string {
  return labels.op === 'true' ? EVERY_NODE : describeNoun('nodes', labels);
}

function describeNamespaces(match: NamespaceMatch): string {
  if ('names' in match) return `in namespace ${match.names.join(' or ')}`;
  return match.labels.op === 'true' ? 'in every namespace' : `in ${describeNoun('namespaces', match.labels)}`;
}

/** Describes a noun with its labels: `pods with app=web,tier in (a,b) but not with legacy`. */
function describeNoun(noun: string, expr: LabelExpr): string {
  const text = describeLabels(pushNegation(expr, true));
  return text === '' ? noun : `${noun} ${text}`;
}

/** One requirement on a label, positive or negated, as it is written in a description. */
type Leaf = Exclude<LabelExpr, { readonly of: unknown } | { readonly op: 'true' }> & { readonly not?: true };
type Plain = Leaf | { readonly op: 'true' | 'never' } | { readonly op: 'and' | 'or'; readonly of: readonly Plain[] };

const OPPOSITE = { in: 'notin', notin: 'in', exists: 'notexists', notexists: 'exists' } as const;

/** Pushes negations inwards, so that each negates a single requirement. @param holds false: negates the expression */
function pushNegation(expr: LabelExpr, holds: boolean): Plain {
  switch (expr.op) {
    case 'true':
      return { op: holds ? 'true' : 'never' };
    case 'not':
      return pushNegation(expr.of, !holds);
    case 'and':
    case 'or':
      return { op: (expr.op === 'and') === holds ? 'and' : 'or', of: expr.of.map((e) => pushNegation(e, holds)) };
    case 'in':
    case 'notin':
      return holds ? expr : { ...expr, op: OPPOSITE[expr.op] };
    case 'exists':
    case 'notexists':
      return holds ? expr : { ...expr, op: OPPOSITE[expr.op] };
    case 'contains':
    case 'starts':
    case 'ends':
      return holds ? expr : { ...expr, not: true };
    default:
      return expr satisfies never;
  }
}

function describeLabels(expr: Plain): string {
  switch (expr.op) {
    case 'true':
      return '';
    case 'never':
      return 'of no kind';
    case 'and': {
      const parts = expr.of.filter((e) => e.op !== 'true');
      const required = parts.filter(isRequired);
      const others = parts.filter((e) => !isRequired(e)).map((e) => inside(describeLabels(e), e.op === 'or'));
      const text = required.length > 0 ? [`with ${required.map(asKubectl).join()}`, ...others] : others;
      return text.join(' and ');
    }
    case 'or':
      if (expr.of.length === 0) return 'of no kind';
      return expr.of.map((e) => inside(describeLabels(e) || 'of any kind', e.op === 'and')).join(' or ');
    default:
      return isRequired(expr) ? `with ${asKubectl(expr)}` : describeLeaf(expr);
  }
}

function inside(text: string, several: boolean): string {
  return several && / (and|or) /.test(text) ? `(${text})` : text;
}

/** Whether the requirement demands that a label exists and has a form in kubectl's selector syntax. */
function isRequired(expr: Plain): expr is Leaf & { readonly op: 'in' | 'exists' } {
  return (expr.op === 'in' || expr.op === 'exists') && !expr.key.startsWith('@');
}

function asKubectl(leaf: Leaf & { readonly op: 'in' | 'exists' }): string {
  if (leaf.op === 'exists') return leaf.key;
  return leaf.values.length === 1 ? `${leaf.key}=${leaf.values[0]}` : `${leaf.key} in (${leaf.values.join(',')})`;
}

/** The noun for a virtual key, and whether every object has a value for it. */
function nounOf(key: string): { noun: string; always: boolean } {
  if (key === VIRTUAL.namespace) return { noun: 'namespace', always: true };
  if (key === VIRTUAL.name) return { noun: 'name', always: true };
  if (key === VIRTUAL.account) return { noun: 'service account', always: true };
  if (key.startsWith(VIRTUAL.ofNamespace))
    return { noun: `namespace's label ${key.slice(VIRTUAL.ofNamespace.length)}`, always: false };
  return { noun: `label ${key}`, always: false };
}

function describeLeaf(leaf: Leaf): string {
  const { noun, always } = nounOf(leaf.key);
  const missing = always ? '' : 'missing or ';
  switch (leaf.op) {
    case 'in':
      return `whose ${noun} is ${leaf.values.join(' or ') || 'nothing'}`;
    case 'notin':
      if (leaf.values.length === 1) return `whose ${noun} is ${missing}not ${leaf.values[0]}`;
      return `whose ${noun} is ${missing}none of ${leaf.values.join(', ') || 'nothing'}`;
    case 'exists':
      return always ? `that have a ${noun}` : `whose ${noun} is set`;
    case 'notexists':
      return leaf.key.startsWith('@') ? `whose ${noun} is missing` : `without ${noun}`;
    case 'contains':
    case 'starts':
    case 'ends': {
      const verb = leaf.op === 'contains' ? 'contain' : `${leaf.op === 'starts' ? 'start' : 'end'} with`;
      if (leaf.not) return `whose ${noun} ${always ? '' : 'is missing or '}does not ${verb} ${leaf.value}`;
      return `whose ${noun} ${verb.replace(/^\w+/, '$&s')} ${leaf.value}`;
    }
    default:
      return leaf satisfies never;
  }
}

/** Describes a port match, such as `TCP 443`. */
export function describePort(match: PortMatch): string {
  if (match.service) return `the backends' ports of Service ${match.service.namespace}/${match.service.name}`;
  const protocol = match.protocol === null ? 'any protocol' : protocolName(match.protocol);
  if (match.named !== undefined) return `${protocol} port "${match.named}"`;
  if (match.notNamed) {
    const { notNamed, ...rest } = match;
    return `${describePort(rest)} but ports named ${notNamed.map((name) => `"${name}"`).join(', ')}`;
  }
  if (match.ports === undefined) return protocol;
  return `${protocol} ${match.ports.map(([lo, hi]) => (lo === hi ? String(lo) : `${lo}-${hi}`)).join(',')}`;
}
