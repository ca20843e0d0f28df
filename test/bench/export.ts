/** Exports: how many flows a second of one core reach each kind of sink, from the agent's own hub. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { parseExports } from '../../src/export/base/spec.js';
import { Exports } from '../../src/export/exports.js';
import { hubSource } from '../../src/export/hub.js';
import { FlowHub } from '../../src/flow/hub/hub.js';
import { makeLogger } from '../../src/log.js';
import { flow, LEAD, rule, WEB } from '../flow/flows.js';
import { atLeast, atMost, median, progress, type Result } from './result.js';

const FLOWS = 6000;
const ROUNDS = 9;
/** What must never be behind, at 10,000 flows a second: the drain of the ring has 100 ms. */
const RATE = 10_000;
const STEADY_MS = 4000;

export async function exporting(): Promise<Result[]> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-export-'));
  // The collectors are in threads of their own: their time is not that of the agent.
  const collectors = await Collectors.start();
  const { http, tcp, udp } = collectors.ports;
  const urls: readonly (readonly [name: string, url: string, goal: number])[] = [
    ['JSON lines in a file', `jsonl://${dir}/flows.jsonl`, 20_000],
    ['OTLP over HTTP', `otlp+http://127.0.0.1:${http}`, 20_000],
    ['syslog over TCP', `syslog+tcp://127.0.0.1:${tcp}`, 20_000],
    ['syslog over UDP', `syslog+udp://127.0.0.1:${udp}`, 15_000],
    ['sums of a minute, as JSON lines', `jsonl://${dir}/sums.jsonl?aggregate=1m`, 40_000],
    ['1 of 100 flows, as JSON lines', `jsonl://${dir}/sample.jsonl?sample=1/100`, 50_000],
  ];
  try {
    const bare = await rate(undefined);
    progress(`read and left: ${Math.round(bare)} flows a second`);
    const results: Result[] = [];
    for (const [name, url, goal] of urls) {
      const perSecond = await rate(url);
      progress(`${name}: ${Math.round(perSecond)} flows a second`);
      const baseline = `flows of a hub, on one core; read and left they are ${Math.round(bare)}/s: ${(bare / perSecond).toFixed(1)} times as many`;
      results.push(atLeast(`exported: ${name}`, perSecond, '/s', baseline, goal));
    }
    for (const [name, url] of urls.slice(0, 3)) results.push(await behind(name, url));
    return results;
  } finally {
    await collectors.close();
    rmSync(dir, { recursive: true });
  }
}

let made = 0;

function newHub(): FlowHub {
  return new FlowHub({ nodeName: 'n', now: () => BigInt(Date.now()) * 1_000_000n });
}

function publish(hub: FlowHub): void {
  const port = 1024 + (++made % 60_000);
  const names = [`host-${made % 50}.example.com`];
  const timeNs = Number(BigInt(Date.now()) * 1_000_000n - LEAD);
  hub.publish(
    flow(
      { source: { ...WEB, port }, rule: RULE, destinationNames: names },
      { timeNs, localPort: port, reason: 'rule' },
    ),
  );
}

const RULE = rule();

/** Flows a second of this process's own processor time, until they are written. @param url undefined: only read */
async function rate(url: string | undefined): Promise<number> {
  const rates: number[] = [];
  const hub = newHub();
  const log = makeLogger('error');
  const source = hubSource(hub);
  const stop = new AbortController();
  let read = 0;
  const specs = await parseExports(url === undefined ? [] : [url]);
  const exports = await Exports.start({ specs, source, node: 'n', log });
  if (!url)
    void (async () => {
      for await (const item of source({ follow: true }, stop.signal)) if (item.record) read++;
    })();
  const done = () => {
    const s = exports.status()[0];
    return s ? (s.summed > 0 ? s.summed : s.exported + s.leftOut) : read;
  };
  for (let round = 0; round < ROUNDS; round++) {
    // Making flows is not what is measured.
    const before = done();
    for (let n = 0; n < FLOWS; n++) publish(hub);
    const from = process.cpuUsage();
    while (done() < before + FLOWS) await new Promise((resolve) => setTimeout(resolve, 5));
    const { user, system } = process.cpuUsage(from);
    if (round > 1) rates.push(FLOWS / ((user + system) / 1e6));
  }
  stop.abort();
  await exports.close(5000);
  return median(rates);
}

/** How late the event loop is at worst while flows come at a steady rate. */
async function behind(name: string, url: string): Promise<Result> {
  const hub = newHub();
  const exports = await Exports.start({
    specs: await parseExports([url]),
    source: hubSource(hub),
    node: 'n',
    log: makeLogger('error'),
  });
  const late: number[] = [];
  const start = performance.now();
  let sent = 0;
  let due = start;
  const cpu = process.cpuUsage();
  while (performance.now() - start < STEADY_MS) {
    due += 10;
    await new Promise((resolve) => setTimeout(resolve, Math.max(due - performance.now(), 0)));
    late.push(performance.now() - due);
    for (const end = ((performance.now() - start) / 1000) * RATE; sent < end; sent++) publish(hub);
  }
  const { user, system } = process.cpuUsage(cpu);
  await exports.close(5000);
  const { exported = 0, lost = {} } = exports.status()[0] ?? {};
  const load = Math.round((user + system) / 10 / STEADY_MS);
  const baseline = `${RATE} flows a second, ${exported} of ${sent} exported, lost ${JSON.stringify(lost)}; ${load} % of a core with making them`;
  return atMost(`longest turn while exporting: ${name}`, Math.max(...late.slice(20)), 'ms', baseline, 60);
}

/** An OTLP receiver, a TCP and a UDP socket that read and forget. */
class Collectors {
  private constructor(
    readonly ports: { http: number; tcp: number; udp: number },
    private readonly worker: Worker,
  ) {}

  static async start(): Promise<Collectors> {
    const worker = new Worker(
      `
      const { parentPort } = require('node:worker_threads');
      const http = require('node:http').createServer((req, res) => req.resume().on('end', () => res.end())).listen(0, '127.0.0.1');
      const tcp = require('node:net').createServer((s) => s.resume()).listen(0, '127.0.0.1');
      const udp = require('node:dgram').createSocket('udp4');
      udp.bind(0, '127.0.0.1', () =>
        parentPort.postMessage({ http: http.address().port, tcp: tcp.address().port, udp: udp.address().port }));
    `,
      { eval: true },
    );
    const ports = await new Promise<Collectors['ports']>((resolve) => worker.once('message', resolve));
    return new Collectors(ports, worker);
  }

  async close(): Promise<void> {
    await this.worker.terminate();
  }
}
