/** The steps of a policy's life in a directory of manifests, as changes of the files. */
import { ENFORCEMENT } from '../dialects/enforcement.js';
import { AgentError } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import { parseManifest } from '../identity/files/yaml.js';
import { objectGroup } from '../identity/kinds.js';
import { edited, editText, type Edit } from './edit.js';
import { isStaged, type PlainObject, stagedAction, twinOf } from './forms.js';
import type { PolicyName } from './names.js';
import { isStagedByKind, type StepName } from './plan.js';
import { unifiedDiff } from './unified.js';

export interface ManifestFile {
  /** As it is shown. */
  readonly path: string;
  readonly text: string;
}

export interface FileChange {
  readonly path: string;
  readonly before: string;
  readonly after: string;
  /** As git shows it; empty if nothing changes. */
  readonly diff: string;
}

/**
 * What a step changes in the file that has the policy. Only what says whether it is staged changes: times are not
 * noted there, since reviews and reverts are of the files.
 * @throws AgentError USAGE if no file has the policy, or several have it; MANIFEST if it cannot be edited
 */
export function changeManifests(step: StepName, name: PolicyName, files: readonly ManifestFile[]): FileChange {
  const found = files.flatMap((file) =>
    objectsIn(file)
      .filter((o) => hasName(o, name))
      .map((object) => ({ file, object })),
  );
  const [first, second] = found;
  if (!first) throw new AgentError('USAGE', `there is no ${name.text} in the manifests`);
  if (second)
    throw new AgentError(
      'USAGE',
      `${name.text} is there more than once: in ${first.file.path} and ${second.file.path}`,
      {
        hint: 'staged and enforced at once, or twice: take one of the two away',
      },
    );
  const { file, object } = first;
  const edit = editOf(step, object);
  const after = edit ? editText(file.text, object, edit, edited(object, edit)) : file.text;
  if (after === undefined) throw new AgentError('MANIFEST', `${name.text} cannot be found in the text of ${file.path}`);
  return { path: file.path, before: file.text, after, diff: unifiedDiff(file.text, after, file.path) };
}

function objectsIn({ path, text }: ManifestFile): PlainObject[] {
  return parseManifest(path, text).flatMap((d) => d.objects.map(({ object }) => object));
}

/** Whether an object is the named one, or its other form. */
function hasName(object: PlainObject, { kind, groups, namespace, name }: PolicyName): boolean {
  const { apiVersion, kind: own, metadata } = object;
  if (typeof apiVersion !== 'string' || typeof own !== 'string' || !isRecord(metadata)) return false;
  const isNamed =
    metadata.name === name && (namespace === undefined || (metadata.namespace ?? 'default') === namespace);
  const wanted = groups.map((group) => `${objectGroup(`${group}/v1`)}/${kind}`);
  const forms = [{ apiVersion, kind: own }, twinOf(apiVersion, own)];
  return isNamed && forms.some((form) => form && wanted.includes(`${objectGroup(form.apiVersion)}/${form.kind}`));
}

/** undefined: the object is as it should be. */
function editOf(step: StepName, object: PlainObject): Edit | undefined {
  const toStage = step !== 'enforce';
  if (isStaged(object) === toStage) return undefined;
  const [apiVersion, kind] = [String(object.apiVersion), String(object.kind)];
  const twin = twinOf(apiVersion, kind);
  const nothing: Edit = { set: [], remove: [], annotations: {} };
  if (!twin || (!toStage && !isStagedByKind(object)))
    return { ...nothing, annotations: { [ENFORCEMENT]: toStage ? 'audit' : null } };
  if (!toStage && stagedAction(object) !== 'Set')
    throw new AgentError('USAGE', `its stagedAction is ${stagedAction(object)}`, {
      hint: 'Delete: take both the policy and this object away; Ignore: write Set',
    });
  const set: Edit['set'] = [
    [['kind'], twin.kind],
    ...(twin.apiVersion === apiVersion ? [] : [[['apiVersion'], twin.apiVersion] as const]),
  ];
  const hasAction = isRecord(object.spec) && Object.hasOwn(object.spec, 'stagedAction');
  return { ...nothing, set, remove: hasAction ? [['spec', 'stagedAction']] : [] };
}
