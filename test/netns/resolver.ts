/** A real resolver outside, and programs in a pod that ask it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Host, Host as Namespace, PROBE } from './host.js';
import { type Output, run, until } from './shell.js';
import type { Pod, World } from './world.js';

export type Software = 'named' | 'unbound' | 'dnsmasq' | 'kresd';

/** Every address of these networks is one of the internet's: what servers of many addresses need. */
export const many = { ip4: '198.51.100', ip6: '2001:db8:51:' } as const;

let resolvers = 0;

/**
 * `named` is the authority for all names, of a zone file (RFC 1035). The others pass on what they are asked to
 * another one.
 */
export class Resolver {
  #child: ChildProcess | undefined;
  #log = '';
  #serial = 1;
  readonly dir: string;

  private constructor(
    readonly host: Host,
    readonly software: Software,
    /** Where it listens: at port 53, over UDP and TCP. */
    readonly addresses: readonly string[],
    dir: string,
  ) {
    this.dir = dir;
  }

  /** The authority. @param records lines of a zone file; names end in a dot @param options more options of named.conf */
  static async authority(
    world: World,
    addresses: readonly string[],
    records: readonly string[],
    options = '',
  ): Promise<Resolver> {
    const resolver = Resolver.#make(world, world.internet, 'named', addresses);
    const [v4, v6] = families(addresses);
    resolver.#write(
      'named.conf',
      `options { directory "${resolver.dir}"; pid-file none; lock-file none; recursion yes; allow-query { any; };
         listen-on { ${v4} }; listen-on-v6 { ${v6} }; minimal-responses yes; rrset-order { order cyclic; };
         notify no; ${options} };
       controls { };
       zone "." { type primary; file "zone"; };`,
    );
    resolver.#writeZone(records);
    await resolver.#start('named', ['-g', '-n', '1', '-c', join(resolver.dir, 'named.conf')]);
    return resolver;
  }

  /** One that asks another. @param more lines of its configuration; of dnsmasq, options */
  static async forwarder(
    world: World,
    software: Exclude<Software, 'named'>,
    addresses: readonly string[],
    to: string,
    more: readonly string[] = [],
  ): Promise<Resolver> {
    const resolver = Resolver.#make(world, world.internet, software, addresses);
    if (software === 'dnsmasq') {
      const listen = addresses.map((a) => `--listen-address=${a}`);
      const own = ['--keep-in-foreground', '--no-resolv', '--no-hosts', '--bind-interfaces', '--conf-file=/dev/null'];
      await resolver.#start('dnsmasq', [...own, '--user=root', '--pid-file', `--server=${to}`, ...listen, ...more]);
      return resolver;
    }
    if (software === 'kresd') {
      resolver.#write(
        'kresd.conf',
        `${addresses.map((a) => `net.listen('${a}', 53, { kind = 'dns' })`).join('\n')}
         cache.open(4 * MB, 'lmdb://${resolver.dir}/cache')
         trust_anchors.remove('.')
         policy.add(policy.all(policy.STUB({ '${to}' })))
         ${more.join('\n         ')}`,
      );
      await resolver.#start('kresd', ['-n', '-c', join(resolver.dir, 'kresd.conf'), resolver.dir]);
      return resolver;
    }
    resolver.#write(
      'unbound.conf',
      `server:
         directory: "${resolver.dir}"
         chroot: ""
         username: ""
         pidfile: ""
         use-syslog: no
         do-daemonize: no
         module-config: "iterator"
         access-control: 0.0.0.0/0 allow
         access-control: ::/0 allow
         local-zone: "test." nodefault
         ${addresses.map((a) => `interface: ${a}`).join('\n         ')}
         ${more.join('\n         ')}
       remote-control:
         control-enable: no
       forward-zone:
         name: "."
         forward-addr: ${to}`,
    );
    await resolver.#start('unbound', ['-d', '-c', join(resolver.dir, 'unbound.conf')]);
    return resolver;
  }

  static #make(world: World, host: Host, software: Software, addresses: readonly string[]): Resolver {
    const dir = join(world.dir, `resolver-${++resolvers}`);
    mkdirSync(dir);
    const resolver = new Resolver(host, software, addresses, dir);
    world.onClose(() => resolver.stop());
    return resolver;
  }

  /** Has other records from now on. */
  async reload(records: readonly string[]): Promise<void> {
    this.#writeZone(records);
    this.#child?.kill('SIGHUP');
    await this.#answers();
  }

  /** Of its process. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.on('close', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  #write(file: string, text: string): void {
    writeFileSync(join(this.dir, file), text);
  }

  #writeZone(records: readonly string[]): void {
    const serial = ++this.#serial;
    this.#write(
      'zone',
      [
        '$TTL 60',
        `. 60 IN SOA ns.test. root.test. ${serial} 60 60 60 1`,
        '. IN NS ns.test.',
        `ns.test. IN A ${this.addresses[0]?.includes(':') ? '192.0.2.1' : this.addresses[0]}`,
        `serial.test. 0 IN TXT "serial ${serial}"`,
        ...records,
        '',
      ].join('\n'),
    );
  }

  async #start(command: string, args: readonly string[]): Promise<void> {
    this.#child = spawn('nsenter', [`--net=/run/netns/${this.host.netns}`, command, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#log += text;
      });
    }
    try {
      await this.#answers();
    } catch (error) {
      throw new Error(`${String(error)}\n--- ${command}\n${this.#log}`);
    }
  }

  /** Waits until it answers, a zone that was read last. */
  async #answers(): Promise<void> {
    const wanted = this.software === 'named' ? `serial ${this.#serial}` : 'serial';
    const ask = ['+short', '+tries=1', '+timeout=1', `@${this.addresses[0]}`, 'serial.test.', 'TXT'];
    await until(
      `${this.software} answers`,
      async () => (await this.host.run('dig', ask, { check: false })).stdout.includes(wanted),
      20_000,
    );
  }
}

function families(addresses: readonly string[]): readonly [string, string] {
  const list = (of: readonly string[]) => (of.length > 0 ? of.map((a) => `${a};`).join(' ') : 'none;');
  return [list(addresses.filter((a) => !a.includes(':'))), list(addresses.filter((a) => a.includes(':')))];
}

/** Makes the internet take packets for all addresses of `many`. */
export async function answerForMany(world: World): Promise<void> {
  await world.internet.ip([`route add local ${many.ip4}.0/24 dev lo`, `route add local ${many.ip6}:/64 dev lo`]);
}

/** How a program finds resolvers: `/etc/resolv.conf` and the like, of its own. */
export class Asker {
  readonly #command: readonly string[];
  #probe: Host | undefined;

  /** @param resolvConf the lines of its resolv.conf */
  constructor(
    world: World,
    readonly pod: Pod,
    resolvConf: readonly string[],
  ) {
    const file = join(world.dir, `resolv-${++resolvers}.conf`);
    writeFileSync(file, `${resolvConf.join('\n')}\n`);
    const script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
    this.#command = [`--net=/run/netns/${pod.host.netns}`, 'unshare', '-m', 'sh', '-c', script, file];
    world.onClose(async () => this.#probe?.close());
  }

  /** A probe that resolves names this way. */
  get probe(): Host {
    this.#probe ??= new Namespace(this.pod.host.netns, ['nsenter', ...this.#command, 'python3', '-B', PROBE]);
    return this.#probe;
  }

  /** Runs a command that resolves names this way. */
  run(command: string, args: readonly string[], opts: { input?: string; check?: boolean } = {}): Promise<Output> {
    return run('nsenter', [...this.#command, command, ...args], opts);
  }
}
