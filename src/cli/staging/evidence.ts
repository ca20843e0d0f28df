/** What agents know of policies and of edges: of this node's agent, or of all nodes of a cluster. */
import { EdgeBook } from '../../edges/book.js';
import { millisOf } from '../../edges/wire.js';
import type { AgentError } from '../../errors.js';
import type { EdgeChangeMessage, EdgesRequest, PolicyObjectMessage, PreviewRequest } from '../../proto/edges.js';
import type { AgentClient } from '../../rpc/transport/client.js';
import { type Globals, isCluster } from '../common/globals.js';

/** Agents that are asked for policies. All of a cluster know the same ones; they differ in since when. */
const ASKED_FOR_OBJECTS = 5;

interface Asked {
  readonly name: string;
  ask<A>(question: (client: AgentClient) => Promise<A>): Promise<A>;
}

/** The agents that can be asked. */
export class Evidence {
  readonly #agents: readonly Asked[];
  readonly #absent: readonly string[];
  readonly isCluster: boolean;
  /** The one node that is asked although there may be others; undefined: all are. */
  readonly only: string | undefined;

  private constructor(agents: readonly Asked[], absent: readonly string[], cluster: boolean, only?: string) {
    this.#agents = agents;
    this.#absent = absent;
    this.isCluster = cluster;
    this.only = only;
  }

  /**
   * Opens connections for the time of a function.
   * @param ofCluster ask all nodes of the cluster, even if an agent runs on this machine
   * @throws AgentError AGENT if there are no agents, USAGE
   */
  static async with<T>(flags: Globals, use: (evidence: Evidence) => Promise<T>, ofCluster = false): Promise<T> {
    if (!ofCluster && !(await isCluster(flags))) {
      const { AgentClient: Client } = await import('../../rpc/transport/client.js');
      const client = new Client(flags.socket);
      try {
        const { mode, node_name } = await client.status();
        const only = mode === 'cluster' ? node_name : undefined;
        return await use(new Evidence([{ name: node_name, ask: (question) => question(client) }], [], false, only));
      } finally {
        client.close();
      }
    }
    // The client of the Kubernetes API takes longer to load than everything else, so it is loaded only here.
    const { Cluster } = await import('../cluster/cluster.js');
    const cluster = await Cluster.open(flags);
    try {
      const absent = cluster.absent.map(({ node }) => node);
      return await use(new Evidence(cluster.agents.list(), absent, true, flags.node));
    } finally {
      cluster.close();
    }
  }

  /**
   * The edges that a request asks for, in a book that grows while the request follows. Nodes that do not answer are in
   * the book's `unavailable`.
   * @returns when all that there is has come
   * @throws AgentError AGENT if nobody answers, USAGE
   */
  async edges(request: EdgesRequest): Promise<EdgeBook> {
    const book = new EdgeBook();
    for (const name of this.#absent) book.add({ unavailable_nodes: [name] });
    const faults: unknown[] = [];
    await Promise.all(
      this.#agents.map(
        (agent) =>
          new Promise<void>((resolve, reject) => {
            const read = async (client: AgentClient) => {
              for await (const message of client.edges(request)) {
                book.add(message);
                if (message.caught_up) resolve();
              }
            };
            agent
              .ask(read)
              .catch((e: AgentError) => {
                if (e.code === 'USAGE') reject(e);
                faults.push(e);
                book.add({ unavailable_nodes: [agent.name] });
              })
              .finally(resolve);
          }),
      ),
    );
    if (faults.length > 0 && faults.length === this.#agents.length) throw faults[0];
    return book;
  }

  /**
   * The flows that were seen and whose verdict a change of policies would change: each agent judges those of its own
   * ledger.
   * @throws AgentError AGENT if an agent does not answer: the others cannot speak for it
   */
  async changed(request: PreviewRequest): Promise<EdgeChangeMessage[]> {
    const ask = (agent: Asked) => agent.ask((client) => client.preview(request, PREVIEW_MS));
    const answers = await Promise.all(this.#agents.map(ask));
    return answers.flatMap(({ edges }) => edges ?? []);
  }

  /**
   * The policies that an agent has in force, each with the earliest time since when an agent knows its content.
   * @param namespaces of these, and those of the whole cluster; empty: all
   * @throws AgentError AGENT if no agent answers
   */
  async objects(namespaces: string[]): Promise<PolicyObjectMessage[]> {
    const asked = this.#agents.slice(0, ASKED_FOR_OBJECTS);
    const answers = await Promise.allSettled(
      asked.map((agent) => agent.ask((client) => client.policyObjects({ namespaces }, OBJECTS_MS))),
    );
    const lists = answers.flatMap((a) => (a.status === 'fulfilled' ? [a.value.objects ?? []] : []));
    const [first, ...others] = lists;
    if (!first) throw (answers[0] as PromiseRejectedResult).reason;
    const earliest = new Map<string, number>();
    for (const object of [first, ...others].flat()) {
      const ms = millisOf(object.since);
      const key = keyOf(object);
      if (ms !== undefined) earliest.set(key, Math.min(ms, earliest.get(key) ?? ms));
    }
    return first.map((object) => {
      const ms = earliest.get(keyOf(object));
      return ms === undefined
        ? object
        : { ...object, since: { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 } };
    });
  }
}

/** Thousands of policies, or of flows, take their time. */
const OBJECTS_MS = 30_000;
const PREVIEW_MS = 70_000;

function keyOf({ api_version, kind, namespace, name, generation, staged }: PolicyObjectMessage): string {
  return JSON.stringify([api_version, kind, namespace, name, Number(generation), staged]);
}
