/** egressctl flows on a cluster: merges the flows of all nodes by time. Unreachable nodes are reported and skipped. */
import { AgentError } from '../../errors.js';
import { mergedFlows } from '../../relay/merge/flows.js';
import type { GetFlowsRequest, GetRecordsResponse, NodeStatusEvent } from '../../proto/messages.js';
import { Cluster } from './cluster.js';
import { safe } from '../common/output.js';
import type { ClusterFlags } from '../common/target.js';

/** Yields the flows of all reachable nodes. @throws AgentError AGENT if no node is reachable, USAGE */
export async function* clusterFlows(flags: ClusterFlags, request: GetFlowsRequest): AsyncGenerator<GetRecordsResponse> {
  const cluster = await Cluster.open(flags);
  try {
    cluster.reportAbsent();
    if (request.follow) cluster.keepRefreshing();
    const nodes = new Reachability(cluster.agents.list().length);
    if (nodes.none) throw noNode();
    for await (const response of mergedFlows(cluster.agents, request, new AbortController().signal)) {
      if (!response.node_status) yield response;
      else if (!nodes.note(response.node_status)) throw noNode();
    }
  } finally {
    cluster.close();
  }
}

function noNode(): AgentError {
  return new AgentError('AGENT', 'no node can be reached');
}

/** Tracks which nodes are reachable, and reports changes on standard error. */
class Reachability {
  readonly #unreachable = new Set<string>();
  readonly #total: number;
  #connected = false;

  /** @param total number of nodes that are asked */
  constructor(total: number) {
    this.#total = total;
  }

  get none(): boolean {
    return !this.#connected && this.#unreachable.size >= this.#total;
  }

  /** Records a change of state. @returns whether a node may still answer */
  note({ state_change, node_names, message }: NodeStatusEvent): boolean {
    for (const name of node_names) {
      if (state_change === 'NODE_CONNECTED') {
        this.#connected = true;
        if (this.#unreachable.delete(name)) say(name, 'is connected again');
      } else if (state_change === 'NODE_GONE') {
        say(name, 'its agent has been removed');
      } else {
        this.#unreachable.add(name);
        process.stderr.write(`egressctl: ${safe(message ?? `${name} cannot be reached`)}\n`);
      }
    }
    return !this.none;
  }
}

function say(name: string, what: string): void {
  process.stderr.write(`egressctl: ${safe(name)}: ${what}\n`);
}
