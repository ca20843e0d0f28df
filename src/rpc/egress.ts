/** egress.v1.Egress: whole records, the agent's state, explanations. */
import type { ServerWritableStream, UntypedServiceImplementation } from '@grpc/grpc-js';
import { timestampOf } from '../edges/wire.js';
import { AgentError } from '../errors.js';
import type { FlowHub } from '../flow/hub/hub.js';
import { timestamp, toRecord } from '../flow/hubble.js';
import { parseSender } from '../ir/sender.js';
import { canonicalName } from '../names/pattern.js';
import type {
  ExplainRequest,
  ExplainResponse,
  GetFlowsRequest,
  GetRecordsResponse,
  NamesRequest,
  NamesResponse,
  SampleFlowsRequest,
  Timestamp,
} from '../proto/messages.js';
import type {
  ApiStatusMessage,
  ClusterStatusResponse,
  ExportStatusMessage,
  GateStatusMessage,
  LedgerStatusMessage,
  PoliciesResponse,
  SaidStatusMessage,
  StatusResponse,
} from '../proto/status.js';
import { edgeHandlers } from './ask/edges.js';
import { policyHandlers } from './ask/policies.js';
import { problemMessage } from './ask/problem.js';
import type { SampleStreams } from './sample/streams.js';
import type { FlowWriter } from './flow-writer.js';
import { saidOf } from './said.js';
import { namesResponse, namesStatusMessage } from './names.js';
import { lostMessage } from './observer.js';
import { unary } from './transport/unary.js';
import { madeOnce } from './once.js';
import type { FlowStreams } from './streams.js';
import type { AgentStatus, AgentView, ClusterView, ExportView, GateView, LedgerStatus, SaidStatus } from './view.js';

/** The handlers of egress.v1.Egress. */
export function egressHandlers(
  { hub, view, writer }: { hub: FlowHub; view: AgentView; writer: FlowWriter },
  streams: FlowStreams,
  samples: SampleStreams,
): UntypedServiceImplementation {
  const response = madeOnce(
    (flow): GetRecordsResponse => ({ record: toRecord(flow), node_name: hub.nodeName, time: timestamp(flow.timeNs) }),
  );
  return {
    ...edgeHandlers(view.edges, hub.nodeName),
    ...policyHandlers(view),
    GetFlows: (call: ServerWritableStream<GetFlowsRequest, GetRecordsResponse | Buffer>) =>
      streams.serve(call, (item): GetRecordsResponse | Buffer =>
        'lost' in item
          ? {
              lost_events: lostMessage(item),
              ...(item.lost.pod === undefined ? {} : { lost_pod: item.lost.pod }),
              node_name: hub.nodeName,
              time: timestamp(item.lost.lastNs),
            }
          : (writer.record(item.flow) ?? response(item.flow)),
      ),
    SampleFlows: (call: ServerWritableStream<SampleFlowsRequest, Buffer>) => samples.serve(call),
    Status: unary((): StatusResponse => statusMessage(view.status())),
    ClusterStatus: unary((): ClusterStatusResponse => {
      const status = statusMessage(view.status());
      return { nodes: [{ name: status.node_name, state: 'NODE_CONNECTED', status }] };
    }),
    Explain: unary((q: ExplainRequest): ExplainResponse => {
      const query = q.dns_query ? { query: canonicalName(q.dns_query) } : {};
      const { port = 0, protocol = 0 } = q;
      const said = q.said === undefined ? {} : { said: saidOf(q.said) };
      const explanation = view.explain({
        from: senderHere(q.from, hub.nodeName),
        to: q.to,
        port,
        protocol,
        ...query,
        ...said,
      });
      const { verdict } = explanation;
      return { json: JSON.stringify(explanation), verdict: typeof verdict === 'string' ? verdict : verdict.verdict };
    }),
    Names: unary((q: NamesRequest): Promise<NamesResponse> => namesResponse(view, q, hub.nodeName)),
    Policies: unary(
      (): PoliciesResponse => ({
        policies: view.policies().map((p) => ({ ...p, problems: p.problems.map(problemMessage) })),
      }),
    ),
  };
}

/** The sender of a question, which may name this node: `@node/NAME`. @throws AgentError USAGE for another node */
function senderHere(text: string, nodeName: string): string {
  const { from, node = nodeName } = parseSender(text);
  if (node !== nodeName) throw new AgentError('USAGE', `this is the node ${nodeName}, not ${node}`);
  return from;
}

function millis(ms: number): Timestamp {
  return timestamp(BigInt(Math.round(ms)) * 1_000_000n);
}

function apiMessage(c: ClusterView): ApiStatusMessage {
  const since = (ms: number | undefined) => (ms === undefined ? {} : { stale_since: millis(ms) });
  const error = (text: string | undefined) => (text === undefined ? {} : { error: text });
  return {
    synced: c.synced,
    ...since(c.staleSince),
    ...error(c.error),
    kinds: c.kinds.map((k) => ({
      kind: k.kind,
      objects: k.objects,
      synced: k.synced,
      ...since(k.staleSince),
      ...error(k.error),
    })),
  };
}

function gateMessage(g: GateView): GateStatusMessage {
  return {
    installed: g.installed,
    ...(g.file === undefined ? {} : { file: g.file }),
    ...(g.error === undefined ? {} : { error: g.error }),
    pending: g.pending,
    passed: g.passed,
    refused: g.refused,
    timed_out: g.timedOut,
  };
}

function ledgerStatusMessage({ beganMs, forgotten, ...counts }: LedgerStatus): LedgerStatusMessage {
  return { began_at: timestampOf(beganMs), forgotten_days: forgotten, ...counts };
}

function saidStatusMessage({ withoutBuffer, echWithoutRoom, eventsLost, ...counts }: SaidStatus): SaidStatusMessage {
  return { ...counts, without_buffer: withoutBuffer, ech_without_room: echWithoutRoom, events_lost: eventsLost };
}

function exportMessage(e: ExportView): ExportStatusMessage {
  return {
    target: e.target,
    exported: e.exported,
    lost: e.lost as Record<string, number>,
    left_out: e.leftOut,
    summed: e.summed,
    reconnects: e.reconnects,
    queued: e.queued,
    queued_bytes: e.queuedBytes,
    ...(e.failingSince === undefined ? {} : { failing_since: millis(e.failingSince) }),
    ...(e.lastError === undefined ? {} : { last_error: e.lastError }),
  };
}

function statusMessage(s: AgentStatus): StatusResponse {
  return {
    version: s.version,
    node_name: s.nodeName,
    mode: s.mode,
    source: s.source,
    pid: s.pid,
    started_at: millis(s.startedAt),
    uptime_ns: s.uptimeNs,
    attach_mode: s.attachMode,
    deny_response: s.denyResponse,
    endpoints: s.endpoints.map(({ lostEvents, namesRefused, answersUntrusted, ...e }) => ({
      ...e,
      set: String(e.set),
      lost_events: lostEvents,
      names_refused: namesRefused,
      answers_untrusted: answersUntrusted,
    })),
    hooks_attached: s.hooks.attached,
    hooks_expected: s.hooks.expected,
    hook_problems: s.hooks.problems,
    policies_in_force: s.policies.inForce,
    policies_staged: s.policies.staged,
    policies_refused: s.policies.refused,
    problems: s.policies.problems.map(problemMessage),
    epoch: s.epoch,
    maps: s.maps,
    flows_per_second: s.flows.perSecond,
    flows_seen: s.flows.seen,
    flows_in_table: s.flows.inTable,
    flow_share: s.flows.share,
    flows_not_stored: s.flows.notStored,
    flows_evicted: s.flows.evicted,
    flows_busy: s.flows.busy,
    lost_in_ring: s.lost.ring,
    lost_in_queues: s.lost.queue,
    drops: s.drops,
    ...(s.cluster === undefined ? {} : { api: apiMessage(s.cluster) }),
    ...(s.gate === undefined ? {} : { gate: gateMessage(s.gate) }),
    applied_at: millis(s.staleness.appliedAt),
    ...(s.staleness.failingSince === undefined ? {} : { failing_since: millis(s.staleness.failingSince) }),
    ...(s.staleness.lastError === undefined ? {} : { last_error: s.staleness.lastError }),
    namespaces: s.namespaces,
    names: namesStatusMessage(s.names),
    said: saidStatusMessage(s.said),
    ledger: ledgerStatusMessage(s.ledger),
    ...(s.exports === undefined ? {} : { exports: s.exports.map(exportMessage) }),
  };
}
