/**
 * The history of a large cluster in the embedded store: what the relay spends on the ledgers of a thousand agents, what
 * five weeks take on disk, and how long a question about one workload waits for its answer.
 */
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DAY_MS, dayOf, KEPT_DAYS } from '../../src/edges/edge.js';
import { edgeRowsMessage } from '../../src/edges/wire.js';
import { Rows } from '../../src/history/base/rows.js';
import type { HistoryStore } from '../../src/history/base/store.js';
import { Collector } from '../../src/history/collector.js';
import { openStore } from '../../src/history/place.js';
import { HistoryWriter } from '../../src/history/writer.js';
import { makeLogger } from '../../src/log.js';
import { encode } from '../../src/proto/load.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { Agents } from '../../src/relay/nodes/agents.js';
import type { ToAgents } from './history-agents.js';
import { EDGES_OF_AN_AGENT, LedgerWorld, rowOf } from './history-world.js';
import { atMost, median, percentile, progress, type Result } from './result.js';

/** Minutes that are sent: rows are sorted into their day twice in this time. */
const MINUTES = 8;
const QUESTIONS = 40;
/** Processes that play the agents. */
const PROCESSES = 5;

export async function history({ quick }: { quick: boolean }): Promise<Result[]> {
  const agents = quick ? Number(process.env.HB ?? 100) : 1000;
  const days = quick ? 5 : KEPT_DAYS;
  const dir = mkdtempSync(join(tmpdir(), 'egress-bench-history-'));
  const file = join(dir, 'history.duckdb');
  try {
    const world = new LedgerWorld(agents);
    const today = dayOf(Date.now());
    const cpu = await collected(file, world, today);
    const size = await filled(file, world, today - days + 1, today - 1);
    const asked = await questions(file, world);
    const what = `${agents} agents × ${EDGES_OF_AN_AGENT} edges`;
    const scale = quick ? '; scaled down' : '';
    return [
      atMost(`history: ${what} each minute, CPU of the relay`, cpu.percent, '% of a core', cpu.text + scale, 40),
      atMost(`history: ${what}, ${days} days on disk`, size.bytes / 1e9, 'GB', size.text + scale, 4),
      atMost('history: who talked to whom, of one workload, p95', asked.p95, 'ms', asked.text + scale, 300),
    ];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Real streams over TLS from another process, decoded, queued and written as the relay does it. */
async function collected(file: string, world: LedgerWorld, today: number): Promise<{ percent: number; text: string }> {
  const certs = await makeCertificates('egress-system', 2);
  const program = fileURLToPath(new URL('./history-agents.js', import.meta.url));
  const children = Array.from({ length: PROCESSES }, () => fork(program));
  const texts = Object.fromEntries(Object.entries(certs.agent).map(([k, v]) => [k, String(v)])) as ToAgents['tls'];
  const ports = await Promise.all(
    children.map((child, n) => {
      child.send({
        agents: world.agents,
        part: { process: n, processes: PROCESSES },
        day: today,
        ...(texts ? { tls: texts } : {}),
      });
      return new Promise<number>((resolve) => {
        child.once('message', (m) => resolve((m as { port: number }).port));
      });
    }),
  );
  const agents = new Agents(() => certs.relay);
  agents.set(
    Array.from({ length: world.agents }, (_, n) => {
      const address = `127.0.0.1:${ports[n % PROCESSES]}`;
      return { id: `${n}`, name: `node-${n}`, address };
    }),
  );
  const log = makeLogger('warn');
  const opened = await openStore({ file });
  const store = () => Promise.resolve(opened);
  const writer = new HistoryWriter({ log, store, onLoss: () => {}, gatherMs: 1000 });
  const collector = new Collector({ sources: agents, writer, store, log, days: KEPT_DAYS });
  const total = world.agents * EDGES_OF_AN_AGENT;
  const written = async (minutes: number) => {
    while (writer.counters.rowsWritten < total * minutes) await sleep(20);
  };
  let peak = 0;
  const delay = monitorEventLoopDelay();
  delay.enable();
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 100);
  const first = cpuMs();
  await collector.start();
  await written(1);
  await opened.maintain(Date.now());
  const began = cpuMs();
  const held = () => Math.round(delay.max / 1e6);
  progress(`history: the first answers ${((began - first) / 1000).toFixed(1)} s of CPU, turns of up to ${held()} ms`);
  for (let minute = 1; minute <= MINUTES; minute++) {
    const before = cpuMs();
    for (const child of children) child.send({ minute });
    await written(minute + 1);
    const wrote = cpuMs();
    await opened.maintain(Date.now());
    progress(
      `history: minute ${minute}: ${Math.round(wrote - before)} ms of CPU, tidied ${Math.round(cpuMs() - wrote)} ms, ${Math.round(statSync(file).size / 1e6)} MB`,
    );
  }
  const percent = (cpuMs() - began) / (MINUTES * 600);
  clearInterval(watch);
  for (const child of children) child.kill();
  await collector.close();
  await writer.close();
  await opened.close();
  agents.close();
  const text = `${MINUTES} minutes in which every edge changes, from other processes over ${world.agents} TLS connections, decoded, written, sorted; the first answers, with all descriptions, ${((began - first) / 1000).toFixed(1)} s of CPU once; turns of the event loop up to ${held()} ms; at most ${Math.round(peak / 2 ** 20)} MiB`;
  return { percent, text };
}

/** The days before, as their last minute left them. */
async function filled(
  file: string,
  world: LedgerWorld,
  from: number,
  to: number,
): Promise<{ bytes: number; text: string }> {
  const store = await openStore({ file });
  const ids = world.ids();
  for (let day = from; day <= to; day++) {
    const began = performance.now();
    for (let agent = 0; agent < world.agents; ) {
      const rows = new Rows(200_000);
      for (let n = 0; n < 100 && agent < world.agents; n++, agent++)
        for (const edge of world.edgesOf(agent))
          rows.add(agent + 1, ids[edge] as number, rowOf(edge, agent, day, 1380));
      await store.write({ edges: [], rows, notes: [] });
    }
    await store.maintain(day * DAY_MS);
    if ((day - from) % 5 === 0)
      progress(
        `history: day ${day - from + 1}: ${Math.round(performance.now() - began)} ms, ${Math.round(statSync(file).size / 1e6)} MB`,
      );
  }
  const { days, edges } = await store.stats();
  await store.close();
  const bytes = statSync(file).size;
  return { bytes, text: `the whole file, with what is free in it; ${days.length} days, ${edges} edges described` };
}

/** Each on a store that has just been opened or has answered others; with the answer's bytes. */
async function questions(file: string, world: LedgerWorld): Promise<{ p95: number; text: string }> {
  const store: HistoryStore = await openStore({ file });
  const took: number[] = [];
  let rows = 0;
  for (let n = 0; n < QUESTIONS; n++) {
    const workload = world.name(Math.floor((n * world.workloads) / QUESTIONS));
    const began = performance.now();
    const { histories } = await store.edges({ workload });
    for (const h of histories) encode('egress.v1.EdgeRows', edgeRowsMessage(h));
    took.push(performance.now() - began);
    rows += histories.reduce((sum, h) => sum + h.days.length, 0);
  }
  const activity = performance.now();
  await store.activity({ namespaces: ['team-7'] });
  const activityMs = performance.now() - activity;
  await store.close();
  const text = `${QUESTIONS} workloads, edges that begin or end there, ${Math.round(rows / QUESTIONS)} rows each; the first ${Math.round(took[0] as number)} ms, median ${Math.round(median(took))} ms; activity of a namespace ${Math.round(activityMs)} ms`;
  return { p95: percentile(took, 95), text };
}
