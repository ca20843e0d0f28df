/** Translates single objects: finds the dialect of an object and lets it translate the object. */
import { apiGroup } from '../identity/kinds.js';
import type { RawPolicy, Snapshot } from '../identity/snapshot.js';
import type { Dialect, Understood } from './base/dialect.js';
import { calico } from './calico/index.js';
import { cilium } from './cilium/index.js';
import { adminNetworkPolicy } from './clusternetworkpolicy/admin.js';
import { clusterNetworkPolicy } from './clusternetworkpolicy/index.js';
import { annotationsOf, isAudit, staged } from './enforcement.js';
import { fqdnNetworkPolicy } from './fqdn/index.js';
import { BY_RULES, type Hearing, withHearing } from './hearing.js';
import { applicationNetworkPolicy } from './networkpolicy/application.js';
import { networkPolicy } from './networkpolicy/index.js';
import { guarded } from './problems.js';
import { withRefusal } from './refusal.js';

export const DIALECTS: readonly Dialect[] = [
  networkPolicy,
  applicationNetworkPolicy,
  clusterNetworkPolicy,
  adminNetworkPolicy,
  cilium,
  fqdnNetworkPolicy,
  calico,
];

/** The supporting objects of each dialect. */
export type Supporting = Map<Dialect, readonly RawPolicy[]>;

/** Cache by raw object. An entry is valid as long as the object and its supporting objects are the same. */
const understood = new WeakMap<object, Known>();

interface Known {
  readonly raw: RawPolicy;
  readonly supporting: readonly RawPolicy[];
  readonly hearing: Hearing;
  readonly result: Understood;
}

export const NONE: readonly RawPolicy[] = [];

/**
 * An object's name. It includes the API group, because kinds of several groups have the same name, such as
 * NetworkPolicy of Calico and of Kubernetes.
 */
export function nameOf({ namespace, name, kind, apiVersion }: RawPolicy): string {
  return [namespace ?? '', name, kind, apiGroup(apiVersion)].join('\0');
}

/**
 * Whether the object is a policy. Other objects (tiers, network sets, groups of CIDRs) are those that policies refer
 * to.
 */
export function isPolicy(raw: RawPolicy): boolean {
  return dialectOf(raw) !== undefined;
}

/**
 * Translates one object, without the agent's options; undefined if it is not a policy. Policies in audit mode are staged.
 */
export function understandOne(raw: RawPolicy, { policies, namespaces }: Snapshot): Understood | undefined {
  const dialect = dialectOf(raw);
  if (!dialect) return undefined;
  const result = translated(dialect, raw, supportingOf(dialect, policies), BY_RULES);
  const audited = isAudit(annotationsOf(raw)) || isAudit(namespaces.get(raw.namespace ?? '')?.annotations);
  return audited ? { ...result, policies: result.policies.map(staged) } : result;
}

/** Whether policies refer to the object and it is not a policy itself. */
export function isSupporting(raw: RawPolicy): boolean {
  return DIALECTS.some((dialect) => dialect.supports?.(raw));
}

function dialectOf(raw: RawPolicy): Dialect | undefined {
  return DIALECTS.find((dialect) => dialect.claims(raw));
}

/** The supporting objects of a dialect, in a fixed order. */
export function supportingOf(dialect: Dialect, policies: Snapshot['policies']): RawPolicy[] {
  return policies.filter((raw) => dialect.supports?.(raw)).sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
}

/** understandOne() with a cache. */
export function understand(raw: RawPolicy, supporting: Supporting, hearing: Hearing): Understood | undefined {
  const dialect = dialectOf(raw);
  if (!dialect) return undefined;
  const objects = supporting.get(dialect) ?? NONE;
  const cached = understood.get(raw.object);
  const { apiVersion, kind, namespace, name } = raw;
  if (
    cached?.supporting === objects &&
    cached.hearing === hearing &&
    cached.raw.apiVersion === apiVersion &&
    cached.raw.kind === kind &&
    cached.raw.namespace === namespace &&
    cached.raw.name === name
  ) {
    return cached.result;
  }
  const result = translated(dialect, raw, objects, hearing);
  understood.set(raw.object, { raw, supporting: objects, hearing, result });
  return result;
}

/** What the object says, in its fields and in its annotations. */
function translated(dialect: Dialect, raw: RawPolicy, supporting: readonly RawPolicy[], hearing: Hearing): Understood {
  return withHearing(raw, withRefusal(raw, guarded(dialect, raw, supporting)), hearing);
}
