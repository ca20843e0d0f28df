/**
 * Reads edges for the commands about history: of this node's agent, of a cluster's relay, which keeps them, or without
 * one of all nodes.
 */
import { EdgeBook } from '../../edges/book.js';
import { AgentError } from '../../errors.js';
import type { EdgesRequest } from '../../proto/edges.js';
import type { AgentNode } from '../../relay/nodes/agents.js';
import { AgentClient, UnreachableError } from '../../rpc/transport/client.js';
import { type Globals, isCluster, isRelayMeant } from '../common/globals.js';
import { safe } from '../common/output.js';
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
    const relay = await cluster.relay();
    const fromRelay = relay && (await askRelay(relay, request));
    if (fromRelay) return fromRelay;
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

/** @returns undefined: it cannot be reached, which is said on standard error */
async function askRelay(relay: AgentNode, request: EdgesRequest): Promise<EdgeBook | undefined> {
  const book = new EdgeBook();
  try {
    await relay.ask(async (client) => {
      for await (const message of client.edges(request)) book.add(message);
    });
    return book;
  } catch (e) {
    if (!(e instanceof UnreachableError)) throw e;
    process.stderr.write(`egressctl: ${safe(e.message)}; the agents are asked\n`);
    return undefined;
  }
}

/**
 * Asks a cluster's relay what only that knows.
 * @throws AgentError AGENT if there is none
 */
export async function askTheRelay<A>(flags: Globals, question: (client: AgentClient) => Promise<A>): Promise<A> {
  const none = new AgentError('AGENT', 'there is no relay to ask', {
    hint: 'only the relay of a cluster keeps this: see --kubeconfig and --context, and docs/history.md',
  });
  if (!(await isRelayMeant(flags))) throw none;
  const cluster = await Cluster.open(flags);
  try {
    const relay = await cluster.relay();
    if (!relay) throw none;
    return await relay.ask(question);
  } finally {
    cluster.close();
  }
}
