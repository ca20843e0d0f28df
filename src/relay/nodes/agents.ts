/**
 * The connections to the agents: for each node one for streams, one for samples and one for queries, opened on demand
 * with the current certificate. An agent limits the calls on a connection, and streams do not end, so queries would be
 * blocked by streams on the same connection, and streams by samples.
 */
import { AgentClient, UnreachableError } from '../../rpc/transport/client.js';
import type { EdgesRequest } from '../../proto/edges.js';
import type { GetFlowsRequest, GetRecordsResponse, SampleFlowsRequest } from '../../proto/messages.js';
import { digestOf, type TlsFiles } from '../../rpc/transport/tls.js';
import type { FlowNode, FlowNodes, SampleNode } from './nodes.js';

/** How to reach an agent. */
export interface AgentPlace {
  id: string;
  /** The node's name, or a substitute until it is known. */
  name: string;
  /** `ADDRESS:PORT` */
  address: string;
  /** Text for messages in place of the address. */
  label?: string;
  /**
   * The reason why it could not be reached the last time, if the transport below (a forwarded port) knows it better
   * than the connection.
   */
  why?: () => string | undefined;
  /** The name in its certificate, if it is not that of every agent. */
  serverName?: string;
}

/** A client connects with its first call. */
type Clients = Record<'streams' | 'samples' | 'questions', AgentClient>;

/** @returns the client certificate; undefined: unencrypted */
export type TlsSource = () => TlsFiles | undefined;

/** One agent with its connections. */
export class AgentNode implements FlowNode, SampleNode {
  readonly id: string;
  readonly address: string;
  name: string;
  readonly #place: AgentPlace;
  readonly #tls: TlsSource;
  #clients: Clients | undefined;
  #digest = '';

  constructor(place: AgentPlace, tls: TlsSource) {
    this.id = place.id;
    this.name = place.name;
    this.address = place.address;
    this.#place = place;
    this.#tls = tls;
  }

  /** The open connections. @throws AgentError AGENT if there is no certificate */
  #connected(): Clients {
    const tls = this.#tls();
    const digest = tls ? digestOf(tls) : '';
    if (this.#clients && digest === this.#digest) return this.#clients;
    // Streams on the old connections end, and are resumed at the same position.
    this.close();
    this.#digest = digest;
    const { label, serverName } = this.#place;
    const remote = { address: this.address, name: this.name, label, tls, ...(serverName ? { serverName } : {}) };
    const client = () => new AgentClient(remote);
    this.#clients = { streams: client(), samples: client(), questions: client() };
    return this.#clients;
  }

  async *getRecords(
    req: GetFlowsRequest,
    signal: AbortSignal,
    opened?: () => void,
  ): AsyncGenerator<GetRecordsResponse> {
    try {
      yield* this.#connected().streams.getRecords(req, signal, opened);
    } catch (e) {
      throw this.#better(e);
    }
  }

  /** The EdgesResponses of the agent's ledger, as they are on the wire. @throws AgentError AGENT, USAGE */
  async *edgeBytes(req: EdgesRequest, signal: AbortSignal): AsyncGenerator<Buffer> {
    try {
      yield* this.#connected().streams.edgeBytes(req, signal);
    } catch (e) {
      throw this.#better(e);
    }
  }

  /** SampleFlowsResponses, as they are on the wire. @param opened called when the agent has accepted @throws AgentError */
  async *sampleBytes(req: SampleFlowsRequest, signal: AbortSignal, opened?: () => void): AsyncGenerator<Buffer> {
    try {
      yield* this.#connected().samples.sampleBytes(req, signal, opened);
    } catch (e) {
      throw this.#better(e);
    }
  }

  /** Sends a query to the agent. @throws AgentError AGENT, USAGE */
  async ask<A>(question: (client: AgentClient) => Promise<A>): Promise<A> {
    try {
      return await question(this.#connected().questions);
    } catch (e) {
      throw this.#better(e);
    }
  }

  #better(e: unknown): unknown {
    const why = e instanceof UnreachableError ? this.#place.why?.() : undefined;
    if (why === undefined) return e;
    return new UnreachableError(
      'AGENT',
      `${this.name} (${this.#place.label ?? this.address}) cannot be reached: ${why}`,
    );
  }

  close(): void {
    this.#clients?.streams.close();
    this.#clients?.samples.close();
    this.#clients?.questions.close();
  }
}

/** The present agents. */
export class Agents implements FlowNodes {
  readonly #tls: TlsSource;
  readonly #nodes = new Map<string, AgentNode>();
  readonly #watchers = new Set<() => void>();

  constructor(tls: TlsSource) {
    this.#tls = tls;
  }

  list(): readonly AgentNode[] {
    return [...this.#nodes.values()];
  }

  onChange(listener: () => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** Sets the list of agents. Connections to agents that remain are kept. @returns whether the list changed */
  set(places: readonly AgentPlace[]): boolean {
    let changed = false;
    const ids = new Set(places.map((p) => p.id));
    for (const [id, node] of this.#nodes) {
      if (ids.has(id)) continue;
      this.#nodes.delete(id);
      node.close();
      changed = true;
    }
    for (const place of places) {
      if (this.#nodes.has(place.id)) continue;
      this.#nodes.set(place.id, new AgentNode(place, this.#tls));
      changed = true;
    }
    if (changed) for (const listener of this.#watchers) listener();
    return changed;
  }

  close(): void {
    this.set([]);
  }
}
