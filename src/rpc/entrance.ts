/**
 * The way into a gRPC server. The library's own listeners take any number of connections and never end one that says nothing;
 * so the sockets are ours, callers pass a door, and are handed over when they have spoken.
 */
import { createServer, type ListenOptions, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions, type Server as TlsServer } from 'node:tls';
import { type ConnectionInjector, type Server, ServerCredentials } from '@grpc/grpc-js';
import type { Logger } from '../log.js';
import { Door } from '../net/door.js';

const MAX_CALLERS = 256;
/** A crowd that all comes at once waits here, and does not turn away who comes next; the kernel's own limit is somaxconn. */
const BACKLOG = 4096;
const MAX_SILENT = 512;
/** For the first bytes; for TLS the whole handshake. */
const SILENT_MS = 10_000;
/** The greeting of HTTP/2 with its settings and their acknowledgement has about 60 bytes, the headers of a call more than 100. */
const CALL_BYTES = 128;
/** Longer than the keepalive of base.ts, whose pings every caller answers. */
const QUIET_MS = 100_000;
/** For a caller that was told good-bye, to leave by itself. The library would wait for it for ever. */
const LEAVE_MS = 3000;

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

  /** A listener in the clear. It does not listen yet. */
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

  /** A listener with TLS; only HTTP/2. It does not listen yet. */
  tls(options: TlsOptions): TlsServer {
    /** Those in their handshake. What TLS makes of a socket does not say which it was. */
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

  /** Resolves when it listens; what goes wrong after that is logged. @throws Error of the system */
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

  /** Ends the connections of callers that have not spoken. */
  dismiss(): void {
    this.#door.dismiss();
  }

  /** Ends the others too. */
  destroy(): void {
    this.#injector.destroy();
  }
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
