/** Changes of policies that are not made: the objects of a snapshot, with others in place of some. */
import { AgentError, type Problem } from '../../errors.js';
import { ENFORCEMENT, isAudit } from '../../dialects/enforcement.js';
import { buildSnapshot } from '../../identity/builder.js';
import { parseManifest } from '../../identity/files/yaml.js';
import { kindTitle, objectGroup } from '../../identity/kinds.js';
import type { Namespace, RawPolicy, Snapshot } from '../../identity/snapshot.js';
import { formatPolicy } from '../../ir/names.js';
import { enforcedForm, isCalico, isStaged, isStagedKind, stagedAction } from '../../staging/forms.js';

/** Largest text of manifests in a request, in bytes. */
const MAX_MANIFESTS = 1 << 20;
/** Most objects that a request may name to be deleted. */
const MAX_DELETED = 1000;

export interface PolicyChange {
  /** YAML documents. Objects that are known already are replaced. */
  readonly manifests: string;
  /** Objects that are deleted: `NetworkPolicy shop/web`, or `np/shop/web`. */
  readonly deleted: readonly string[];
  /** Whether staged policies count as enforced. */
  readonly enforceStaged: boolean;
}

/** An object's name for people: `NetworkPolicy shop/web`. */
export function objectTitle({ apiVersion, kind, namespace, name }: RawPolicy): string {
  return `${kindTitle(apiVersion, kind)} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

/** The same, as rules have it: `np/shop/web`. */
export function objectShort({ apiVersion, kind, namespace, name }: RawPolicy): string {
  const dialect = isCalico(apiVersion) ? 'calico' : '';
  return formatPolicy({ dialect, kind, name, ...(namespace === undefined ? {} : { namespace }) });
}

/**
 * The snapshot after a change, with the problems of its manifests. Everything but the policies is the same.
 * @throws AgentError USAGE if the request is too large
 */
export function changedSnapshot(before: Snapshot, change: PolicyChange): { snapshot: Snapshot; problems: Problem[] } {
  const { manifests, deleted, enforceStaged } = change;
  if (manifests.length > MAX_MANIFESTS || Buffer.byteLength(manifests) > MAX_MANIFESTS)
    throw new AgentError('USAGE', `the manifests are larger than ${MAX_MANIFESTS >> 20} MiB`);
  if (deleted.length > MAX_DELETED) throw new AgentError('USAGE', `more than ${MAX_DELETED} objects are deleted`);
  const problems: Problem[] = [];
  const policies = new Map(before.policies.map((raw) => [keyOf(raw), raw]));
  const named = new Map<string, string>();
  if (deleted.length > 0)
    for (const [key, raw] of policies) for (const name of [objectShort(raw), objectTitle(raw)]) named.set(name, key);
  for (const name of deleted) {
    const key = named.get(name);
    if (key !== undefined) policies.delete(key);
    else problems.push({ severity: 'error', where: { object: name }, message: 'is not there to be deleted' });
  }
  const given = parsed(manifests);
  problems.push(...given.problems);
  for (const raw of given.policies) policies.set(keyOf(raw), raw);
  if (!enforceStaged) return { snapshot: { ...before, policies: [...policies.values()] }, problems };
  for (const [key, raw] of [...policies]) {
    if (!isStaged(raw.object)) continue;
    const action = isStagedKind(raw.apiVersion, raw.kind) ? stagedAction(raw.object) : 'Set';
    if (action === 'Ignore') continue;
    policies.delete(key);
    const enforced = enforcedRaw(raw);
    if (action === 'Delete') policies.delete(keyOf(enforced));
    else policies.set(keyOf(enforced), enforced);
  }
  const namespaces = [...before.namespaces].some(([, { annotations }]) => isAudit(annotations))
    ? new Map([...before.namespaces].map(([name, one]) => [name, enforcing(one)]))
    : before.namespaces;
  return { snapshot: { ...before, namespaces, policies: [...policies.values()] }, problems };
}

function parsed(manifests: string): { policies: readonly RawPolicy[]; problems: Problem[] } {
  const documents = parseManifest('', manifests);
  const objects = documents.flatMap((d) => d.objects);
  const snapshot = buildSnapshot(objects, { nodeName: '', ownNodeIps: [] });
  const problems = [...documents.flatMap((d) => d.problems), ...snapshot.problems];
  const others = [snapshot.pods, snapshot.namespaces, snapshot.nodes, snapshot.services];
  if (others.some((map) => map.size > 0))
    problems.push({
      severity: 'warning',
      where: {},
      message: 'pods, namespaces, nodes and Services of the manifests are left out: those of the cluster count',
    });
  const { policies } = snapshot;
  // Problems are of the text that was given, and no file.
  const nameless = problems.map((p) => ({ ...p, where: withoutFile(p.where) }));
  return { policies: policies.map((raw) => ({ ...raw, where: withoutFile(raw.where) })), problems: nameless };
}

function withoutFile({ file: _, ...where }: Problem['where']): Problem['where'] {
  return where;
}

function enforcedRaw(raw: RawPolicy): RawPolicy {
  const object = enforcedForm(raw.object);
  const made = { ...raw, apiVersion: String(object.apiVersion), kind: String(object.kind), object };
  return { ...made, where: { ...raw.where, object: objectTitle(made) } };
}

function enforcing(one: Namespace): Namespace {
  if (!isAudit(one.annotations)) return one;
  const { [ENFORCEMENT]: _, ...annotations } = one.annotations;
  return { ...one, annotations };
}

function keyOf({ apiVersion, kind, namespace, name }: RawPolicy): string {
  return [objectGroup(apiVersion), kind, namespace ?? '', name].join('\0');
}
