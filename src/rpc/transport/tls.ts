/**
 * gRPC over TCP. TLS is done by Node's own listener, whose certificates can be replaced while it listens; the decrypted
 * streams are handed to the gRPC server. The files come from a mounted Secret: they may appear late, and are replaced.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type AddressInfo, isIP, isIPv4, isIPv6, type Server as NetServer } from 'node:net';
import { join } from 'node:path';
import { createSecureContext, type Server as TlsServer } from 'node:tls';
import type { Server } from '@grpc/grpc-js';
import { AgentError } from '../../errors.js';
import type { Logger } from '../../log.js';
import { splitListen } from '../../net/listen.js';
import { Entrance } from './entrance.js';

/** The name in the certificate of every agent, on any node, since clients reach agents by address. */
export const AGENT_SERVER_NAME = 'egress-agent.egress-system.svc';

/** Contents in PEM. */
export interface TlsFiles {
  ca: Buffer;
  cert: Buffer;
  key: Buffer;
}

export interface TcpOptions {
  /**
   * Directory with ca.crt, tls.crt and tls.key. Without it, the address must be one of this machine only, or
   * `plaintext` must be set.
   */
  tlsDir?: string | undefined;
  /** Serve without TLS on any address. */
  plaintext?: boolean;
  /** Whether callers must present a certificate of the same CA. Default: required. */
  clientCertificates?: 'required' | 'off';
  /** Interval at which the files are checked, in milliseconds. */
  pollMs?: number;
}

const POLL_MS = 5000;

/**
 * Reads a mounted Secret of type kubernetes.io/tls with its CA.
 * @throws AgentError AGENT if a file is missing, or certificate and key do not match
 */
export function readTls(dir: string): TlsFiles {
  const read = (name: string) => {
    const file = join(dir, name);
    try {
      return readFileSync(file);
    } catch (e) {
      throw new AgentError('AGENT', `cannot read ${file}: ${(e as Error).message}`, { where: { file }, cause: e });
    }
  };
  return checkTls({ ca: read('ca.crt'), cert: read('tls.crt'), key: read('tls.key') }, dir);
}

/** Checks that certificate and key match. @param where place to name in the error @throws AgentError AGENT if not */
export function checkTls(files: TlsFiles, where: string): TlsFiles {
  try {
    createSecureContext(files);
  } catch (e) {
    throw new AgentError('AGENT', `the certificate in ${where} cannot be used: ${(e as Error).message}`, {
      where: { file: where },
      cause: e,
    });
  }
  return files;
}

/** Parses `10.0.0.1:4245`, `[::]:4245`, or `:4245` for every address. @throws AgentError USAGE */
export function parseListen(value: string): { host: string; port: number } {
  const { host = '::', port } = splitListen(value) ?? { host: '', port: 0 };
  if (isIP(host) === 0 && host !== 'localhost') {
    throw new AgentError('USAGE', `${value} is no address to listen on`, {
      hint: 'ADDRESS:PORT, for example 10.0.0.1:4245, [::1]:4245 or :4245',
    });
  }
  return { host, port };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

/** Parses and checks an address. @throws AgentError USAGE if it would be served unencrypted to other machines */
export function checkListen(address: string, { tlsDir, plaintext }: TcpOptions): { host: string; port: number } {
  const at = parseListen(address);
  if (tlsDir === undefined && !plaintext && !isLoopback(at.host)) {
    throw new AgentError('USAGE', `${address} is reachable from other machines: it needs TLS`, {
      hint: 'give --tls-dir with ca.crt, tls.crt and tls.key, or listen on 127.0.0.1',
    });
  }
  return at;
}

/** A TCP listener of a gRPC server. */
export class TcpListener {
  readonly #server: Server;
  readonly #at: { host: string; port: number };
  readonly #opts: TcpOptions;
  readonly #log: Logger;
  #listener: NetServer | undefined;
  #tls: TlsServer | undefined;
  #entrance: Entrance | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Digest of the files in use, or of those that were last reported as invalid. */
  #digest = '';
  #complaint = '';
  #closed = false;
  #port: number | undefined;

  constructor(server: Server, address: string, opts: TcpOptions, log: Logger) {
    this.#server = server;
    this.#at = checkListen(address, opts);
    this.#opts = opts;
    this.#log = log;
  }

  /** The port, once it listens. */
  get port(): number | undefined {
    return this.#port;
  }

  /** Resolves when it listens, or waits for its certificate. @throws AgentError AGENT if the address is in use */
  async start(): Promise<void> {
    const { tlsDir, pollMs = POLL_MS } = this.#opts;
    if (tlsDir === undefined || this.#opts.plaintext) {
      await this.#listenPlain();
      return;
    }
    await this.#reload(tlsDir, true);
    this.#timer = setInterval(() => void this.#reload(tlsDir, false), pollMs);
    this.#timer.unref();
  }

  /** Accepts no more connections. Existing ones belong to the gRPC server. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#listener?.close();
    this.#entrance?.dismiss();
  }

  async #listenPlain(): Promise<void> {
    const { host, port } = this.#at;
    await this.#listen((entrance) => entrance.plain());
    this.#log.info('listening', { address: `${isIPv6(host) ? `[${host}]` : host}:${this.#port ?? port}`, tls: 'off' });
  }

  async #listen<S extends NetServer>(make: (entrance: Entrance) => S): Promise<S> {
    const { host, port } = this.#at;
    const entrance = new Entrance(this.#server, this.#log);
    const listener = make(entrance);
    try {
      await entrance.listen(listener, { host, port });
    } catch (e) {
      entrance.destroy();
      throw new AgentError('AGENT', `cannot listen on ${host} port ${port}: ${(e as Error).message}`);
    }
    this.#listener = listener;
    this.#entrance = entrance;
    this.#port = (listener.address() as AddressInfo | null)?.port;
    if (this.#closed) listener.close();
    return listener;
  }

  /** Starts as soon as the files exist, and replaces the certificates if the files have changed. */
  async #reload(dir: string, first: boolean): Promise<void> {
    let files: TlsFiles;
    try {
      files = readTls(dir);
    } catch (e) {
      const { message } = e as Error;
      if (message !== this.#complaint) {
        this.#log.warn(this.#tls ? 'keeping the certificate in use' : 'not listening yet', { reason: message });
      }
      this.#complaint = message;
      return;
    }
    const digest = digestOf(files);
    if (digest === this.#digest || this.#closed) return;
    try {
      if (this.#tls) {
        this.#tls.setSecureContext(contextOf(files));
        this.#log.info('certificate replaced', { dir });
      } else {
        await this.#listenTls(files);
      }
      this.#digest = digest;
      this.#complaint = '';
    } catch (e) {
      if (first) throw e;
      this.#log.error((e as Error).message);
    }
  }

  async #listenTls(files: TlsFiles): Promise<void> {
    const required = (this.#opts.clientCertificates ?? 'required') === 'required';
    const options = { ...contextOf(files), requestCert: required, rejectUnauthorized: required };
    this.#tls = await this.#listen((entrance) => entrance.tls(options));
    this.#log.info('listening', { address: `${this.#at.host} port ${this.#port}`, tls: 'on' });
  }

  /** Closes the remaining connections. */
  destroy(): void {
    this.#entrance?.destroy();
  }
}

function contextOf({ ca, cert, key }: TlsFiles) {
  return { ca, cert, key, minVersion: 'TLSv1.3' as const };
}

/** A digest of the files, to detect changes. */
export function digestOf({ ca, cert, key }: TlsFiles): string {
  const hash = createHash('sha256');
  for (const part of [ca, cert, key]) hash.update(`${part.length} `).update(part);
  return hash.digest('hex');
}
