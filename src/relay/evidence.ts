/** Where the relay's answers about edges come from: its history, or without one the ledgers of all agents. */
import { EdgeBook } from '../edges/book.js';
import { activityOf } from '../edges/activity.js';
import type { DayRow, EdgeHistory } from '../edges/edge.js';
import type { EdgeChanges, EdgeQuery } from '../edges/query.js';
import { timestampOf } from '../edges/wire.js';
import type { AgentError } from '../errors.js';
import { MOST_ROWS } from '../history/base/store.js';
import type { History } from '../history/history.js';
import type { ActivityResponse, EdgesRequest } from '../proto/edges.js';
import type { EdgeSource } from '../rpc/ask/edges.js';
import { askAll } from './nodes/cluster.js';
import type { Agents } from './nodes/agents.js';

export interface Evidence {
  readonly histories: readonly EdgeHistory[];
  /** Rows were left out. */
  readonly isCut: boolean;
  /** Since when the oldest ledger counts, milliseconds since 1970; 0: there is none. */
  readonly beganMs: number;
  readonly overflow: number;
  /** Nodes whose edges are missing, or whose latest ones are. */
  readonly unavailable: readonly string[];
}

export interface EvidenceSource {
  /** @param limit most rows, the most recent days first; 0: no limit of the caller's */
  read(query: EdgeQuery, limit: number): Promise<Evidence>;
  activity(query: EdgeQuery): Promise<ActivityResponse>;
  /** Another number after a change; the same one: nothing has changed. */
  version(): number;
}

export function historyEvidence(history: History): EvidenceSource {
  return {
    version: () => history.version + 1,
    read: async (query, limit) => {
      const store = await history.store();
      const [{ histories, isCut }, ledgers] = await Promise.all([store.edges(query, limit), store.ledgers()]);
      const began = ledgers.map((l) => l.beganMs).filter((ms) => ms > 0);
      return {
        histories,
        isCut,
        beganMs: began.reduce((a, b) => Math.min(a, b), began[0] ?? 0),
        overflow: ledgers.reduce((sum, l) => sum + l.overflow, 0),
        unavailable: history.unheard,
      };
    },
    activity: async (query) => {
      const answer = await (await history.store()).activity(query);
      return history.unheard.length === 0 ? answer : { ...answer, unavailable_nodes: history.unheard };
    },
  };
}

/** Asks every agent each time. */
export function agentsEvidence(agents: Agents): EvidenceSource {
  let version = 0;
  const read = async (query: EdgeQuery, limit: number): Promise<Evidence> => {
    const book = new EdgeBook();
    const most = limit > 0 ? Math.min(limit, MOST_ROWS) : MOST_ROWS;
    let rows = 0;
    let isCut = false;
    const request = requestOf(query);
    const answers = await askAll(agents, (node) =>
      node.ask(async (client) => {
        for await (const message of client.edges(request)) {
          rows += message.id?.length ?? 0;
          isCut ||= rows > MOST_ROWS;
          if (!isCut) book.add(message);
        }
      }),
    );
    const refusal = answers.find(({ fault }) => (fault as AgentError | undefined)?.code === 'USAGE')?.fault;
    if (refusal) throw refusal;
    const unavailable = answers.filter((a) => a.fault).map((a) => a.node.name);
    const histories = book.histories();
    const isLong = histories.reduce((sum, h) => sum + h.days.length, 0) > most;
    return {
      histories: isLong ? latest(histories, most) : histories,
      isCut: isCut || isLong,
      beganMs: book.beganMs ?? 0,
      overflow: book.overflow,
      unavailable,
    };
  };
  return {
    version: () => ++version,
    read,
    activity: async (query) => {
      const { histories, beganMs, unavailable } = await read(query, 0);
      return {
        ...activityOf(histories, query),
        began_at: timestampOf(beganMs),
        ...(unavailable.length === 0 ? {} : { unavailable_nodes: [...unavailable] }),
      };
    },
  };
}

function requestOf({ sinceMs, untilMs, namespaces, workload, verdicts }: EdgeQuery): EdgesRequest {
  return {
    ...(sinceMs === undefined ? {} : { since: timestampOf(sinceMs) }),
    ...(untilMs === undefined ? {} : { until: timestampOf(untilMs) }),
    ...(namespaces ? { namespaces: [...namespaces] } : {}),
    ...(workload === undefined ? {} : { workload }),
    ...(verdicts ? { verdicts: [...verdicts] } : {}),
  };
}

/** The rows of the most recent days. */
function latest(histories: readonly EdgeHistory[], most: number): EdgeHistory[] {
  const rows = histories.flatMap(({ edge, days }) => days.map((row) => ({ edge, row })));
  rows.sort((a, b) => b.row.day - a.row.day || a.edge.id - b.edge.id);
  const kept = new Map<number, { edge: EdgeHistory['edge']; days: DayRow[] }>();
  for (const { edge, row } of rows.slice(0, most)) {
    const before = kept.get(edge.id);
    if (before) before.days.unshift(row);
    else kept.set(edge.id, { edge, days: [row] });
  }
  return [...kept.values()].sort((a, b) => a.edge.id - b.edge.id);
}

/** The source of one call of Edges: what it has sent is compared, since what is summed has no versions. */
export async function edgeSource(source: EvidenceSource): Promise<EdgeSource> {
  let sent = new Map<number, Map<number, string>>();
  let last: Evidence = { histories: [], isCut: false, beganMs: 0, overflow: 0, unavailable: [] };
  return {
    ledger: 0,
    get beganMs() {
      return last.beganMs;
    },
    get overflow() {
      return last.overflow;
    },
    get unavailable() {
      return last.unavailable;
    },
    changesSince: async (version, query, limit): Promise<EdgeChanges & { isCut?: boolean }> => {
      const now = source.version();
      if (now === version) return { version, rows: [] };
      last = await source.read(query, limit);
      const next = new Map<number, Map<number, string>>();
      const rows: { edge: EdgeHistory['edge']; row: DayRow }[] = [];
      for (const { edge, days } of last.histories) {
        const before = sent.get(edge.id);
        const marks = new Map<number, string>();
        next.set(edge.id, marks);
        for (const row of days) {
          const mark = `${row.lastMs} ${row.connections} ${row.bytes} ${row.drops}`;
          marks.set(row.day, mark);
          if (before?.get(row.day) !== mark) rows.push({ edge, row });
        }
      }
      sent = next;
      return { version: now, rows, isCut: last.isCut };
    },
  };
}
