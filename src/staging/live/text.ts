/** Policies as the text of an editor: one is read for it, and one is parsed out of it. */
import { stringify } from 'yaml';
import { AgentError } from '../../errors.js';
import { isRecord } from '../../identity/fields.js';
import { parseManifest } from '../../identity/files/yaml.js';
import type { PlainObject } from '../forms.js';
import { type PolicyName, policyNameOf } from '../names.js';
import type { PolicyApi } from './api.js';

/** etcd's objects have at most 1.5 MiB. */
const MAX_BYTES = 1 << 20;

/** A policy for an editor. */
export interface PolicyText {
  /** YAML, as `kubectl get -o yaml` shows it, without status and managed fields. */
  readonly text: string;
  /** To be given to applyEdited(): it tells whether somebody else wrote meanwhile. */
  readonly resourceVersion: string;
}

/**
 * The object of a policy's own kind. Of Calico's kinds, the other form is another policy.
 * @throws AgentError USAGE if there is none, AGENT if the API refuses
 */
export async function readPolicy(policy: PolicyName, { api }: { api: PolicyApi }): Promise<PolicyText> {
  const object = await api.read(policy);
  if (!object) throw new AgentError('USAGE', `there is no ${policy.text} in the cluster`);
  const { status: _, ...rest } = object;
  const { managedFields: _managed, ...metadata } = isRecord(object.metadata) ? object.metadata : {};
  // Keys are in order, and lists not indented, as kubectl has them. Words that are more than text in YAML 1.1 are in
  // quotes, since kubectl would take them for more.
  const style = { sortMapEntries: true, indentSeq: false, lineWidth: 0, aliasDuplicateObjects: false } as const;
  const text = stringify({ ...rest, metadata }, { ...style, compat: 'yaml-1.1' });
  return { text, resourceVersion: String(metadata.resourceVersion ?? '') };
}

/**
 * The one policy that a text is.
 * @throws AgentError MANIFEST if it is too long or no YAML, USAGE if it is not exactly one policy with its names
 */
export function policyOfText(text: string): { readonly object: PlainObject; readonly name: PolicyName } {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_BYTES) throw new AgentError('MANIFEST', `the text has ${bytes} bytes, of ${MAX_BYTES} at most`);
  const documents = parseManifest('', text);
  const problem = documents.flatMap((d) => d.problems)[0];
  if (problem) {
    const { message, hint, where } = problem;
    const { line } = where;
    const opts = { ...(line === undefined ? {} : { where: { line } }), ...(hint === undefined ? {} : { hint }) };
    throw new AgentError('MANIFEST', `${line === undefined ? '' : `line ${line}: `}${message}`, opts);
  }
  const [first, ...others] = documents.flatMap((d) => d.objects);
  if (!first || others.length > 0)
    throw new AgentError('USAGE', `the text has ${first ? others.length + 1 : 'no'} objects: it must be one policy`);
  const object = plainOf(first.object);
  return { object, name: policyNameOf(object) };
}

/** The object as JSON has it. @throws AgentError USAGE: JSON has no infinity, and a limit must not become none */
function plainOf(object: PlainObject): PlainObject {
  const json = JSON.stringify(object, (key, value: unknown) => {
    if (typeof value === 'number' && !Number.isFinite(value))
      throw new AgentError('USAGE', `${key.slice(0, 100)}: ${value} is not a number`);
    return typeof value === 'bigint' ? Number(value) : value;
  });
  return JSON.parse(json) as PlainObject;
}
