/** As much of the Kubernetes API as egress-ui asks: TokenReview, SubjectAccessReview, the names of namespaces. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';

export interface Account {
  username: string;
  groups?: string[];
  audiences?: string[];
}

export class ReviewsServer {
  /** By token. */
  readonly accounts = new Map<string, Account>();
  /** `user get flows.egress-agent.io NAMESPACE`, `*` for all of them. */
  readonly rights = new Set<string>();
  namespaces: string[] = [];
  /** How it behaves: `hangs` answers nothing. */
  mood: 'well' | 'broken' | 'hangs' | 'lies' = 'well';
  readonly seen: string[] = [];
  readonly #server: Server;
  #port = 0;

  constructor() {
    this.#server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        if (this.mood === 'hangs') return;
        const body = parts.length > 0 ? (JSON.parse(Buffer.concat(parts).toString()) as never) : undefined;
        const path = (request.url ?? '').split('?')[0] as string;
        const answer = this.#answer(path, body as never);
        const status = this.mood === 'broken' ? 500 : answer === undefined ? 404 : 201;
        response.writeHead(status, { 'content-type': 'application/json' });
        // Like some servers, it repeats what was sent.
        response.end(JSON.stringify(status >= 400 ? { kind: 'Status', message: JSON.stringify(body) } : answer));
      });
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  get config(): KubeConfig {
    const config = new KubeConfig();
    config.loadFromOptions({
      clusters: [{ name: 'test', server: `http://127.0.0.1:${this.#port}` }],
      users: [{ name: 'ui' }],
      contexts: [{ name: 'test', cluster: 'test', user: 'ui' }],
      currentContext: 'test',
    });
    return config;
  }

  /** How many reviews of a kind came. */
  count(kind: string): number {
    return this.seen.filter((line) => line.startsWith(kind)).length;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(path: string, body: { spec: Record<string, never> }): unknown {
    if (path === '/api/v1/namespaces') {
      this.seen.push('namespaces');
      return { kind: 'NamespaceList', items: this.namespaces.map((name) => ({ metadata: { name } })) };
    }
    const { spec } = body;
    if (this.mood === 'lies')
      return { kind: 'TokenReview', status: { authenticated: 'yes', allowed: 'yes', user: {} } };
    if (path === '/apis/authentication.k8s.io/v1/tokenreviews') {
      const { token, audiences = ['https://kubernetes'] } = spec as unknown as { token: string; audiences?: string[] };
      this.seen.push('token');
      const account = this.accounts.get(token);
      const own = account?.audiences ?? ['https://kubernetes'];
      const both = audiences.filter((a) => own.includes(a));
      if (!account || both.length === 0) return { status: { authenticated: false, error: `no such token: ${token}` } };
      const { username, groups = [] } = account;
      const user = { username, uid: `uid-${username}`, groups, extra: { 'a.example.com/b': ['c'] } };
      return { status: { authenticated: true, user, audiences: both } };
    }
    if (path === '/apis/authorization.k8s.io/v1/subjectaccessreviews') {
      const {
        user,
        groups,
        resourceAttributes: a,
      } = spec as unknown as {
        user: string;
        groups: string[];
        resourceAttributes: Record<string, string>;
      };
      this.seen.push(`access ${user} ${a.namespace ?? '*'}`);
      const right = `${a.verb} ${a.resource}.${a.group}`;
      const allowed = [user, ...groups].some((who) =>
        ['*', a.namespace ?? '*'].some((ns) => this.rights.has(`${who} ${right} ${ns}`)),
      );
      return { status: { allowed } };
    }
    return undefined;
  }
}
