/** The agent of a test world: started, killed, asked. Its flows are collected from its first moment on. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { AgentClient, type Status, type Told } from './client.js';
import { compiled, run, until } from './shell.js';
import { nodes, type World } from './world.js';

export interface AgentOptions {
  mode?: 'auto' | 'tcx' | 'tc';
  deny?: 'drop' | 'reject';
  /** Comes before `dist/agent/main.js`; node in the node's namespace if not given. */
  command?: readonly string[];
  args?: readonly string[];
  /** Another version's `agent/main.js`. */
  main?: string;
  /** Where its policies come from; the world's manifests if not given. It is not waited then until they are in force. */
  source?: readonly string[];
  /** Collect its flows; by default yes. For measurements a reader is one process too many. */
  follow?: boolean;
}

const MAIN = join(compiled, 'agent/main.js');

export class Agent {
  /** Everything that it wrote to stderr and stdout. */
  log = '';
  /** Everything that it told since this test attached to it, oldest first. */
  readonly flows: Told[] = [];
  /** What of it is not kept: a flood's. */
  ignore: (flow: Told) => boolean = () => false;
  #exited: Promise<number>;
  #client: AgentClient;

  private constructor(
    readonly world: World,
    readonly child: ChildProcess,
    readonly runDir: string,
  ) {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.log += text;
      });
    }
    this.#exited = new Promise((resolve) => child.on('close', (code, signal) => resolve(code ?? (signal ? -1 : 0))));
    this.#client = new AgentClient(join(runDir, 'agent.sock'));
  }

  /** Starts an agent in the node's namespace; returns when it enforces what the manifests say. */
  static async start(world: World, opts: AgentOptions = {}): Promise<Agent> {
    const runDir = join(world.dir, 'run');
    mkdirSync(runDir, { recursive: true });
    const [command, ...before] = opts.command ?? ['nsenter', `--net=/run/netns/${world.node.netns}`, process.execPath];
    const args = [
      ...(opts.source ?? ['--manifests', world.manifests]),
      '--node-name',
      nodes.a.name,
      '--uplink',
      'eth0',
      '--log-level',
      'debug',
    ];
    const mode = ['--attach-mode', opts.mode ?? 'auto', '--deny-response', opts.deny ?? 'drop'];
    const child = spawn(
      command as string,
      [
        ...before,
        opts.main ?? MAIN,
        ...args,
        ...mode,
        '--run-dir',
        runDir,
        '--pin-dir',
        world.pinDir,
        ...(opts.args ?? []),
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const agent = new Agent(world, child, runDir);
    world.onClose(() => agent.#cleanUp());
    try {
      await until('the agent answers', () => agent.#client.status(), 120_000);
      if (opts.follow !== false) agent.#follow();
      if (!opts.source) await agent.settled();
    } catch (error) {
      throw new Error(`${String(error)}\n--- the agent's log\n${agent.log}`);
    }
    return agent;
  }

  #follow(): void {
    this.#client.follow((flow) => this.ignore(flow) || this.flows.push(flow));
  }

  /** Nobody reads its flows while something goes on of which there are too many; what it still knows of them is collected afterwards. */
  async unheard<T>(work: () => Promise<T>): Promise<T> {
    const again = () => {
      this.#client.close();
      this.#client = new AgentClient(join(this.runDir, 'agent.sock'));
    };
    again();
    try {
      return await work();
    } finally {
      again();
      this.#follow();
    }
  }

  status(): Promise<Status> {
    return this.#client.status();
  }

  /** Writes a manifest file and waits until it is in force. */
  async apply(file: string, documents: readonly object[] | string): Promise<void> {
    this.world.write(file, documents);
    await this.settled();
  }

  /**
   * Waits until all that stood in the manifests when this was called is in force. A policy of a new name, which selects
   * nothing, is written last; when the agent's list shows it, everything before was read too.
   */
  async settled(): Promise<void> {
    const name = `marker-${++markers}`;
    const spec = { podSelector: { matchLabels: { marker: 'no-pod-has-this' } }, policyTypes: ['Egress'] };
    const metadata = { name, namespace: 'default' };
    this.world.write('zz-marker.yaml', [{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec }]);
    await until(`the agent enforces the manifests (${name})`, () => this.enforces(name));
  }

  /** Whether a policy of this name is in force. */
  enforces(policy: string): Promise<boolean> {
    return this.#client.enforces(policy);
  }

  /** Waits until a pod, `namespace/name`, is bound to its interface. */
  async enforced(pod: string): Promise<void> {
    await until(`${pod} is enforced`, async () => (await this.status()).endpoints.includes(pod));
  }

  /** The first flow event, past or to come, that is as described. */
  flow(matches: (flow: Told) => boolean | undefined): Promise<Told> {
    return until('the agent tells of a flow', () => this.flows.find(matches)).catch((error: unknown) => {
      const tail = this.flows.slice(-8).map((f) => JSON.stringify(f));
      throw new Error(`${String(error)} ${matches}\nlast of ${this.flows.length} flows:\n${tail.join('\n')}`);
    });
  }

  /** Waits for a line in the log. */
  async logged(pattern: RegExp): Promise<void> {
    await until(`the log has ${pattern}`, () => pattern.test(this.log));
  }

  /** SIGKILL: no chance to say good-bye. */
  async kill(): Promise<void> {
    this.#client.close();
    this.child.kill('SIGKILL');
    await this.#exited;
  }

  /** SIGTERM; @returns the exit status */
  async stop(): Promise<number> {
    this.#client.close();
    this.child.kill('SIGTERM');
    return this.#exited;
  }

  /** Removes every trace of it, as `egress-agent detach` does. */
  async detach(): Promise<void> {
    const args = [MAIN, 'detach', '--run-dir', this.runDir, '--pin-dir', this.world.pinDir];
    await this.world.node.run(process.execPath, args);
  }

  async #cleanUp(): Promise<void> {
    this.#client.close();
    if (this.child.exitCode === null && this.child.signalCode === null) await this.kill();
    await run('rm', ['-rf', this.world.pinDir]);
  }
}

let markers = 0;
