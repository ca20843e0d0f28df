/** The agent of the large cluster: started from nothing, measured from outside. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { compiled } from '../netns/shell.js';
import type { BenchNode } from './cluster-node.js';
import type { ApiServer } from './cluster-server-process.js';
import { LOCAL_PODS, nodeName } from './cluster-spec.js';

/** Of utime and stime, see proc(5): USER_HZ is 100 on every architecture that Node.js knows. */
const TICKS_A_SECOND = 100;
const PATIENCE_MS = 120_000;

export class ClusterAgent {
  private constructor(
    private readonly child: ChildProcess,
    private readonly node: BenchNode,
    /** Milliseconds from its first list to when the first Image is written and all pods have their hooks. */
    readonly listMs: number,
    /** The same from the start of the process. */
    readonly startMs: number,
    /** What its log said of the first Image. */
    readonly applied: string,
  ) {}

  /** Starts one where none was before; resolves when the first Image is in force. */
  static async start(node: BenchNode, server: ApiServer): Promise<ClusterAgent> {
    const kubeconfig = join(node.dir, 'kubeconfig');
    writeFileSync(
      kubeconfig,
      JSON.stringify({
        clusters: [{ name: 'c', cluster: { server: server.url } }],
        users: [{ name: 'u', user: {} }],
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
        'current-context': 'x',
      }),
    );
    // A profiler, if one is wanted: EGRESS_BENCH_NODE_OPTIONS='--cpu-prof --cpu-prof-dir=/tmp/profiles'.
    const options = (process.env.EGRESS_BENCH_NODE_OPTIONS ?? '').split(' ').filter(Boolean);
    const dirs = ['--run-dir', join(node.dir, 'run'), '--pin-dir', node.pinDir];
    const [command, args] = node.command(
      ...[process.execPath, ...options, join(compiled, 'agent/main.js')],
      ...['--kubeconfig', kubeconfig, '--node-name', nodeName(0), '--uplink', 'eth0'],
      ...['--http-listen', '127.0.0.1:4246', ...dirs],
    );
    const start = process.hrtime.bigint();
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    process.once('exit', () => child.kill('SIGKILL'));
    const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
    const applied = await line(child, 'policies applied').finally(() => clearTimeout(timer));
    const end = process.hrtime.bigint();
    if (!applied.includes(`pods=${LOCAL_PODS} `)) throw new Error(`not all pods are bound: ${applied}`);
    return new ClusterAgent(child, node, Number(end - server.listedAt) / 1e6, Number(end - start) / 1e6, applied);
  }

  /** MiB, now and at the most. */
  memory(): { resident: number; peak: number } {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    const of = (name: string) => Math.round(Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024);
    return { resident: of('VmRSS'), peak: of('VmHWM') };
  }

  /** Percent of one core that all of its threads use while something else happens. */
  async cpu(during: () => Promise<unknown>): Promise<number> {
    const [ticks, start] = [this.#ticks(), performance.now()];
    await during();
    const seconds = (performance.now() - start) / 1000;
    return ((this.#ticks() - ticks) / TICKS_A_SECOND / seconds) * 100;
  }

  /** Ends it, and removes all that it left in the kernel and on disk: the next one begins from nothing. */
  async end(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = once(this.child, 'close');
      this.child.kill('SIGTERM');
      await gone;
    }
    rmSync(this.node.pinDir, { recursive: true, force: true });
    rmSync(join(this.node.dir, 'run'), { recursive: true, force: true });
  }

  #ticks(): number {
    const stat = readFileSync(`/proc/${this.child.pid}/stat`, 'utf8');
    // The second field is a name in brackets, which may hold blanks.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  }
}

/** The first line of its log with this text, from there on. What comes later is read too, or the agent would wait. */
function line(child: ChildProcess, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const tail: string[] = [];
    createInterface({ input: child.stderr as Readable }).on('line', (said) => {
      const at = said.indexOf(text);
      if (at >= 0) resolve(said.slice(at));
      if (tail.push(said) > 20) tail.shift();
    });
    child.once('close', () => reject(new Error(`the agent ended:\n${tail.join('\n')}`)));
  });
}
