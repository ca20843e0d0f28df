/** Writes what a user made of a policy in an editor: a new policy, or another content of one. */
import { isDeepStrictEqual } from 'node:util';
import { AgentError } from '../../errors.js';
import { isRecord } from '../../identity/fields.js';
import { apiGroup } from '../../identity/kinds.js';
import {
  annotationsIn,
  enforcedForm,
  isStaged,
  type PlainObject,
  sameObject,
  stagedAction,
  stagedForm,
  withAnnotations,
} from '../forms.js';
import {
  ENFORCED_AT,
  hasTwin,
  isStagedByKind,
  keptContent,
  NOT_KEPT,
  ofNamespace,
  PREVIOUS,
  REASONS,
  stamp,
  STAGED_AT,
  stampOf,
  type Write,
} from '../plan.js';
import { ConflictError, type PolicyApi } from './api.js';
import { generationOf } from './generation.js';
import { noteOf, writeText } from './step.js';
import { policyOfText } from './text.js';

/** What an edited policy becomes. */
export type Form = 'staged' | 'enforced';

export interface EditOptions {
  /** The API server checks everything, and changes nothing. */
  readonly dryRun?: boolean;
  /** Of the object as it was read. Default, or empty: the one in the text. None: there must be no such policy yet. */
  readonly resourceVersion?: string;
  readonly now?: Date;
}

export interface EditResult {
  /** The writes that were made, or would be: `replace NetworkPolicy shop/web`. None: nothing differs. */
  readonly changes: readonly string[];
  readonly warnings: readonly string[];
  /** Of the object as it is now; undefined: it is not there, after a dry run. */
  readonly resourceVersion: string | undefined;
  /** Why the Event could not be written; the policy was written nevertheless. */
  readonly eventError?: string;
}

/**
 * Creates or replaces the policy that a text is, in the form that is asked for: of Calico's kinds the staged form is an
 * object of its own, and what is in force beside it stays so. The API server checks everything before anything is
 * written. Labels and annotations that the text does not have are taken away; status, finalizers and owner references
 * stay. When the policy was staged and enforced is never taken from the text.
 * @param text one policy as YAML or JSON, up to 1 MiB
 * @throws AgentError MANIFEST if it cannot be parsed, USAGE if it cannot become what is asked for, AGENT if the API
 * refuses; ConflictError if somebody else wrote since it was read
 */
export async function applyEdited(
  text: string,
  as: Form,
  { api }: { api: PolicyApi },
  { dryRun = false, resourceVersion, now = new Date() }: EditOptions = {},
): Promise<EditResult> {
  const { object: written, name } = policyOfText(text);
  const { objects, namespaceIsStaged } = await api.look(name);
  checkVersion(api, written);
  const own = objects.find((o) => sameObject(o, written));
  checkUnchanged(name.text, own, resourceVersion || versionOf(written));
  const form = formOf(as, withoutServerPart(written));
  const before = objects.find((o) => sameObject(o, form));
  if (before && before !== own) throw isThere(name.text, before);
  if (as === 'enforced' && namespaceIsStaged) throw ofNamespace(form);
  if (as === 'staged' && before && !isStaged(before) && !namespaceIsStaged) throw isInForce(name.text);

  const warnings: string[] = [];
  const body = bodyOf(as, form, before, now, warnings);
  if (before && isDeepStrictEqual(comparable(body), comparable(before)))
    return { changes: [], warnings: [], resourceVersion: versionOf(before) };
  const writes: Write[] = [{ verb: before ? 'replace' : 'create', object: body }];
  // As when it is enforced without an edit: the staged object must not wait there to replace the edit later.
  if (as === 'enforced' && own && isStagedByKind(own)) writes.push({ verb: 'delete', object: own });
  warnings.push(
    ...warningsOf(
      as,
      form,
      before,
      objects.filter((o) => !writes.some((w) => w.object === o)),
    ),
  );

  await api.apply({ writes, about: body }, true);
  const changes = writes.map(writeText);
  if (dryRun) return { changes, warnings, resourceVersion: before && versionOf(before) };
  const made = await api.apply({ writes, about: body }, false);
  const result = { changes, warnings, resourceVersion: versionOf(made) };
  const says = as === 'staged' ? 'is staged' : 'is in force';
  const message = `${name.text} ${says}, ${before ? 'with an edited content' : 'as it was written in an editor'}.`;
  const eventError = await noteOf(api, made, REASONS[as === 'staged' ? 'stage' : 'enforce'], message, now);
  return eventError === undefined ? result : { ...result, eventError };
}

/** Fields may differ between versions, so a text is not written as another one. @throws AgentError USAGE */
function checkVersion(api: PolicyApi, { apiVersion, kind }: PlainObject): void {
  const served = api.versionOf(apiGroup(String(apiVersion)), String(kind));
  if (served === undefined || served === apiVersion) return;
  const field = 'apiVersion';
  throw new AgentError('USAGE', `${field}: the cluster's is ${served}`, {
    where: { field },
    hint: `write the policy as ${served} has it`,
  });
}

/** @throws ConflictError */
function checkUnchanged(name: string, own: PlainObject | undefined, wanted: string | undefined): void {
  if (!own && wanted === undefined) return;
  if (own && wanted === undefined)
    throw new ConflictError('AGENT', `there is ${name} in the cluster already`, {
      hint: 'read it, and edit that; or give the new policy another name',
    });
  if (!own)
    throw new ConflictError('AGENT', `${name} was deleted since it was read`, {
      hint: 'to create it anew, take resourceVersion out of its metadata',
    });
  if (versionOf(own) !== wanted)
    throw new ConflictError('AGENT', `${name} was changed since it was read`, {
      hint: 'read it again, and make the edit there',
    });
}

/** The other form is there, which the user has not read. */
function isThere(name: string, object: PlainObject): ConflictError {
  const kind = String(object.kind);
  return isStaged(object)
    ? new ConflictError('AGENT', `another content of ${name} is staged already: a ${kind}`, {
        hint: 'read and edit that, or delete it first',
      })
    : new ConflictError('AGENT', `a ${kind} is in force that ${name} would replace`, {
        hint: 'stage the edit, and enforce it then; or read and edit what is in force',
      });
}

function isInForce(name: string): AgentError {
  const message = `${name} is in force: to stage the edit would take what is in force out of force`;
  return new AgentError('USAGE', message, {
    hint: 'enforce the edit; or stage the policy first, which says what that means; or stage the edit under another name',
  });
}

/** @throws AgentError USAGE */
function formOf(as: Form, object: PlainObject): PlainObject {
  if (as === 'staged') return stagedForm(object);
  const action = isStagedByKind(object) ? stagedAction(object) : 'Set';
  if (action !== 'Set')
    throw new AgentError('USAGE', `its stagedAction is ${action}: there is nothing to enforce of it`, {
      where: { field: 'spec.stagedAction' },
      hint: 'stage it, or write Set',
    });
  return enforcedForm(object);
}

/** What the API server sets itself, whatever is written. */
const SERVER_OWNED = [
  ...['uid', 'resourceVersion', 'generation', 'creationTimestamp', 'selfLink'],
  ...['deletionTimestamp', 'deletionGracePeriodSeconds'],
];

/** What others rely on, and what a text that was written anew lacks. */
const KEPT = ['finalizers', 'ownerReferences'];

function withoutServerPart({ status: _, ...object }: PlainObject): PlainObject {
  const entries = Object.entries(metadataOf(object));
  const own = entries.filter(([key]) => !SERVER_OWNED.includes(key) && key !== 'managedFields');
  return { ...object, metadata: Object.fromEntries(own) };
}

/** The whole object to be written. Without managed fields, the API server keeps those that there are. */
function bodyOf(
  as: Form,
  form: PlainObject,
  before: PlainObject | undefined,
  now: Date,
  warnings: string[],
): PlainObject {
  const stamped = withAnnotations(form, stampsOf(as, form, before, now, warnings));
  if (!before) return stamped;
  const [own, known] = [metadataOf(stamped), metadataOf(before)];
  const kept = KEPT.filter((key) => known[key] !== undefined && own[key] === undefined);
  for (const key of kept) warnings.push(`metadata.${key} stays as it is: to take it away, write []`);
  const present = [...SERVER_OWNED, ...kept].filter((key) => known[key] !== undefined);
  const metadata = { ...own, ...Object.fromEntries(present.map((key) => [key, known[key]])) };
  return { ...stamped, metadata, ...(before.status === undefined ? {} : { status: before.status }) };
}

/** Our annotations. Those of the text are not believed: they would be a way around the count, and around undo. */
function stampsOf(
  as: Form,
  form: PlainObject,
  before: PlainObject | undefined,
  now: Date,
  warnings: string[],
): Record<string, string | undefined> {
  const generation = generationOf(form);
  const known = before ? annotationsIn(before) : {};
  const textOf = (key: string) => (typeof known[key] === 'string' ? known[key] : undefined);
  if (as === 'staged') {
    const isCounted = before && stampOf(before, STAGED_AT)?.generation === generation;
    const stagedAt = isCounted ? textOf(STAGED_AT) : stamp({ now, generation });
    return { [STAGED_AT]: stagedAt, [ENFORCED_AT]: undefined, [PREVIOUS]: undefined };
  }
  const enforced = before && !isStaged(before) ? before : undefined;
  if (enforced && generationOf(enforced) === generation)
    return { [STAGED_AT]: undefined, [ENFORCED_AT]: textOf(ENFORCED_AT), [PREVIOUS]: textOf(PREVIOUS) };
  // Only of what has a form of its own, undo restores what was replaced.
  const previous = enforced && hasTwin(enforced) ? keptContent(enforced) : undefined;
  if (enforced && hasTwin(enforced) && previous === undefined) warnings.push(NOT_KEPT);
  return { [STAGED_AT]: undefined, [ENFORCED_AT]: stamp({ now, generation }), [PREVIOUS]: previous };
}

/** @param others the objects of the policy's name that stay */
function warningsOf(
  as: Form,
  form: PlainObject,
  before: PlainObject | undefined,
  others: readonly PlainObject[],
): string[] {
  const beside = others.filter((o) => !sameObject(o, form));
  if (as === 'staged') return beside.some((o) => !isStaged(o)) ? ['what is in force stays in force beside it'] : [];
  const isNew = !before || isStaged(before) || generationOf(before) !== generationOf(form);
  return [
    ...(isNew ? ['it is in force at once, whatever it denies: its impact is not looked at'] : []),
    ...(beside.some(isStaged) ? ['another content is staged beside it: to enforce that replaces this one'] : []),
  ];
}

/** For a comparison: managed fields are not written. */
function comparable({ metadata, ...rest }: PlainObject): PlainObject {
  const { managedFields: _, ...own } = isRecord(metadata) ? metadata : {};
  return { ...rest, metadata: own };
}

function metadataOf({ metadata }: PlainObject): Readonly<Record<string, unknown>> {
  return isRecord(metadata) ? metadata : {};
}

function versionOf(object: PlainObject): string | undefined {
  const { resourceVersion } = metadataOf(object);
  return resourceVersion === undefined || resourceVersion === null ? undefined : String(resourceVersion);
}
