/** The agent's node in the large cluster: a network namespace, and one for each of its pods, with nothing in them. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../netns/shell.js';
import { LOCAL_PODS, nodeIp, podSpec } from './cluster-spec.js';

const PREFIX = 'eab';
const PINS = '/sys/fs/bpf';

export class BenchNode {
  readonly prefix = `${PREFIX}${process.pid}`;
  readonly netns = `${this.prefix}-node`;
  /** For what the agent keeps; goes with the node. */
  readonly dir = mkdtempSync(join(tmpdir(), `${this.prefix}-`));
  readonly pinDir = join(PINS, this.prefix);
  readonly #onSignal = () => {
    this.close();
    process.exit(1);
  };

  private constructor() {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, this.#onSignal);
  }

  /** A node with the local pods' interfaces: a veth each, routed. */
  static async create(): Promise<BenchNode> {
    await run('sh', ['-c', 'mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf']);
    sweep();
    const node = new BenchNode();
    try {
      await node.#build();
    } catch (e) {
      node.close();
      throw e;
    }
    return node;
  }

  /** Removes everything, at once: there may be no time for more. What uses it must have ended. */
  close(): void {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, this.#onSignal);
    remove((name) => name.startsWith(this.prefix));
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** In the node's namespace, with the mounts of the caller. */
  command(...words: readonly string[]): [string, string[]] {
    return ['nsenter', [`--net=/run/netns/${this.netns}`, ...words]];
  }

  async #build(): Promise<void> {
    const pods = Array.from({ length: LOCAL_PODS }, (_, i) => ({
      netns: `${this.prefix}-p${i}`,
      device: `veth${i}`,
      ip: podSpec(i).ip,
    }));
    const batch = (lines: readonly string[], ...args: string[]) =>
      run('ip', [...args, '-batch', '-'], { input: lines.join('\n') });
    await batch([`netns add ${this.netns}`, ...pods.map((p) => `netns add ${p.netns}`)]);
    await batch(
      [
        'link set lo up',
        'link add eth0 type veth peer name out',
        `addr add ${nodeIp(0)}/16 dev eth0`,
        'link set eth0 up',
        'link set out up',
        'route add default via 172.20.255.254',
        ...pods.flatMap((p) => [
          `link add ${p.device} type veth peer name eth0 netns ${p.netns}`,
          `link set ${p.device} up`,
          `route add ${p.ip}/32 dev ${p.device}`,
        ]),
      ],
      '-n',
      this.netns,
    );
    for (const p of pods) await batch([`addr add ${p.ip}/32 dev eth0`, 'link set eth0 up'], '-n', p.netns);
  }
}

/** What benchmarks that were killed have left. */
function sweep(): void {
  remove((name) => {
    const pid = new RegExp(`^${PREFIX}(\\d+)`).exec(name)?.[1];
    return pid !== undefined && !existsSync(`/proc/${pid}`);
  });
}

function remove(ours: (name: string) => boolean): void {
  const names = existsSync('/run/netns') ? readdirSync('/run/netns').filter(ours) : [];
  if (names.length > 0) {
    const input = names.map((name) => `netns del ${name}`).join('\n');
    execFileSync('ip', ['-force', '-batch', '-'], { input, stdio: ['pipe', 'ignore', 'ignore'] });
  }
  for (const name of readdirSync(PINS)) if (ours(name)) rmSync(join(PINS, name), { recursive: true, force: true });
}
