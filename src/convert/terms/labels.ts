/** Splits label expressions of the IR into parts that selectors of other languages can express. */
import { type LabelExpr, type NamespaceMatch, VIRTUAL, type WorkloadMatch } from '../../ir/peers.js';

/** One requirement. `not` of a text: the value does not contain it, or there is no value. */
export type Literal =
  | { readonly op: 'in' | 'notin'; readonly key: string; readonly values: readonly string[] }
  | { readonly op: 'exists' | 'notexists'; readonly key: string }
  | {
      readonly op: 'contains' | 'starts' | 'ends';
      readonly key: string;
      readonly value: string;
      readonly not: boolean;
    };

/** Thrown if something cannot be expressed, or only with an unreasonable number of parts. */
export class Unsayable extends Error {}

const TRUE: LabelExpr = { op: 'true' };
const METADATA_NAME = 'kubernetes.io/metadata.name';

/** Maximum number of alternatives, more than any real policy has. */
const MAX_ALTERNATIVES = 64;

/** The pods of a match as one expression, with their namespaces as virtual keys. */
export function podExpr({ namespaces, pods }: WorkloadMatch): LabelExpr {
  return allOf(namespaceExpr(namespaces), pods);
}

function namespaceExpr(match: NamespaceMatch): LabelExpr {
  if ('names' in match) return { op: 'in', key: VIRTUAL.namespace, values: match.names };
  return renamed(match.labels);
}

/** A requirement on a namespace's labels as one on its pods. Each namespace's name is also one of its labels. */
function renamed(expr: LabelExpr): LabelExpr {
  switch (expr.op) {
    case 'true':
      return expr;
    case 'and':
    case 'or':
      return { op: expr.op, of: expr.of.map(renamed) };
    case 'not':
      return { op: 'not', of: renamed(expr.of) };
    default:
      return { ...expr, key: expr.key === METADATA_NAME ? VIRTUAL.namespace : VIRTUAL.ofNamespace + expr.key };
  }
}

/** The conjunction of expressions. */
export function allOf(...of: readonly LabelExpr[]): LabelExpr {
  const some = of.filter((e) => e.op !== 'true');
  return some.length === 0 ? TRUE : some.length === 1 ? (some[0] as LabelExpr) : { op: 'and', of: some };
}

/** The disjunction of expressions. */
export function oneOf(...of: readonly LabelExpr[]): LabelExpr {
  if (of.some((e) => e.op === 'true')) return TRUE;
  return of.length === 1 ? (of[0] as LabelExpr) : { op: 'or', of };
}

/**
 * The expression as alternatives of conjunctions. No alternative: it matches nothing; an empty conjunction: everything.
 * @throws Unsayable if there are too many
 */
export function alternatives(expr: LabelExpr): Literal[][] {
  const seen = new Map<string, Literal[]>();
  for (const one of expand(expr, true)) {
    const unique = [...new Map(one.map((l) => [JSON.stringify(l), l])).values()];
    seen.set(JSON.stringify(unique), unique);
  }
  return [...seen.values()];
}

function expand(expr: LabelExpr, holds: boolean): Literal[][] {
  switch (expr.op) {
    case 'true':
      return holds ? [[]] : [];
    case 'not':
      return expand(expr.of, !holds);
    case 'and':
    case 'or':
      return (expr.op === 'and') === holds
        ? product(expr.of.map((e) => expand(e, holds)))
        : limited(expr.of.flatMap((e) => expand(e, holds)));
    case 'in':
    case 'notin': {
      const op = (expr.op === 'in') === holds ? 'in' : 'notin';
      if (expr.values.length === 0) return op === 'in' ? [] : [[]];
      return onKey({ op, key: expr.key, values: expr.values });
    }
    case 'exists':
    case 'notexists':
      return onKey({ op: (expr.op === 'exists') === holds ? 'exists' : 'notexists', key: expr.key });
    case 'contains':
    case 'starts':
    case 'ends':
      return onKey({ op: expr.op, key: expr.key, value: expr.value, not: !holds });
    default:
      return expr satisfies never;
  }
}

/** Every pod has a namespace. */
function onKey(literal: Literal): Literal[][] {
  if (literal.key !== VIRTUAL.namespace) return [[literal]];
  return literal.op === 'exists' ? [[]] : literal.op === 'notexists' ? [] : [[literal]];
}

function product(lists: readonly Literal[][][]): Literal[][] {
  let out: Literal[][] = [[]];
  for (const list of lists) out = limited(out.flatMap((a) => list.map((b) => [...a, ...b])));
  return out;
}

function limited<T>(list: T[]): T[] {
  if (list.length > MAX_ALTERNATIVES) throw new Unsayable(`has more than ${MAX_ALTERNATIVES} alternatives`);
  return list;
}

/** Requirements on a pod's namespace, on its own labels, and on its service account. The keys are not virtual. */
export interface Parted {
  readonly namespace: readonly Literal[];
  readonly pods: readonly Literal[];
  readonly account: readonly Literal[];
  /** The namespaces' names, if the only requirement on namespaces is a list of names. */
  readonly names?: readonly string[];
}

/** @throws Unsayable for a virtual key that no language has as a label */
export function parted(literals: readonly Literal[]): Parted {
  const namespace: Literal[] = [];
  const pods: Literal[] = [];
  const account: Literal[] = [];
  for (const literal of literals) {
    const { key } = literal;
    if (key === VIRTUAL.namespace) namespace.push({ ...literal, key: METADATA_NAME });
    else if (key.startsWith(VIRTUAL.ofNamespace))
      namespace.push({ ...literal, key: key.slice(VIRTUAL.ofNamespace.length) });
    else if (key === VIRTUAL.account) account.push(literal);
    else if (key.startsWith('@')) throw new Unsayable('selects a pod by name');
    else pods.push(literal);
  }
  const [only] = namespace;
  const named = namespace.length === 1 && only?.op === 'in' && only.key === METADATA_NAME;
  return { namespace, pods, account, ...(named ? { names: only.values } : {}) };
}

export interface SelectorObject {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: readonly string[] }[];
}

const OPERATORS = { in: 'In', notin: 'NotIn', exists: 'Exists', notexists: 'DoesNotExist' } as const;

/**
 * Converts to a Kubernetes label selector.
 * @throws Unsayable for requirements on parts of values, which it does not support
 */
export function selectorOf(
  literals: readonly Literal[],
  keyOf: (key: string) => string = (key) => key,
): SelectorObject {
  const labels: [string, string][] = [];
  const matchExpressions: NonNullable<SelectorObject['matchExpressions']> = [];
  for (const literal of literals) {
    const key = keyOf(literal.key);
    if (literal.op === 'contains' || literal.op === 'starts' || literal.op === 'ends')
      throw new Unsayable(`asks for a part of the value of label ${literal.key}: only whole values can be asked for`);
    const { op } = literal;
    const values = 'values' in literal ? literal.values : undefined;
    if (op === 'in' && values?.length === 1 && !labels.some(([k]) => k === key))
      labels.push([key, values[0] as string]);
    else matchExpressions.push({ key, operator: OPERATORS[op], ...(values ? { values: [...new Set(values)] } : {}) });
  }
  return {
    ...(labels.length > 0 ? { matchLabels: Object.fromEntries(labels) } : {}),
    ...(matchExpressions.length > 0 ? { matchExpressions } : {}),
  };
}
