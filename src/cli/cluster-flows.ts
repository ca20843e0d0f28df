/** egressctl flows on a cluster: all nodes' flows in time order; what cannot be reached is said, the rest goes on. */
import { AgentError } from '../errors.js';
import { mergedFlows } from '../relay/flows.js';
import type { GetFlowsRequest, GetRecordsResponse, NodeStatusEvent } from '../rpc/messages.js';
import { Cluster } from './cluster.js';
import { safe } from './output.js';
import type { ClusterFlags } from './target.js';

/** @throws AgentError AGENT where no node can be reached, USAGE */
export async function* clusterFlows(flags: ClusterFlags, request: GetFlowsRequest): AsyncGenerator<GetRecordsResponse> {
  const cluster = await Cluster.open(flags);
  try {
    cluster.tellAbsent();
    if (request.follow) cluster.keepLooking();
    const nodes = new Reached(cluster.agents.list().length);
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

/** Who could be reached, told on standard error. */
class Reached {
  readonly #lost = new Set<string>();
  readonly #all: number;
  #connected = false;

  constructor(all: number) {
    this.#all = all;
  }

  get none(): boolean {
    return !this.#connected && this.#lost.size >= this.#all;
  }

  /** @returns whether there is a node left */
  note({ state_change, node_names, message }: NodeStatusEvent): boolean {
    for (const name of node_names) {
      if (state_change === 'NODE_CONNECTED') {
        this.#connected = true;
        if (this.#lost.delete(name)) say(name, 'is connected again');
      } else if (state_change === 'NODE_GONE') {
        say(name, 'its agent is gone');
      } else {
        this.#lost.add(name);
        process.stderr.write(`egressctl: ${safe(message ?? `${name} cannot be reached`)}\n`);
      }
    }
    return !this.none;
  }
}

function say(name: string, what: string): void {
  process.stderr.write(`egressctl: ${safe(name)}: ${what}\n`);
}
