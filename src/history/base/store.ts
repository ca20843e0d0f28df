/**
 * What keeps the history of a cluster: rows of the agents' ledgers, and whole flows where asked for. Rows are absolute,
 * so writing them again changes nothing, and what was not written comes again with the agent's next answer.
 */
import type { ActivityResponse } from '../../proto/edges.js';
import type { Edge, EdgeHistory } from '../../edges/edge.js';
import type { EdgeQuery } from '../../edges/query.js';
import type { Rows } from './rows.js';

/** What is known of an agent's ledger. */
export interface LedgerNote {
  readonly ledger: number;
  readonly node: string;
  /** Since when it counts, milliseconds since 1970. */
  readonly beganMs: number;
  /** Flows that found no edge of their own. */
  readonly overflow: number;
  /** All that the ledger had up to this time of the writer's clock is written; 0: not even all of its past. */
  readonly throughMs: number;
}

/** An edge with the mark of its description: see markOf(). */
export interface DescribedEdge {
  readonly edge: Edge;
  readonly mark: number;
}

/** One write: all of it, or nothing. */
export interface HistoryBatch {
  /** The edges of the rows that are not described yet, or have another address now. No id is another edge's. */
  readonly edges: readonly DescribedEdge[];
  readonly rows: Rows;
  readonly notes: readonly LedgerNote[];
}

/** A whole flow. */
export interface FlowRow {
  /** Milliseconds since 1970. */
  readonly ms: number;
  readonly node: string;
  /** Namespaces of source and destination; empty: none. */
  readonly source: string;
  readonly destination: string;
  readonly verdict: string;
  /** The GetFlowsResponse of egress.v1. */
  readonly message: Buffer;
}

export interface FlowRowQuery {
  readonly sinceMs?: number;
  readonly untilMs?: number;
  /** Flows that begin or end in one of these. */
  readonly namespaces?: readonly string[];
  /** Most rows, the latest ones. */
  readonly limit: number;
}

export interface EdgesAnswer {
  /** By id of the edge; days ascend. */
  readonly histories: EdgeHistory[];
  /** Rows were left out: by the limit, or by MOST_ROWS. */
  readonly isCut: boolean;
}

export interface StoreStats {
  /** Days that have rows, ascending. */
  readonly days: readonly number[];
  /** Edges that are described. */
  readonly edges: number;
  /** On disk; of memory what the tables take. */
  readonly bytes: number;
  /** Days that were deleted before their time, because the store reached its size. */
  readonly daysLost: number;
}

export interface StoreOptions {
  /** Days with rows that are kept. They are not counted by the calendar, so no wrong clock deletes more than it adds. */
  readonly days?: number;
  /** Whole flows are kept for this long, milliseconds; 0: none are. */
  readonly flowsMs?: number;
  /** Beyond this size the oldest flows, then the oldest days are deleted. */
  readonly maxBytes?: number;
}

/** Most rows of an answer, since it is held in memory. */
export const MOST_ROWS = 500_000;

/** Calls are answered in any order; writes in the order in which they are made. Errors are AgentError HISTORY or USAGE. */
export interface HistoryStore {
  /** Whether an edge is described. */
  has(id: number): boolean;
  /** Whether this process has written or confirmed this description of an edge. */
  knows(id: number, mark: number): boolean;
  /** A description says what the store has: knows() is true from now on. */
  confirm(id: number, mark: number): void;
  /** What is described under these ids. */
  describe(ids: readonly number[]): Promise<Map<number, Edge>>;
  /** Returns when it cannot be lost any more, whatever ends the process. */
  write(batch: HistoryBatch): Promise<void>;
  /** The edges and days that match, summed over ledgers. @param limit most rows, the most recent days first; 0: none */
  edges(query: EdgeQuery, limit?: number): Promise<EdgesAnswer>;
  /** As activityOf() has it, without the unavailable nodes. */
  activity(query: EdgeQuery): Promise<ActivityResponse>;
  ledgers(): Promise<LedgerNote[]>;
  writeFlows(flows: readonly FlowRow[]): Promise<void>;
  /** The flows that match, in the order of time. */
  flows(query: FlowRowQuery): Promise<FlowRow[]>;
  /** Sorts what was written, deletes what is older than what is kept. To be called every few minutes. */
  maintain(nowMs: number): Promise<void>;
  stats(): Promise<StoreStats>;
  close(): Promise<void>;
}
