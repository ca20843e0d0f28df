/** What agents know of policies and of edges: one agent, those of all nodes, or a relay that answers for them. */
import { EdgeBook } from '../../edges/book.js';
import { millisOf } from '../../edges/wire.js';
import { AgentError } from '../../errors.js';
import type { EdgeChangeMessage, EdgesRequest, PolicyObjectMessage, PreviewRequest } from '../../proto/edges.js';
import type { AgentClient } from '../../rpc/transport/client.js';

/** Agents that are asked for policies. All of a cluster know the same ones; they differ in since when. */
const ASKED_FOR_OBJECTS = 5;

/** A server that can be asked: an agent, or a relay. */
export interface Asked {
  /** Name of its node, for messages. */
  readonly name: string;
  /** @throws AgentError AGENT, USAGE */
  ask<A>(question: (client: AgentClient) => Promise<A>): Promise<A>;
}

/** Those that can be asked. Their connections belong to the caller. */
export class Evidence {
  readonly #servers: readonly Asked[];
  readonly #absent: readonly string[];
  /** The one node that is asked although there may be others; undefined: all are. */
  readonly only: string | undefined;

  /**
   * @param servers the agents of all nodes, or one server that answers for all of them
   * @param opts.absent nodes whose agents do not run
   * @param opts.only the one node that is asked although there may be others
   */
  constructor(servers: readonly Asked[], opts: { absent?: readonly string[]; only?: string | undefined } = {}) {
    this.#servers = servers;
    this.#absent = opts.absent ?? [];
    this.only = opts.only;
  }

  /**
   * One server. A relay answers for all nodes, and says itself which of them it has not heard. An agent of a cluster
   * speaks only for its node.
   * @throws AgentError AGENT if the agent cannot be reached
   */
  static async of(client: AgentClient, kind: 'agent' | 'relay'): Promise<Evidence> {
    const ask = <A>(question: (client: AgentClient) => Promise<A>) => question(client);
    if (kind === 'relay') return new Evidence([{ name: 'the relay', ask }]);
    const { mode, node_name } = await client.status();
    return new Evidence([{ name: node_name, ask }], { only: mode === 'cluster' ? node_name : undefined });
  }

  /**
   * The edges that a request asks for, in a book that grows while the request follows. Nodes that do not answer are in
   * the book's `unavailable`.
   * @param signal ends a request that follows
   * @returns when all that there is has come
   * @throws AgentError AGENT if nobody answers, USAGE
   */
  async edges(request: EdgesRequest, signal?: AbortSignal): Promise<EdgeBook> {
    const book = new EdgeBook();
    for (const name of this.#absent) book.add({ unavailable_nodes: [name] });
    const faults: unknown[] = [];
    await Promise.all(
      this.#servers.map(
        (agent) =>
          new Promise<void>((resolve, reject) => {
            const read = async (client: AgentClient) => {
              for await (const message of client.edges(request, signal)) {
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
    if (faults.length > 0 && faults.length === this.#servers.length) throw faults[0];
    return book;
  }

  /**
   * The flows that were seen and whose verdict a change of policies would change: each agent judges those of its own
   * ledger.
   * @throws AgentError AGENT if an agent does not answer: the others cannot speak for it
   */
  async changed(request: PreviewRequest): Promise<EdgeChangeMessage[]> {
    const ask = (agent: Asked) => agent.ask((client) => client.preview(request, PREVIEW_MS));
    const answers = await Promise.all(this.#servers.map(ask));
    return answers.flatMap(({ edges }) => edges ?? []);
  }

  /**
   * The policies that an agent has in force, each with the earliest time since when an agent knows its content.
   * @param namespaces of these, and those of the whole cluster; empty: all
   * @throws AgentError AGENT if no agent answers
   */
  async objects(namespaces: string[]): Promise<PolicyObjectMessage[]> {
    const asked = this.#servers.slice(0, ASKED_FOR_OBJECTS);
    const answers = await Promise.allSettled(
      asked.map((agent) => agent.ask((client) => client.policyObjects({ namespaces }, OBJECTS_MS))),
    );
    const lists = answers.flatMap((a) => (a.status === 'fulfilled' ? [a.value.objects ?? []] : []));
    const [first, ...others] = lists;
    const fault = answers.find((a) => a.status === 'rejected');
    if (!first) throw fault?.reason ?? new AgentError('AGENT', 'no agent is running that could be asked');
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
