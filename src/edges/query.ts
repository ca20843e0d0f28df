/** Which edges a caller asks for, and whoever can answer. */
import { AgentError } from '../errors.js';
import type { EdgesRequest } from '../proto/edges.js';
import { DAY_MS, type DayRow, type Edge, type EdgeHistory } from './edge.js';
import { millisOf } from './wire.js';

/** What is given is ANDed. Times are in milliseconds since 1970. */
export interface EdgeQuery {
  /** Days that end after this. */
  readonly sinceMs?: number;
  /** Days that begin before this. */
  readonly untilMs?: number;
  /** Edges that begin or end in one of these. */
  readonly namespaces?: readonly string[];
  /** `namespace/name`: edges that begin or end there. */
  readonly workload?: string;
  readonly verdicts?: readonly string[];
}

/** The query of a request. @throws AgentError USAGE */
export function edgeQueryOf(
  r: Pick<EdgesRequest, 'since' | 'until' | 'namespaces' | 'workload' | 'verdicts'>,
): EdgeQuery {
  const sinceMs = millisOf(r.since);
  const untilMs = millisOf(r.until);
  if (r.workload && !/^[^/]+\/[^/]+$/.test(r.workload))
    throw new AgentError('USAGE', `workload: "${r.workload}" is not NAMESPACE/NAME`, { where: { field: 'workload' } });
  for (const verdict of r.verdicts ?? [])
    if (!['allow', 'deny', 'partial', 'none'].includes(verdict))
      throw new AgentError('USAGE', `verdicts: "${verdict}" is none of allow, deny, partial, none`);
  return {
    ...(sinceMs === undefined ? {} : { sinceMs }),
    ...(untilMs === undefined ? {} : { untilMs }),
    ...(r.namespaces?.length ? { namespaces: r.namespaces } : {}),
    ...(r.workload ? { workload: r.workload } : {}),
    ...(r.verdicts?.length ? { verdicts: r.verdicts } : {}),
  };
}

/** Whether an edge is asked for, on whatever day. */
export function edgeMatches(edge: Edge, { namespaces, workload, verdicts }: EdgeQuery): boolean {
  if (verdicts && !verdicts.includes(edge.verdict)) return false;
  const ends = [edge.source, edge.destination];
  if (namespaces && !ends.some((p) => p.namespace !== '' && namespaces.includes(p.namespace))) return false;
  return workload === undefined || ends.some((p) => p.kind === 'workload' && `${p.namespace}/${p.name}` === workload);
}

/** Whether a day is asked for. */
export function dayMatches({ day }: Pick<DayRow, 'day'>, { sinceMs, untilMs }: EdgeQuery): boolean {
  return (sinceMs === undefined || (day + 1) * DAY_MS > sinceMs) && (untilMs === undefined || day * DAY_MS < untilMs);
}

/** The rows of one ledger that have changed. */
export interface EdgeChanges {
  /** To be given to the next changesSince(). */
  readonly version: number;
  readonly rows: readonly { readonly edge: Edge; readonly row: DayRow }[];
}

/** An agent's ledger, as its servers use it. */
export interface EdgeFeed {
  /** Random, 53 bits; another one if the ledger began anew. */
  readonly ledger: number;
  /** Since when it counts, milliseconds since 1970. */
  readonly beganMs: number;
  /** Flows that found no edge of their own since then. */
  readonly overflow: number;
  histories(query: EdgeQuery): EdgeHistory[];
  /** Every edge with its days, one after the other, for who has other work between two of them. */
  all(): Iterable<EdgeHistory>;
  /** The rows that changed after a version. @param version 0: all rows */
  changesSince(version: number, query: EdgeQuery): EdgeChanges;
}
