/**
 * The listeners of a gRPC server. The library's own listeners accept any number of connections and never close a silent
 * one. Therefore the sockets are ours: a connection passes a limit (src/net/door.ts), and is handed to the library when
 * the caller has sent a request.
 */
import { createServer, type ListenOptions, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions, type Server as TlsServer } from 'node:tls';
import { type ConnectionInjector, type Server, ServerCredentials } from '@grpc/grpc-js';
import type { Logger } from '../../log.js';
import { Door } from '../../net/door.js';

const MAX_CALLERS = 256;
/**
 * Length of the accept queue, so that many simultaneous connections do not block the next caller. The kernel's limit is
 * somaxconn.
 */
const BACKLOG = 4096;
const MAX_SILENT = 512;
/** Time for a caller's first bytes, and for the whole TLS handshake, in milliseconds. */
const SILENT_MS = 10_000;
/**
 * Number of bytes after which a caller counts as active. The HTTP/2 preface with settings and their acknowledgement has
 * about 60 bytes, the headers of a call more than 100.
 */
const CALL_BYTES = 128;
/**
 * Time without data after which a connection is closed, in milliseconds. It is longer than the keepalive interval of
 * base.ts, whose pings every caller answers.
 */
const QUIET_MS = 100_000;
/**
 * Time in which a caller must close its connection after a GOAWAY, in milliseconds. The library would wait for ever.
 */
const LEAVE_MS = 3000;

/** Accepts connections, limits them, and hands them to a gRPC server. */
export class Entrance {
  readonly #injector: ConnectionInjector;
  readonly #log: Logger;
  readonly #door = new Door({
    most: MAX_CALLERS,
    mostSilent: MAX_SILENT,
    patienceMs: SILENT_MS,
    leastBytes: CALL_BYTES,
    quietMs: QUIET_MS,
  });

  constructor(server: Server, log: Logger) {
    this.#injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#log = log;
  }

  /** Makes a listener without TLS. It does not listen yet. */
  plain(): NetServer {
    return createServer((socket) => {
      this.#door.enter(socket);
      socket.once('readable', () => {
        const first: Buffer | null = socket.read();
        if (first === null) {
          socket.destroy();
          return;
        }
        socket.unshift(first);
        if (this.#door.spoke(socket)) this.#handOver(socket);
      });
    });
  }

  /** Makes a listener with TLS, for HTTP/2 only. It does not listen yet. */
  tls(options: TlsOptions): TlsServer {
    /** Sockets in the TLS handshake. A TLS socket does not reveal its underlying socket. */
    const shaking = new Map<string, Socket>();
    const tls = createTlsServer({ ...options, ALPNProtocols: ['h2'], handshakeTimeout: SILENT_MS }, (socket) => {
      socket.on('error', () => {});
      const peer = peerOf(socket);
      const below = shaking.get(peer);
      shaking.delete(peer);
      if (this.#door.becomes(below, socket)) this.#handOver(socket);
    });
    tls.on('connection', (socket: Socket) => {
      const peer = peerOf(socket);
      shaking.set(peer, socket);
      socket.once('close', () => {
        if (shaking.get(peer) === socket) shaking.delete(peer);
      });
      this.#door.enter(socket);
    });
    tls.on('tlsClientError', (e, socket) => {
      this.#log.debug('refused a caller', { reason: e.message.trim(), address: socket.remoteAddress });
      socket.destroy();
    });
    return tls;
  }

  /** Resolves when it listens. Later errors are logged. @throws Error of the system */
  async listen(server: NetServer, where: ListenOptions): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ ...where, backlog: BACKLOG }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    server.on('error', (e) => this.#log.error('the listener failed', { reason: e.message }));
  }

  #handOver(socket: Socket): void {
    socket.once('finish', () => setTimeout(() => socket.destroy(), LEAVE_MS).unref());
    this.#injector.injectConnection(socket);
  }

  /** Closes the connections of callers that have not sent a request. */
  dismiss(): void {
    this.#door.dismiss();
  }

  /** Closes all other connections too. */
  destroy(): void {
    this.#injector.destroy();
  }
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
