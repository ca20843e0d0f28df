/**
 * The two forms of a policy, staged and enforced. Most languages have one object for both, and the annotation
 * `egress-agent.io/enforcement: audit` says which it is. Calico has Staged kinds: objects of their own, beside those
 * that they become.
 */
import { ENFORCEMENT, isAudit } from '../dialects/enforcement.js';
import { BECOMES } from '../edges/generation.js';
import { isRecord } from '../identity/fields.js';
import { apiGroup, objectGroup } from '../identity/kinds.js';

/** A Kubernetes object as plain data. */
export type PlainObject = Readonly<Record<string, unknown>>;

/** What a Staged kind of Calico's is to do, by its spec.stagedAction. */
export type StagedAction = 'Set' | 'Delete' | 'Ignore';

const CALICO = 'projectcalico.org';
const ENFORCED_VERSION: Readonly<Record<string, string>> = { 'networking.k8s.io': 'networking.k8s.io/v1' };

/** Whether a kind is one of Calico's Staged kinds. */
export function isStagedKind(apiVersion: string, kind: string): boolean {
  return objectGroup(apiVersion) === CALICO && Object.hasOwn(BECOMES, kind);
}

/** Whether an object says of itself that it is staged. Its namespace may say so too. */
export function isStaged(object: PlainObject): boolean {
  return isStagedKind(text(object.apiVersion), text(object.kind)) || isAudit(annotationsIn(object));
}

/** The kind and version of the other form, where it is an object of its own; undefined: it is the same object. */
export function twinOf(apiVersion: string, kind: string): { apiVersion: string; kind: string } | undefined {
  if (objectGroup(apiVersion) !== CALICO) return undefined;
  const becomes = BECOMES[kind];
  if (becomes !== undefined) {
    const [group = '', name = ''] = becomes.split('/');
    return { apiVersion: ENFORCED_VERSION[group] ?? apiVersion, kind: name };
  }
  const staged = `Staged${kind}`;
  return Object.hasOwn(BECOMES, staged) ? { apiVersion, kind: staged } : undefined;
}

/** What a Staged object is to do. Learn counts as Set, as for the agent. */
export function stagedAction({ spec }: PlainObject): StagedAction {
  const action = isRecord(spec) ? spec.stagedAction : undefined;
  return action === 'Delete' || action === 'Ignore' ? action : 'Set';
}

/** The policy as it is enforced. An object that is not staged stays as it is. */
export function enforcedForm(object: PlainObject): PlainObject {
  const [apiVersion, kind] = [text(object.apiVersion), text(object.kind)];
  const plain = isAudit(annotationsIn(object)) ? withAnnotations(object, { [ENFORCEMENT]: undefined }) : object;
  const twin = isStagedKind(apiVersion, kind) ? twinOf(apiVersion, kind) : undefined;
  if (!twin) return plain;
  const { stagedAction: _, ...spec } = isRecord(plain.spec) ? plain.spec : {};
  return { ...ownPart(plain), ...twin, spec };
}

/** The policy as it is staged. One that is staged stays as it is. */
export function stagedForm(object: PlainObject): PlainObject {
  if (isStaged(object)) return object;
  const twin = twinOf(text(object.apiVersion), text(object.kind));
  if (!twin) return withAnnotations(object, { [ENFORCEMENT]: 'audit' });
  const spec = isRecord(object.spec) ? object.spec : {};
  return { ...ownPart(object), ...twin, spec: { stagedAction: 'Set', ...spec } };
}

/** The object with other annotations; those that are undefined are taken away. */
export function withAnnotations(
  object: PlainObject,
  changes: Readonly<Record<string, string | undefined>>,
): PlainObject {
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  const kept = Object.entries({ ...annotationsIn(object), ...changes }).filter(([, v]) => v !== undefined);
  const { annotations: _, ...rest } = metadata;
  return {
    ...object,
    metadata: { ...rest, ...(kept.length > 0 ? { annotations: Object.fromEntries(kept) } : {}) },
  };
}

/** The annotations of an object; empty if there are none. */
export function annotationsIn({ metadata }: PlainObject): Readonly<Record<string, unknown>> {
  const annotations = isRecord(metadata) ? metadata.annotations : undefined;
  return isRecord(annotations) ? annotations : {};
}

/** kubectl's copy of what was applied: of another object, once it is copied. */
const APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** What the author wrote of an object: without status, and without what the API server keeps in the metadata. */
export function ownPart(object: PlainObject): PlainObject {
  const { status: _, ...rest } = object;
  const { name, namespace, labels } = isRecord(object.metadata) ? object.metadata : {};
  const { [APPLIED]: _applied, ...annotations } = annotationsIn(object);
  const metadata = {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(isRecord(labels) ? { labels } : {}),
    ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
  };
  return { ...rest, metadata };
}

/** Whether two objects are of the same group and kind, by whatever version, and have the same name. */
export function sameObject(a: PlainObject, b: PlainObject): boolean {
  return keyOf(a) === keyOf(b);
}

function keyOf({ apiVersion, kind, metadata }: PlainObject): string {
  const { namespace, name } = isRecord(metadata) ? metadata : {};
  return JSON.stringify([objectGroup(text(apiVersion)), kind, namespace ?? '', name]);
}

/** Whether the API group is Calico's, where policies have the names of their tiers before their own. */
export function isCalico(apiVersion: string): boolean {
  return objectGroup(apiVersion) === CALICO && apiGroup(apiVersion) !== '';
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
