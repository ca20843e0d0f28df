/**
 * Sends requests to the Kubernetes API. The credentials (TLS, tokens, exec plugins) are handled by KubeConfig of
 * @kubernetes/client-node. The requests are our own, so that each has a limit of time and size, and the end of a watch
 * has a reason.
 */
import http from 'node:http';
import https from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { JsonLineError, JsonLines } from './json-lines.js';
import { type Keep, keeper, Scratch } from './keep.js';
import { answerError, isAborted, KubeError, networkError } from './list-errors.js';
import { serverUrl } from './kubeconfig.js';

export { KubeError } from './list-errors.js';
export { loadKubeConfig } from './kubeconfig.js';

/** An object as received. Nothing guarantees that it has this shape. */
export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata?: {
    name?: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    [k: string]: unknown;
  };
  [k: string]: unknown;
}

export type Method = 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';

export interface RequestOptions {
  query?: Record<string, string>;
  body?: unknown;
  /** Content type of the body. Default: `application/json` (patches need their own). */
  contentType?: string;
  /** Time limit for the whole answer in milliseconds. Default: 30 s. */
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Members of the answer to parse; all others are skipped. */
  keep?: Keep;
}

export interface LinesOptions {
  query?: Record<string, string>;
  /** Members of each line to parse. */
  keep?: Keep;
  signal?: AbortSignal;
  /**
   * A connection without data for this time counts as dead: KubeError, reason Idle. In milliseconds. Default: 5
   * minutes.
   */
  idleMs?: number;
  /** Called when the server has accepted the watch. The first line may come much later. */
  onOpen?: () => void;
}

/** Maximum size of an answer. It is one string in memory while it is parsed, and V8's strings end at 512 MiB. */
const MAX_ANSWER_BYTES = 128 << 20;
/** Maximum size of a line. etcd's objects have at most 1.5 MiB, but their JSON may be longer. */
const MAX_LINE_BYTES = 16 << 20;
const MAX_ERROR_BYTES = 64 << 10;
const REQUEST_MS = 30_000;
/** Time limit for the server to accept a watch, in milliseconds. */
const OPEN_MS = 30_000;
const IDLE_MS = 5 * 60_000;
/** The kernel probes a connection that has been silent for this time, in milliseconds. */
const TCP_KEEPALIVE_MS = 30_000;

/** A client of one API server. close() ends its connections. */
export class KubeClient {
  readonly #config: KubeConfig;
  readonly #base: URL;
  readonly #userAgent: string;
  readonly #agent: http.Agent | https.Agent;
  readonly #closing = new AbortController();
  readonly #joined = new Scratch();
  readonly #kept = new Scratch();

  /** @throws AgentError USAGE if the configuration names no server */
  constructor(config: KubeConfig, opts: { userAgent?: string } = {}) {
    this.#config = config;
    this.#base = serverUrl(config);
    this.#userAgent = opts.userAgent ?? 'egress-agent';
    const keep = { keepAlive: true, keepAliveMsecs: TCP_KEEPALIVE_MS };
    this.#agent = this.#base.protocol === 'https:' ? new https.Agent(keep) : new http.Agent(keep);
  }

  /**
   * Sends one request and parses the answer as JSON.
   * @param path from the root of the API; the caller encodes the names in it
   * @throws KubeError
   */
  async request<T = unknown>(method: Method, path: string, opts: RequestOptions = {}): Promise<T> {
    const timeoutMs = opts.timeoutMs ?? REQUEST_MS;
    const limit = new Limit(timeoutMs, 'Timeout', [opts.signal, this.#closing.signal]);
    try {
      const text = this.#text(await this.#exchange(method, path, opts, limit, true), opts.keep);
      try {
        return JSON.parse(text) as T;
      } catch {
        throw new KubeError(0, 'Malformed', `${method} ${path}: the answer is not JSON`);
      }
    } finally {
      limit.end();
    }
  }

  /**
   * Opens a watch: yields JSON documents, one per line, as they arrive. Ends when the server ends it; an incomplete
   * line at the end is dropped.
   * @throws KubeError; reason Malformed: a line is not JSON, Idle: no data for `idleMs`
   */
  async *lines(path: string, opts: LinesOptions = {}): AsyncGenerator<unknown, void, undefined> {
    const idleMs = opts.idleMs ?? IDLE_MS;
    const limit = new Limit(Math.min(OPEN_MS, idleMs), 'Timeout', [opts.signal, this.#closing.signal]);
    let answer: http.IncomingMessage | undefined;
    try {
      answer = await this.#send('GET', path, opts, limit);
      if (answer.statusCode !== 200) throw await this.#refused('GET', path, answer, limit);
      limit.restart(idleMs, 'Idle');
      opts.onOpen?.();
      const splitter = new JsonLines({ maxLineBytes: MAX_LINE_BYTES, ...(opts.keep ? { keep: opts.keep } : {}) });
      for await (const chunk of answer) {
        limit.restart(idleMs, 'Idle');
        yield* splitter.push(chunk as Buffer);
      }
    } catch (e) {
      if (e instanceof KubeError) throw e;
      if (e instanceof JsonLineError) throw new KubeError(0, 'Malformed', `watch of ${path}: ${e.message}`);
      throw limit.reached ?? networkError(e, `watch of ${path}`);
    } finally {
      limit.end();
      answer?.destroy();
    }
  }

  /** Ends all requests and watches. No further ones may be made. */
  close(): void {
    this.#closing.abort();
    this.#agent.destroy();
  }

  /** Synchronous, so that requests can share the scratch memory. */
  #text(chunks: readonly Buffer[], keep: Keep | undefined): string {
    const bytes = this.#joined.of(chunks.reduce((n, chunk) => n + chunk.length, 0));
    let at = 0;
    for (const chunk of chunks) at += chunk.copy(bytes, at);
    return (keep ? keeper(keep, this.#kept)(bytes) : bytes).toString('utf8');
  }

  async #exchange(method: Method, path: string, opts: RequestOptions, limit: Limit, again: boolean): Promise<Buffer[]> {
    let answer: http.IncomingMessage | undefined;
    try {
      answer = await this.#send(method, path, opts, limit);
      const status = answer.statusCode ?? 0;
      if (status < 200 || status > 299) throw await this.#refused(method, path, answer, limit);
      return await readAll(answer, MAX_ANSWER_BYTES);
    } catch (e) {
      answer?.destroy();
      if (e instanceof KubeError) throw e;
      // The server closed a pooled connection while we wrote to it, so it has not seen the request.
      if (again && method === 'GET' && e instanceof StaleConnection) {
        return this.#exchange(method, path, opts, limit, false);
      }
      throw limit.reached ?? networkError(e instanceof StaleConnection ? e.cause : e, `${method} ${path}`);
    }
  }

  /** Resolves with the head of the answer. */
  async #send(method: Method, path: string, opts: RequestOptions, limit: Limit): Promise<http.IncomingMessage> {
    const url = new URL(this.#base);
    url.pathname = this.#base.pathname.replace(/\/+$/, '') + path;
    for (const [key, value] of Object.entries(opts.query ?? {})) url.searchParams.set(key, value);
    const body = opts.body === undefined ? undefined : Buffer.from(JSON.stringify(opts.body));
    const options: https.RequestOptions = {
      method,
      signal: limit.signal,
      // No gzip: it would cost the API server CPU time for each page and for every node.
      headers: {
        accept: 'application/json',
        'user-agent': this.#userAgent,
        ...(body && { 'content-type': opts.contentType ?? 'application/json', 'content-length': body.length }),
      },
    };
    await this.#authenticate(options, limit);
    return new Promise((resolve, reject) => {
      const request = (url.protocol === 'https:' ? https : http).request(url, options, resolve);
      request.on('error', (e: NodeJS.ErrnoException) => {
        reject(request.reusedSocket && e.code === 'ECONNRESET' ? new StaleConnection(e) : e);
      });
      request.on('socket', (socket) => socket.setKeepAlive(true, TCP_KEEPALIVE_MS));
      request.end(body);
    });
  }

  /**
   * Called for each request, because tokens and certificates rotate. An exec plugin may take as long as the request.
   */
  async #authenticate(options: https.RequestOptions, limit: Limit): Promise<void> {
    const cluster = this.#config.getCurrentCluster();
    // Over plain HTTP (`kubectl proxy`), no credentials are sent, unless the user has disabled verification.
    if (this.#base.protocol === 'http:' && !cluster?.skipTLSVerify) {
      options.agent = this.#agent;
      return;
    }
    try {
      await limit.race(this.#config.applyToHTTPSOptions(options));
    } catch (e) {
      if (limit.reached || isAborted(e)) throw e;
      throw new KubeError(0, 'Credentials', `no credentials for ${this.#base.host}: ${(e as Error).message.trim()}`);
    }
    // KubeConfig makes a new agent for each request, which is needed only for a proxy.
    if (!cluster?.proxyUrl) options.agent = this.#agent;
  }

  async #refused(method: Method, path: string, answer: http.IncomingMessage, limit: Limit): Promise<KubeError> {
    const text = await readText(answer, MAX_ERROR_BYTES).catch((e) => {
      if (limit.reached) throw limit.reached;
      return e instanceof KubeError ? '' : `(${(e as Error).message})`;
    });
    return answerError(`${method} ${path}`, answer.statusCode ?? 0, answer.headers['retry-after'], text);
  }
}

/** ECONNRESET on a pooled connection. */
class StaleConnection extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause });
  }
}

async function readText(answer: http.IncomingMessage, most: number): Promise<string> {
  return Buffer.concat(await readAll(answer, most)).toString('utf8');
}

async function readAll(answer: http.IncomingMessage, most: number): Promise<Buffer[]> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of answer) {
    length += (chunk as Buffer).length;
    if (length > most) throw new KubeError(0, 'TooLarge', `an answer is larger than ${most} bytes`);
    chunks.push(chunk as Buffer);
  }
  return chunks;
}

/** Combines a time limit and the caller's signals in one signal. */
class Limit {
  readonly #controller = new AbortController();
  readonly #signals: readonly AbortSignal[];
  readonly #stop = () => this.#reach(new KubeError(0, 'Aborted', 'the request was given up'));
  #timer: NodeJS.Timeout;
  #reached: KubeError | undefined;
  #ms: number;
  #reason: string;

  constructor(ms: number, reason: string, signals: readonly (AbortSignal | undefined)[]) {
    this.#ms = ms;
    this.#reason = reason;
    this.#signals = signals.filter((s) => s !== undefined);
    this.#timer = setTimeout(() => this.#late(), ms);
    for (const signal of this.#signals) {
      signal.addEventListener('abort', this.#stop);
      if (signal.aborted) this.#stop();
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The reason of the abort; undefined before. */
  get reached(): KubeError | undefined {
    return this.#reached;
  }

  /** Restarts the time limit. */
  restart(ms: number, reason: string): void {
    this.#reason = reason;
    if (ms === this.#ms) {
      this.#timer.refresh();
      return;
    }
    this.#ms = ms;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#late(), ms);
  }

  async race<T>(promise: Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    let stop = () => {};
    const aborted = new Promise<never>((_, reject) => {
      stop = () => reject(this.#reached);
      this.signal.addEventListener('abort', stop);
    });
    try {
      return await Promise.race([promise, aborted]);
    } finally {
      this.signal.removeEventListener('abort', stop);
    }
  }

  end(): void {
    clearTimeout(this.#timer);
    for (const signal of this.#signals) signal.removeEventListener('abort', this.#stop);
  }

  #late(): void {
    this.#reach(new KubeError(0, this.#reason, `no data for ${this.#ms / 1000} s`));
  }

  #reach(error: KubeError): void {
    this.#reached ??= error;
    this.#controller.abort();
  }
}
