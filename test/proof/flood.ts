/**
 * Flood: a pod makes new flows as fast as raw sockets can, each of which is an event. What that may cost others: nothing of a
 * neighbour's events, and no change of policy more than 0.2 s. What the flooder loses itself is counted, and said to be its own.
 *
 *   npm run proof -- flood [--count CHANGES]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentClient } from '../../src/rpc/transport/client.js';
import type { StatusResponse } from '../../src/proto/status.js';
import { egressPolicy, toServer } from '../netns/policies.js';
import { until } from '../netns/shell.js';
import { type Pod, servers, World } from '../netns/world.js';
import { AgentProcess } from './agent-process.js';
import { cProgram } from './hammer.js';
import { parseArgs, type Report } from './report.js';

/** Milliseconds until a change of policy holds. */
const IN_FORCE_MS = 200;
/** Between two changes. */
const PAUSE_MS = 300;
/** Of the neighbour's connections: 20 a second. */
const PAUSE_S = 0.05;
const LAST_EVENTS_MS = 3000;

/** Asks every millisecond; says when answers begin, and when the last one came. Times as Date.now() has them. */
const ASKER = `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("${servers.one.ip4}", 53)); s.settimeout(0.001)
last = 0
print("ready", flush=True)
while True:
    now = time.time() * 1000
    try:
        s.send(b"?"); s.recv(100); now = time.time() * 1000
        if not last: print("open", now, flush=True)
        last = now
    except OSError: pass
    if last and now - last > 60: print("closed", last, flush=True); last = 0
`;

async function flooder(world: World, pod: Pod): Promise<{ stop: () => Promise<number> }> {
  const { macDestination, macSource } = await world.macs(pod);
  const command = [await cProgram('flooder'), 'eth0', macDestination, macSource, pod.ip4];
  const args = [`--net=/run/netns/${pod.host.netns}`, ...command, servers.one.ip4, servers.two.ip4];
  const child: ChildProcess = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  world.onClose(async () => void child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout as Readable });
  await once(lines, 'line');
  const stop = async () => {
    const line = once(lines, 'line');
    child.stdin?.end();
    return Number((await line)[0]);
  };
  return { stop };
}

/** Milliseconds from each change of policy to the first answer, or to the last. */
async function changes(world: World, pod: Pod, count: number): Promise<number[]> {
  const args = [`--net=/run/netns/${pod.host.netns}`, 'python3', '-c', ASKER];
  const asker = spawn('nsenter', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  world.onClose(async () => void asker.kill('SIGKILL'));
  const told: string[] = [];
  createInterface({ input: asker.stdout }).on('line', (l) => told.push(l));
  await until('it asks', () => told.length > 0);
  const out: number[] = [];
  for (let n = 0; n < count; n++) {
    const allow = n % 2 === 0;
    const from = Date.now();
    world.write('watched.yaml', [egressPolicy('watched', 'watched', allow ? [toServer('one')] : [])]);
    const line = await until(
      `change ${n} is in force`,
      () => told.find((l) => Number(l.split(' ')[1]) >= from),
      20_000,
    );
    out.push(Number(line.split(' ')[1]) - from);
    await sleep(PAUSE_MS);
  }
  asker.kill('SIGKILL');
  return out;
}

/** What a reader hears of one pod, and is told of losses. */
class Listener {
  readonly heard = { verdict: 0, end: 0 };
  /** Events that the kernel lost, by the pod that they were about. */
  readonly lost: Record<string, number> = {};
  missed = 0;
  readonly #client: AgentClient;
  readonly #over = new AbortController();

  constructor(socket: string, pod: string) {
    this.#client = new AgentClient(socket);
    void this.#listen(pod).catch(() => undefined);
  }

  async #listen(pod: string): Promise<void> {
    const request = { follow: true, whitelist: [{ source_pod: [pod] }] };
    for await (const { record, lost_events: lost, lost_pod = '' } of this.#client.getRecords(
      request,
      this.#over.signal,
    )) {
      if (record?.event === 'verdict' || record?.event === 'end') this.heard[record.event]++;
      if (lost?.source === 'HUBBLE_RING_BUFFER') this.missed += Number(lost.num_events_lost);
      else if (lost) this.lost[lost_pod] = (this.lost[lost_pod] ?? 0) + Number(lost.num_events_lost);
    }
  }

  status(): Promise<StatusResponse> {
    return this.#client.status();
  }

  close(): void {
    this.#over.abort();
    this.#client.close();
  }
}

/** @param count changes of policy @param share of them that must be in force in time */
export async function flood(count: number, share = 1): Promise<Report> {
  const violations: string[] = [];
  const world = await World.create();
  try {
    const { one, two } = servers;
    for (const { ip4 } of [one, two]) await world.internet.listen(ip4, 80, 'tcp', 'server');
    await world.internet.listen(one.ip4, 53, 'udp', 'server');
    const [bad, good, watched] = [await world.pod('bad'), await world.pod('good'), await world.pod('watched')];
    world.write('policies.yaml', [
      egressPolicy('bad', 'bad', [toServer('one')]),
      egressPolicy('good', 'good', [toServer('one')]),
    ]);
    world.write('watched.yaml', [egressPolicy('watched', 'watched', [])]);
    const agent = await AgentProcess.start(world);
    await agent.settled();
    const quiet = await changes(world, watched, 4);
    const listener = new Listener(join(world.dir, 'run/agent.sock'), 'default/good');
    await sleep(500);
    const began = performance.now();
    const stream = await flooder(world, bad);
    const load = await good.host.load(one.ip4, 80, { pause: PAUSE_S, timeout: 10 });
    const times = await changes(world, watched, count);
    const results = await load.stop();
    const sent = await stream.stop();
    const seconds = (performance.now() - began) / 1000;
    await sleep(LAST_EVENTS_MS);
    const status = await listener.status();
    listener.close();

    const made = results.ok ?? 0;
    if (Object.keys(results).join() !== 'ok')
      violations.push(`the neighbour's connections: ${JSON.stringify(results)}`);
    for (const kind of ['verdict', 'end'] as const)
      if (listener.heard[kind] !== made)
        violations.push(`${kind}: ${listener.heard[kind]} events of ${made} connections`);
    const lost = (status.lost_in_ring ?? []).reduce((n: number, v) => n + Number(v), 0);
    const own = Number(status.endpoints?.find((e) => e.pod === 'default/bad')?.lost_events ?? 0);
    const told = JSON.stringify(listener.lost);
    if (own !== lost) violations.push(`status: ${lost} events lost, ${own} of them the flooder's`);
    if (told !== JSON.stringify({ 'default/bad': lost }))
      violations.push(`${lost} events lost, a reader was told: ${told}`);
    const sorted = [...times].sort((a, b) => a - b);
    const at = (part: number) => Math.round(sorted[Math.ceil(part * sorted.length) - 1] as number);
    // A machine that does other work besides may be late now and then.
    for (const ms of sorted.slice(0, Math.ceil(share * sorted.length)))
      if (ms > IN_FORCE_MS) violations.push(`a change of policy took ${Math.round(ms)} ms`);
    const figures = [
      `flood: ${Math.round(sent / seconds).toLocaleString('en')} new flows a second for ${seconds.toFixed(0)} s`,
      `${times.length} changes of policy in force after ${at(0.5)} ms, p99 ${at(0.99)}, at most ${at(1)} (without a flood: ${Math.round(Math.max(...quiet))})`,
      `${made} connections of a neighbour, ${listener.heard.verdict + listener.heard.end} of ${2 * made} events heard`,
      `${lost.toLocaleString('en')} events lost, all of them the flooder's; ${listener.missed} passed by a reader`,
    ];
    return { figures: figures.join('; '), violations };
  } finally {
    await world.close();
  }
}

export async function prove(args: readonly string[]): Promise<Report> {
  return flood(parseArgs(args, { count: 100 }).count);
}
