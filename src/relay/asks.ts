/** The calls about edges and policies: answered from the history, or by an agent with the evidence of all of them. */
import type { ServerWritableStream, UntypedServiceImplementation } from '@grpc/grpc-js';
import { parseAllDocuments } from 'yaml';
import { type EdgeQuery, edgeQueryOf } from '../edges/query.js';
import { type DayRow, type EdgeHistory, sumDays } from '../edges/edge.js';
import { edgeRowsMessage, millisOf } from '../edges/wire.js';
import { AgentError } from '../errors.js';
import { flowOfRow } from '../history/flows.js';
import type { History } from '../history/history.js';
import type {
  ActivityRequest,
  EdgeRowsMessage,
  EdgesRequest,
  EdgesResponse,
  HistoryFlowsRequest,
  HistoryResponse,
  PolicyObjectsRequest,
  PreviewRequest,
  RecommendRequest,
} from '../proto/edges.js';
import { encode } from '../proto/load.js';
import type { GetRecordsResponse } from '../proto/messages.js';
import { edgesHandler } from '../rpc/ask/edges.js';
import type { AgentClient } from '../rpc/transport/client.js';
import { MAX_REQUEST_BYTES } from '../rpc/transport/base.js';
import { serviceError, unary } from '../rpc/transport/unary.js';
import type { LiveEdges } from './edges/live.js';
import type { Agents } from './nodes/agents.js';
import { agentsEvidence, edgeSource, type EvidenceSource, historyEvidence } from './evidence.js';

/** Time limits of an agent's answer, milliseconds. */
const ANSWER_MS = 10_000;
const THINKING_MS = 60_000;
const FLOWS = { usual: 1000, most: 10_000 };
/** Manifests whose namespaces are looked for. */
const MOST_MANIFESTS = 1 << 20;

/** The handlers. @param history undefined: none is kept */
export function askHandlers(
  agents: Agents,
  history: History | undefined,
  live: LiveEdges,
): UntypedServiceImplementation {
  const source = history ? historyEvidence(history) : agentsEvidence(agents);
  const edges = edgesHandler(() => edgeSource(source), '');
  return {
    Edges: (call: ServerWritableStream<EdgesRequest, EdgesResponse>) => {
      const { follow = false, live: isLive = false } = call.request;
      if (isLive && !follow) {
        const fault = new AgentError('USAGE', 'live: only with follow', { where: { field: 'live' } });
        return call.emit('error', serviceError(fault));
      }
      // Without a history, each look at what has changed would read everything of all agents.
      return follow && (isLive || !history) ? live.serve(call) : edges(call);
    },
    Activity: unary((request: ActivityRequest) => source.activity(edgeQueryOf(request))),
    PolicyObjects: unary((request: PolicyObjectsRequest) => askOne(agents, (c) => c.policyObjects(request, ANSWER_MS))),
    Preview: unary(async (request: PreviewRequest) => {
      const whole = request.evidence?.length
        ? request
        : { ...request, evidence: await previewEvidence(source, request) };
      return askOne(agents, (c) => c.preview(fitting('egress.v1.PreviewRequest', whole), THINKING_MS));
    }),
    Recommend: unary(async (request: RecommendRequest) => {
      const whole = request.evidence?.length ? request : { ...request, evidence: await evidenceOf(source, request) };
      return askOne(agents, (c) => c.recommend(fitting('egress.v1.RecommendRequest', whole), THINKING_MS));
    }),
    History: unary((): HistoryResponse | Promise<HistoryResponse> => history?.status() ?? {}),
    HistoryFlows: (call: ServerWritableStream<HistoryFlowsRequest, GetRecordsResponse>) => sendFlows(call, history),
  };
}

/** Any agent: all of them have the same policies. Those that cannot be reached are passed over. */
async function askOne<A>(agents: Agents, question: (client: AgentClient) => Promise<A>): Promise<A> {
  let fault: unknown = new AgentError('AGENT', 'there are no agents');
  const nodes = [...agents.list()];
  for (let n = nodes.length - 1; n > 0; n--) {
    const other = Math.floor(Math.random() * (n + 1));
    [nodes[n], nodes[other]] = [nodes[other] as never, nodes[n] as never];
  }
  for (const node of nodes.slice(0, 5)) {
    try {
      return await node.ask(question);
    } catch (e) {
      if ((e as AgentError).code === 'USAGE') throw e;
      fault = e;
    }
  }
  throw fault;
}

/** The edges of what a recommendation is for, with all their days. */
async function evidenceOf(source: EvidenceSource, request: RecommendRequest): Promise<EdgeRowsMessage[]> {
  const { workloads = [], namespaces = [] } = request;
  const queries: EdgeQuery[] =
    workloads.length > 0
      ? workloads.map((workload) => edgeQueryOf({ workload }))
      : [namespaces.length > 0 ? { namespaces } : {}];
  const found = new Map<number, EdgeHistory>();
  for (const query of queries) {
    const { histories, isCut } = await source.read(query, 0);
    if (isCut) throw tooMuch();
    for (const history of histories) found.set(history.edge.id, history);
  }
  return [...found.values()].sort((a, b) => a.edge.id - b.edge.id).map(edgeRowsMessage);
}

/** The edges that a change may touch, each as one row: a preview asks how many and when last, not on which days. */
async function previewEvidence(source: EvidenceSource, request: PreviewRequest): Promise<EdgeRowsMessage[]> {
  const namespaces = namespacesOf(request);
  const { histories, isCut } = await source.read(namespaces ? { namespaces } : {}, 0);
  if (isCut) throw tooMuch();
  return histories.map(({ edge, days }) => {
    const last = days.at(-1) as DayRow;
    return edgeRowsMessage({ edge, days: [{ ...days.reduce(sumDays), day: last.day }] });
  });
}

/** The namespaces of the objects in a request; undefined: some have none, so that any may be meant. */
function namespacesOf({ manifests = '', deleted = [] }: PreviewRequest): string[] | undefined {
  const found = new Set<string>();
  if (deleted.length > 0 || manifests.length > MOST_MANIFESTS) return undefined;
  try {
    for (const document of parseAllDocuments(manifests)) {
      const object: unknown = document.toJS({ maxAliasCount: 20 });
      if (object === null) continue;
      const { metadata } = object as { metadata?: { namespace?: unknown } };
      if (typeof metadata?.namespace !== 'string') return undefined;
      found.add(metadata.namespace);
    }
  } catch {
    // The agent says what is wrong with it.
    return undefined;
  }
  return found.size > 0 ? [...found] : undefined;
}

/** @throws AgentError USAGE if the request is larger than an agent takes */
function fitting<Q extends PreviewRequest | RecommendRequest>(type: string, request: Q): Q {
  if (encode(type, request).length > MAX_REQUEST_BYTES - 1024) throw tooMuch();
  return request;
}

function tooMuch(): AgentError {
  return new AgentError('USAGE', 'there are more edges than an agent takes as evidence', {
    hint: 'ask about fewer workloads or namespaces, or give the evidence',
  });
}

async function sendFlows(
  call: ServerWritableStream<HistoryFlowsRequest, GetRecordsResponse>,
  history: History | undefined,
): Promise<void> {
  try {
    if (!history?.keepsFlows)
      throw new AgentError('USAGE', 'the relay keeps no flows', { hint: 'it does with --history-flows' });
    const { since, until, namespaces = [], limit = 0 } = call.request;
    if (limit > FLOWS.most)
      throw new AgentError('USAGE', `limit: ${limit} are more than ${FLOWS.most} flows`, { where: { field: 'limit' } });
    const [sinceMs, untilMs] = [millisOf(since), millisOf(until)];
    const rows = await (await history.store()).flows({
      ...(sinceMs === undefined ? {} : { sinceMs }),
      ...(untilMs === undefined ? {} : { untilMs }),
      ...(namespaces.length > 0 ? { namespaces } : {}),
      limit: limit || FLOWS.usual,
    });
    for (const row of rows) {
      if (call.cancelled) return;
      if (!call.write(flowOfRow(row)))
        await new Promise((resolve) => call.once('drain', resolve).once('close', resolve));
    }
    call.end();
  } catch (e) {
    if (!call.cancelled) call.emit('error', serviceError(e));
  }
}
