/**
 * Cilium's label selectors. A key may name its source: `k8s:app`, `any:app` (the same as `app`), `reserved:host`.
 * Besides the pod's own labels there are those that Cilium adds: its namespace, the namespace's labels, its service
 * account (pkg/k8s/apis/cilium.io/const.go). `reserved:` selects entities, which have no labels of their own.
 */
import type { LabelExpr, Peer } from '../../ir/peers.js';
import { VIRTUAL } from '../../ir/peers.js';
import type { Fault } from '../base/dialect.js';
import { type LabelSelector, labelSelector } from '../base/selectors.js';
import type { Context } from './context.js';
import { entityPeer } from './entities.js';

const NAMESPACE = 'io.kubernetes.pod.namespace';
const OF_NAMESPACE = 'io.cilium.k8s.namespace.labels.';
const ACCOUNT = 'io.cilium.k8s.policy.serviceaccount';
const CLUSTER = 'io.cilium.k8s.policy.cluster';

const NOTHING: LabelExpr = { op: 'or', of: [] };
const TRUE: LabelExpr = { op: 'true' };

type Report = (fault: Fault) => void;

/** One requirement: on a label of pods, or on the kind of an endpoint. */
type Requirement =
  | { readonly of: 'pods'; readonly key: string; readonly expr: LabelExpr; readonly field: string }
  | { readonly of: 'reserved'; readonly entity: string; readonly is: boolean; readonly field: string };

/**
 * The pods that a policy governs.
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
      // Pods are no reserved entities, but all pods match `all` (EndpointSelector.Matches).
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

/**
 * The destinations of one item of toEndpoints: pods, unless it names reserved entities. A selector with negative
 * requirements only would match the internet too. Therefore each selector also requires a namespace, which only
 * endpoints of the cluster have (getEndpointSelector in pkg/k8s/apis/cilium.io/utils; cilium#46949, where the selectors
 * on namespaces lacked it).
 */
export function endpointPeer(selector: LabelSelector, path: string, context: Context): Peer {
  const all = requirements(selector, path, context.report);
  const pods = all.filter((r) => r.of === 'pods');
  const reserved = all.filter((r) => r.of === 'reserved');
  const exprs = pods.map((r) => r.expr);
  const podsWhere = (expr: LabelExpr, names?: readonly string[]): Peer => ({
    kind: 'pods',
    namespaces: names ? { names } : { labels: TRUE },
    pods: expr,
  });
  if (reserved.length === 0) {
    const scoped = pods.some((r) => r.key === VIRTUAL.namespace || r.key.startsWith(VIRTUAL.ofNamespace));
    // Without a namespace, it means the policy's own, or any for clusterwide policies.
    const own = scoped || context.namespace === undefined ? undefined : [context.namespace];
    return podsWhere(and(exprs), own);
  }
  return reservedPeer(reserved, pods, podsWhere, context);
}

/** A selector that names reserved entities gets no namespace. Its other requirements apply to everything. */
function reservedPeer(
  reserved: readonly Extract<Requirement, { of: 'reserved' }>[],
  pods: readonly Extract<Requirement, { of: 'pods' }>[],
  podsWhere: (expr: LabelExpr) => Peer,
  context: Context,
): Peer {
  for (const { key, field } of pods) {
    if (key !== CLUSTER) continue;
    const hint = 'remove it: what is known here is of this cluster';
    context.report({ severity: 'error', field, message: 'is not known of what is reserved', hint });
  }
  const exprs = pods.map((r) => r.expr);
  // Entities have none of a pod's labels, so they match negative requirements.
  const asks = exprs.some((e) => e.op === 'in' || e.op === 'exists');
  const positive: Peer[] =
    exprs.length === 0
      ? []
      : [asks ? podsWhere(and(exprs)) : { kind: 'not', of: podsWhere({ op: 'not', of: and(exprs) }) }];
  const entities = reserved.map((r): Peer => {
    const peer = entityPeer(r.entity, r.field, context);
    return r.is ? peer : { kind: 'not', of: peer };
  });
  const parts = [...entities, ...positive];
  return parts.length === 1 ? (parts[0] as Peer) : { kind: 'all', of: parts };
}

/** Translates a selector of objects with plain labels: nodes, Services, CIDR groups. */
export function plainExpr(selector: LabelSelector, path: string, report: Report): LabelExpr {
  return plainExprOf(split(selector, path), path, report);
}

function plainExprOf(parts: readonly Part[], path: string, report: Report): LabelExpr {
  return and(
    parts.map(({ key, field, one }) => {
      const { source, name } = parseKey(key);
      if (source === undefined || SOURCES.has(source) || source === 'node' || source === 'cidrgroup') {
        return labelSelector(one(name), path, (f) => report({ ...f, field }));
      }
      unknownSource(source, field, report);
      return NOTHING;
    }),
  );
}

/** Translates a selector of other nodes, which also have the label of the cluster (addClusterFilterByDefault). */
export function nodeExpr(selector: LabelSelector, path: string, report: Report): LabelExpr {
  const isCluster = ({ key }: Part) => parseKey(key).name === CLUSTER;
  const parts = split(selector, path);
  const ofCluster = parts.filter(isCluster).map(({ operator, field }) => clusterExpr(operator, field, report));
  return and([
    ...ofCluster,
    plainExprOf(
      parts.filter((p) => !isCluster(p)),
      path,
      report,
    ),
  ]);
}

/** Sources of pods' labels. */
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
    if (name === CLUSTER) return { of: 'pods', key: CLUSTER, expr: clusterExpr(operator, field, report), field };
    const virtual =
      name === NAMESPACE
        ? VIRTUAL.namespace
        : name === ACCOUNT
          ? VIRTUAL.account
          : name.startsWith(OF_NAMESPACE)
            ? `${VIRTUAL.ofNamespace}${name.slice(OF_NAMESPACE.length)}`
            : undefined;
    const plain = virtual?.startsWith(VIRTUAL.ofNamespace) ? virtual.slice(VIRTUAL.ofNamespace.length) : name;
    // Names of service accounts may be longer than label values and contain dots, so they are not checked.
    const check = virtual === VIRTUAL.account ? () => {} : (f: Fault) => report({ ...f, field });
    const expr = labelSelector(one(plain), path, check);
    return { of: 'pods', key: virtual ?? name, expr: virtual ? rename(expr, virtual) : expr, field };
  });
}

/** Every known pod belongs to this cluster, whose name is unknown. */
function clusterExpr(operator: Part['operator'], field: string, report: Report): LabelExpr {
  if (operator === 'Exists') return TRUE;
  if (operator === 'DoesNotExist') return NOTHING;
  const hint = 'remove it, or use Exists: every pod that is known is of this cluster';
  report({ severity: 'error', field, message: 'is not known: clusters have no names here', hint });
  return NOTHING;
}

interface Part {
  readonly key: string;
  readonly field: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
  /** The requirement as a selector of its own, with the key written as given. */
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

/** The same requirement on another key. */
function rename(expr: LabelExpr, key: string): LabelExpr {
  return 'key' in expr ? { ...expr, key } : expr;
}

function and(all: readonly LabelExpr[]): LabelExpr {
  const of = all.filter((e) => e.op !== 'true');
  return of.length === 0 ? TRUE : of.length === 1 ? (of[0] as LabelExpr) : { op: 'and', of };
}
