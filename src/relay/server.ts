/** The relay's gRPC server: the services of an agent, for the whole cluster. */
import { type ServerWritableStream, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { AgentError } from '../errors.js';
import { applyFieldMask } from '../flow/hubble.js';
import type { Logger } from '../log.js';
import { BaseServer } from '../rpc/transport/base.js';
import type {
  ExplainRequest,
  GetFlowsRequest,
  GetFlowsResponse,
  GetRecordsResponse,
  NamesRequest,
  SampleFlowsRequest,
} from '../proto/messages.js';
import type { ClusterStatusResponse } from '../proto/status.js';
import { unary } from '../rpc/transport/unary.js';
import { encodedOnce } from '../rpc/once.js';
import { EGRESS, OBSERVER, PEER } from '../proto/load.js';
import { SampleStreams } from '../rpc/sample/streams.js';
import { FlowStreams } from '../rpc/streams.js';
import { AGENT_SERVER_NAME } from '../rpc/transport/tls.js';
import { together } from '../rpc/transport/turns.js';
import type { History } from '../history/history.js';
import { askHandlers } from './asks.js';
import { LiveEdges, type LiveEdgesOptions } from './edges/live.js';
import type { AgentNode, Agents } from './nodes/agents.js';
import {
  clusterExplain,
  clusterNames,
  clusterNamespaces,
  clusterNodes,
  clusterPolicies,
  clusterStatus,
  serverStatus,
} from './nodes/cluster.js';
import { type MergedFlowsOptions, mergedFlows } from './merge/flows.js';
import { type MergedSamplesOptions, mergedSamples } from './merge/samples.js';

/**
 * Maximum number of readers. Each is a stream at every agent, and a second one while past flows are sent. An agent
 * accepts 100 streams on a connection, and 128 readers in all.
 */
const MAX_READERS = 64;
/**
 * Callers of samples, samples of different kinds, and streams of these at all agents together. Samples have connections
 * of their own.
 */
const MAX_SAMPLES = { callers: 256, samples: 48, streams: 16_000, least: 8 };

export interface RelayOptions {
  agents: Agents;
  version: string;
  /** Whether agents are reached over TLS. */
  tls: boolean;
  log: Logger;
  flows?: MergedFlowsOptions;
  samples?: MergedSamplesOptions;
  edges?: LiveEdgesOptions;
  /** Without it, questions about edges go to all agents each time. */
  history?: History | undefined;
}

/** The server of the relay. */
export class RelayServer extends BaseServer {
  readonly #streams: FlowStreams<GetRecordsResponse>;
  readonly #samples: SampleStreams;
  readonly #edges: LiveEdges;

  constructor(opts: RelayOptions) {
    super(opts.log);
    const { agents } = opts;
    const source = {
      read: (req: GetFlowsRequest, signal: AbortSignal) => mergedFlows(agents, req, signal, opts.flows),
    };
    this.#streams = new FlowStreams(source, MAX_READERS);
    const { callers, samples, streams, least } = MAX_SAMPLES;
    this.#samples = new SampleStreams(mergedSamples(agents, opts.samples), {
      callers,
      samples: () => Math.min(samples, Math.max(least, Math.floor(streams / Math.max(agents.list().length, 1)))),
    });
    this.#edges = new LiveEdges(agents, opts.log, opts.edges);
    const observerOnce = encodedOnce(OBSERVER, 'ServerStatus', 'GetNodes', 'GetNamespaces');
    this.add(observerOnce, observer(opts, this.#streams));
    this.add(PEER, peer(opts));
    this.add(
      encodedOnce(EGRESS, 'ClusterStatus', 'Policies', 'SampleFlows', 'Edges'),
      egress(opts, this.#streams, this.#samples, this.#edges),
    );
  }

  protected override endStreams(): void {
    this.#streams.close();
    this.#samples.close();
    this.#edges.close();
  }
}

function observer(opts: RelayOptions, streams: FlowStreams<GetRecordsResponse>): UntypedServiceImplementation {
  const { agents } = opts;
  const version = `egress-relay v${opts.version}`;
  const started = process.hrtime.bigint();
  const unsupported = (what: string) => (call: ServerWritableStream<unknown, unknown>) => {
    call.emit('error', { code: status.UNIMPLEMENTED, details: `the agents have no ${what}` });
  };
  return {
    GetFlows: (call: ServerWritableStream<GetFlowsRequest, GetFlowsResponse>) => {
      const paths = call.request.field_mask?.paths ?? [];
      return streams.serve(call, ({ record, ...rest }): GetFlowsResponse => {
        if (!record) return rest;
        return { ...rest, flow: paths.length === 0 ? record.flow : applyFieldMask(record.flow, paths) };
      });
    },
    GetAgentEvents: unsupported('agent events'),
    GetDebugEvents: unsupported('debug events'),
    ServerStatus: unary(together(() => serverStatus(agents, version, Number(process.hrtime.bigint() - started)))),
    GetNodes: unary(together(() => clusterNodes(agents, opts.tls))),
    GetNamespaces: unary(together(() => clusterNamespaces(agents))),
  };
}

/** The peer service: reports the agents and their changes. */
function peer({ agents, tls }: RelayOptions): UntypedServiceImplementation {
  return {
    Notify: (call: ServerWritableStream<unknown, unknown>) => {
      let reported = new Map<string, AgentNode>();
      const report = (node: AgentNode, type: string) =>
        call.write({
          name: node.name,
          address: node.address,
          type,
          ...(tls ? { tls: { server_name: AGENT_SERVER_NAME } } : {}),
        });
      const update = () => {
        const now = new Map(agents.list().map((node) => [node.id, node]));
        for (const [id, node] of reported) if (!now.has(id)) report(node, 'PEER_DELETED');
        for (const [id, node] of now) if (!reported.has(id)) report(node, 'PEER_ADDED');
        reported = now;
      };
      update();
      const stop = agents.onChange(update);
      call.on('cancelled', stop);
      call.on('close', stop);
      call.on('error', stop);
    },
  };
}

function egress(
  { agents, history }: RelayOptions,
  streams: FlowStreams<GetRecordsResponse>,
  samples: SampleStreams,
  live: LiveEdges,
): UntypedServiceImplementation {
  const cluster = together(async () => ({ nodes: await clusterStatus(agents) }));
  return {
    GetFlows: (call: ServerWritableStream<GetFlowsRequest, GetRecordsResponse>) => streams.serve(call, (item) => item),
    SampleFlows: (call: ServerWritableStream<SampleFlowsRequest, Buffer>) => samples.serve(call),
    Status: unary(() => {
      throw new AgentError('AGENT', 'the relay has no state of its own', { hint: 'ask ClusterStatus' });
    }),
    ClusterStatus: unary((): Promise<ClusterStatusResponse> => cluster()),
    Explain: unary(async (request: ExplainRequest) => clusterExplain(agents, (await cluster()).nodes, request)),
    Policies: unary(together(() => clusterPolicies(agents))),
    Names: unary((request: NamesRequest) => clusterNames(agents, request)),
    ...askHandlers(agents, history, live),
  };
}
