/**
 * POST /api/status: all nodes, as rows. POST /api/node: all that one of them says. Numbers are exact below 2^53; times are
 * milliseconds since 1970, 0 where there is none.
 */

/** connected; stale: it answers, and cannot apply policies; silent: it does not answer; error: it answers with an error */
export type NodeWord = 'connected' | 'stale' | 'silent' | 'error';

export interface NodeRow {
  readonly name: string;
  readonly word: NodeWord;
  /** Why it is not connected. */
  readonly message: string;
  readonly version: string;
  /** Numbers of what all namespaces do, here and below; absent for who may not see the whole cluster. */
  readonly inForce?: number;
  readonly staged?: number;
  readonly refused?: number;
  readonly pods: number;
  readonly enforced: number;
  readonly hooks?: number;
  readonly hooksExpected?: number;
  readonly flowsPerSecond?: number;
  readonly lost?: number;
  /** The highest share of a map that is used, 0 to 1, and its name. */
  readonly fullest: number;
  readonly fullestMap: string;
  /** What somebody should look at, in words; empty: nothing. */
  readonly troubles: readonly string[];
}

/** A problem of policies, once for all nodes that have it. */
export interface ProblemRow {
  readonly severity: string;
  readonly object: string;
  readonly field: string;
  readonly message: string;
  readonly hint: string;
  readonly file: string;
  /** How many nodes say so, and the first of them. */
  readonly nodes: number;
  readonly node: string;
}

/** What a relay keeps; absent: none is kept. */
export interface HistoryFacts {
  readonly place: string;
  readonly days: number;
  readonly edges: number;
  readonly bytes: number;
  readonly rowsLost: number;
  readonly failingSinceMs: number;
  readonly error: string;
}

export interface ClusterFacts {
  readonly nowMs: number;
  readonly nodes: readonly NodeRow[];
  readonly problems: readonly ProblemRow[];
  /** Problems beyond those. */
  readonly moreProblems: number;
  readonly history?: HistoryFacts;
}
