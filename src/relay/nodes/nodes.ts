/**
 * The nodes whose flows are merged. The relay and egressctl find their agents in different ways, and both use these
 * types.
 */
import { AgentError } from '../../errors.js';
import { UnreachableError } from '../../rpc/transport/client.js';
import type { GetFlowsRequest, GetRecordsResponse, SampleFlowsRequest } from '../../proto/messages.js';

/** One agent. A new agent pod on the same node is another FlowNode. */
export interface FlowNode {
  /** Unique, also in the future. */
  id: string;
  /** The node's name. */
  name: string;
  /** Reads flows. @param opened called when the agent has accepted the request @throws AgentError AGENT, USAGE */
  getRecords(req: GetFlowsRequest, signal: AbortSignal, opened?: () => void): AsyncIterable<GetRecordsResponse>;
}

export interface FlowNodes {
  list(): readonly FlowNode[];
  /** Calls `tell` after changes. @returns a function that stops it */
  onChange(listener: () => void): () => void;
}

/** One agent whose flows are sampled. */
export interface SampleNode extends Pick<FlowNode, 'id' | 'name'> {
  sampleBytes(req: SampleFlowsRequest, signal: AbortSignal, opened?: () => void): AsyncIterable<Buffer>;
}

export interface SampleNodes extends Pick<FlowNodes, 'onChange'> {
  list(): readonly SampleNode[];
}

export type NodeState = 'NODE_CONNECTED' | 'NODE_UNAVAILABLE' | 'NODE_GONE' | 'NODE_ERROR';

/** The response that reports a change of nodes. */
export function nodeEvent(state: NodeState, names: readonly string[], message?: string): GetRecordsResponse {
  const now = Date.now();
  return {
    node_status: { state_change: state, node_names: [...names], ...(message === undefined ? {} : { message }) },
    time: { seconds: String(Math.floor(now / 1000)), nanos: (now % 1000) * 1_000_000 },
  };
}

/** Whether the error is about the request itself, so that every node would return it. */
export function isRefusal(e: unknown): e is AgentError {
  return e instanceof AgentError && e.code === 'USAGE';
}

/** The response that reports an error of a node. */
export function faultEvent(node: FlowNode, e: unknown): GetRecordsResponse {
  const { message } = e as Error;
  return nodeEvent(e instanceof UnreachableError ? 'NODE_UNAVAILABLE' : 'NODE_ERROR', [node.name], message);
}
