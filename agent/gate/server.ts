/** The server of the CNI gate: holds each plugin's request until its pod's policy is in force. */
import { chmodSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { AgentError } from '../../src/errors.js';
import type { Logger } from '../../src/log.js';
import { RpcServer } from '../../src/rpc/server.js';
import { formatAnswer, type GateRequest, MAX_REQUEST_BYTES, parseRequest } from './protocol.js';

export interface GateHandler {
  /**
   * Resolves when the pod's policy is in force on its interface; rejects with AgentError if it cannot be: the plugin
   * gets its message. `signal` aborts when the plugin closes the connection (its time is over) or the server closes.
   */
  add(request: GateRequest, signal: AbortSignal): Promise<void>;
  /** Handles the coming deletion of a sandbox. */
  del(request: GateRequest): void;
}

/** Counters of ADD, since the start. */
export interface GateStats {
  /** All pods that were held: those still `pending`, and those in the next three counters. */
  held: number;
  passed: number;
  refused: number;
  /** The plugin closed the connection before there was an answer. */
  timedOut: number;
}

const SOCKET_MODE = 0o600;
/** Connections beyond this limit are refused; their plugins ask again. */
const MAX_CONNECTIONS = 256;
/** Time within which a request must be complete, milliseconds. */
const ARRIVAL_MS = 5000;
const FIRST_BUFFER = 8192;

export class GateServer {
  readonly #handler: GateHandler;
  readonly #log: Logger;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly stats: GateStats = { held: 0, passed: 0, refused: 0, timedOut: 0 };
  #pending = 0;

  constructor(handler: GateHandler, log: Logger) {
    this.#handler = handler;
    this.#log = log;
    this.#server = createServer((socket) => this.#serve(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Number of pods that are held. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * Serves on a unix socket, mode 0600 from its creation: any process that could connect could claim a namespace for a
   * pod. A leftover socket is replaced.
   * @throws AgentError AGENT if a process answers on it, or it cannot be made
   */
  async listen(path: string): Promise<void> {
    await RpcServer.refuseIfServed(path);
    await new Promise<void>((resolve, reject) => {
      const onError = (e: Error) => reject(new AgentError('AGENT', `cannot listen on ${path}: ${e.message}`));
      this.#server.once('error', onError);
      // The socket is created within this call, and no other file is created with this mask.
      const umask = process.umask(0o777 & ~SOCKET_MODE);
      try {
        this.#server.listen(path, () => {
          this.#server.off('error', onError);
          this.#server.on('error', (e) => this.#log.error('the CNI gate', { error: e.message }));
          resolve();
        });
      } finally {
        process.umask(umask);
      }
    });
    chmodSync(path, SOCKET_MODE);
  }

  /** Closes all connections without an answer: their plugins ask again, and the next agent answers. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #serve(socket: Socket): void {
    let buffer = Buffer.allocUnsafe(FIRST_BUFFER);
    let used = 0;
    let complete = false;
    const disconnect = new AbortController();
    const arrivalTimer = setTimeout(() => refuse(`the request has not come within ${ARRIVAL_MS} ms`), ARRIVAL_MS);
    const refuse = (reason: string): void => {
      complete = true;
      clearTimeout(arrivalTimer);
      this.#log.warn('the CNI gate refused a request', { reason });
      hangUp(socket, reason);
    };
    this.#sockets.add(socket);
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => {
      clearTimeout(arrivalTimer);
      this.#sockets.delete(socket);
      disconnect.abort();
    });
    socket.on('data', (chunk: Buffer) => {
      if (complete) return;
      if (used + chunk.length > MAX_REQUEST_BYTES) return refuse('the request is too long');
      if (used + chunk.length > buffer.length) {
        const larger = Buffer.allocUnsafe(Math.max(buffer.length * 2, used + chunk.length));
        buffer.copy(larger, 0, 0, used);
        buffer = larger;
      }
      used += chunk.copy(buffer, used);
      let request: GateRequest | undefined;
      try {
        request = parseRequest(buffer.subarray(0, used));
      } catch (e) {
        return refuse(e instanceof AgentError ? e.message : 'the request is not understood');
      }
      if (!request) return;
      complete = true;
      buffer = Buffer.alloc(0);
      clearTimeout(arrivalTimer);
      if (request.command === 'DEL') this.#del(request, socket);
      else void this.#add(request, socket, disconnect.signal);
    });
  }

  async #add(request: GateRequest, socket: Socket, signal: AbortSignal): Promise<void> {
    const who = request.pod ? `${request.pod.namespace}/${request.pod.name}` : request.container;
    const start = Date.now();
    let reason: string | undefined;
    this.stats.held++;
    this.#pending++;
    // A handler that goes on after its plugin has disconnected must not keep the pod counted as pending.
    const answered = await Promise.race([
      (async () => this.#handler.add(request, signal))().then(
        () => true,
        (e: unknown) => {
          reason = this.#reason(e);
          return true;
        },
      ),
      new Promise<false>((resolve) => signal.addEventListener('abort', () => resolve(false), { once: true })),
    ]);
    this.#pending--;
    const fields = { pod: who, ms: Date.now() - start };
    if (!answered || signal.aborted) {
      this.stats.timedOut++;
      this.#log.warn('the CNI plugin disconnected before the policy of its pod was in force', fields);
      return;
    }
    if (reason === undefined) {
      this.stats.passed++;
      this.#log.debug('a pod passes the CNI gate', fields);
    } else {
      this.stats.refused++;
      this.#log.warn('a pod is refused at the CNI gate', { ...fields, reason });
    }
    hangUp(socket, reason);
  }

  #del(request: GateRequest, socket: Socket): void {
    try {
      this.#handler.del(request);
    } catch (e) {
      this.#log.error('the CNI gate could not handle the deletion of a pod', { error: this.#reason(e) });
    }
    hangUp(socket);
  }

  #reason(e: unknown): string {
    if (e instanceof AgentError) return e.hint ? `${e.message} — ${e.hint}` : e.message;
    this.#log.error('a fault in the CNI gate', { error: e instanceof Error ? (e.stack ?? e.message) : String(e) });
    return 'a fault of the agent; its log says more';
  }
}

/** Answers, and does not wait for the other side to close. */
function hangUp(socket: Socket, reason?: string): void {
  socket.end(formatAnswer(reason), () => socket.destroy());
}
