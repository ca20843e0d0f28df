/** Counts the impact of a staged policy: what agents saw, and which CronJobs have run meanwhile. */
import { parse } from 'yaml';
import { DAY_MS } from '../../edges/edge.js';
import type { EdgeBook } from '../../edges/book.js';
import { edgeOf, millisOf, timestampOf } from '../../edges/wire.js';
import { AgentError } from '../../errors.js';
import { isRecord } from '../../identity/fields.js';
import { formatPolicy } from '../../ir/names.js';
import type { EdgesRequest, PolicyObjectMessage } from '../../proto/edges.js';
import { enforcedForm, type PlainObject, stagedAction } from '../forms.js';
import { type AloneDenied, type CronJob, type Impact, impactOf } from '../impact.js';
import { bothNames, type PolicyName } from '../names.js';
import { STAGED_AT, stampOf } from '../plan.js';
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
  more: {
    cronJobs: readonly CronJob[];
    alone: readonly AloneDenied[];
    days: number;
    only: string | undefined;
    nowMs?: number;
  },
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
    isCut: book.isCut,
    nowMs: Date.now(),
    ...more,
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

/** Reads the CronJobs of a namespace; undefined: of all. */
export type CronJobSource = (namespace: string | undefined) => Promise<readonly CronJob[]>;

/** What is needed to count. */
export interface CountOptions {
  /** Days without a would-be denial, and of the window. */
  readonly days: number;
  /** Without it, or if it fails, CronJobs are not looked at. */
  readonly cronJobs?: CronJobSource;
  readonly now?: Date;
}

export interface Counted {
  readonly impact: Impact;
  readonly known: KnownPolicy;
  /** What was not looked at. */
  readonly warnings: readonly string[];
}

/** Counts once. @throws AgentError USAGE if the agents do not know the policy, AGENT */
export async function countOnce(
  name: PolicyName,
  evidence: Evidence,
  { days, cronJobs: read, now }: CountOptions,
): Promise<Counted> {
  const objects = await evidence.objects(name.namespace === undefined ? [] : [name.namespace]);
  const known = knownPolicy(objects, name);
  if (!known) throw unknown(name);
  const nowMs = now?.getTime() ?? Date.now();
  const book = await evidence.edges({ ...requestFor(name), since: timestampOf(nowMs - 36 * DAY_MS) });
  const warnings: string[] = [];
  let cronJobs: readonly CronJob[] = [];
  try {
    cronJobs = (await read?.(name.namespace)) ?? [];
  } catch (e) {
    warnings.push(`CronJobs cannot be read, and are not looked at: ${(e as Error).message}`);
  }
  const alone = await deniedAlone(known, evidence);
  return { impact: count(name, known, book, { cronJobs, alone, days, only: evidence.only, nowMs }), known, warnings };
}

/** That the agents do not know a policy. */
export function unknown({ text }: PolicyName): AgentError {
  return new AgentError('USAGE', `the agents know no policy ${text}`, {
    hint: 'egressctl activity lists those in force and staged',
  });
}
