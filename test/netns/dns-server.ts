/** A real DNS server in a namespace: dnsmasq, which knows no more than it is told. */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from './host.js';
import { until } from './shell.js';
import type { World } from './world.js';

export interface Zone {
  /** Name → addresses. */
  readonly hosts?: Readonly<Record<string, readonly string[]>>;
  /** Name → the name that it is an alias of, which is one of the hosts. */
  readonly aliases?: Readonly<Record<string, string>>;
  readonly ttl?: number;
}

/** Starts a server on port 53 of an address; every name outside the zone does not exist. It ends with the world. */
export async function startDns(world: World, host: Host, address: string, zone: Zone): Promise<ChildProcess> {
  const file = join(world.dir, `dnsmasq-${address.replaceAll(':', '-')}.conf`);
  const lines = [
    'no-resolv',
    'no-hosts',
    'no-daemon',
    'bind-interfaces',
    `listen-address=${address}`,
    'user=root',
    'pid-file',
    'edns-packet-max=4096',
    `local-ttl=${zone.ttl ?? 60}`,
    'local=/#/',
    ...Object.entries(zone.hosts ?? {}).flatMap(([name, ips]) => ips.map((ip) => `host-record=${name},${ip}`)),
    ...Object.entries(zone.aliases ?? {}).map(([alias, name]) => `cname=${alias},${name}`),
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  const child = spawn('nsenter', [`--net=/run/netns/${host.netns}`, 'dnsmasq', `--conf-file=${file}`], {
    stdio: 'ignore',
  });
  world.onClose(async () => void child.kill('SIGKILL'));
  await until(
    `${address} answers`,
    async () => (await dig(host, address, ['version.bind', 'CH', 'TXT'])).status !== '',
  );
  return child;
}

export interface DigAnswer {
  /** NOERROR and the like; empty: there was no answer. */
  readonly status: string;
  /** Data of the answer section's records. */
  readonly answers: readonly string[];
  readonly text: string;
}

/** Asks once, and waits for two seconds. @param args as of dig */
export async function dig(host: Host, server: string, args: readonly string[]): Promise<DigAnswer> {
  const { stdout } = await host.run('dig', ['+time=2', '+tries=1', `@${server}`, ...args], { check: false });
  const section = /;; ANSWER SECTION:\n([^;]*)/.exec(stdout)?.[1] ?? '';
  return {
    status: /status: (\w+)/.exec(stdout)?.[1] ?? '',
    answers: section
      .split('\n')
      .filter(Boolean)
      .map((l) => l.split(/\s+/).slice(4).join(' ')),
    text: stdout,
  };
}
