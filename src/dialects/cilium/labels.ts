/**
 * Cilium's label selectors. A key may name its source: `k8s:app`, `any:app` (the same as `app`), `reserved:host`. Next to the pod's own
 * labels there are those that Cilium makes: its namespace, the namespace's labels, its service account
 * (pkg/k8s/apis/cilium.io/const.go). `reserved:` stands for what has no labels of its own: entities.
 */
import type { LabelExpr, Peer } from '../../ir/peers.js';
import { VIRTUAL } from '../../ir/peers.js';
import type { Fault } from '../dialect.js';
import { type LabelSelector, labelSelector } from '../selectors.js';
import { type Context, entityPeer } from './entities.js';

const NAMESPACE = 'io.kubernetes.pod.namespace';
const OF_NAMESPACE = 'io.cilium.k8s.namespace.labels.';
const ACCOUNT = 'io.cilium.k8s.policy.serviceaccount';
const CLUSTER = 'io.cilium.k8s.policy.cluster';

const NOTHING: LabelExpr = { op: 'or', of: [] };
const TRUE: LabelExpr = { op: 'true' };

type Report = (fault: Fault) => void;

/** One requirement: a predicate on a label of pods, or on what an endpoint is. */
type Requirement =
  | { readonly of: 'pods'; readonly key: string; readonly expr: LabelExpr; readonly field: string }
  | { readonly of: 'reserved'; readonly entity: string; readonly is: boolean; readonly field: string };

/**
 * Pods that a policy governs.
 * @param namespace of the policy; undefined: clusterwide
 */
export function subjectExpr(
  selector: LabelSelector,
  namespace: string | undefined,
  path: string,
  report: Report,
): LabelExpr {
  const of: LabelExpr[] = [];
  for (const r of requirements(selector, path, report)) {
    if (r.of === 'reserved') {
      // Pods are none of the reserved things, but all are `all` (EndpointSelector.Matches).
      if (r.entity === 'all' ? r.is : !r.is) continue;
      of.push(NOTHING);
      const message = `no pod is reserved:${r.entity}: the policy selects none`;
      report({ severity: 'warning', field: r.field, message, hint: 'remove the policy, or the requirement' });
      continue;
    }
    if (namespace !== undefined && r.key === VIRTUAL.namespace && isIn(r.expr) && !matchesOnly(r.expr, namespace)) {
      // ParseToCiliumRule (pkg/k8s/apis/cilium.io/utils): "removing illegal namespace match".
      const message = `is not the policy's own namespace, ${namespace}: it is passed over`;
      report({
        severity: 'warning',
        field: r.field,
        message,
        hint: 'use a CiliumClusterwideNetworkPolicy, or remove it',
      });
      continue;
    }
    of.push(r.expr);
  }
  return and(of);
}

function isIn(expr: LabelExpr): expr is Extract<LabelExpr, { op: 'in' }> {
  return expr.op === 'in';
}

function matchesOnly(expr: Extract<LabelExpr, { op: 'in' }>, value: string): boolean {
  return expr.values.length === 1 && expr.values[0] === value;
}

/** Destinations of one item of toEndpoints. */
export function endpointPeer(selector: LabelSelector, path: string, context: Context): Peer {
  const all = requirements(selector, path, context.report);
  const pods = all.filter((r) => r.of === 'pods');
  const reserved = all.filter((r) => r.of === 'reserved');
  const scoped = pods.some((r) => r.key === VIRTUAL.namespace);
  const scopedByLabels = pods.some((r) => r.key.startsWith(VIRTUAL.ofNamespace));
  const podsWhere = (expr: LabelExpr, names?: readonly string[]): Peer => ({
    kind: 'pods',
    namespaces: names ? { names } : { labels: TRUE },
    pods: expr,
  });
  const exprs = pods.map((r) => r.expr);
  if (reserved.length === 0) {
    // getEndpointSelector (pkg/k8s/apis/cilium.io/utils): without a namespace the policy's own, or for clusterwide policies any.
    if (!scoped && context.namespace === undefined) return podsWhere(and(exprs));
    if (!scoped && !scopedByLabels) return podsWhere(and(exprs), [context.namespace as string]);
  }
  // Entities have no labels of pods: what says only which labels not to have is true of them.
  const asks = exprs.some((e) => e.op === 'in' || e.op === 'exists');
  const positive: Peer[] =
    exprs.length === 0
      ? []
      : [asks ? podsWhere(and(exprs)) : { kind: 'not', of: podsWhere({ op: 'not', of: and(exprs) }) }];
  if (reserved.length === 0 && !asks) {
    const message = 'says only which labels not to have: that is true of all that is outside of the cluster too';
    const hint = `add a requirement such as ${NAMESPACE} with the operator Exists`;
    context.report({ severity: 'warning', field: path, message, hint });
  }
  const entities = reserved.map((r): Peer => {
    const peer = entityPeer(r.entity, r.field, context);
    return r.is ? peer : { kind: 'not', of: peer };
  });
  const parts = [...entities, ...positive];
  return parts.length === 1 ? (parts[0] as Peer) : { kind: 'all', of: parts };
}

/** A selector of things that have plain labels: nodes, Services, CIDR groups. */
export function plainExpr(selector: LabelSelector, path: string, report: Report): LabelExpr {
  return and(
    split(selector, path).map(({ key, field, one }) => {
      const { source, name } = parseKey(key);
      if (source === undefined || SOURCES.has(source) || source === 'node' || source === 'cidrgroup') {
        return labelSelector(one(name), path, (f) => report({ ...f, field }));
      }
      unknownSource(source, field, report);
      return NOTHING;
    }),
  );
}

/** Sources of labels that pods have. */
const SOURCES: ReadonlySet<string> = new Set(['k8s', 'any']);

function requirements(selector: LabelSelector, path: string, report: Report): Requirement[] {
  return split(selector, path).map(({ key, field, one, operator, values }): Requirement => {
    const { source, name } = parseKey(key);
    if (source === 'reserved') {
      const is = operator === 'Exists' || (operator === 'In' && values.includes(''));
      const isNot = operator === 'DoesNotExist' || (operator === 'NotIn' && values.includes(''));
      if (!is && !isNot) {
        const hint = 'reserved labels have no value: write "" or use Exists or DoesNotExist';
        report({ severity: 'error', field, message: 'asks for a value that no reserved label has', hint });
      }
      return { of: 'reserved', entity: name, is, field };
    }
    if (source !== undefined && !SOURCES.has(source)) unknownSource(source, field, report);
    if (name === CLUSTER) {
      const message = 'is not known: clusters have no names here';
      report({ severity: 'error', field, message, hint: 'remove it: every pod that is known is of this cluster' });
    }
    const virtual =
      name === NAMESPACE
        ? VIRTUAL.namespace
        : name === ACCOUNT
          ? VIRTUAL.account
          : name.startsWith(OF_NAMESPACE)
            ? `${VIRTUAL.ofNamespace}${name.slice(OF_NAMESPACE.length)}`
            : undefined;
    const plain = virtual?.startsWith(VIRTUAL.ofNamespace) ? virtual.slice(VIRTUAL.ofNamespace.length) : name;
    // Names of service accounts may be longer than values of labels, and have dots: nothing to check.
    const check = virtual === VIRTUAL.account ? () => {} : (f: Fault) => report({ ...f, field });
    const expr = labelSelector(one(plain), path, check);
    return { of: 'pods', key: virtual ?? name, expr: virtual ? rename(expr, virtual) : expr, field };
  });
}

interface Part {
  readonly key: string;
  readonly field: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
  /** The requirement alone, with its key written thus. */
  readonly one: (key: string) => LabelSelector;
}

function split({ matchLabels = {}, matchExpressions = [] }: LabelSelector, path: string): Part[] {
  return [
    ...Object.entries(matchLabels).map(([key, value]): Part => {
      const field = `${path}.matchLabels[${JSON.stringify(key)}]`;
      const one = (name: string) => ({ matchLabels: Object.fromEntries([[name, value]]) });
      return { key, field, operator: 'In', values: [value], one };
    }),
    ...matchExpressions.map((e, i): Part => {
      const one = (key: string) => ({ matchExpressions: [{ ...e, key }] });
      return { key: e.key, field: `${path}.matchExpressions[${i}]`, operator: e.operator, values: e.values ?? [], one };
    }),
  ];
}

function parseKey(key: string): { readonly source?: string; readonly name: string } {
  const colon = key.indexOf(':');
  return colon < 0 ? { name: key } : { source: key.slice(0, colon), name: key.slice(colon + 1) };
}

function unknownSource(source: string, field: string, report: Report): void {
  const message = `${JSON.stringify(source)} is not a source of labels that is known here`;
  report({ severity: 'error', field, message, hint: 'use k8s:, any: or reserved:, or no source' });
}

/** A requirement on a label, of something else. */
function rename(expr: LabelExpr, key: string): LabelExpr {
  return 'key' in expr ? { ...expr, key } : expr;
}

function and(of: readonly LabelExpr[]): LabelExpr {
  return of.length === 0 ? TRUE : of.length === 1 ? (of[0] as LabelExpr) : { op: 'and', of };
}
