/** Whether a server goes on answering others: on new connections, again and again, while something is done to it. */
import { get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentClient, type Remote } from '../../src/rpc/transport/client.js';
import { processValues } from './samples.js';

export interface Beat {
  asked: number;
  /** Milliseconds that the longest answer took. */
  slowest: number;
  /** What was not answered, and why. */
  failed: string[];
  /** MiB that were resident at most. */
  rss: number;
  fds: number;
}

const EVERY_MS = 200;
/** An answer, however slow the machine is; how slow, the figures say. */
const PATIENCE_MS = 10_000;

/** @param targets where to ask: a socket's path, a server on TCP, or a URL */
export async function pulse(
  pid: number,
  targets: readonly (string | Remote | URL)[],
  during: () => Promise<void>,
): Promise<Beat> {
  const beat: Beat = { asked: 0, slowest: 0, failed: [], rss: 0, fds: 0 };
  let over = false;
  const ask = async (target: string | Remote | URL) => {
    while (!over) {
      const from = performance.now();
      try {
        await answer(target);
      } catch (e) {
        beat.failed.push(
          `${nameOf(target)} after ${Math.round(performance.now() - from)} ms: ${(e as Error).message.slice(0, 200)}`,
        );
      }
      beat.asked++;
      beat.slowest = Math.max(beat.slowest, performance.now() - from);
      await sleep(EVERY_MS);
    }
  };
  const watch = async () => {
    while (!over) {
      const { rss, fds } = processValues(pid);
      beat.rss = Math.max(beat.rss, rss);
      beat.fds = Math.max(beat.fds, fds);
      await sleep(50);
    }
  };
  const asking = [...targets.map(ask), watch()];
  try {
    await during();
  } finally {
    over = true;
    await Promise.all(asking);
  }
  return beat;
}

async function answer(target: string | Remote | URL): Promise<void> {
  if (target instanceof URL) return fetched(target);
  const client = new AgentClient(target);
  try {
    const { unavailable_nodes: missing = [] } = await client.serverStatus(PATIENCE_MS);
    if (missing.length > 0) throw new Error(`answered, but not for ${missing.join(', ')}`);
  } finally {
    client.close();
  }
}

function fetched(url: URL): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, timeout: PATIENCE_MS }, (response) => {
      response
        .resume()
        .on('end', () => (response.statusCode === 200 ? resolve() : reject(new Error(`${response.statusCode}`))));
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', reject);
  });
}

function nameOf(target: string | Remote | URL): string {
  return typeof target === 'string' ? 'unix' : target instanceof URL ? 'http' : target.name;
}
