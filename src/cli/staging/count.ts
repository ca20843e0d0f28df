/** Counts the impact of a staged policy: what agents saw, and which CronJobs have run meanwhile. */
import { parse } from 'yaml';
import { DAY_MS } from '../../edges/edge.js';
import type { EdgeBook } from '../../edges/book.js';
import { edgeOf, millisOf, timestampOf } from '../../edges/wire.js';
import { AgentError } from '../../errors.js';
import { isRecord } from '../../identity/fields.js';
import { formatPolicy } from '../../ir/names.js';
import type { EdgesRequest, PolicyObjectMessage } from '../../proto/edges.js';
import { enforcedForm, type PlainObject, stagedAction } from '../../staging/forms.js';
import { type AloneDenied, type CronJob, type Impact, impactOf } from '../../staging/impact.js';
import { bothNames, type PolicyName } from '../../staging/names.js';
import { STAGED_AT, stampOf } from '../../staging/plan.js';
import type { ClusterFlags } from '../common/target.js';
import type { Evidence } from './evidence.js';

/** A policy as agents know it. */
export interface KnownPolicy {
  readonly generation: number;
  readonly isStaged: boolean;
  /** Since when it is staged with its present content, milliseconds since 1970; undefined: nobody knows. */
  readonly stagedMs: number | undefined;
  /** Pods that it selects. */
  readonly pods: number;
  /** Its object; empty if it is too long to be told. */
  readonly content: PlainObject;
  readonly isRefused: boolean;
}

/** The policy among objects; the staged one, if there are two. undefined: the agents do not know it. */
export function knownPolicy(objects: readonly PolicyObjectMessage[], name: PolicyName): KnownPolicy | undefined {
  const names = bothNames(name);
  const found = objects.filter((o) => !o.supporting && names.includes(objectName(o)));
  const object = found.find((o) => o.staged) ?? found[0];
  if (!object) return undefined;
  const generation = Number(object.generation ?? 0);
  const content = contentOf(object);
  const stamp = stampOf(content, STAGED_AT);
  const stagedMs = stamp?.generation === generation ? stamp.ms : millisOf(object.since);
  const isRefused = object.state === 'refused';
  return { generation, isStaged: object.staged ?? false, stagedMs, pods: object.pods ?? 0, content, isRefused };
}

/** The rules' name of an object: `np/shop/web`. */
export function objectName({ api_version = '', kind = '', namespace, name = '' }: PolicyObjectMessage): string {
  const dialect = /(^|\.)projectcalico\.org\//.test(api_version) ? 'calico' : '';
  return formatPolicy({ dialect, kind, ...(namespace ? { namespace } : {}), name });
}

function contentOf({ yaml = '' }: PolicyObjectMessage): PlainObject {
  try {
    const value: unknown = parse(yaml, { maxAliasCount: 100 });
    return isRecord(value) ? value : {};
  } catch {
    return {};
  }
}

/** What to ask agents for, to count a policy. */
export function requestFor({ namespace }: PolicyName): EdgesRequest {
  return namespace === undefined ? {} : { namespaces: [namespace] };
}

/** Counts with the edges that have come. */
export function count(
  name: PolicyName,
  known: KnownPolicy,
  book: EdgeBook,
  more: { cronJobs: readonly CronJob[]; alone: readonly AloneDenied[]; days: number; only: string | undefined },
): Impact {
  const { generation, isStaged, isRefused, stagedMs } = known;
  return impactOf({
    names: bothNames(name),
    generation,
    isStaged,
    isRefused,
    stagedMs,
    histories: book.histories(),
    beganMs: book.beganMs,
    unavailable: book.unavailable,
    overflow: book.overflow,
    ...more,
    nowMs: Date.now(),
  });
}

/**
 * The flows that were seen and that would be denied if this policy alone were enforced. What depends on what connections
 * say is left out: that is counted as it happens.
 * @throws AgentError AGENT
 */
export async function deniedAlone({ content, isStaged }: KnownPolicy, evidence: Evidence): Promise<AloneDenied[]> {
  if (!isStaged || content.kind === undefined || stagedAction(content) !== 'Set') return [];
  const enforced = enforcedForm(content);
  const deleted = enforced.kind === content.kind ? [] : [titleOf(content)];
  const changes = await evidence.changed({ manifests: JSON.stringify(enforced), deleted, limit: MOST_CHANGES });
  const found = new Map<number, AloneDenied>();
  for (const { edge: message, is, is_rule: rule = '', connections: n, last_at } of changes) {
    if (is !== 'deny') continue;
    const edge = edgeOf(message ?? {});
    const known = found.get(edge.id);
    const lastMs = Math.max(millisOf(last_at) ?? 0, known?.lastMs ?? 0);
    found.set(edge.id, { edge, connections: Number(n ?? 0) + (known?.connections ?? 0), lastMs, rule });
  }
  return [...found.values()];
}

const MOST_CHANGES = 5000;

/** `StagedNetworkPolicy shop/web`. */
function titleOf({ kind, metadata }: PlainObject): string {
  const { namespace, name } = isRecord(metadata) ? metadata : {};
  return `${String(kind)} ${namespace === undefined ? '' : `${String(namespace)}/`}${String(name)}`;
}

/** The CronJobs that a policy may concern; a warning on standard error if they may not be read. */
export async function cronJobsOf(name: PolicyName, flags: ClusterFlags, evidence: Evidence): Promise<CronJob[]> {
  if (!evidence.isCluster) return [];
  const { PolicyApi } = await import('./api.js');
  const api = PolicyApi.open(flags);
  try {
    return await api.cronJobs(name.namespace);
  } catch (e) {
    const { message } = e as Error;
    process.stderr.write(
      `egressctl: CronJobs cannot be read, and are not looked at: ${message.replace(/[^ -~]/g, '?')}\n`,
    );
    return [];
  } finally {
    api.close();
  }
}

/** Counts once. @throws AgentError USAGE if the agents do not know the policy */
export async function countOnce(
  name: PolicyName,
  flags: ClusterFlags,
  evidence: Evidence,
  days: number,
): Promise<{ impact: Impact; known: KnownPolicy }> {
  const objects = await evidence.objects(name.namespace === undefined ? [] : [name.namespace]);
  const known = knownPolicy(objects, name);
  if (!known) throw unknown(name);
  const since = { since: timestampOf(Date.now() - 36 * DAY_MS) };
  const book = await evidence.edges({ ...requestFor(name), ...since });
  const cronJobs = await cronJobsOf(name, flags, evidence);
  const alone = await deniedAlone(known, evidence);
  return { impact: count(name, known, book, { cronJobs, alone, days, only: evidence.only }), known };
}

export function unknown({ text }: PolicyName): AgentError {
  return new AgentError('USAGE', `the agents know no policy ${text}`, {
    hint: 'egressctl activity lists those in force and staged',
  });
}
