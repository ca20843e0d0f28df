/** An agent that may be killed at any moment, also before it answers. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentClient } from '../netns/client.js';
import { compiled, until } from '../netns/shell.js';
import { nodes, type World } from '../netns/world.js';

const MAIN = join(compiled, 'agent/main.js');
/** Longer than rows that nothing names are kept (agent/reconciler.ts). */
const COLLECTED_MS = 160;
const READY_MS = 120_000;

let markers = 0;

export class AgentProcess {
  log = '';
  readonly #exited: Promise<void>;
  readonly #client: AgentClient;

  private constructor(
    private readonly world: World,
    private readonly child: ChildProcess,
    runDir: string,
  ) {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.log = (this.log + text).slice(-20_000);
      });
    }
    this.#exited = new Promise((resolve) => child.on('close', () => resolve()));
    this.#client = new AgentClient(join(runDir, 'agent.sock'));
  }

  /** Returns as soon as the process is there. */
  static async start(world: World, args: readonly string[] = []): Promise<AgentProcess> {
    const runDir = join(world.dir, 'run');
    mkdirSync(runDir, { recursive: true });
    const where = ['--manifests', world.manifests, '--run-dir', runDir, '--pin-dir', world.pinDir];
    const who = ['--node-name', nodes.a.name, '--uplink', 'eth0'];
    const command = [`--net=/run/netns/${world.node.netns}`, process.execPath, MAIN, ...where, ...who, ...args];
    const child = spawn('nsenter', command, { stdio: ['ignore', 'pipe', 'pipe'] });
    const agent = new AgentProcess(world, child, runDir);
    world.onClose(() => agent.kill());
    return agent;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  get client(): AgentClient {
    return this.#client;
  }

  async ready(): Promise<void> {
    await until('the agent answers', () => this.#client.status(), READY_MS).catch((e: unknown) => {
      throw new Error(`${String(e)}\n${this.log}`);
    });
  }

  /** Waits until what stands in the manifests is in force, and what it replaced is collected. */
  async settled(): Promise<void> {
    await this.ready();
    const name = `marker-${++markers}`;
    const spec = { podSelector: { matchLabels: { marker: 'no-pod-has-this' } }, policyTypes: ['Egress'] };
    const metadata = { name, namespace: 'default' };
    this.world.write('zz-marker.yaml', [{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec }]);
    await until(`the agent enforces ${name}`, () => this.#client.enforces(name), READY_MS);
    await sleep(COLLECTED_MS);
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    this.#client.close();
    this.child.kill('SIGKILL');
    await this.#exited;
  }
}
