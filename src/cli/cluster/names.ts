/** egressctl names on a cluster: the names of all nodes, or of the node on which a pod runs. */
import { clusterNames } from '../../relay/nodes/cluster.js';
import type { NamesRequest, NamesResponse } from '../../proto/messages.js';
import { Cluster } from './cluster.js';
import type { ClusterFlags } from '../common/target.js';

/** @throws AgentError AGENT if no agent can be reached, USAGE */
export async function askNames(flags: ClusterFlags, request: NamesRequest): Promise<NamesResponse> {
  const cluster = await Cluster.open(flags);
  try {
    if (request.pod !== undefined) {
      const agent = await cluster.agentOf(request.pod);
      return await agent.ask((client) => client.names(request));
    }
    cluster.reportAbsent();
    return await clusterNames(cluster.agents, request);
  } finally {
    cluster.close();
  }
}
