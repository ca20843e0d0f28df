/** The HTTP server of the web UI. Who asks, and what may be seen, is decided here; src/ui/api answers. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type Holder, holderOf, toEnd } from './access/shares.js';
import { type Scope, SignedOut, type Viewer } from './access/viewer.js';
import type { Handler } from './api/handler.js';
import type { Feeds, Outlet } from './api/stream.js';
import type { Logger } from '../log.js';
import type { Session, StreamMessage, View } from './wire/messages.js';
import { HttpError, readJson, sendFault, sendJson } from './http/answers.js';
import type { Assets } from './http/assets.js';
import { followCertificate, readCertificate } from './http/certificate.js';
import type { Door } from './http/door.js';
import { type Names, refusal, secureHeaders } from './http/guard.js';
import { bodyOf, textOf, viewOf } from './http/read.js';
import { cookieOf, type Opened, type Sessions } from './http/sessions.js';

/** Bytes of a body at most: a policy of 1 MiB, escaped. */
const MOST_BODY = 3 << 20;
/** A stream says something at least so often, so that proxies leave it open and the page knows that it lives. */
const BEAT_MS = 15_000;
/** Streams at most. With more of all, the oldest of whoever has most ends: its page asks again. */
const MOST_STREAMS = { own: 24, share: 24, all: 200 };
/** Streams of one user who may see nothing: nothing comes but that some right was given. */
const MOST_EMPTY_STREAMS = 3;

/** A stream that was ended may send so long what it had to say. */
const FLUSH_MS = 1000;

/** Questions of one user at once: pages ask a few, of each of their screens. */
const MOST_CALLS = 64;
/** Reports of browsers are logged once in this time. */
const REPORT_MS = 60_000;

interface Stream extends Holder {
  end(): void;
}

export interface UiOptions {
  readonly assets: Assets;
  readonly sessions: Sessions<Viewer>;
  readonly feeds: Feeds;
  /** By path behind /api/. */
  readonly handlers: Readonly<Record<string, Handler>>;
  readonly session: (viewer: Viewer) => Promise<Session>;
  readonly log: Logger;
  /** Lets people in by tokens of their own; absent: one-time tokens of `sessions` do. */
  readonly door?: Door;
}

export interface ListenOptions {
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  /** Names under which the page may be asked for besides those of this machine: `ui.example.com`, with or without a port. */
  readonly names: readonly string[];
  /** Directory with tls.crt and tls.key; undefined: without TLS. */
  readonly tlsDir: string | undefined;
}

/** The header with the key of a session, which the page keeps. */
const PAGE_KEY = 'x-egress-page';
const LIMITS = { requestTimeout: 30_000, headersTimeout: 10_000, maxHeaderSize: 16_384 };
/** Connections of everybody. */
const MOST_CONNECTIONS = 2000;

/** The server. */
export class UiServer {
  readonly #options: UiOptions;
  /** The oldest first. */
  readonly #streams = new Set<Stream>();
  /** Questions that are being answered, by user. */
  readonly #calls = new Map<string, number>();
  /** Until then, a browser's reports are not logged: everybody can send some. */
  #quietUntilMs = 0;
  #server: Server | TlsServer | undefined;
  #names: Names = { hosts: new Set(), tls: false };
  #cookie = '';
  #unfollow: () => void = () => {};

  constructor(options: UiOptions) {
    this.#options = options;
  }

  /**
   * Listens on a loopback address.
   * @param port 0: any
   * @returns the address of the page: `http://127.0.0.1:4711`
   */
  async listenLocal(port: number): Promise<string> {
    const own = await this.#listen(createServer(LIMITS), '127.0.0.1', port);
    // Browsers send cookies of one host to all of its ports.
    this.#cookie = `egress-ui-${own}`;
    this.#names = { hosts: new Set([`127.0.0.1:${own}`, `localhost:${own}`]), tls: false };
    return `http://127.0.0.1:${own}`;
  }

  /**
   * Listens on any address. Without TLS, the caller makes sure that it is one of this machine.
   * @returns the port
   * @throws AgentError AGENT if the certificate cannot be used
   */
  async listen({ host, port, names, tlsDir }: ListenOptions): Promise<number> {
    const tls = tlsDir !== undefined;
    const own = await this.#listen(tls ? this.#secured(tlsDir) : createServer(LIMITS), host, port);
    // With this prefix, browsers take it from no other host, and from none without TLS.
    this.#cookie = tls ? '__Host-egress-ui' : `egress-ui-${own}`;
    this.#names = { hosts: new Set(['127.0.0.1', 'localhost', '[::1]', ...names].map((n) => n.toLowerCase())), tls };
    return own;
  }

  #secured(dir: string): TlsServer {
    const { log } = this.#options;
    const files = readCertificate(dir);
    const server = createTlsServer({ ...LIMITS, ...files, minVersion: 'TLSv1.2' });
    this.#unfollow = followCertificate(dir, files, {
      changed: (fresh) => {
        server.setSecureContext({ ...fresh, minVersion: 'TLSv1.2' });
        log.info('certificate replaced', { dir });
      },
      trouble: (reason) => log.warn('keeping the certificate in use', { reason }),
    });
    return server;
  }

  async #listen(server: Server | TlsServer, host: string, port: number): Promise<number> {
    this.#server = server;
    server.maxConnections = MOST_CONNECTIONS;
    server.on('request', (request, response) => void this.#serve(request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port }, resolve);
    });
    return (server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.#options.feeds.close();
    this.#unfollow();
    const server = this.#server;
    server?.closeAllConnections();
    if (server) await new Promise((resolve) => server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    secureHeaders(response);
    try {
      const refused = refusal(request, this.#names);
      if (refused !== undefined) throw new HttpError(403, refused);
      const pathname = pathOf(request.url ?? '/');
      if (pathname.startsWith('/api/')) await this.#api(pathname.slice('/api/'.length), request, response);
      else this.#page(pathname, request, response);
    } catch (e) {
      if (!sendFault(response, e))
        this.#options.log.error('a request failed', { error: (e as Error).stack ?? String(e) });
    }
  }

  /** The page has no secrets: it is the same for everybody. */
  #page(path: string, request: IncomingMessage, response: ServerResponse): void {
    if (request.method !== 'GET' && request.method !== 'HEAD') throw new HttpError(405, 'only GET');
    const { assets } = this.#options;
    if (assets.has(path)) assets.send(path, request, response);
    // The screens have addresses of their own, and one page.
    else if (/^\/[a-z]*$/.test(path)) assets.send('/index.html', request, response);
    else throw new HttpError(404, 'there is no such page');
  }

  async #api(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (name === 'csp') {
      request.resume();
      if (performance.now() >= this.#quietUntilMs) {
        this.#quietUntilMs = performance.now() + REPORT_MS;
        this.#options.log.warn('a browser has refused something of the page');
      }
      response.writeHead(204).end();
      return;
    }
    if (name === 'login') {
      await this.#login(request, response);
      return;
    }
    if (name === 'logout') {
      this.#logout(request, response);
      return;
    }
    const viewer = await this.#viewer(request);
    if (name === 'session' && request.method === 'GET') {
      sendJson(response, 200, await this.#options.session(viewer));
      return;
    }
    if (request.method !== 'POST') throw new HttpError(405, 'only POST');
    if (name === 'stream') {
      const [view, scope] = await this.#counted(viewer, async () => {
        const body = await readJson(request, MOST_BODY);
        return [viewOf(body), await viewer.scope()] as const;
      });
      await this.#stream(view, viewer, scope, response);
      return;
    }
    const handler = Object.hasOwn(this.#options.handlers, name) ? this.#options.handlers[name] : undefined;
    if (!handler) throw new HttpError(404, 'there is no such call');
    await this.#call(handler, viewer, request, response);
  }

  async #call(handler: Handler, viewer: Viewer, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const leaving = new AbortController();
    response.on('close', () => leaving.abort());
    await this.#counted(viewer, async () => {
      const body = bodyOf(await readJson(request, MOST_BODY));
      sendJson(response, 200, await handler(body, viewer, leaving.signal));
    });
  }

  /** Counted before its body is read: what waits takes memory, and the source's time. */
  async #counted<A>({ id }: Viewer, question: () => Promise<A>): Promise<A> {
    const own = this.#calls.get(id) ?? 0;
    if (own >= MOST_CALLS)
      throw new HttpError(429, 'too many questions of yours are still being answered', {
        hint: 'try again in a moment',
      });
    this.#calls.set(id, own + 1);
    try {
      return await question();
    } finally {
      const left = (this.#calls.get(id) ?? 1) - 1;
      if (left > 0) this.#calls.set(id, left);
      else this.#calls.delete(id);
    }
  }

  async #viewer(request: IncomingMessage): Promise<Viewer> {
    const { door, sessions } = this.#options;
    const brought = await door?.bearer(request.headers.authorization);
    if (brought) return brought;
    const opened = this.#opened(request);
    const viewer = opened && sessions.user(opened);
    if (!viewer)
      throw new HttpError(
        401,
        'this page has no session',
        door ? { signIn: true, hint: door.hint } : { hint: 'open it with the link of egressctl ui' },
      );
    try {
      await viewer.review?.();
    } catch (e) {
      if (e instanceof SignedOut) sessions.end(opened.secret);
      throw e;
    }
    return viewer;
  }

  async #login(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'POST') throw new HttpError(405, 'only POST');
    const { door, sessions } = this.#options;
    // One-time tokens are short; those of a cluster may say a lot.
    const token = textOf(bodyOf(await readJson(request, 20_000)), 'token', door ? 10_000 : 5000);
    const opened = door
      ? sessions.begin(await door.enter(token, request.socket.remoteAddress ?? ''))
      : sessions.redeem(token);
    if (!opened)
      throw new HttpError(401, 'this link was used, or is too old', { hint: 'egressctl ui makes a new one' });
    const before = this.#opened(request);
    if (before) sessions.end(before.secret);
    response.setHeader('Set-Cookie', this.#cookieOf(opened.secret));
    sendJson(response, 200, { key: opened.key });
  }

  #logout(request: IncomingMessage, response: ServerResponse): void {
    if (request.method !== 'POST') throw new HttpError(405, 'only POST');
    request.resume();
    const { door, sessions } = this.#options;
    const opened = this.#opened(request);
    const viewer = opened && sessions.user(opened);
    if (opened && viewer) sessions.end(opened.secret);
    if (viewer) door?.forget(viewer);
    response.setHeader('Set-Cookie', `${this.#cookieOf('')}; Max-Age=0`);
    sendJson(response, 200, {});
  }

  /** The session that a request says it has. */
  #opened({ headers }: IncomingMessage): Opened | undefined {
    const secret = cookieOf(headers.cookie, this.#cookie);
    const key = headers[PAGE_KEY];
    return secret === undefined ? undefined : { secret, key: typeof key === 'string' ? key : '' };
  }

  #cookieOf(value: string): string {
    return `${this.#cookie}=${value}; HttpOnly; ${this.#names.tls ? 'Secure; ' : ''}SameSite=Strict; Path=/`;
  }

  async #stream(view: View, viewer: Viewer, scope: Scope, response: ServerResponse): Promise<void> {
    const leaving = new AbortController();
    const stream: Stream = { ...holderOf(viewer), end: () => leaving.abort() };
    this.#begin(stream, scope?.size === 0 ? MOST_EMPTY_STREAMS : MOST_STREAMS.own);
    response.on('close', () => leaving.abort());
    // What a page has not read yet takes memory, and does not keep its stream.
    leaving.signal.addEventListener('abort', () => setTimeout(() => response.destroy(), FLUSH_MS).unref());
    let beat: NodeJS.Timeout | undefined;
    const begin = (): Outlet => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
      response.flushHeaders();
      beat = setInterval(() => response.write(':\n\n'), BEAT_MS);
      return outletOf(response, leaving.signal);
    };
    try {
      await this.#options.feeds.serve(view, viewer, begin);
    } finally {
      clearInterval(beat);
      this.#streams.delete(stream);
      if (response.headersSent) response.end();
    }
  }

  /**
   * Counts a stream, and ends another one if there is no room: nobody shuts others out by opening many.
   * @param own streams of one user at most
   * @throws HttpError 429: those who have most are those who ask
   */
  #begin(stream: Stream, own: number): void {
    const over = toEnd(this.#streams, stream, { ...MOST_STREAMS, own });
    if (over?.id === stream.id) throw new HttpError(429, 'too many pages are open', { hint: 'close some of them' });
    if (over) {
      this.#streams.delete(over);
      over.end();
    }
    this.#streams.add(stream);
  }
}

/** @throws HttpError 400 */
function pathOf(url: string): string {
  try {
    return new URL(url, 'http://page').pathname;
  } catch {
    throw new HttpError(400, 'this is no address of a page');
  }
}

function outletOf(response: ServerResponse, signal: AbortSignal): Outlet {
  return {
    signal,
    send: (message: StreamMessage) => signal.aborted || response.write(`data: ${JSON.stringify(message)}\n\n`),
    drained: () =>
      new Promise((resolve) => {
        const done = () => {
          response.off('drain', done);
          signal.removeEventListener('abort', done);
          resolve();
        };
        response.on('drain', done);
        signal.addEventListener('abort', done);
        if (signal.aborted || !response.writableNeedDrain) done();
      }),
  };
}
