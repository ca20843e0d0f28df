/**
 * Bad callers: everything that attacks.ts has, on the agent's unix socket and on its TLS port; fuzzed requests; silent and slow
 * callers of the HTTP port. Meanwhile others ask, each time on a new connection: they are answered, the process lives, its memory
 * and descriptors stay bounded.
 *
 *   npm run proof -- callers [--seed N] [--scale 0.1] [--only WORD]
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { AGENT_SERVER_NAME, type TlsFiles } from '../../src/rpc/tls.js';
import { Random } from '../fuzz/random.js';
import { ATTACKS } from './attacks.js';
import { fuzzedCalls } from './fuzzed-calls.js';
import { LoneAgent } from './lone-agent.js';
import { type Beat, pulse } from './pulse.js';
import type { Report } from './report.js';
import { processValues } from './samples.js';

/** MiB above what the agent had before. What one attack takes is given back only by and by. */
const MORE_MEMORY = 400;
/** All listeners' limits together, and what the agent needs itself. */
const MOST_FDS = 1024;

export interface CallersOptions {
  seed: number;
  scale: number;
  /** Over TLS only what TLS makes a difference for; for a test. */
  brief?: boolean;
  /** Attacks whose name has this in it. */
  only?: string | undefined;
}

/** Resolves when connected, with TLS when its handshake is done. */
export function dialer(agent: LoneAgent, tls?: TlsFiles): () => Promise<Socket> {
  return () =>
    new Promise((resolve, reject) => {
      const socket = tls
        ? connectTls({
            host: '127.0.0.1',
            port: agent.grpc,
            ...tls,
            servername: AGENT_SERVER_NAME,
            ALPNProtocols: ['h2'],
          })
        : connect(agent.socket);
      socket.once(tls ? 'secureConnect' : 'connect', () => resolve(socket));
      socket.on('error', reject);
      socket.on('close', () => reject(new Error('closed')));
    });
}

/** To a TCP port without a word. */
export function dialPlain(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket));
    socket.on('error', reject);
  });
}

async function crowd(
  count: number,
  dial: () => Promise<Socket>,
  ms: number,
  keep: (s: Socket) => void = () => {},
): Promise<void> {
  const sockets: Socket[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const socket = await Promise.race([dial(), sleep(1000)]).catch(() => undefined);
      if (!socket) continue;
      keep(socket);
      sockets.push(socket);
    }
    await sleep(ms);
  } finally {
    for (const s of sockets) s.destroy();
  }
}

/** A character now and then, of a request that never ends. */
function dribble(socket: Socket): void {
  socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n');
  const timer = setInterval(() => socket.write('a'), 300);
  socket.on('close', () => clearInterval(timer));
}

export async function callers(opts: CallersOptions): Promise<Report> {
  const agent = await LoneAgent.start();
  const violations: string[] = [];
  try {
    const random = new Random(opts.seed);
    const { scale } = opts;
    const before = processValues(agent.pid).rss;
    const remote = { address: `127.0.0.1:${agent.grpc}`, name: 'tls', tls: agent.certificates.client };
    const targets = [agent.socket, remote, new URL(`http://127.0.0.1:${agent.http}/livez`)];
    let [asked, slowest, most, fds] = [0, 0, 0, 0];
    const under = async (name: string, what: () => Promise<void>): Promise<void> => {
      if (opts.only !== undefined && !name.includes(opts.only)) return;
      const begun = performance.now();
      const beat: Beat = await pulse(agent.pid, targets, what);
      const seconds = ((performance.now() - begun) / 1000).toFixed(1);
      console.log(
        `${name.padEnd(44)} ${seconds.padStart(5)} s, ${beat.asked} asked, ${beat.failed.length} unanswered, slowest ${Math.round(beat.slowest)} ms, ${Math.round(beat.rss)} MiB, ${beat.fds} fds`,
      );
      violations.push(...beat.failed.slice(0, 3).map((f) => `${name}: ${f}`));
      if (beat.rss - before > MORE_MEMORY)
        violations.push(`${name}: ${Math.round(beat.rss)} MiB, before ${Math.round(before)}`);
      if (beat.fds > MOST_FDS) violations.push(`${name}: ${beat.fds} descriptors`);
      asked += beat.asked;
      slowest = Math.max(slowest, beat.slowest);
      most = Math.max(most, beat.rss);
      fds = Math.max(fds, beat.fds);
      if (!agent.alive) throw new Error(`the agent died of: ${name}\n${agent.log}`);
    };

    for (const [where, dial] of [
      ['unix', dialer(agent)],
      ['tls', dialer(agent, agent.certificates.client)],
    ] as const) {
      const these = Object.entries(ATTACKS).filter(
        ([name]) => !opts.brief || where === 'unix' || name.startsWith('connections'),
      );
      for (const [name, attack] of these) await under(`${where}: ${name}`, () => attack({ dial, random, scale }));
    }
    const many = Math.round(3000 * scale);
    await under('tls: half-open handshakes', () => crowd(many, () => dialPlain(agent.grpc), 3000));
    await under('tls: handshakes that stop', () =>
      crowd(
        many,
        () => dialPlain(agent.grpc),
        3000,
        (s) => s.write(Buffer.from('1603010200010001fc0303', 'hex')),
      ),
    );
    const stranger = { ...agent.certificates.client, cert: undefined, key: undefined } as unknown as TlsFiles;
    await under('tls: no certificate', () => crowd(Math.round(300 * scale), dialer(agent, stranger), 500));
    await under('http: connections that never speak', () =>
      crowd(many, () => dialPlain(agent.http), 8000 * Math.min(1, scale * 4)),
    );
    await under('http: a character at a time', () =>
      crowd(many, () => dialPlain(agent.http), 8000 * Math.min(1, scale * 4), dribble),
    );
    await under('http: garbage', () =>
      crowd(
        Math.round(500 * scale),
        () => dialPlain(agent.http),
        500,
        (s) => s.write(Buffer.alloc(100_000, 'GET ')),
      ),
    );
    await under('unix: fuzzed requests', async () => {
      const { calls, statuses } = await fuzzedCalls(agent.socket, random, Math.round(20_000 * scale));
      console.log(`  ${calls} calls, by status ${JSON.stringify(statuses)}`);
    });
    const after = processValues(agent.pid);
    if (agent.log.trim() !== '') console.log(`the agent's log:\n${agent.log.slice(-2000)}`);
    return {
      figures: `callers: seed ${opts.seed}, ${asked} asked meanwhile, slowest ${Math.round(slowest)} ms; memory ${Math.round(before)} MiB before, ${Math.round(most)} at most, ${Math.round(after.rss)} after; ${fds} descriptors at most`,
      violations,
    };
  } finally {
    await agent.close();
  }
}

export function prove(args: readonly string[]): Promise<Report> {
  const value = (name: string) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
  return callers({
    seed: Number(value('--seed') ?? Date.now() % 2 ** 31),
    scale: Number(value('--scale') ?? 1),
    only: value('--only'),
  });
}
