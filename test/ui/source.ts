/** A source of the page that says what a test gives it. */
import type { EdgeHistory } from '../../src/edges/edge.js';
import { edgeQueryOf } from '../../src/edges/query.js';
import { columnsOf, edgeMessage } from '../../src/edges/wire.js';
import type { EdgesRequest, EdgesResponse } from '../../src/proto/edges.js';
import type {
  GetFlowsRequest,
  GetRecordsResponse,
  SampleFlowsRequest,
  SampleFlowsResponse,
} from '../../src/proto/messages.js';
import type { ClusterStatusResponse } from '../../src/proto/status.js';
import { feedOf } from '../edges/given.js';

/** The part of AgentClient that streams use. */
export interface TestSource {
  edges(request: EdgesRequest, signal?: AbortSignal): AsyncIterable<EdgesResponse>;
  getRecords(request: GetFlowsRequest, signal?: AbortSignal): AsyncIterable<GetRecordsResponse>;
  sampleFlows(request: SampleFlowsRequest, signal?: AbortSignal): AsyncIterable<SampleFlowsResponse>;
  clusterStatus(): Promise<ClusterStatusResponse>;
}

/** One that has nothing to say, until it is left. */
export function silentSource(): TestSource {
  return {
    edges: (_, signal) => silence(signal),
    getRecords: async function* () {},
    sampleFlows: (_, signal) => silence(signal),
    clusterStatus: async () => ({ nodes: [] }),
  };
}

/** Yields nothing until the signal. */
export async function* silence(signal?: AbortSignal): AsyncGenerator<never> {
  await new Promise<void>((resolve) => {
    if (signal?.aborted) resolve();
    signal?.addEventListener('abort', () => resolve());
  });
}

/** Answers Edges by these, as an agent's ledger does, until the signal if the request follows. */
export async function* edgesOf(
  histories: readonly EdgeHistory[],
  request: EdgesRequest,
  signal?: AbortSignal,
): AsyncGenerator<EdgesResponse> {
  const found = feedOf(histories).histories(edgeQueryOf(request));
  yield {
    ledger: 1,
    edges: found.map(({ edge }) => edgeMessage(edge)),
    id: found.flatMap(({ edge, days }) => days.map(() => edge.id)),
    ...columnsOf(found.flatMap(({ days }) => days)),
    caught_up: true,
  };
  if (request.follow) yield* silence(signal);
}
