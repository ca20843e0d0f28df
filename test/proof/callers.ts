/**
 * Bad callers: everything that callers-attacks.ts has, on the agent's unix socket, on its TLS port and on the relay's, which asks nobody
 * for a certificate; fuzzed requests; silent and slow callers of the HTTP port. Meanwhile others ask, each time on a new
 * connection: they are answered, the process lives, its memory and descriptors stay bounded.
 *
 *   npm run proof -- callers [--seed N] [--scale 0.1] [--only WORD]
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { RELAY_SERVER_NAME } from '../../src/relay/nodes/names.js';
import type { Remote } from '../../src/rpc/transport/client.js';
import { AGENT_SERVER_NAME } from '../../src/rpc/transport/tls.js';
import { Random } from '../fuzz/random.js';
import { ATTACKS } from './callers-attacks.js';
import { type Dial, plain, tls } from './dial.js';
import { fuzzedCalls } from './fuzzed-calls.js';
import { LoneAgent } from './lone-agent.js';
import { LoneRelay } from './lone-relay.js';
import { type Beat, pulse } from './pulse.js';
import type { Report } from './report.js';
import { processValues } from './samples.js';

/** MiB above what the process had before. What one attack takes is given back only by and by. */
const MORE_MEMORY = 400;
/** All listeners' limits together, and what the process needs itself. */
const MOST_FDS = 1024;
/** What a short form does to the relay: what it could be less ready for than the agent. */
const TO_RELAY = [
  'truncated frames',
  'answers that nobody takes',
  'readers who follow',
  'oversized messages',
  'connections that never speak',
];

export interface CallersOptions {
  seed: number;
  scale: number;
  /** Over TLS only what TLS makes a difference for, to the relay only some; for a test. */
  brief?: boolean;
  /** Attacks whose name has this in it. */
  only?: string | undefined;
}

/** Whom something is done to, and where it is asked meanwhile. */
interface Victim {
  name: string;
  process: LoneAgent | LoneRelay;
  targets: readonly (string | Remote | URL)[];
  /** MiB resident in the beginning. */
  before: number;
}

async function crowd(count: number, dial: Dial, ms: number, keep: (s: Socket) => void = () => {}): Promise<void> {
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
  let relay: LoneRelay | undefined;
  const violations: string[] = [];
  try {
    relay = await LoneRelay.start(agent);
    const random = new Random(opts.seed);
    const { scale } = opts;
    const { client } = agent.certificates;
    const remote = { address: `127.0.0.1:${agent.grpc}`, name: 'tls', tls: client };
    const targets = [agent.socket, remote, new URL(`http://127.0.0.1:${agent.http}/livez`)];
    const ofAgent: Victim = { name: 'agent', process: agent, targets, before: processValues(agent.pid).rss };
    const ofRelay: Victim = {
      name: 'relay',
      process: relay,
      targets: [relay.remote],
      before: processValues(relay.pid).rss,
    };
    let [asked, slowest, fds] = [0, 0, 0];
    const most = new Map<Victim, number>();
    const under = async (victim: Victim, name: string, what: () => Promise<void>): Promise<void> => {
      if (opts.only !== undefined && !name.includes(opts.only)) return;
      const begun = performance.now();
      const beat: Beat = await pulse(victim.process.pid, victim.targets, what);
      const seconds = ((performance.now() - begun) / 1000).toFixed(1);
      console.log(
        `${name.padEnd(44)} ${seconds.padStart(5)} s, ${beat.asked} asked, ${beat.failed.length} unanswered, slowest ${Math.round(beat.slowest)} ms, ${Math.round(beat.rss)} MiB, ${beat.fds} fds`,
      );
      violations.push(...beat.failed.slice(0, 3).map((f) => `${name}: ${f}`));
      if (beat.rss - victim.before > MORE_MEMORY)
        violations.push(`${name}: ${Math.round(beat.rss)} MiB, before ${Math.round(victim.before)}`);
      if (beat.fds > MOST_FDS) violations.push(`${name}: ${beat.fds} descriptors`);
      asked += beat.asked;
      slowest = Math.max(slowest, beat.slowest);
      most.set(victim, Math.max(most.get(victim) ?? 0, beat.rss));
      fds = Math.max(fds, beat.fds);
      for (const v of [ofAgent, ofRelay])
        if (!v.process.alive) throw new Error(`the ${v.name} died of: ${name}\n${v.process.log}`);
    };

    const silent = (name: string) => name.startsWith('connections');
    for (const [where, victim, dial, inBrief] of [
      ['unix', ofAgent, plain(agent.socket), () => true],
      ['tls', ofAgent, tls(agent.grpc, AGENT_SERVER_NAME, client), silent],
      ['relay', ofRelay, tls(relay.port, RELAY_SERVER_NAME, { ca: client.ca }), (n) => TO_RELAY.includes(n)],
    ] as [string, Victim, Dial, (name: string) => boolean][]) {
      const these = Object.entries(ATTACKS).filter(([name]) => !opts.brief || inBrief(name));
      for (const [name, attack] of these)
        await under(victim, `${where}: ${name}`, () => attack({ dial, random, scale }));
    }
    const many = Math.round(3000 * scale);
    await under(ofAgent, 'tls: half-open handshakes', () => crowd(many, plain(agent.grpc), 3000));
    await under(ofAgent, 'tls: handshakes that stop', () =>
      crowd(many, plain(agent.grpc), 3000, (s) => s.write(Buffer.from('1603010200010001fc0303', 'hex'))),
    );
    const stranger = tls(agent.grpc, AGENT_SERVER_NAME, { ca: client.ca });
    await under(ofAgent, 'tls: no certificate', () => crowd(Math.round(300 * scale), stranger, 500));
    const http = plain(agent.http);
    const long = 8000 * Math.min(1, scale * 4);
    await under(ofAgent, 'http: connections that never speak', () => crowd(many, http, long));
    await under(ofAgent, 'http: a character at a time', () => crowd(many, http, long, dribble));
    await under(ofAgent, 'http: garbage', () =>
      crowd(Math.round(500 * scale), http, 500, (s) => s.write(Buffer.alloc(100_000, 'GET '))),
    );
    await under(ofAgent, 'unix: fuzzed requests', async () => {
      const { calls, statuses } = await fuzzedCalls(agent.socket, random, Math.round(20_000 * scale));
      console.log(`  ${calls} calls, by status ${JSON.stringify(statuses)}`);
    });
    const memory = [ofAgent, ofRelay].map((v) => {
      if (v.process.log.trim() !== '') console.log(`the ${v.name}'s log:\n${v.process.log.slice(-2000)}`);
      const mib = [v.before, most.get(v) ?? v.before, processValues(v.process.pid).rss].map(Math.round);
      return `${v.name} ${mib[0]} MiB before, ${mib[1]} at most, ${mib[2]} after`;
    });
    return {
      figures: `callers: seed ${opts.seed}, ${asked} asked meanwhile, slowest ${Math.round(slowest)} ms; memory: ${memory.join('; ')}; ${fds} descriptors at most`,
      violations,
    };
  } finally {
    await relay?.close();
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
