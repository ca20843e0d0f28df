/**
 * An API server for one kind that misbehaves on demand: a store with versions, a history that can be compacted, pages, tokens that
 * expire, bookmarks, and every fault that a network, a proxy or a server was seen to have.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { KubeClient, type KubeObject } from '../../src/kube/client/client.js';

/** What happens at once to every open watch, or to the server. */
export const FAULTS_NOW = [
  ...['drop', 'end', 'half-line', 'half-line-end', 'junk', 'nameless', 'unknown-type', 'error-410', 'error-500'],
  ...['silence', 'replay', 'compact', 'expire-tokens', 'refuse'],
] as const;
/** What happens to the next event. */
export const FAULTS_NEXT_EVENT = ['lose', 'duplicate', 'swap', 'slow'] as const;
/** What happens to the next request. */
export const FAULTS_NEXT_REQUEST = [
  ...['410', '429', '500', '503', '401', '404', 'cut-answer', 'junk-answer', 'slow-answer', 'no-answer'],
] as const;
export type Fault = string;

interface Event {
  version: number;
  type: string;
  object: KubeObject;
}

interface Watch {
  response: ServerResponse;
  silent: boolean;
}

const REFUSE_MS = 15;

export class FakeServer {
  readonly path = '/api/v1/pods';
  readonly objects = new Map<string, KubeObject>();
  /** `key uid version` of everything that ever was. */
  readonly everHad = new Set<string>();
  /** Answers of other paths, for discovery. */
  readonly routes = new Map<
    string,
    (query: URLSearchParams) => { status?: number; body: unknown; retryAfter?: number }
  >();
  /** Requests that came: `GET /path?query`. */
  readonly seen: { url: URL; headers: IncomingMessage['headers']; method: string; body: string }[] = [];
  bookmarkMs = 15;
  /** The version of the storage. */
  version = 95;
  #server: Server | undefined;
  #port = 0;
  #history: Event[] = [];
  #oldest = 0;
  #uids = 0;
  readonly #watches = new Set<Watch>();
  readonly #tokens = new Map<string, { version: number; items: KubeObject[]; from: number }>();
  #nextRequest: string[] = [];
  #nextEvent: string[] = [];
  #held: Event | undefined;
  #said404 = false;
  #bookmarks: NodeJS.Timeout | undefined;
  readonly #late: Promise<void>[] = [];
  #clients: KubeClient[] = [];

  async start(): Promise<this> {
    await this.#listen();
    this.#bookmarks = setInterval(() => {
      const object = { kind: 'Pod', apiVersion: 'v1', metadata: { resourceVersion: String(this.version) } };
      for (const watch of this.#watches) this.#write(watch, { type: 'BOOKMARK', object });
    }, this.bookmarkMs);
    return this;
  }

  client(): KubeClient {
    const config = new KubeConfig();
    config.loadFromClusterAndUser({ name: 'fake', server: this.url, skipTLSVerify: false }, { name: 'nobody' });
    const client = new KubeClient(config);
    this.#clients.push(client);
    return client;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get lists(): number {
    return this.seen.filter(({ url }) => url.pathname === this.path && !url.searchParams.has('watch')).length;
  }

  get openWatches(): number {
    return this.#watches.size;
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    clearInterval(this.#bookmarks);
    await Promise.all(this.#late);
    await this.hangUp();
  }

  /** Nobody listens until `listen`. */
  async hangUp(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  async listen(): Promise<void> {
    await this.#listen();
  }

  /** Creates or changes; a key is `namespace/name`. */
  put(key: string, text = 'größe ✓ 🐘'): void {
    const [namespace = '', name = ''] = key.split('/');
    const before = this.objects.get(key);
    const version = ++this.version;
    const metadata = {
      name,
      namespace,
      uid: before?.metadata?.uid ?? `uid-${++this.#uids}`,
      resourceVersion: String(version),
      annotations: { text },
    };
    // Lists do not carry these two on each item, events do.
    const object = { metadata };
    this.objects.set(key, object);
    this.everHad.add(identityOf(key, object));
    this.#happened({ version, type: before ? 'MODIFIED' : 'ADDED', object });
  }

  delete(key: string): void {
    const object = this.objects.get(key);
    if (!object) return;
    const version = ++this.version;
    this.objects.delete(key);
    const metadata = { ...object.metadata, resourceVersion: String(version) };
    this.#happened({ version, type: 'DELETED', object: { metadata } });
  }

  /** The storage comes back from a backup: these objects, at that version, and no history. Watches stay open. */
  restore(objects: ReadonlyMap<string, KubeObject>, version: number): void {
    this.objects.clear();
    for (const [key, object] of objects) this.objects.set(key, object);
    this.version = version;
    this.#history = [];
    this.#oldest = 0;
  }

  inject(fault: Fault): void {
    if ((FAULTS_NEXT_EVENT as readonly string[]).includes(fault)) this.#nextEvent.push(fault);
    else if ((FAULTS_NEXT_REQUEST as readonly string[]).includes(fault)) this.#nextRequest.push(fault);
    else this.#now(fault);
  }

  /** No more faults; what was lost stays lost, what is silent stays silent. */
  calm(): void {
    this.#nextRequest = [];
    this.#nextEvent = [];
    const held = this.#held;
    this.#held = undefined;
    if (held) this.#send(held);
  }

  async #listen(): Promise<void> {
    const server = createServer((request, response) => {
      request.on('error', () => {});
      response.on('error', () => {});
      this.#serve(request, response).catch(() => response.destroy());
    });
    server.keepAliveTimeout = 60_000;
    await new Promise<void>((resolve, reject) => {
      server.on('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://x');
    let body = '';
    for await (const chunk of request) body += chunk;
    this.seen.push({ url, headers: request.headers, method: request.method ?? '', body });
    const route = this.routes.get(url.pathname);
    if (route) {
      const { status = 200, body, retryAfter } = route(url.searchParams);
      answer(response, status, typeof body === 'string' ? body : JSON.stringify(body), retryAfter);
      return;
    }
    if (url.pathname !== this.path) {
      answer(
        response,
        404,
        JSON.stringify({ kind: 'Status', reason: 'NotFound', message: 'no such thing', code: 404 }),
      );
      return;
    }
    const fault = this.#nextRequest.shift();
    // A second 404 would say that the kind is gone; that has a test of its own.
    if (fault !== undefined && /^\d/.test(fault) && !(fault === '404' && this.#said404)) {
      this.#said404 ||= fault === '404';
      const status = Number(fault);
      const text = JSON.stringify({ kind: 'Status', reason: status === 410 ? 'Expired' : 'Trouble', message: fault });
      answer(response, status, text, status === 429 ? 0 : undefined);
      return;
    }
    if (fault === 'no-answer') {
      request.socket.destroy();
      return;
    }
    if (url.searchParams.has('watch')) this.#watch(url.searchParams, response);
    else await this.#list(url.searchParams, response, fault);
  }

  async #list(query: URLSearchParams, response: ServerResponse, fault: string | undefined): Promise<void> {
    const limit = Number(query.get('limit') ?? 0) || Number.POSITIVE_INFINITY;
    const token = query.get('continue');
    let at = { version: this.version, items: [...this.objects.values()], from: 0 };
    if (token !== null) {
      const known = this.#tokens.get(token);
      if (!known) {
        answer(
          response,
          410,
          JSON.stringify({ kind: 'Status', reason: 'Expired', code: 410, message: 'token expired' }),
        );
        return;
      }
      at = known;
    }
    const to = Math.min(at.from + limit, at.items.length);
    const metadata: Record<string, string> = { resourceVersion: String(at.version) };
    if (to < at.items.length) {
      metadata.continue = `token-${at.version}-${to}-${this.#tokens.size}`;
      this.#tokens.set(metadata.continue, { ...at, from: to });
    }
    const text = JSON.stringify({ kind: 'PodList', apiVersion: 'v1', metadata, items: at.items.slice(at.from, to) });
    const bytes = Buffer.from(text);
    if (fault === 'junk-answer') answer(response, 200, text.slice(0, text.length >> 1));
    else if (fault === 'cut-answer') {
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, bytes.length >> 1), () => response.destroy());
    } else if (fault === 'slow-answer') {
      const part = Math.ceil(bytes.length / 5);
      for (let i = 0; i < bytes.length; i += part) {
        response.write(bytes.subarray(i, i + part));
        await sleep(2);
      }
      response.end();
    } else answer(response, 200, text);
  }

  #watch(query: URLSearchParams, response: ServerResponse): void {
    const from = Number(query.get('resourceVersion'));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const watch: Watch = { response, silent: false };
    if (from < this.#oldest) {
      this.#write(watch, gone());
      response.end();
      return;
    }
    this.#watches.add(watch);
    response.on('close', () => this.#watches.delete(watch));
    for (const event of this.#history) if (event.version > from) this.#write(watch, line(event));
  }

  #happened(event: Event): void {
    this.#history.push(event);
    const fault = this.#nextEvent.shift();
    if (fault === 'lose') return;
    if (fault === 'swap' && !this.#held) {
      this.#held = event;
      return;
    }
    this.#send(event, fault === 'slow');
    if (fault === 'duplicate') this.#send(event);
    const held = this.#held;
    this.#held = undefined;
    if (held) this.#send(held);
  }

  #send(event: Event, slowly = false): void {
    for (const watch of this.#watches) this.#write(watch, line(event), slowly);
  }

  #write(watch: Watch, document: unknown, slowly = false): void {
    if (watch.silent || watch.response.destroyed || watch.response.writableEnded) return;
    const bytes = Buffer.from(`${typeof document === 'string' ? document : JSON.stringify(document)}\n`);
    // In pieces of 7 bytes characters are cut; each is a chunk of its own on the wire.
    if (!slowly) watch.response.write(bytes);
    else for (let i = 0; i < bytes.length; i += 7) watch.response.write(bytes.subarray(i, i + 7));
  }

  #now(fault: string): void {
    if (fault === 'compact') {
      this.#oldest = this.version;
      this.#history = [];
      return;
    }
    if (fault === 'expire-tokens') this.#tokens.clear();
    if (fault === 'refuse' && this.#server) {
      this.#late.push(
        this.hangUp()
          .then(() => sleep(REFUSE_MS))
          .then(() => this.#listen()),
      );
    }
    for (const watch of this.#watches) {
      const { response } = watch;
      const last = this.#history.at(-1);
      const half = JSON.stringify(last ? line(last) : gone());
      switch (fault) {
        case 'drop':
          response.destroy();
          break;
        case 'end':
          response.end();
          break;
        case 'half-line':
          // Nothing may follow it: that would be junk, and another fault.
          watch.silent = true;
          response.write(half.slice(0, half.length >> 1), () => response.destroy());
          break;
        case 'half-line-end':
          response.end(half.slice(0, half.length >> 1));
          break;
        case 'junk':
          this.#write(watch, '<html>502 Bad Gateway</html>');
          break;
        case 'nameless':
          this.#write(watch, { type: 'ADDED', object: { metadata: { resourceVersion: String(this.version) } } });
          break;
        case 'unknown-type':
          this.#write(watch, { type: 'EXPLODED', object: last?.object });
          break;
        case 'error-410':
          this.#write(watch, gone());
          break;
        case 'error-500':
          this.#write(watch, { type: 'ERROR', object: { kind: 'Status', code: 500, message: 'etcd has a headache' } });
          break;
        case 'silence':
          watch.silent = true;
          break;
        case 'replay':
          for (const event of this.#history.slice(-4)) this.#write(watch, line(event));
          break;
      }
    }
  }
}

export function identityOf(key: string, object: KubeObject): string {
  return `${key} ${object.metadata?.uid} ${object.metadata?.resourceVersion}`;
}

function line({ type, object }: Event) {
  return { type, object: { apiVersion: 'v1', kind: 'Pod', ...object } };
}

function gone() {
  const object = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
  return { type: 'ERROR', object };
}

function answer(response: ServerResponse, status: number, text: string, retryAfter?: number): void {
  response.writeHead(status, {
    'content-type': 'application/json',
    ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
  });
  response.end(text);
}
