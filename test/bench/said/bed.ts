/**
 * Three pods with the same servers behind them, and programs that know the same names: one under rules about what connections
 * say, one that nobody filters, and one whose HTTP goes through a proxy on its node, which does the same.
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KernelClock } from '../../../agent/kernel/clock.js';
import { FlowSweeper } from '../../../agent/events/sweeper.js';
import { compiled, run, until } from '../../netns/shell.js';
import { nodes, servers, type World } from '../../netns/world.js';
import type { Line } from '../../said/bed.js';
import { LiveBed } from '../../said/live/bed.js';
import { type Certificates, makeCertificates } from '../../said/live/certificates.js';
import { nginx } from '../../said/live/servers.js';
import { Side } from '../../said/live/side.js';
import { PINNED } from '../versus/bed.js';
import { HELLO_BYTES } from './hello.js';

export const NAME = 'www.good.test';
export const HOST = servers.one.ip4;
/** nginx; nginx that no rule asks anything of; what answers each head, or each hello, with a few bytes. */
export const PORTS = { web: 80, https: 443, plain: 8443, http: 8080, hello: 8081 } as const;
export const PATH = '/allowed/of/a/usual/length';
const REQUESTS: Line['http'] = [
  { method: 'GET|HEAD', path: '/allowed/.*' },
  { method: 'POST', path: '/upload' },
];
const FIRST = join(compiled, 'bench-first');
const FLOWS = 262_144;
const SWEEP_MS = 50;

const port = (n: number): Line['ports'] => [{ protocol: 6, ports: [[n, n]] }];
const RULES: readonly Line[] = [
  { serverNames: ['www.good.test', '*.other.test'], ports: port(PORTS.https) },
  { serverNames: ['www.good.test', '*.other.test'], ports: port(PORTS.hello) },
  { http: REQUESTS, ports: port(PORTS.web) },
  { http: REQUESTS, ports: port(PORTS.http) },
  { ports: port(PORTS.plain) },
];

export class SaidBench {
  private constructor(
    readonly filtered: LiveBed,
    readonly bare: Side,
    readonly proxied: Side,
    private readonly timer: NodeJS.Timeout,
  ) {}

  static async create(): Promise<SaidBench> {
    const hosts = { [NAME]: HOST };
    const filtered = await LiveBed.create(RULES, hosts, FLOWS);
    const made: Side[] = [filtered];
    try {
      for (let i = 0; i < 2; i++) made.push(await Side.bare(hosts));
      const [, bare, proxied] = made as [LiveBed, Side, Side];
      for (const side of made) await serve(side);
      await proxies(proxied);
      const { table, programs } = filtered.programs;
      const clock = new KernelClock(programs.clock);
      const sweeper = new FlowSweeper(table, clock.hz, () => undefined);
      const timer = setInterval(() => {
        sweeper.sweep(() => clock.estimatedJiffies());
        filtered.told();
        filtered.reasons();
      }, SWEEP_MS);
      return new SaidBench(filtered, bare, proxied, timer);
    } catch (error) {
      for (const side of made) await side.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    for (const side of [this.filtered, this.bare, this.proxied]) await side.close();
  }
}

/** All on the core of the clients: see PINNED. */
async function serve(side: Side): Promise<void> {
  const { world } = side;
  const c: Certificates = await makeCertificates(world.dir, [NAME]);
  const more = `access_log off; server { listen ${HOST}:${PORTS.plain} ssl; root ${join(world.dir, `nginx-${HOST}`)}; }`;
  const server = await nginx(world, HOST, c, more);
  await run('taskset', ['-apc', PINNED.at(-1) as string, String(server.pid)]);
  await started(world, world.internet.netns, [FIRST, 'serve', HOST, String(PORTS.http)], `${HOST}:${PORTS.http}`);
  const hello = [FIRST, 'serve', HOST, String(PORTS.hello), String(HELLO_BYTES)];
  await started(world, world.internet.netns, hello, `${HOST}:${PORTS.hello}`);
}

/** Starts a server, which ends with the world. */
async function started(world: World, netns: string, command: readonly string[], at: string): Promise<void> {
  const child = spawn('nsenter', [`--net=/run/netns/${netns}`, ...PINNED, ...command], { stdio: 'ignore' });
  world.onClose(async () => void child.kill('SIGKILL'));
  const listening = [`--net=/run/netns/${netns}`, 'ss', '-Hltn', `src ${at}`];
  await until(`${at} is listened at`, async () => (await run('nsenter', listening)).stdout.includes(at), 10_000);
}

/** Where each proxy listens on the node. */
const PROXIES = { haproxy: 3128, nginx: 3129 } as const;
export type Proxy = keyof typeof PROXIES;

/** Proxies on the node that ask the same of each request, and send it where its connection was to go. */
async function proxies({ world }: Side): Promise<void> {
  const at = (proxy: Proxy) => `${nodes.a.ip4}:${PROXIES[proxy]}`;
  const file = (name: string) => join(world.dir, name);
  writeFileSync(
    file('haproxy.cfg'),
    `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend pods
  bind ${at('haproxy')}
  http-request deny deny_status 403 unless { method GET HEAD } { path -m reg ^/allowed/.*$ } or METH_POST { path /upload }
  default_backend outside
backend outside
  http-request set-dst dst
  server any 0.0.0.0:0 pool-max-conn 64
`,
  );
  // To an address that only a variable has, nginx keeps no connections.
  const pass = `set $to ${HOST}:${PORTS.http}; proxy_pass http://$to; proxy_http_version 1.1; proxy_set_header Host $http_host;`;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((k) => `${k}_temp_path ${file(k)};`);
  writeFileSync(
    file('proxy.conf'),
    `user root; daemon off; master_process off; pid ${file('proxy.pid')}; error_log ${file('proxy.log')} warn;
     events { worker_connections 4096; }
     http {
       access_log off; keepalive_requests 1000000; ${temporary.join(' ')}
       server {
         listen ${at('nginx')};
         location ~ ^/allowed/.*$ { limit_except GET { deny all; } ${pass} }
         location = /upload { limit_except POST { deny all; } ${pass} }
         location / { return 403; }
       }
     }`,
  );
  const { netns } = world.node;
  await started(world, netns, ['haproxy', '-db', '-f', file('haproxy.cfg')], at('haproxy'));
  await started(world, netns, ['nginx', '-p', world.dir, '-c', file('proxy.conf')], at('nginx'));
}

/** From now on the pod's connections for HTTP go to this proxy. */
export async function sendThrough({ world, pod }: Side, proxy: Proxy): Promise<void> {
  const from = ['-i', pod.device, '-p', 'tcp', '-d', HOST, '--dport', String(PORTS.http)];
  const to = ['-j', 'DNAT', '--to-destination', `${nodes.a.ip4}:${PROXIES[proxy]}`];
  await world.node.run('iptables', ['-t', 'nat', '-F', 'PREROUTING']);
  await world.node.run('iptables', ['-t', 'nat', '-A', 'PREROUTING', ...from, ...to]);
}
