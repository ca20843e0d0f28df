/** A gRPC server with health checks and reflection, on a unix socket, on TCP, or both. */
import { chmodSync, lstatSync, rmSync, statSync } from 'node:fs';
import { connect, type Server as NetServer } from 'node:net';
import { dirname } from 'node:path';
import { Server, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { AgentError } from '../../errors.js';
import type { Logger } from '../../log.js';
import { Entrance } from './entrance.js';
import { HealthState, healthHandlers } from './health.js';
import { definitions, HEALTH } from '../../proto/load.js';
import { TcpListener, type TcpOptions } from './tls.js';

/** Maximum size of a request. Most are small: filters. Those about policies bring manifests, and edges as evidence. */
export const MAX_REQUEST_BYTES = 4 << 20;
/** Maximum memory for one connection: unread answers and requests in progress. Beyond it, new calls are refused. */
const MAX_CONNECTION_MIB = 16;
/**
 * Time after which a connection without a call is closed, in milliseconds. It is short because no other limit applies
 * to a connection whose caller violated the protocol: the library then reads nothing more from it, not even its end,
 * and reports nothing. Clients reconnect by themselves. It must not equal a usual polling interval, or a caller might
 * hit the closing again and again.
 */
const IDLE_MS = 7000;
const SOCKET_MODE = 0o660;
const PROBE_MS = 1000;

/** The common part of the servers of agents and of the relay. */
export class BaseServer {
  readonly #server: Server;
  readonly #log: Logger;
  readonly #listeners: TcpListener[] = [];
  readonly health = new HealthState();
  #path: string | undefined;
  #local: { entrance: Entrance; listener: NetServer } | undefined;

  constructor(log: Logger) {
    this.#log = log;
    this.#server = new Server({
      'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
      'grpc.max_concurrent_streams': 100,
      'grpc-node.max_session_memory': MAX_CONNECTION_MIB,
      'grpc.max_connection_idle_ms': IDLE_MS,
      'grpc.keepalive_time_ms': 60_000,
      'grpc.keepalive_timeout_ms': 20_000,
    });
    this.add(HEALTH, healthHandlers(this.health));
    new ReflectionService(definitions).addToServer(this.#server);
  }

  add(service: ServiceDefinition, handlers: UntypedServiceImplementation): void {
    this.#server.addService(service, handlers);
  }

  /**
   * Refuses to replace the socket of another agent. A socket on which nobody listens is removed, as is a file or a link
   * (never the link's target).
   * @throws AgentError AGENT if somebody listens, or if other users could replace our socket in its directory
   */
  static async refuseIfServed(path: string): Promise<void> {
    checkPlace(path);
    if (await answers(path)) {
      throw new AgentError('AGENT', `an agent is running already: it answers on ${path}`, {
        hint: 'stop it first, or give this one a --run-dir and a --pin-dir of its own',
      });
    }
    rmSync(path, { force: true });
  }

  /** Serves on a unix socket, which has mode 0660 from the beginning. @throws AgentError AGENT */
  async listen(path: string): Promise<void> {
    await BaseServer.refuseIfServed(path);
    const entrance = new Entrance(this.#server, this.#log);
    const listener = entrance.plain();
    const umask = process.umask(0o777 & ~SOCKET_MODE);
    try {
      await entrance.listen(listener, { path });
    } catch (e) {
      entrance.destroy();
      throw new AgentError('AGENT', `cannot listen on ${path}: ${(e as Error).message}`);
    } finally {
      process.umask(umask);
    }
    chmodSync(path, SOCKET_MODE);
    this.#path = path;
    this.#local = { entrance, listener };
    this.health.set('SERVING');
  }

  /**
   * Serves on TCP too. With `tlsDir`: mutual TLS, as soon as the files exist; changed files are used without a restart.
   * Without: unencrypted, and only for this machine.
   * @param address `ADDRESS:PORT`, `:PORT`
   * @throws AgentError USAGE, AGENT
   */
  async listenTls(address: string, tlsDir?: string, opts: Omit<TcpOptions, 'tlsDir'> = {}): Promise<TcpListener> {
    const listener = new TcpListener(this.#server, address, { ...opts, tlsDir }, this.#log);
    await listener.start();
    this.#listeners.push(listener);
    this.health.set('SERVING');
    return listener;
  }

  /** Ends streams and waits for calls in progress, at most `graceMs` milliseconds. */
  async close(graceMs = 500): Promise<void> {
    this.health.set('NOT_SERVING');
    this.endStreams();
    for (const listener of this.#listeners) listener.close();
    this.#local?.listener.close();
    this.#local?.entrance.dismiss();
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
    for (const listener of this.#listeners) listener.destroy();
    this.#local?.entrance.destroy();
    if (this.#path !== undefined) rmSync(this.#path, { force: true });
  }

  /** Ends streams that would not end by themselves. */
  protected endStreams(): void {}
}

/**
 * Checks the directory of a socket. A socket's own mode does not help if other users may rename files in its directory:
 * they could put their own socket in its place. In a sticky directory they cannot.
 */
function checkPlace(path: string): void {
  const dir = dirname(path);
  const mode = statSync(dir, { throwIfNoEntry: false })?.mode ?? 0;
  if ((mode & 0o002) !== 0 && (mode & 0o1000) === 0) {
    throw new AgentError('AGENT', `everybody may write in ${dir}: no place for a socket`, { hint: `chmod o-w ${dir}` });
  }
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new AgentError('AGENT', `${path} is a directory`, { hint: 'remove it, or give another --run-dir' });
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
