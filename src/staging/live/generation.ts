/** The generation of an object that was read from the API. */
import { policyGeneration } from '../../edges/generation.js';
import { isRecord } from '../../identity/fields.js';
import type { PlainObject } from '../forms.js';

/** As policyGeneration() of the same object as agents read it. */
export function generationOf(object: PlainObject): number {
  const { name, namespace } = isRecord(object.metadata) ? object.metadata : {};
  const own = {
    apiVersion: String(object.apiVersion),
    kind: String(object.kind),
    name: String(name),
    object,
    where: {},
  };
  return policyGeneration(namespace === undefined ? own : { ...own, namespace: String(namespace) });
}
