/** The gRPC server on the agent's unix socket. Nothing listens on the network. */
import { chmodSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { AgentError } from '../errors.js';
import type { FlowHub } from '../flow/hub.js';
import type { Logger } from '../log.js';
import { egressHandlers } from './egress.js';
import { HealthState, healthHandlers } from './health.js';
import { observerHandlers, peerHandlers } from './observer.js';
import { definitions, EGRESS, HEALTH, OBSERVER, PEER } from './proto.js';
import { FlowStreams } from './streams.js';
import type { AgentView } from './view.js';

export interface RpcServerOptions {
  hub: FlowHub;
  view: AgentView;
  log: Logger;
}

/** Requests are small: filters. */
const MAX_REQUEST_BYTES = 1 << 20;
const SOCKET_MODE = 0o660;
const PROBE_MS = 1000;

export class RpcServer {
  readonly #server: Server;
  readonly #streams: FlowStreams;
  readonly #log: Logger;
  readonly health = new HealthState();
  #path: string | undefined;

  constructor(opts: RpcServerOptions) {
    this.#log = opts.log;
    this.#streams = new FlowStreams(opts.hub);
    this.#server = new Server({
      'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
      'grpc.max_concurrent_streams': 100,
      'grpc.max_connection_idle_ms': 15 * 60_000,
      'grpc.keepalive_time_ms': 60_000,
      'grpc.keepalive_timeout_ms': 20_000,
    });
    this.#server.addService(OBSERVER, observerHandlers(opts, this.#streams));
    this.#server.addService(PEER, peerHandlers(opts));
    this.#server.addService(EGRESS, egressHandlers(opts, this.#streams));
    this.#server.addService(HEALTH, healthHandlers(this.health));
    new ReflectionService(definitions).addToServer(this.#server);
  }

  /**
   * Another agent's socket is left alone; one that nobody answers on is a leftover, and removed.
   * @throws AgentError AGENT where somebody answers
   */
  static async refuseIfServed(path: string): Promise<void> {
    if (await answers(path)) {
      throw new AgentError('AGENT', `an agent is running already: it answers on ${path}`, {
        hint: 'end it first, or give this one a --run-dir and a --pin-dir of its own',
      });
    }
    rmSync(path, { force: true });
  }

  /** Serves on a unix socket, mode 0660 from its first moment. Throws AGENT. */
  async listen(path: string): Promise<void> {
    await RpcServer.refuseIfServed(path);
    const umask = process.umask(0o777 & ~SOCKET_MODE);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
          if (error) reject(new AgentError('AGENT', `cannot listen on ${path}: ${error.message}`));
          else resolve();
        });
      });
    } finally {
      process.umask(umask);
    }
    chmodSync(path, SOCKET_MODE);
    this.#path = path;
    this.health.set('SERVING');
  }

  /** Ends streams, waits for calls under way, at most `graceMs`. */
  async close(graceMs = 500): Promise<void> {
    this.health.set('NOT_SERVING');
    this.#streams.close();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.#server.forceShutdown();
        resolve();
      }, graceMs);
      this.#server.tryShutdown((error) => {
        if (error) this.#log.debug(error.message);
        clearTimeout(timer);
        resolve();
      });
    });
    if (this.#path !== undefined) rmSync(this.#path, { force: true });
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (value: boolean) => {
      socket.destroy();
      resolve(value);
    };
    socket.setTimeout(PROBE_MS, () => end(true));
    socket.on('connect', () => end(true));
    socket.on('error', (e: NodeJS.ErrnoException) => end(e.code === 'EACCES' || e.code === 'EPERM'));
  });
}
