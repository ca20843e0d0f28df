/** The nodes that are merged: what the relay and egressctl make of agents found in different ways. */
import { AgentError } from '../errors.js';
import { UnreachableError } from '../rpc/client.js';
import type { GetFlowsRequest, GetRecordsResponse } from '../rpc/messages.js';

/** One agent. A pod that takes another's place on the same node is another one. */
export interface FlowNode {
  /** Unique, now and later. */
  id: string;
  /** The node's name. */
  name: string;
  /** @param opened called when the agent has taken the request @throws AgentError AGENT, USAGE */
  getRecords(req: GetFlowsRequest, signal: AbortSignal, opened?: () => void): AsyncIterable<GetRecordsResponse>;
}

export interface FlowNodes {
  list(): readonly FlowNode[];
  /** @returns ends it */
  onChange(tell: () => void): () => void;
}

export type NodeState = 'NODE_CONNECTED' | 'NODE_UNAVAILABLE' | 'NODE_GONE' | 'NODE_ERROR';

export function nodeEvent(state: NodeState, names: readonly string[], message?: string): GetRecordsResponse {
  const now = Date.now();
  return {
    node_status: { state_change: state, node_names: [...names], ...(message === undefined ? {} : { message }) },
    time: { seconds: String(Math.floor(now / 1000)), nanos: (now % 1000) * 1_000_000 },
  };
}

/** What every node would say: a fault of the request's. */
export function isRefusal(e: unknown): e is AgentError {
  return e instanceof AgentError && e.code === 'USAGE';
}

export function faultEvent(node: FlowNode, e: unknown): GetRecordsResponse {
  const { message } = e as Error;
  return nodeEvent(e instanceof UnreachableError ? 'NODE_UNAVAILABLE' : 'NODE_ERROR', [node.name], message);
}
