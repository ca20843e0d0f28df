/** The API server of the large cluster, as its parent sees it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { BenchNode } from './cluster-node.js';
import type { PodEvent, ServerNews } from './cluster-server.js';

const PROGRAM = fileURLToPath(new URL('cluster-server.js', import.meta.url));

export class ApiServer {
  /** When the last agent sent its first list, nanoseconds of CLOCK_MONOTONIC. */
  listedAt = 0n;
  readonly #sent: ((at: bigint) => void)[] = [];

  private constructor(
    private readonly child: ChildProcess,
    /** On the loopback of the agent's node. */
    readonly url: string,
    /** Bytes of a pod, on average. */
    readonly podBytes: number,
  ) {
    child.on('message', (message) => {
      const news = message as ServerNews;
      if (news.kind === 'listed') this.listedAt = BigInt(news.at);
      if (news.kind === 'sent') this.#sent.shift()?.(BigInt(news.at));
    });
  }

  static async start(node: BenchNode): Promise<ApiServer> {
    const [command, args] = node.command(process.execPath, PROGRAM);
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    process.once('exit', () => child.kill('SIGKILL'));
    const first = await Promise.race([once(child, 'message'), once(child, 'exit')]);
    const news = first[0] as ServerNews | number | null;
    if (typeof news !== 'object' || news?.kind !== 'listening') throw new Error('the API server did not start');
    return new ApiServer(child, `http://127.0.0.1:${news.port}`, news.podBytes);
  }

  /** @returns when the event went out, nanoseconds of CLOCK_MONOTONIC */
  send(event: PodEvent): Promise<bigint> {
    return new Promise((resolve) => {
      this.#sent.push(resolve);
      this.child.send(event);
    });
  }

  close(): void {
    this.child.kill('SIGKILL');
  }
}
