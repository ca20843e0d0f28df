/** Servers as people run them, in the internet of a world, with a log of what arrived at each. */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compiled, until } from '../../netns/shell.js';
import type { World } from '../../netns/world.js';
import type { Certificates } from './certificates.js';

/** Something that arrived at a server: a request, or of a TLS connection as far as it came. */
export interface Arrived {
  /** `request`; of Node's server also `hello`, `secure`, `upgrade`, `connect`, `expects`, `bytes`. */
  readonly what: string;
  /** Server name; empty: none. */
  readonly sni?: string;
  readonly method?: string;
  readonly url?: string;
  readonly host?: string;
  /** Of HTTP: `1.1`, `2.0`, `3.0`. */
  readonly version?: string;
  /** The client's; of Caddy only. */
  readonly port?: number;
  /** Bytes of the body. */
  readonly body?: number;
  readonly text?: string;
}

/** A process in the internet of a world. */
export class Server {
  readonly #child: ChildProcess;
  readonly #log: string;
  #read = 0;
  #output = '';

  private constructor(
    readonly name: string,
    world: World,
    command: readonly string[],
    log: string,
    readonly parse: (line: string) => Arrived | undefined,
  ) {
    this.#log = log;
    writeFileSync(log, '');
    this.#child = spawn('nsenter', [`--net=/run/netns/${world.internet.netns}`, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, HOME: world.dir, XDG_DATA_HOME: world.dir, XDG_CONFIG_HOME: world.dir },
    });
    this.#child.stdout?.on('data', (data: Buffer) => appendFileSync(log, data));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#output = (this.#output + text).slice(-4000);
    });
    world.onClose(() => this.stop());
  }

  /** Starts it, and waits until it listens `at` an address and port. @param parse lines of its log, or of its standard output */
  static async start(
    name: string,
    world: World,
    command: readonly string[],
    opts: { at: string; log: string; parse?: (line: string) => Arrived | undefined },
  ): Promise<Server> {
    const server = new Server(name, world, command, opts.log, opts.parse ?? ((line) => JSON.parse(line) as Arrived));
    const listening = async () => {
      const { exitCode } = server.#child;
      if (exitCode !== null) throw new Error(`it ended with ${exitCode}`);
      return (await world.internet.run('ss', ['-Hltn', `src ${opts.at}`])).stdout.includes(opts.at);
    };
    await until(`${name} listens`, listening, 30_000).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${server.#output}`);
    });
    await server.arrived();
    return server;
  }

  /** What arrived since it was asked last. What a client has the answer to stands in the log a moment later. */
  async arrived(atLeast = 0): Promise<Arrived[]> {
    const found: Arrived[] = [];
    await until(
      `${this.name} has logged ${atLeast}`,
      () => {
        const text = existsSync(this.#log) ? readFileSync(this.#log, 'utf8') : '';
        const end = text.lastIndexOf('\n') + 1;
        const lines = text.slice(this.#read, end).split('\n').filter(Boolean);
        this.#read = Math.max(this.#read, end);
        for (const line of lines) {
          const one = this.parse(line);
          if (one) found.push(one);
        }
        return found.length >= atLeast;
      },
      10_000,
    ).catch(() => undefined);
    return found;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.on('close', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}

/** An address as `ss` and URLs have it. */
function listed(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

function directory(world: World, name: string): string {
  const dir = join(world.dir, name);
  mkdirSync(dir, { recursive: true });
  return dir;
}

/** nginx: TLS with HTTP/2 at 443, plain HTTP at 80. `/large` is 100 MB. @param more of its servers */
export async function nginx(world: World, address: string, c: Certificates, more = ''): Promise<Server> {
  const dir = directory(world, `nginx-${address}`);
  const log = join(dir, 'access.log');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${dir}/${kind};`)
    .join(' ');
  const entry = [
    '"what":"request","sni":"$ssl_server_name","method":"$request_method"',
    '"url":"$request_uri","host":"$http_host","version":"$server_protocol"',
  ].join(',');
  writeFileSync(
    join(dir, 'nginx.conf'),
    `user root; daemon off; master_process off; pid ${dir}/pid; error_log stderr notice;
     events { worker_connections 4096; }
     http {
       log_format told escape=json '{${entry}}';
       access_log ${log} told; ${temporary} keepalive_requests 1000000;
       ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate ${c.certificate}; ssl_certificate_key ${c.key}; ssl_session_cache shared:all:1m;
       server {
         listen ${address}:443 ssl http2; listen ${address}:80;
         location / { return 200 "$request_method $request_uri\\n"; }
         location = /large { root ${dir}; }
       }
       ${more}
     }`,
  );
  writeFileSync(join(dir, 'large'), '');
  truncateSync(join(dir, 'large'), 100e6);
  return Server.start('nginx', world, ['nginx', '-p', dir, '-c', join(dir, 'nginx.conf')], {
    at: `${address}:443`,
    log,
  });
}

/** Caddy at port 443: HTTP/1.1 and 2 over TCP, HTTP/3 over UDP. @param pages of HTML, by their paths */
export async function caddy(
  world: World,
  addresses: string | readonly string[],
  c: Certificates,
  pages: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const all = [addresses].flat();
  const dir = directory(world, 'caddy');
  const log = join(dir, 'access.log');
  writeFileSync(
    join(dir, 'Caddyfile'),
    `{
       admin off
       auto_https off
       servers {
         protocols h1 h2 h3
       }
     }
     :443 {
       bind ${all.join(' ')}
       tls ${c.certificate} ${c.key}
       log {
         output file ${log}
         format json
       }
       ${Object.entries(pages)
         .map(([path, html]) => `header ${path} Content-Type text/html\n respond ${path} \`${html}\``)
         .join('\n')}
       respond "{http.request.proto} {http.request.uri}"
     }
     `,
  );
  const parse = (line: string): Arrived => {
    const { request } = JSON.parse(line) as {
      request: {
        proto: string;
        method: string;
        host: string;
        uri: string;
        remote_port: string;
        tls?: { server_name: string };
      };
    };
    const { method, host, uri: url } = request;
    const version = request.proto.replace('HTTP/', '');
    const port = Number(request.remote_port);
    return { what: 'request', sni: request.tls?.server_name ?? '', method, host, url, version, port };
  };
  const command = ['caddy', 'run', '--config', join(dir, 'Caddyfile'), '--adapter', 'caddyfile'];
  return Server.start('caddy', world, command, { at: `${listed(all[0] as string)}:443`, log, parse });
}

/** Node's, of node-server.ts. */
export function nodeServer(world: World, address: string, c: Certificates): Promise<Server> {
  const log = join(directory(world, 'node'), 'told');
  const script = join(compiled, 'test/said/live/node-server.js');
  const command = [process.execPath, script, address, c.certificate, c.key];
  return Server.start('node', world, command, { at: `${address}:9000`, log });
}
