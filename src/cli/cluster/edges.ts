/** Reads edges for the commands about history: of this node's agent, or of all nodes of a cluster. */
import { EdgeBook } from '../../edges/book.js';
import type { AgentError } from '../../errors.js';
import type { EdgesRequest } from '../../proto/edges.js';
import { AgentClient } from '../../rpc/transport/client.js';
import { type Globals, isCluster } from '../common/globals.js';
import { Cluster } from './cluster.js';

/**
 * All edges that a request asks for. Nodes that do not answer are in the book's `unavailable`.
 * @throws AgentError AGENT if nobody answers, USAGE
 */
export async function readEdges(flags: Globals, request: EdgesRequest): Promise<EdgeBook> {
  const book = new EdgeBook();
  if (!(await isCluster(flags))) {
    const client = new AgentClient(flags.socket);
    try {
      for await (const message of client.edges(request)) book.add(message);
    } finally {
      client.close();
    }
    return book;
  }
  const cluster = await Cluster.open(flags);
  try {
    let fault: unknown;
    const answers = await Promise.all(
      cluster.agents.list().map(async (agent) => {
        try {
          await agent.ask(async (client) => {
            for await (const message of client.edges(request)) book.add(message);
          });
          return true;
        } catch (e) {
          if ((e as AgentError).code === 'USAGE') throw e;
          fault = e;
          book.add({ unavailable_nodes: [agent.name] });
          return false;
        }
      }),
    );
    for (const { node } of cluster.absent) book.add({ unavailable_nodes: [node] });
    if (fault !== undefined && !answers.includes(true)) throw fault;
  } finally {
    cluster.close();
  }
  return book;
}
