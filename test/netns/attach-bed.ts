/** What the tests of attachment share: namespaces with veths, and programs of two instructions. */
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { loadConstant } from '../../agent/kernel/calls.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import { withNetlink } from '../../agent/netlink/netlink.js';
import type { Pod, Snapshot } from '../../src/identity/snapshot.js';

export const NEXT = -1;
export const OK = 0;
export const DROP = 2;

/** Runs a command; its standard output. Throws with what it said on standard error. */
export function sh(command: string): string {
  return execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Whether a command succeeds. */
export function succeeds(command: string): boolean {
  try {
    sh(command);
    return true;
  } catch {
    return false;
  }
}

/** A tc program that returns one number. The caller closes it. */
export function program(returns: number): { fd: number } {
  return { fd: loadConstant(returns) };
}

/** linux/sched.h */
const CLONE_NEWNET = 0x40000000;

/** Moves this process into a network namespace of its own, as a node has it. @returns what removes that */
export function enterNode(): () => void {
  const node = `eat-${process.pid}-node`;
  sh(`ip netns add ${node} && ip -n ${node} link set lo up`);
  const fd = openSync(`/run/netns/${node}`, 'r');
  sys.setns(fd, CLONE_NEWNET);
  closeSync(fd);
  return () => void sh(`ip netns del ${node}`);
}

/** Namespaces `eat-<pid>-NAME` and a pin directory, all gone after close(). */
export class Bed {
  readonly #namespaces = new Set<string>();
  readonly #links = new Set<string>();
  readonly pinDir = `/sys/fs/bpf/ea-attach-${process.pid}`;

  constructor() {
    if (!succeeds('mountpoint -q /sys/fs/bpf')) sh('mount -t bpf bpf /sys/fs/bpf');
    mkdirSync(this.pinDir);
  }

  ns(name: string): string {
    return `eat-${process.pid}-${name}`;
  }

  addNs(name: string): void {
    sh(`ip netns add ${this.ns(name)} && ip -n ${this.ns(name)} link set lo up`);
    this.#namespaces.add(name);
  }

  /** A veth from here (`ve<pid><n>`) to `inner` in the namespace; the index of our end. */
  veth(
    name: string,
    inner: string,
    addresses: readonly string[],
    host: readonly string[] = [],
  ): { ifindex: number; ifname: string } {
    const ifname = `v${process.pid}x${this.#links.size}`;
    this.#links.add(ifname);
    const ns = this.ns(name);
    sh(`ip link add ${ifname} type veth peer name ${inner} netns ${ns}`);
    // No duplicate address detection: addresses are to be usable at once.
    const add = (where: string, dev: string, list: readonly string[]) => {
      for (const a of list) sh(`ip ${where} addr add ${a} dev ${dev} ${a.includes(':') ? 'nodad' : ''}`);
    };
    add('', ifname, host);
    add(`-n ${ns}`, inner, addresses);
    sh(`ip link set ${ifname} up && ip -n ${ns} link set ${inner} up`);
    const ifindex = withNetlink(undefined, (nl) => nl.links().find((l) => l.name === ifname)?.ifindex);
    if (ifindex === undefined) throw new Error(`no ${ifname}`);
    return { ifindex, ifname };
  }

  delNs(name: string): void {
    sh(`ip netns del ${this.ns(name)}`);
    this.#namespaces.delete(name);
  }

  /** Runs a command inside a namespace. */
  in(name: string, command: string): string {
    return sh(`nsenter --net=/run/netns/${this.ns(name)} ${command}`);
  }

  pings(name: string, address: string): boolean {
    // On a busy machine the first answer may be late.
    const once = (wait: number) => succeeds(`nsenter --net=/run/netns/${this.ns(name)} ping -c1 -W${wait} ${address}`);
    return once(0.3) || once(0.8);
  }

  close(): void {
    for (const link of this.#links) succeeds(`ip link del ${link}`);
    for (const name of this.#namespaces) succeeds(`ip netns del ${this.ns(name)}`);
    if (existsSync(this.pinDir)) rmSync(this.pinDir, { recursive: true });
  }
}

export function pod(name: string, opts: Partial<Pod> = {}): Pod {
  return {
    uid: `uid-${name}`,
    namespace: 'test',
    name,
    labels: {},
    annotations: {},
    ips: [],
    nodeName: '',
    serviceAccount: 'default',
    hostNetwork: false,
    ended: false,
    ports: [],
    ...opts,
  };
}

export function snapshot(...pods: Pod[]): Snapshot {
  return {
    pods: new Map(pods.map((p) => [`${p.namespace}/${p.name}`, p])),
    namespaces: new Map(),
    nodes: new Map(),
    services: new Map(),
    policies: [],
    ownNode: { name: 'node', ips: [] },
    problems: [],
  };
}
