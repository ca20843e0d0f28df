/** Edges and Activity of egress.v1, from an agent's ledger. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ServerWritableStream, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import type { DayRow, Edge } from '../../edges/edge.js';
import { ActivitySums } from '../../edges/activity.js';
import { dayMatches, type EdgeChanges, type EdgeFeed, type EdgeQuery, edgeQueryOf } from '../../edges/query.js';
import { columnsOf, edgeMessage, timestampOf } from '../../edges/wire.js';
import { AgentError } from '../../errors.js';
import type { ActivityRequest, ActivityResponse, EdgesRequest, EdgesResponse } from '../../proto/edges.js';
import { nextTurn } from '../transport/turns.js';
import { drained } from '../transport/drained.js';
import { serviceError, unary } from '../transport/unary.js';

/** Rows in one message: some hundred kilobytes with their edges, far from the limit of a message. */
const ROWS_A_MESSAGE = 2000;
/** Simultaneous Edges calls that follow. Each keeps the set of edges that it has described. */
const MAX_FOLLOWERS = 32;
/** Edges that a stream remembers to have described; beyond, it describes them again. */
const MOST_DESCRIBED = 100_000;
/** Rules, and flows that would have been denied, in an answer to Activity: as much as an answer may take. */
const MOST_ACTIVITY = 2000;
const SLICE_MS = 5;
const INTERVAL_MS = { usual: 1000, least: 100, most: 3_600_000 };

/** Whatever answers Edges: a ledger, or a history of many. */
export interface EdgeSource extends Pick<EdgeFeed, 'ledger' | 'beganMs' | 'overflow'> {
  /** Nodes whose edges are missing. */
  readonly unavailable?: readonly string[];
  /**
   * The rows that changed after a version. @param version 0: all rows
   * @param limit most rows, the most recent days first; 0: no limit. A source may leave it to the caller.
   */
  changesSince(
    version: number,
    query: EdgeQuery,
    limit: number,
  ): (EdgeChanges & { isCut?: boolean }) | Promise<EdgeChanges & { isCut?: boolean }>;
}

/** The handlers of Edges and Activity. */
export function edgeHandlers(feed: EdgeFeed, nodeName: string): UntypedServiceImplementation {
  return {
    Edges: edgesHandler(() => feed, nodeName),
    Activity: unary((request: ActivityRequest) => activity(feed, request)),
  };
}

/** A full ledger takes hundreds of milliseconds: events are read between its parts. */
async function activity(feed: EdgeFeed, request: ActivityRequest): Promise<ActivityResponse> {
  const query = edgeQueryOf(request);
  const sums = new ActivitySums(query);
  let end = performance.now() + SLICE_MS;
  for (const { edge, days } of feed.all()) {
    sums.add({ edge, days: days.filter((d) => dayMatches(d, query)) });
    if (performance.now() < end) continue;
    await nextTurn();
    end = performance.now() + SLICE_MS;
  }
  return { ...sums.response(MOST_ACTIVITY), began_at: timestampOf(feed.beganMs) };
}

/** The handler of Edges. @param open makes the source of one call */
export function edgesHandler(
  open: () => EdgeSource | Promise<EdgeSource>,
  nodeName: string,
): (call: ServerWritableStream<EdgesRequest, EdgesResponse>) => Promise<void> {
  let followers = 0;
  return async (call: ServerWritableStream<EdgesRequest, EdgesResponse>) => {
    const { follow = false } = call.request;
    if (follow && followers >= MAX_FOLLOWERS) {
      call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: `more than ${MAX_FOLLOWERS} readers of edges` });
      return;
    }
    if (follow) followers++;
    const end = new AbortController();
    for (const event of ['cancelled', 'close', 'error']) call.on(event, () => end.abort());
    try {
      await sendEdges(call, await open(), nodeName, end.signal);
      if (!call.cancelled) call.end();
    } catch (e) {
      if (!call.cancelled) call.emit('error', serviceError(e));
    } finally {
      if (follow) followers--;
    }
  };
}

async function sendEdges(
  call: ServerWritableStream<EdgesRequest, EdgesResponse>,
  feed: EdgeSource,
  nodeName: string,
  signal: AbortSignal,
): Promise<void> {
  const request = call.request;
  const query = edgeQueryOf(request);
  const interval = intervalOf(request);
  const described = new Set<number>();
  const head = () => ({
    ledger: feed.ledger,
    node_name: nodeName,
    began_at: timestampOf(feed.beganMs),
    overflow: feed.overflow,
  });
  let version = 0;
  let isFirst = true;
  while (!signal.aborted) {
    const limit = isFirst ? (request.limit ?? 0) : 0;
    const changes = await feed.changesSince(version, query, limit);
    version = changes.version;
    let { rows, isCut: more = false } = changes;
    const isLong = limit > 0 && rows.length > limit;
    more ||= isLong;
    if (isLong) rows = [...rows].sort((a, b) => b.row.day - a.row.day || a.edge.id - b.edge.id).slice(0, limit);
    for (let at = 0; at < rows.length && !signal.aborted; at += ROWS_A_MESSAGE) {
      const message = { ...head(), ...rowsMessage(rows.slice(at, at + ROWS_A_MESSAGE), described) };
      if (!call.write(message)) await drained(call, signal);
      // Encoding a part takes some milliseconds: events are read between them.
      else await nextTurn();
    }
    const missing = feed.unavailable?.length ? { unavailable_nodes: [...feed.unavailable] } : {};
    if (isFirst) call.write({ ...head(), ...missing, caught_up: true, ...(more ? { more } : {}) });
    isFirst = false;
    if (!request.follow) return;
    await sleep(interval, undefined, { signal }).catch(() => {});
  }
}

/** @param described edges that the stream has described; those of the rows are added */
function rowsMessage(rows: readonly { edge: Edge; row: DayRow }[], described: Set<number>): EdgesResponse {
  // Edges come and go for as long as a stream lasts: those that are gone are not remembered for ever.
  if (described.size > MOST_DESCRIBED) described.clear();
  const fresh: Edge[] = [];
  for (const { edge } of rows) {
    if (described.has(edge.id)) continue;
    described.add(edge.id);
    fresh.push(edge);
  }
  return { edges: fresh.map(edgeMessage), id: rows.map(({ edge }) => edge.id), ...columnsOf(rows.map((r) => r.row)) };
}

/** Milliseconds between two answers of a request that follows. @throws AgentError USAGE */
export function intervalOf({ interval_ms: given = 0 }: EdgesRequest): number {
  if (given === 0) return INTERVAL_MS.usual;
  if (given < INTERVAL_MS.least || given > INTERVAL_MS.most) {
    const message = `interval_ms: ${given} is not from ${INTERVAL_MS.least} to ${INTERVAL_MS.most}`;
    throw new AgentError('USAGE', message, { where: { field: 'interval_ms' } });
  }
  return given;
}
