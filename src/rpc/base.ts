/** A gRPC server with health and reflection: on a unix socket, on TCP, or both. */
import { chmodSync, lstatSync, rmSync, statSync } from 'node:fs';
import { connect, type Server as NetServer } from 'node:net';
import { dirname } from 'node:path';
import { Server, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { AgentError } from '../errors.js';
import type { Logger } from '../log.js';
import { Entrance } from './entrance.js';
import { HealthState, healthHandlers } from './health.js';
import { definitions, HEALTH } from './proto.js';
import { TcpListener, type TcpOptions } from './tls.js';

/** Requests are small: filters. */
const MAX_REQUEST_BYTES = 1 << 20;
/** Of one connection: what its callers do not take, and the requests under way. Beyond it new calls are refused. */
const MAX_CONNECTION_MIB = 16;
/**
 * A connection without a call under way. Short, since one whose caller broke the protocol ends no sooner: the library below reads
 * nothing any more then, not even the end, and tells nobody. Callers who come back connect anew by themselves; not a period at
 * which somebody would ask, who might meet the end again and again.
 */
const IDLE_MS = 7000;
const SOCKET_MODE = 0o660;
const PROBE_MS = 1000;

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
   * Another agent's socket is left alone; one that nobody answers on is a leftover, and removed, as a file or a link is (never what
   * the link points to).
   * @throws AgentError AGENT where somebody answers; where everybody could put another socket in the place of ours
   */
  static async refuseIfServed(path: string): Promise<void> {
    checkPlace(path);
    if (await answers(path)) {
      throw new AgentError('AGENT', `an agent is running already: it answers on ${path}`, {
        hint: 'end it first, or give this one a --run-dir and a --pin-dir of its own',
      });
    }
    rmSync(path, { force: true });
  }

  /** Serves on a unix socket, mode 0660 from its first moment. Throws AGENT. */
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
   * Serves on TCP too. With `tlsDir`: mutual TLS, from when its files are there; files that change are taken without a
   * restart. Without: in the clear, and only to this machine.
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

  /** Ends streams, waits for calls under way, at most `graceMs`. */
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

  /** Ends what would not end by itself. */
  protected endStreams(): void {}
}

/** A socket's own mode protects nothing in a directory in which others may rename; where it is sticky, they may not. */
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
