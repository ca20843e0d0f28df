/** The relay as the source of the web UI, for as long as that runs: its certificates are replaced meanwhile. */
import { AgentClient, type Remote } from '../rpc/transport/client.js';
import { digestOf, type TlsFiles } from '../rpc/transport/tls.js';

/**
 * A server limits the calls on one connection, and streams do not end: so each kind has a connection of its own. What is
 * not named here is a question.
 */
const STREAMS: Readonly<Record<string, string>> = { edges: 'edges', getRecords: 'flows', sampleFlows: 'flows' };

/** Connections to one server, opened on demand with the certificate of that time. */
export class RelaySource {
  readonly #remote: Omit<Remote, 'tls'>;
  readonly #tls: () => TlsFiles | undefined;
  readonly #clients = new Map<string, AgentClient>();
  #digest = '';
  /** All of them as one client. */
  readonly client: AgentClient;

  /** @param tls reads the client certificate; undefined: unencrypted */
  constructor(remote: Omit<Remote, 'tls'>, tls: () => TlsFiles | undefined) {
    this.#remote = remote;
    this.#tls = tls;
    this.client = new Proxy({} as AgentClient, {
      get: (_, method: string) => {
        if (method === 'close') return () => this.close();
        const client = this.#connected(STREAMS[method] ?? 'questions');
        const value: unknown = client[method as keyof AgentClient];
        return typeof value === 'function' ? value.bind(client) : value;
      },
    });
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  /** @throws AgentError AGENT if there is no certificate */
  #connected(kind: string): AgentClient {
    const tls = this.#tls();
    const digest = tls ? digestOf(tls) : '';
    if (digest !== this.#digest) {
      // Streams end, and those who follow them begin anew.
      this.close();
      this.#digest = digest;
    }
    let client = this.#clients.get(kind);
    if (!client) this.#clients.set(kind, (client = new AgentClient({ ...this.#remote, tls })));
    return client;
  }
}
