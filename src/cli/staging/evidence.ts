/** Finds those who know of policies and of edges: this node's agent, or the agents of all nodes of a cluster. */
import { Evidence } from '../../staging/live/evidence.js';
import { type Globals, isCluster } from '../common/globals.js';

/**
 * Opens connections for the time of a function.
 * @param ofCluster ask all nodes of the cluster, even if an agent runs on this machine
 * @throws AgentError AGENT if there are no agents, USAGE
 */
export async function withEvidence<T>(
  flags: Globals,
  use: (evidence: Evidence, isOfCluster: boolean) => Promise<T>,
  ofCluster = false,
): Promise<T> {
  if (!ofCluster && !(await isCluster(flags))) {
    const { AgentClient: Client } = await import('../../rpc/transport/client.js');
    const client = new Client(flags.socket);
    try {
      return await use(await Evidence.of(client, 'agent'), false);
    } finally {
      client.close();
    }
  }
  // The client of the Kubernetes API takes longer to load than everything else, so it is loaded only here.
  const { Cluster } = await import('../cluster/cluster.js');
  const cluster = await Cluster.open(flags);
  try {
    const absent = cluster.absent.map(({ node }) => node);
    return await use(new Evidence(cluster.agents.list(), { absent, only: flags.node }), true);
  } finally {
    cluster.close();
  }
}
