/** Numbers for the contents of policies: an edited policy has another number than before. */
import { objectGroup } from '../identity/kinds.js';
import { isRecord } from '../identity/fields.js';
import type { RawPolicy } from '../identity/snapshot.js';
import { hash53 } from './edge.js';

const known = new WeakMap<RawPolicy, number>();

/** Calico's staged kinds, and the group and kind of what each becomes when it is enforced. */
export const BECOMES: Readonly<Record<string, string>> = {
  StagedNetworkPolicy: 'projectcalico.org/NetworkPolicy',
  StagedGlobalNetworkPolicy: 'projectcalico.org/GlobalNetworkPolicy',
  StagedKubernetesNetworkPolicy: 'networking.k8s.io/NetworkPolicy',
};

/**
 * The generation of a policy's content: 53 bits, of its kind, name and fields. Whether it is staged is no part of it,
 * by annotation or as a Staged kind of Calico's: what was counted for a staged policy counts for the same policy in
 * force. Nor is anything else of its metadata. 0: the content cannot be written as text.
 */
export function policyGeneration(raw: RawPolicy): number {
  let found = known.get(raw);
  if (found === undefined) known.set(raw, (found = compute(raw)));
  return found;
}

function compute(raw: RawPolicy): number {
  const { spec, specs } = raw.object;
  const content = isRecord(spec) ? { ...spec, stagedAction: undefined } : spec;
  try {
    return hash53(canonical([kindOf(raw), raw.namespace ?? '', raw.name, content, specs])) || 1;
  } catch {
    return 0; // nested deeper than the stack
  }
}

function kindOf({ apiVersion, kind }: RawPolicy): string {
  const group = objectGroup(apiVersion);
  return (group === 'projectcalico.org' && BECOMES[kind]) || `${group}/${kind}`;
}

/** JSON with its keys in order. What is null is absent, as for the API server. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (!isRecord(value)) return JSON.stringify(value) ?? 'null';
  let out = '{';
  for (const key of Object.keys(value).sort()) {
    const inner = value[key];
    if (inner === undefined || inner === null) continue;
    out += `${out.length > 1 ? ',' : ''}${JSON.stringify(key)}:${canonical(inner)}`;
  }
  return `${out}}`;
}
