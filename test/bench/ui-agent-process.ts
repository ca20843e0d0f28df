/** The agent of the web UI's bench, as its parent sees it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('ui-agent.js', import.meta.url));

/** A connection that was denied for the first time. */
export interface FirstDenied {
  /** Milliseconds since 1970, with fractions: as performance.timeOrigin + performance.now() of any process here. */
  readonly at: number;
  readonly from: string;
  readonly to: string;
  readonly port: number;
}

export class BenchAgent {
  readonly #answers: AsyncIterator<string>;

  private constructor(
    readonly socket: string,
    readonly child: ChildProcessByStdio<Writable, Readable, null>,
  ) {
    this.#answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Returns when it listens. @param socket path of the socket that it makes @param edges number of its edges */
  static async start(socket: string, edges = 5000): Promise<BenchAgent> {
    const child = spawn(process.execPath, [PROGRAM, socket, '--edges', String(edges)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const agent = new BenchAgent(socket, child);
    const first = await agent.#next();
    if (first !== 'ready') throw new Error(`the agent did not start: ${first}`);
    return agent;
  }

  /** From now on so many flow events a second. */
  async rate(perSecond: number): Promise<void> {
    await this.#ask(`rate ${perSecond}`);
  }

  /** A new edge is denied. */
  async denyOne(): Promise<FirstDenied> {
    return ((await this.#ask('deny-one')) as { denied: FirstDenied }).denied;
  }

  /** Number of flow events that it has made, of its edges, and bytes of its heap. */
  async stats(): Promise<{ produced: number; edges: number; heapUsed: number; queueLost: number }> {
    return (await this.#ask('stats')) as { produced: number; edges: number; heapUsed: number; queueLost: number };
  }

  /** Returns when it has ended. */
  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('close', resolve));
    this.child.stdin.end();
    if (this.child.exitCode === null && this.child.signalCode === null) await ended;
  }

  async #ask(line: string): Promise<object> {
    this.child.stdin.write(`${line}\n`);
    const answer = JSON.parse(await this.#next()) as { error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }

  async #next(): Promise<string> {
    const { value, done } = await this.#answers.next();
    if (done) throw new Error('the agent has ended');
    return value;
  }
}
