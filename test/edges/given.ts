/** Edges for tests, and views of an agent that has none. */
import {
  type DayRow,
  type Edge,
  type EdgeHistory,
  type EdgeParty,
  edgeId,
  edgeText,
  NOBODY,
} from '../../src/edges/edge.js';
import { dayMatches, edgeMatches, type EdgeFeed } from '../../src/edges/query.js';
import type { AgentView } from '../../src/rpc/view.js';

/** A day in the past, for tests that do not ask which: 2026-01-01. */
export const A_DAY = 20_454;

export function workload(name: string, workloadKind = 'Deployment'): EdgeParty {
  const [namespace, own] = name.split('/') as [string, string];
  return { kind: 'workload', namespace, workloadKind, name: own };
}

export function outside(name: string, kind: 'address' | 'name' = 'address'): EdgeParty {
  return { kind, namespace: '', workloadKind: '', name };
}

/** An edge with what is given: allowed, 443/tcp, from nobody to nobody, unless told otherwise. */
export function makeEdge(given: Partial<Omit<Edge, 'id'>> = {}): Edge {
  const edge: Omit<Edge, 'id'> = {
    source: NOBODY,
    destination: NOBODY,
    inbound: false,
    service: '',
    servicePort: 0,
    port: 443,
    protocol: 6,
    verdict: 'allow',
    auditVerdict: 'none',
    reason: 'no-policy',
    address: '',
    ...given,
  };
  return { id: edgeId(edgeText(edge)), ...edge };
}

export function makeDay(day: number, given: Partial<DayRow> = {}): DayRow {
  const firstMs = day * 86_400_000 + 3_600_000;
  return { day, firstMs, lastMs: firstMs + 60_000, connections: 1, bytes: 100, drops: 0, hours: 1 << 1, ...given };
}

/** A feed with these edges, which do not change. */
export function feedOf(histories: readonly EdgeHistory[]): EdgeFeed {
  return {
    ledger: 7,
    beganMs: A_DAY * 86_400_000,
    overflow: 0,
    all: () => histories,
    histories: (query) =>
      histories
        .filter(({ edge }) => edgeMatches(edge, query))
        .map(({ edge, days }) => ({ edge, days: days.filter((d) => dayMatches(d, query)) }))
        .filter(({ days }) => days.length > 0),
    changesSince(version, query) {
      if (version > 0) return { version, rows: [] };
      const rows = this.histories(query).flatMap(({ edge, days }) => days.map((row) => ({ edge, row })));
      return { version: 1, rows };
    },
  };
}

const unused = () => {
  throw new Error('not part of this test');
};

/** The parts of a view about edges and policies, of an agent that has seen nothing. */
export const NOTHING_SEEN: Pick<AgentView, 'edges' | 'policyObjects' | 'preview' | 'recommend'> = {
  edges: feedOf([]),
  policyObjects: unused,
  preview: unused,
  recommend: unused,
};
