/**
 * The meaning of selectors. On pods, a selector becomes a LabelExpr. On a network set, whose labels are known, it
 * becomes an answer.
 *
 * Felix sees a pod's own labels, those of its namespace with the prefix `pcns.`, those of its service account with
 * `pcsa.`, and a few that Calico adds (libcalico-go/lib/backend/k8s/conversion). A namespaceSelector is a selector on
 * the `pcns.` labels, a serviceAccountSelector one on the `pcsa.` labels (updateprocessors/rules.go).
 */
import { type LabelExpr, VIRTUAL } from '../../ir/peers.js';
import type { Selector } from './selector.js';

export const NAMESPACE = 'projectcalico.org/namespace';
export const ACCOUNT = 'projectcalico.org/serviceaccount';
const ORCHESTRATOR = 'projectcalico.org/orchestrator';
/** The label with the name that Calico adds to each namespace and each service account. */
export const NAME = 'projectcalico.org/name';
const OF_NAMESPACE = 'pcns.';
export const OF_ACCOUNT = 'pcsa.';

/** An object whose labels are known. */
export interface Labelled {
  /** undefined: it has no namespace. */
  readonly namespace: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
}

const TRUE: LabelExpr = { op: 'true' };
const FALSE: LabelExpr = { op: 'not', of: TRUE };

export const ALL: Selector = { op: 'all' };
export const NOTHING: Selector = { op: 'not', of: ALL };

/** A selector for the endpoints of one namespace. */
export function inNamespace(name: string): Selector {
  return { op: 'eq', key: NAMESPACE, value: name };
}

export function withAccounts(names: readonly string[]): Selector {
  return { op: 'in', key: ACCOUNT, values: names };
}

/**
 * Turns a selector on namespaces into one on their endpoints: all() matches endpoints with a namespace, global() those
 * without.
 */
export function ofNamespaces(selector: Selector): Selector {
  const has: Selector = { op: 'has', key: NAMESPACE };
  return rewrite(selector, OF_NAMESPACE, (op) => (op === 'all' ? has : { op: 'not', of: has }));
}

/** Turns a selector on service accounts into one on their endpoints. */
export function ofAccounts(selector: Selector): Selector {
  return rewrite(selector, OF_ACCOUNT, (op) => ({ op }));
}

export function allOf(...of: readonly Selector[]): Selector {
  const some = of.filter((s) => s.op !== 'all');
  return some.length === 0 ? ALL : some.length === 1 ? (some[0] as Selector) : { op: 'and', of: some };
}

export function noneOf(of: Selector): Selector {
  return { op: 'not', of };
}

function rewrite(selector: Selector, prefix: string, leaf: (op: 'all' | 'global') => Selector): Selector {
  switch (selector.op) {
    case 'all':
    case 'global':
      return leaf(selector.op);
    case 'and':
    case 'or':
      return { op: selector.op, of: selector.of.map((s) => rewrite(s, prefix, leaf)) };
    case 'not':
      return { op: 'not', of: rewrite(selector.of, prefix, leaf) };
    default:
      return { ...selector, key: prefix + selector.key };
  }
}

export function saysGlobal(selector: Selector): boolean {
  if (selector.op === 'and' || selector.op === 'or') return selector.of.some(saysGlobal);
  return selector.op === 'not' ? saysGlobal(selector.of) : selector.op === 'global';
}

/** The pods that match a selector on endpoints. */
export function onPods(selector: Selector): LabelExpr {
  switch (selector.op) {
    case 'all':
      return TRUE;
    case 'global':
      return FALSE;
    case 'not':
      return negated(onPods(selector.of));
    case 'and':
    case 'or':
      return joined(selector.op, selector.of.map(onPods));
    default:
      return onLabel(selector);
  }
}

type Leaf = Extract<Selector, { key: string }>;

function onLabel(leaf: Leaf): LabelExpr {
  // Every pod has this label, so `has` matches all.
  if (leaf.key === ORCHESTRATOR) return holds(leaf, 'k8s') ? TRUE : FALSE;
  if (leaf.key === NAMESPACE && leaf.op === 'has') return TRUE;
  const key = podKey(leaf.key);
  switch (leaf.op) {
    case 'has':
      return { op: 'exists', key };
    case 'eq':
      return { op: 'in', key, values: [leaf.value] };
    case 'ne':
      return { op: 'notin', key, values: [leaf.value] };
    case 'in':
    case 'notin':
      return { op: leaf.op, key, values: leaf.values };
    case 'contains':
    case 'starts':
    case 'ends':
      return { op: leaf.op, key, value: leaf.value };
    default:
      return leaf satisfies never;
  }
}

function podKey(key: string): string {
  if (key === NAMESPACE || key === OF_NAMESPACE + NAME) return VIRTUAL.namespace;
  if (key === ACCOUNT || key === OF_ACCOUNT + NAME) return VIRTUAL.account;
  return key.startsWith(OF_NAMESPACE) ? VIRTUAL.ofNamespace + key.slice(OF_NAMESPACE.length) : key;
}

function negated(expr: LabelExpr): LabelExpr {
  return expr.op === 'not' ? expr.of : { op: 'not', of: expr };
}

function joined(op: 'and' | 'or', of: readonly LabelExpr[]): LabelExpr {
  const decides = op === 'and' ? isFalse : isTrue;
  if (of.some(decides)) return op === 'and' ? FALSE : TRUE;
  const undecided = of.filter((e) => !isTrue(e) && !isFalse(e));
  if (undecided.length === 0) return op === 'and' ? TRUE : FALSE;
  return undecided.length === 1 ? (undecided[0] as LabelExpr) : { op, of: undecided };
}

export function isTrue(expr: LabelExpr): boolean {
  return expr.op === 'true';
}

export function isFalse(expr: LabelExpr): boolean {
  return expr.op === 'not' && expr.of.op === 'true';
}

/**
 * Whether a selector on endpoints matches a network set. undefined: that depends on the labels of its namespace, which
 * are unknown here.
 */
export function onSet(selector: Selector, set: Labelled): boolean | undefined {
  switch (selector.op) {
    case 'all':
      return true;
    case 'global':
      return set.namespace === undefined;
    case 'not': {
      const inner = onSet(selector.of, set);
      return inner === undefined ? undefined : !inner;
    }
    case 'and':
    case 'or': {
      const decides = selector.op === 'or';
      const found = selector.of.map((s) => onSet(s, set));
      return found.includes(decides) ? decides : found.includes(undefined) ? undefined : !decides;
    }
    default: {
      const value = setValue(selector.key, set);
      return value === null ? undefined : holds(selector, value);
    }
  }
}

/** null: unknown. A set in a namespace has the namespace's labels too (networksetprocessor.go). */
function setValue(key: string, { namespace, labels }: Labelled): string | undefined | null {
  if (key === NAMESPACE) return namespace;
  if (!key.startsWith(OF_NAMESPACE)) return Object.hasOwn(labels, key) ? labels[key] : undefined;
  const label = key.slice(OF_NAMESPACE.length);
  if (namespace === undefined || label === NAME || label === 'kubernetes.io/metadata.name') return namespace;
  return null;
}

/**
 * Evaluates a requirement like libcalico-go/lib/selector/parser/ast.go: `!=` and `not in` match if the label is
 * missing.
 */
export function holds(leaf: Leaf, value: string | undefined): boolean {
  switch (leaf.op) {
    case 'has':
      return value !== undefined;
    case 'eq':
      return value === leaf.value;
    case 'ne':
      return value !== leaf.value;
    case 'in':
      return value !== undefined && leaf.values.includes(value);
    case 'notin':
      return value === undefined || !leaf.values.includes(value);
    case 'contains':
      return value?.includes(leaf.value) ?? false;
    case 'starts':
      return value?.startsWith(leaf.value) ?? false;
    case 'ends':
      return value?.endsWith(leaf.value) ?? false;
    default:
      return leaf satisfies never;
  }
}
