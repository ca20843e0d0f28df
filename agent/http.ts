/**
 * Probes and metrics over HTTP, only where asked for:
 *
 *   /startupz  programs loaded, uplinks attached
 *   /readyz    the cluster is known, and what follows from it is in the maps
 *   /livez     the event loop turns: an API server that is away is no reason for a restart
 *   /metrics   Prometheus
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { AgentError } from '../src/errors.js';
import { Door } from '../src/net/door.js';

export interface HttpAnswers {
  /** Why not yet; undefined: started. */
  readonly starting: () => string | undefined;
  /** Why not; undefined: ready. */
  readonly notReady: () => string | undefined;
  readonly metrics: () => Promise<{ type: string; text: string }>;
}

const REQUEST_MS = 5000;
/** Requests that are being answered, and connections that ask nothing: a crowd of those must not keep a probe out. */
const MAX_REQUESTS = 64;
const MAX_SILENT = 64;

/** `127.0.0.1:4246`, `:4246`, `[::1]:4246`. @throws AgentError USAGE */
export function parseListen(value: string): { host: string | undefined; port: number } {
  const [, v6, plain, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(value) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65535) {
    throw new AgentError('USAGE', `${value} is not an address to listen on`, { hint: 'for example 127.0.0.1:4246' });
  }
  return { host: v6 ?? (plain === '' ? undefined : plain), port };
}

export class HttpServer {
  readonly #server: Server;

  constructor(answers: HttpAnswers) {
    const door = new Door({ most: MAX_REQUESTS, mostSilent: MAX_SILENT, patienceMs: REQUEST_MS });
    this.#server = createServer({ requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS }, (req, res) => {
      if (!door.spoke(req.socket)) return;
      res.once('close', () => door.enter(req.socket));
      // A fault in an answer is that answer's alone.
      reply(answers, req, res).catch((e: Error) => say(res, 500, `${e.message}\n`));
    });
    this.#server.on('connection', (socket: Socket) => door.enter(socket));
    // Nothing of it may keep an ending agent alive.
    this.#server.unref();
  }

  /** @throws AgentError AGENT where the address cannot be had */
  listen(address: string): Promise<void> {
    const { host, port } = parseListen(address);
    return new Promise((resolve, reject) => {
      // It stays: an error later on must not end the agent.
      this.#server.on('error', (e) => reject(new AgentError('AGENT', `cannot listen on ${address}: ${e.message}`)));
      this.#server.listen({ port, ...(host === undefined ? {} : { host }) }, () => resolve());
    });
  }

  /** The port in use, where any was asked for. */
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
  if (method !== 'GET' && method !== 'HEAD') return say(res, 405, 'only GET\n');
  if (path === '/livez') return say(res, 200, 'ok\n');
  if (path === '/startupz') return verdict(res, answers.starting());
  if (path === '/readyz') return verdict(res, answers.notReady());
  if (path !== '/metrics') return say(res, 404, 'there are /startupz, /readyz, /livez and /metrics\n');
  const { type, text } = await answers.metrics();
  say(res, 200, text, type);
}

function verdict(res: ServerResponse, why: string | undefined): void {
  say(res, why === undefined ? 200 : 503, `${why ?? 'ok'}\n`);
}

function say(res: ServerResponse, status: number, text: string, type = 'text/plain; charset=utf-8'): void {
  res.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
  res.end(text);
}
