/**
 * The agents' connections: for each node one for streams and one for questions, made when they are needed, with the certificate
 * that is there then. An agent takes so many calls on a connection: streams have no end, and questions would wait for it.
 */
import { AgentClient, UnreachableError } from '../rpc/client.js';
import type { GetFlowsRequest, GetRecordsResponse } from '../rpc/messages.js';
import { digestOf, type TlsFiles } from '../rpc/tls.js';
import type { FlowNode, FlowNodes } from './nodes.js';

/** Where an agent is. */
export interface AgentPlace {
  id: string;
  /** The node's name, or what stands for it until it is known. */
  name: string;
  /** `ADDRESS:PORT` */
  address: string;
  /** What messages say in place of the address. */
  shown?: string;
  /** Why it could not be reached the last time, where what is between knows better than the connection. */
  why?: () => string | undefined;
}

/** @returns the certificate to show; undefined: in the clear */
export type TlsSource = () => TlsFiles | undefined;

export class AgentNode implements FlowNode {
  readonly id: string;
  readonly address: string;
  name: string;
  readonly #place: AgentPlace;
  readonly #tls: TlsSource;
  #clients: { streams: AgentClient; questions: AgentClient } | undefined;
  #digest = '';

  constructor(place: AgentPlace, tls: TlsSource) {
    this.id = place.id;
    this.name = place.name;
    this.address = place.address;
    this.#place = place;
    this.#tls = tls;
  }

  /** @throws AgentError AGENT where there is no certificate */
  #connected(): { streams: AgentClient; questions: AgentClient } {
    const tls = this.#tls();
    const digest = tls ? digestOf(tls) : '';
    if (this.#clients && digest === this.#digest) return this.#clients;
    // Streams of the old one end, and are taken up again where they were.
    this.close();
    this.#digest = digest;
    const remote = { address: this.address, name: this.name, shown: this.#place.shown, tls };
    this.#clients = { streams: new AgentClient(remote), questions: new AgentClient(remote) };
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

  /** A question to the agent. @throws AgentError AGENT, USAGE */
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
      `${this.name} (${this.#place.shown ?? this.address}) cannot be reached: ${why}`,
    );
  }

  close(): void {
    this.#clients?.streams.close();
    this.#clients?.questions.close();
  }
}

/** The agents there are now. */
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

  onChange(tell: () => void): () => void {
    this.#watchers.add(tell);
    return () => this.#watchers.delete(tell);
  }

  /** These are all of them. Connections to agents that stay, stay. @returns whether any came or went */
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
    if (changed) for (const tell of this.#watchers) tell();
    return changed;
  }

  close(): void {
    this.set([]);
  }
}
