/** observer.Observer and peer.Peer: the services for Hubble's CLI, UI and Relay. */
import { type ServerWritableStream, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import type { FlowHub, HubItem } from '../flow/hub/hub.js';
import { applyFieldMask, timestamp, toHubble } from '../flow/hubble.js';
import type { FlowWriter } from './flow-writer.js';
import type {
  GetFlowsRequest,
  GetFlowsResponse,
  GetNamespacesResponse,
  GetNodesResponse,
  LostEvent,
  ServerStatusResponse,
} from '../proto/messages.js';
import { madeOnce } from './once.js';
import type { FlowStreams } from './streams.js';
import { unary } from './transport/unary.js';
import type { AgentView } from './view.js';

interface Parts {
  hub: FlowHub;
  view: AgentView;
  writer: FlowWriter;
}

/** The message about lost flows, the same for the streams of both services. */
export function lostMessage(item: Extract<HubItem, { lost: unknown }>): LostEvent {
  const { source, count, cpu, firstNs, lastNs } = item.lost;
  return {
    source,
    num_events_lost: count,
    ...(cpu === undefined ? {} : { cpu: { value: cpu } }),
    first: timestamp(firstNs),
    last: timestamp(lastNs),
  };
}

/** The handlers of observer.Observer. */
export function observerHandlers({ hub, view, writer }: Parts, streams: FlowStreams): UntypedServiceImplementation {
  const unsupported = (what: string) => (call: ServerWritableStream<unknown, unknown>) => {
    call.emit('error', { code: status.UNIMPLEMENTED, details: `this agent has no ${what}` });
  };
  let known: string | undefined;
  /** Computed once, since the whole status is expensive on a node with many pods. */
  const version = () => (known ??= `egress-agent v${view.status().version}`);
  const response = madeOnce(
    (flow): GetFlowsResponse => ({ flow: toHubble(flow), node_name: hub.nodeName, time: timestamp(flow.timeNs) }),
  );
  return {
    GetFlows: (call: ServerWritableStream<GetFlowsRequest, GetFlowsResponse | Buffer>) => {
      const paths = call.request.field_mask?.paths ?? [];
      return streams.serve(call, (item): GetFlowsResponse | Buffer => {
        if ('lost' in item) {
          return { lost_events: lostMessage(item), node_name: hub.nodeName, time: timestamp(item.lost.lastNs) };
        }
        if (paths.length === 0) return writer.hubble(item.flow) ?? response(item.flow);
        return { ...response(item.flow), flow: applyFieldMask(toHubble(item.flow), paths) };
      });
    },
    GetAgentEvents: unsupported('agent events'),
    GetDebugEvents: unsupported('debug events'),
    ServerStatus: unary((): ServerStatusResponse => {
      const s = hub.stats();
      return {
        num_flows: s.numFlows,
        max_flows: s.maxFlows,
        seen_flows: s.seenFlows,
        uptime_ns: s.uptimeNs,
        num_connected_nodes: { value: 1 },
        num_unavailable_nodes: { value: 0 },
        version: version(),
        flows_rate: s.flowsPerSecond,
      };
    }),
    GetNodes: unary((): GetNodesResponse => {
      const s = hub.stats();
      const node = {
        name: hub.nodeName,
        version: version(),
        state: 'NODE_CONNECTED',
        uptime_ns: s.uptimeNs,
        num_flows: s.numFlows,
        max_flows: s.maxFlows,
        seen_flows: s.seenFlows,
      };
      return { nodes: [node] };
    }),
    GetNamespaces: unary((): GetNamespacesResponse => ({ namespaces: hub.namespaces() })),
  };
}

/**
 * An agent knows only its own node. The stream stays open, because Relay treats its end as a loss of the peer service.
 */
export function peerHandlers({ hub }: Pick<Parts, 'hub'>): UntypedServiceImplementation {
  return {
    Notify: (call: ServerWritableStream<unknown, unknown>) => {
      call.write({ name: hub.nodeName, address: '', type: 'PEER_ADDED' });
    },
  };
}
