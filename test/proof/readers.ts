/**
 * Slow and broken readers: 50 subscribers of a real agent's flows, 40 over the unix socket and 7 over TLS that read, one that is
 * stopped, one that reads a byte a second, one that leaves in the middle of a message, and more that come and go.
 *
 * First connections at a pace that 47 readers can follow: each must hear each flow once, in order. Then a storm: what a reader
 * heard and what it was told it missed must be exactly what there was. The stopped one, continued, is told too.
 *
 *   npm run proof -- readers [--seconds 30]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { Agent } from '../netns/agent.js';
import { compiled, root, run, until } from '../netns/shell.js';
import { servers, World } from '../netns/world.js';
import { writeTls } from '../relay/world.js';
import { byteASecond, comeAndGo, leaveMidMessage } from './bad-readers.js';
import { progress } from '../bench/result.js';
import type { Report } from './report.js';
import { processValues } from './samples.js';
import type { Heard } from './subscriber.js';

export interface ReadersOptions {
  /** Of the steady part. */
  seconds: number;
  /** Of the storm. */
  storm: number;
}

const PORT = 4245;
/** Seconds after which a caller that does not answer pings may be hung up on: the server's keepalive. */
const HANGS_UP = 60;
/** MiB above what the agent had with its readers before the first flow: the hub's flows themselves are some 10. */
const MORE_MEMORY = 250;
/** Every unix process has eight; one more process has those over TLS. */
const PROCESSES = 5;
const EACH = 8;
const OVER_TLS = 7;

class Subscribers {
  readonly #child: ChildProcess;
  readonly #out: string;
  readonly #lines: string[] = [];

  constructor(world: World, name: string, spec: string, count: number) {
    this.#out = join(world.dir, `${name}.json`);
    const args = [join(compiled, 'test/proof/subscriber.js'), spec, String(count), this.#out];
    const netns = `--net=/run/netns/${world.node.netns}`;
    this.#child = spawn('nsenter', [netns, process.execPath, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout as Readable }).on('line', (l) => this.#lines.push(l));
    world.onClose(async () => void this.#child.kill('SIGKILL'));
  }

  async ready(): Promise<void> {
    await until('subscribers are heard', () => this.#lines.includes('ready'), 30_000);
  }

  /** Flows that each of them has heard, or was told it missed, at least. */
  async at(): Promise<number> {
    const asked = this.#lines.length;
    this.#child.stdin?.write('?\n');
    const line = await until('subscribers answer', () => this.#lines[asked], 20_000);
    return Number(line.split(' ')[1]);
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child.kill(name);
  }

  async heard(): Promise<Heard[]> {
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin?.end();
    await ended;
    return JSON.parse(readFileSync(this.#out, 'utf8')) as Heard[];
  }
}

export async function readers(opts: ReadersOptions): Promise<Report> {
  const world = await World.create();
  const over = new AbortController();
  try {
    const load = join(world.dir, 'load');
    await run('gcc', ['-O2', '-Wall', '-o', load, join(root, 'test/bench/load.c')]);
    const certificates = await makeCertificates('egress-system', 2);
    const tls = writeTls(join(world.dir, 'tls'), certificates.agent);
    const theirs = writeTls(join(world.dir, 'client'), certificates.client);
    const pod = await world.pod('web');
    await world.internet.listen(servers.one.ip4, 443, 'tcp', 'one');
    const server = spawn('nsenter', [
      `--net=/run/netns/${world.internet.netns}`,
      load,
      'serve',
      servers.one.ip4,
      '444',
    ]);
    world.onClose(async () => void server.kill('SIGKILL'));
    const listen = ['--listen', `127.0.0.1:${PORT}`, '--tls-dir', tls, '--log-level', 'warn'];
    const agent = await Agent.start(world, { args: listen, follow: false });
    const socket = join(agent.runDir, 'agent.sock');
    const asker = new AgentClient(socket);
    world.onClose(async () => asker.close());
    const seen = async () => Number((await asker.serverStatus()).seen_flows ?? 0);

    const good = [
      ...Array.from({ length: PROCESSES }, (_, i) => new Subscribers(world, `unix${i}`, socket, EACH)),
      new Subscribers(world, 'tls', `127.0.0.1:${PORT},${theirs}`, OVER_TLS),
    ];
    const stopped = new Subscribers(world, 'stopped', socket, 1);
    for (const s of [...good, stopped]) await s.ready();
    stopped.signal('SIGSTOP');
    const stoppedAt = performance.now();
    const slow = byteASecond(socket, over.signal);
    const leaving = leaveMidMessage(socket, over.signal);
    const coming = comeAndGo(socket, over.signal);

    const memory = { before: processValues(agent.child.pid as number).rss, most: 0 };
    const watch = setInterval(() => {
      memory.most = Math.max(memory.most, processValues(agent.child.pid as number).rss);
    }, 100);
    const start = await seen();
    /** Waits until there are no more flows and the readers have what there were. @returns how many */
    const settled = async (who: readonly Subscribers[]) => {
      let total = -1;
      await until(
        'all flows are told',
        async () => {
          const before = total;
          total = (await seen()) - start;
          await sleep(1000);
          if (before !== total) return false;
          const at = await Promise.all(who.map((s) => s.at()));
          progress(`${total} flows; told at least ${at.join(', ')}`);
          return at.every((n) => n >= total);
        },
        200_000,
      );
      return total;
    };

    const pace = await pod.host.load(servers.one.ip4, 443, { pause: 0.008 });
    await sleep(opts.seconds * 1000);
    await pace.stop();
    const steady = await settled(good);
    const calm = (await asker.status()).lost_in_queues ?? 0;
    await run('nsenter', [
      `--net=/run/netns/${pod.host.netns}`,
      load,
      'crr',
      servers.one.ip4,
      '444',
      String(opts.storm),
    ]);
    await settled(good);
    stopped.signal('SIGCONT');
    const stoppedFor = (performance.now() - stoppedAt) / 1000;
    const total = await settled(stoppedFor < HANGS_UP ? [...good, stopped] : good);
    over.abort();
    const [bytes, left, came] = await Promise.all([slow, leaving, coming]);
    clearInterval(watch);

    const heard = (await Promise.all(good.map((s) => s.heard()))).flat();
    const [late] = await stopped.heard();
    if (!late) throw new Error('the stopped reader said nothing');
    // On a machine so slow that it was away for longer, the agent has hung up on it.
    const violations = judge(late.cut !== undefined && stoppedFor >= HANGS_UP ? heard : [...heard, late], total);
    violations.push(...inFull(heard, steady));
    if (memory.most - memory.before > MORE_MEMORY)
      violations.push(`memory went from ${memory.before} to ${memory.most} MiB`);
    if (late.missed === 0 && late.cut === undefined && late.flows.length < total)
      violations.push('the stopped reader was not told that it missed anything');
    const missed = heard.map((h) => h.missed);
    return {
      figures:
        `readers: ${heard.length} read, ${steady} flows in ${opts.seconds} s (${calm} missed by slow ones), then ${total - steady} in a storm of ${opts.storm} s, ` +
        `of which they missed ${Math.min(...missed)} to ${Math.max(...missed)}; the one stopped for ${Math.round(stoppedFor)} s heard ${late.flows.length} and missed ${late.missed}${late.cut ? ' (hung up on)' : ''}; ` +
        `${bytes} bytes read one by one, ${left} left in the middle, ${came} came and went; memory ${Math.round(memory.before)} MiB before, ${Math.round(memory.most)} at most`,
      violations,
    };
  } finally {
    over.abort();
    await world.close();
  }
}

/** In order, none twice, and with what was missed as many as there were. */
function judge(all: readonly Heard[], total: number): string[] {
  return all.flatMap(({ flows, missed, cut }, i) => {
    if (cut !== undefined) return [`reader ${i} was hung up on: ${cut}`];
    const out = flows.findIndex((n, k) => k > 0 && n <= (flows[k - 1] as number));
    return [
      ...(out > 0 ? [`reader ${i}: flow ${flows[out]} after ${flows[out - 1]}`] : []),
      ...(flows.length + missed !== total ? [`reader ${i}: heard ${flows.length}, missed ${missed}, of ${total}`] : []),
    ];
  });
}

/** The first `steady` flows reached everybody: the same, each. */
function inFull(all: readonly Heard[], steady: number): string[] {
  const first = all[0]?.flows.slice(0, steady) ?? [];
  return all.flatMap(({ flows }, i) => {
    const at = first.findIndex((n, k) => flows[k] !== n);
    return at < 0 ? [] : [`reader ${i}: as its flow ${at} it heard ${flows[at]}, others ${first[at]}`];
  });
}

export function prove(args: readonly string[]): Promise<Report> {
  const seconds = args.includes('--seconds') ? Number(args[args.indexOf('--seconds') + 1]) : 30;
  return readers({ seconds, storm: 2 });
}
