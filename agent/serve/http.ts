/**
 * Probes and metrics over HTTP, if enabled:
 *
 *   /startupz  programs are loaded, uplinks attached
 *   /readyz    the cluster is synced, and its policies are in the maps
 *   /livez     the event loop runs: an API server that does not answer is no reason for a restart
 *   /metrics   Prometheus
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { AgentError } from '../../src/errors.js';
import { Door } from '../../src/net/door.js';
import { splitListen } from '../../src/net/listen.js';

export interface HttpAnswers {
  /** Why the agent has not started yet; undefined: it has. */
  readonly startingReason: () => string | undefined;
  /** Why the agent is not ready; undefined: it is. */
  readonly notReadyReason: () => string | undefined;
  readonly metrics: () => Promise<{ type: string; text: string }>;
}

const REQUEST_MS = 5000;
/** Limits of requests in progress, and of silent connections: many of those must not block the probes. */
const MAX_REQUESTS = 64;
const MAX_SILENT = 64;

/** Parses `127.0.0.1:4246`, `:4246`, `[::1]:4246`. @throws AgentError USAGE */
export function parseListen(value: string): { host: string | undefined; port: number } {
  const at = splitListen(value);
  if (!at)
    throw new AgentError('USAGE', `${value} is not an address to listen on`, { hint: 'for example 127.0.0.1:4246' });
  return at;
}

export class HttpServer {
  readonly #server: Server;

  constructor(answers: HttpAnswers) {
    const door = new Door({ most: MAX_REQUESTS, mostSilent: MAX_SILENT, patienceMs: REQUEST_MS });
    this.#server = createServer({ requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS }, (req, res) => {
      if (!door.spoke(req.socket)) return;
      res.once('close', () => door.enter(req.socket));
      // A failure in one answer does not affect others.
      reply(answers, req, res).catch((e: Error) => respond(res, 500, `${e.message}\n`));
    });
    this.#server.on('connection', (socket: Socket) => door.enter(socket));
    // The server must not keep an ending process alive.
    this.#server.unref();
  }

  /** Resolves when the server listens. @throws AgentError AGENT if the address cannot be used */
  listen(address: string): Promise<void> {
    const { host, port } = parseListen(address);
    return new Promise((resolve, reject) => {
      // The listener is not removed: a later error must not end the agent.
      this.#server.on('error', (e) => reject(new AgentError('AGENT', `cannot listen on ${address}: ${e.message}`)));
      this.#server.listen({ port, ...(host === undefined ? {} : { host }) }, () => resolve());
    });
  }

  /** The port in use, which may have been chosen by the kernel (port 0). */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

async function reply(answers: HttpAnswers, { method, url }: IncomingMessage, res: ServerResponse): Promise<void> {
  const path = url?.split('?')[0];
  if (method !== 'GET' && method !== 'HEAD') return respond(res, 405, 'only GET\n');
  if (path === '/livez') return respond(res, 200, 'ok\n');
  if (path === '/startupz') return respondProbe(res, answers.startingReason());
  if (path === '/readyz') return respondProbe(res, answers.notReadyReason());
  if (path !== '/metrics') return respond(res, 404, 'there are /startupz, /readyz, /livez and /metrics\n');
  const { type, text } = await answers.metrics();
  respond(res, 200, text, type);
}

function respondProbe(res: ServerResponse, why: string | undefined): void {
  respond(res, why === undefined ? 200 : 503, `${why ?? 'ok'}\n`);
}

function respond(res: ServerResponse, status: number, text: string, type = 'text/plain; charset=utf-8'): void {
  res.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
  res.end(text);
}
