/**
 * Where all are measured: pods on a node, servers behind it, and traffic from the pods, which the node forwards. Whoever
 * filters does it on the node. What pods may reach is a list of networks, with `allowed` among them; nothing else.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { AgentError } from '../../../src/errors.js';
import { compiled, until } from '../../netns/shell.js';
import { type Pod, servers, World } from '../../netns/world.js';

export const LOAD = join(compiled, 'bench-load');
export const PORT = 9000;
/** Hardly anybody reads what comes here. */
const SINK = 9001;
/** Streams end here. */
const DISCARD = 9002;
/** Always on the list. */
export const ALLOWED = servers.one.ip4;
/** Never on it. */
export const DENIED = servers.two.ip4;
/** On it or not: the rule that is changed. */
export const SWITCHED = '203.0.113.30';
/** Where the pods' addresses are. */
export const PODS = '10.244.0.0/16';
const PODS_COUNT = 4;
/**
 * Clients and servers share the last core: where a scheduler puts one or the other makes more of a difference than any filter, and all
 * that a packet costs on its way is spent there. The agent's own process is left to the others.
 */
export const PINNED = ['taskset', '-c', String(availableParallelism() - 1)];
/** How long one of a pair goes on before it is the other's turn: some hundred connects; shorter than what else runs on the machine. */
const SLICE_MS = 10;
/** Of streams, whose windows have to fill first. */
const STREAM_SLICE_MS = 20;
/** Conntrack forgets a flow after so many seconds: a port that comes again is a new flow. */
const UDP_TIMEOUT = 1;

/** What of a kind a second in two beds, one right after the other: connects, bytes, datagrams. */
export interface Pair {
  readonly here: number;
  readonly there: number;
  /** How many connects the first of them has had. */
  readonly made: number;
}

export class Bed {
  private turn = 0;

  private constructor(
    readonly world: World,
    readonly pods: readonly Pod[],
    private readonly children: readonly ChildProcess[],
  ) {}

  static async create(): Promise<Bed> {
    const world = await World.create();
    const { internet, node } = world;
    await internet.ip([`addr add ${SWITCHED}/32 dev lo`]);
    const timeouts = ['udp_timeout', 'udp_timeout_stream'].map((k) => `net.netfilter.nf_conntrack_${k}=${UDP_TIMEOUT}`);
    await node.run('sysctl', ['-qw', ...timeouts]);
    const pods: Pod[] = [];
    for (let i = 0; i < PODS_COUNT; i++) pods.push(await world.pod(`web-${i}`, { labels: { app: 'web' } }));
    const serve = [ALLOWED, DENIED, SWITCHED].map((ip) => [LOAD, 'serve', ip, String(PORT)]);
    const sink = [LOAD, 'sink', ALLOWED, String(SINK)];
    const discard = [LOAD, 'discard', ALLOWED, String(DISCARD)];
    const children = [...serve, sink, discard, ['iperf3', '-s', '-B', ALLOWED]].map((command) =>
      spawn('nsenter', [`--net=/run/netns/${internet.netns}`, ...PINNED, ...command], { stdio: 'ignore' }),
    );
    const bed = new Bed(world, pods, children);
    await until('the servers answer', async () => (await bed.connects(0.1)) > 0);
    return bed;
  }

  /** On the node. Rejects with what the command said. */
  async node(command: string, args: readonly string[], input?: string): Promise<string> {
    const { stdout } = await this.world.node.run(
      'timeout',
      ['60', command, ...args],
      input === undefined ? {} : { input },
    );
    return stdout;
  }

  /** TCP connect-request-close, a second. */
  async connects(seconds: number): Promise<number> {
    return Number(await this.load('crr', seconds));
  }

  /**
   * Connects here and in another bed, by turns, as long as it is told: what of both a second, pair by pair. Machines grow faster and
   * slower by the minute, and by the tenth of a second: what is divided was measured side by side.
   */
  async beside(other: Bed, seconds: number): Promise<Pair[]> {
    return this.byTurns(other, (namespaces, pods) => [
      ...['pair', ALLOWED, String(PORT), String(seconds / pods)],
      ...[...namespaces, String(SLICE_MS)],
    ]);
  }

  /** The same of a TCP stream (bytes a second), or of datagrams of so many bytes (datagrams a second). */
  async streamsBeside(other: Bed, what: 'tcp' | 'udp', seconds: number, bytes = 0): Promise<Pair[]> {
    const port = what === 'tcp' ? DISCARD : SINK;
    return this.byTurns(other, (namespaces, pods) => [
      ...['turns', what, ALLOWED, String(port), String(seconds / pods)],
      ...[...namespaces, String(STREAM_SLICE_MS), String(bytes)],
    ]);
  }

  /** One pod after the other. */
  private async byTurns(
    other: Bed,
    args: (namespaces: readonly string[], pods: number) => readonly string[],
  ): Promise<Pair[]> {
    const pairs: Pair[] = [];
    const pods = this.pods.map((pod, i) => [pod, other.pods[i] as Pod] as const);
    for (const [mine, theirs] of pods) {
      const namespaces = [mine, theirs].map((pod) => `/run/netns/${pod.host.netns}`);
      const command = [...PINNED, LOAD, ...args(namespaces, pods.length)];
      const { stdout } = await mine.host.run('timeout', ['60', ...command]);
      for (const line of stdout.trim().split('\n')) {
        const [here = Number.NaN, there = Number.NaN, made = 0] = line.split(' ').map(Number);
        pairs.push({ here, there, made });
      }
    }
    return pairs;
  }

  /** TCP from a pod: Gbit/s, and how busy the machine was, in seconds of one core for a Gbit. */
  async throughput(seconds: number): Promise<{ gbits: number; cpu: number }> {
    const before = busySeconds();
    const out = await this.inPod('iperf3', ['-J', '-t', String(seconds), '-c', ALLOWED]);
    const busy = busySeconds() - before;
    const { end } = JSON.parse(out) as { end: { sum_received: { bits_per_second: number; bytes: number } } };
    const { bits_per_second, bytes } = end.sum_received;
    return { gbits: bits_per_second / 1e9, cpu: busy / ((bytes * 8) / 1e9) };
  }

  /** Datagrams of so many bytes, a second: the path through the node is walked by who sends. Hardly any of them is read. */
  async flood(seconds: number, bytes: number): Promise<number> {
    return Number(await this.inPod(LOAD, ['flood', ALLOWED, String(SINK), String(seconds), String(bytes)]));
  }

  /** There and back, microseconds. */
  async latency(seconds: number): Promise<{ p50: number; p99: number }> {
    const [p50 = Number.NaN, p99 = Number.NaN] = (await this.load('rtt', seconds)).trim().split(' ').map(Number);
    return { p50, p99 };
  }

  /** Does a new flow to this address pass? */
  async passes(ip: string): Promise<boolean> {
    const pod = this.pods[0] as Pod;
    const { status } = await pod.host.run(LOAD, ['rtt', ip, String(PORT), '0.05'], { check: false });
    return status === 0;
  }

  /** New flows to an address, 2,000 a second, from one of the pods. */
  stream(ip: string, pod: number): Stream {
    return new Stream(this.pods[pod] as Pod, ip);
  }

  async close(): Promise<void> {
    for (const child of this.children) child.kill('SIGKILL');
    await this.world.close();
  }

  private load(mode: string, seconds: number): Promise<string> {
    return this.inPod(LOAD, [mode, ALLOWED, String(PORT), String(seconds)]);
  }

  /** One pod after the other. */
  private async inPod(command: string, args: readonly string[]): Promise<string> {
    const pod = this.pods[this.turn++ % this.pods.length] as Pod;
    return (await pod.host.run('timeout', ['60', ...PINNED, command, ...args])).stdout;
  }
}

/** Datagrams, each of a new flow, and what became of them. */
export class Stream {
  private readonly child;
  private readonly lines: AsyncIterator<string>;

  constructor(pod: Pod, ip: string) {
    this.child = spawn('nsenter', [`--net=/run/netns/${pod.host.netns}`, LOAD, 'fresh', ip, String(PORT)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  /** When the first datagram was sent that was answered (`up`), or was not (`down`), at or after `since`; milliseconds since 1970. */
  async next(what: 'up' | 'down', since: number): Promise<number> {
    for (;;) {
      const [word, at] = (await this.line()).split(' ');
      if (word === what && Number(at) / 1000 >= since) return Number(at) / 1000;
    }
  }

  /** Ends it. */
  async end(): Promise<{ sent: number; answered: number }> {
    this.child.kill('SIGTERM');
    for (;;) {
      const [word, sent, answered] = (await this.line()).split(' ');
      if (word === 'total') return { sent: Number(sent), answered: Number(answered) };
    }
  }

  private async line(): Promise<string> {
    const { value, done } = await this.lines.next();
    if (done) throw new AgentError('INTERNAL', 'the stream of packets ended by itself');
    return value;
  }
}

/** Of all cores together, since the machine started. */
function busySeconds(): number {
  const [, ...ticks] = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '').split(/\s+/);
  // user nice system idle iowait irq softirq steal (proc(5)), in hundredths of a second
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = ticks.map(Number);
  return (user + nice + system + irq + softirq) / 100;
}

/** MiB that the kernel has for tables: slabs, vmalloc, per-CPU. Of the whole machine: only differences say something. */
export function kernelMemory(): number {
  const text = readFileSync('/proc/meminfo', 'utf8');
  const kib = (field: string) => Number(new RegExp(`^${field}:\\s*(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  return (kib('Slab') + kib('VmallocUsed') + kib('Percpu')) / 1024;
}
