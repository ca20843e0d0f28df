/** The policies of a cluster in the order in which they are judged, each with its object. */
import { stringify } from 'yaml';
import { Selector } from '../../compile/select.js';
import { isPolicy, isSupporting } from '../../dialects/index.js';
import { fullRuleMessage, timestampOf } from '../../edges/wire.js';
import { policyGeneration } from '../../edges/generation.js';
import type { Problem } from '../../errors.js';
import { isRecord } from '../../identity/fields.js';
import type { RawPolicy, Snapshot } from '../../identity/snapshot.js';
import type { Ir, IrPolicy, PolicyRef, Tier } from '../../ir/types.js';
import type { PolicyObjectMessage } from '../../proto/edges.js';
import { problemMessage } from '../../rpc/ask/problem.js';
import { isCalico, isStaged } from '../../staging/forms.js';

/** Longest text of one object, and of all, in characters. Objects beyond are told without their texts. */
const MAX_YAML = 256 << 10;
const MAX_ALL_YAML = 24 << 20;

export interface PolicyState {
  readonly ir: Ir;
  readonly snapshot: Snapshot;
  /** Of the policies in force. */
  readonly problems: readonly Problem[];
  /** Since when a policy has its content, milliseconds since 1970; undefined: unknown. */
  readonly since: (raw: RawPolicy) => number | undefined;
}

/** A policy object in one tier. Objects that have rules in several tiers (Cilium's) are there several times. */
interface Placed {
  readonly raw: RawPolicy;
  readonly tier: Tier;
  readonly place: number;
  readonly pieces: IrPolicy[];
}

/**
 * Every policy object: first those with rules for egress, tier by tier, in the order in which they are judged; then
 * those without, then the objects to which policies refer.
 * @param namespaces only of these, and those of the whole cluster; absent: all
 * @param pause called now and then; the work takes some tenths of a millisecond for each object
 */
export async function policyObjects(
  state: PolicyState,
  namespaces?: ReadonlySet<string>,
  pause: () => Promise<void> = async () => {},
): Promise<PolicyObjectMessage[]> {
  const { ir, snapshot } = state;
  const byRef = new Map(snapshot.policies.filter(isPolicy).map((raw) => [refKey(raw, isCalico(raw.apiVersion)), raw]));
  const pods = await podCounts(ir, snapshot, pause);
  const problems = byObject(state.problems);
  const isAsked = ({ namespace }: RawPolicy) =>
    namespace === undefined || namespaces === undefined || namespaces.has(namespace);
  const out: PolicyObjectMessage[] = [];
  let length = 0;
  const add = (raw: RawPolicy, more: PolicyObjectMessage) => {
    const message = { ...objectMessage(raw, state, problems.get(raw.where.object ?? '') ?? []), ...more };
    const text = length < MAX_ALL_YAML ? yamlOf(raw) : undefined;
    length += text?.length ?? 0;
    out.push(text === undefined ? message : { ...message, yaml: text });
  };
  const seen = new Set<RawPolicy>();
  for (const { raw, tier, place, pieces } of placed(ir, byRef)) {
    seen.add(raw);
    if (!isAsked(raw)) continue;
    const [first] = pieces as [IrPolicy];
    const rules = pieces.flatMap(({ rules, staged }) => rules.map(({ ref }) => fullRuleMessage({ ...ref, staged })));
    add(raw, {
      dialect: first.ref.dialect,
      tier: tier.name,
      tier_order: tier.order,
      tier_default: tier.defaultAction,
      place,
      staged: pieces.every((p) => p.staged),
      pods: Math.max(...pieces.map((p) => pods.get(p) ?? 0)),
      rules,
    });
    await pause();
  }
  for (const raw of snapshot.policies) {
    // ServiceAccounts are there to be selected only.
    if (seen.has(raw) || raw.kind === 'ServiceAccount' || !isAsked(raw)) continue;
    if (!isPolicy(raw)) continue;
    add(raw, { staged: isStaged(raw.object) });
    await pause();
  }
  for (const raw of snapshot.policies)
    if (raw.kind !== 'ServiceAccount' && isAsked(raw) && isSupporting(raw)) add(raw, { supporting: true });
  return out;
}

function objectMessage(raw: RawPolicy, { since }: PolicyState, problems: readonly Problem[]): PolicyObjectMessage {
  const sinceMs = since(raw);
  return {
    kind: raw.kind,
    api_version: raw.apiVersion,
    namespace: raw.namespace ?? '',
    name: raw.name,
    state: problems.some((p) => p.severity === 'error') ? 'refused' : 'in-force',
    problems: problems.map(problemMessage),
    generation: policyGeneration(raw),
    ...(sinceMs === undefined ? {} : { since: timestampOf(sinceMs) }),
  };
}

/** The objects of each tier. The pieces of one object are judged one after the other. */
function* placed(ir: Ir, byRef: ReadonlyMap<string, RawPolicy>): Generator<Placed> {
  for (const tier of ir.tiers) {
    const found = new Map<RawPolicy, Placed>();
    for (const policy of tier.policies) {
      // A policy that is held without its object, while its namespace is deleted, has none.
      const raw = byRef.get(refKey(policy.ref, policy.ref.dialect === 'calico'));
      if (!raw) continue;
      const known = found.get(raw);
      if (known) known.pieces.push(policy);
      else found.set(raw, { raw, tier, place: found.size, pieces: [policy] });
    }
    yield* found.values();
  }
}

/** Kinds of Calico and of Kubernetes may have the same name; other kinds of two groups are not in one cluster. */
function refKey({ kind, namespace, name }: Omit<PolicyRef, 'dialect'>, calico: boolean): string {
  return [calico ? 'calico' : '', kind, namespace ?? '', name].join('\0');
}

/** Pods for which policies are selected between two pauses. */
const PODS_AT_ONCE = 100;

/** How many pods each policy selects. Those for nodes select none. */
async function podCounts(ir: Ir, snapshot: Snapshot, pause: () => Promise<void>): Promise<Map<IrPolicy, number>> {
  const keys = [...snapshot.pods].flatMap(([key, pod]) => (pod.hostNetwork || pod.ended ? [] : [key]));
  const counts = new Map<IrPolicy, number>();
  const selector = new Selector();
  for (let at = 0; at < keys.length; at += PODS_AT_ONCE) {
    for (const selections of selector.select(ir, snapshot, keys.slice(at, at + PODS_AT_ONCE)).values())
      for (const { policies } of selections)
        for (const policy of policies) counts.set(policy, (counts.get(policy) ?? 0) + 1);
    await pause();
  }
  return counts;
}

function byObject(problems: readonly Problem[]): Map<string, Problem[]> {
  const out = new Map<string, Problem[]>();
  for (const problem of problems) {
    const object = problem.where.object ?? '';
    const list = out.get(object);
    if (list) list.push(problem);
    else out.set(object, [problem]);
  }
  return out;
}

const texts = new WeakMap<object, string>();
const APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** The object as YAML, without what the API server and kubectl keep for themselves; undefined: too long. */
function yamlOf({ apiVersion, kind, object }: RawPolicy): string | undefined {
  let text = texts.get(object);
  if (text === undefined) {
    const { apiVersion: _v, kind: _k, metadata = {}, status: _s, ...rest } = object;
    const { managedFields: _m, annotations, ...kept } = isRecord(metadata) ? metadata : {};
    const own = isRecord(annotations) ? Object.entries(annotations).filter(([key]) => key !== APPLIED) : [];
    const shown = { ...kept, ...(own.length > 0 ? { annotations: Object.fromEntries(own) } : {}) };
    const whole = { apiVersion, kind, metadata: shown, ...rest };
    // Before it is written as YAML, which takes long.
    const isLong = JSON.stringify(whole).length > MAX_YAML;
    text = isLong ? '' : stringify(whole, { aliasDuplicateObjects: false, lineWidth: 0 });
    texts.set(object, text);
  }
  return text === '' ? undefined : text;
}
