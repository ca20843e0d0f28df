/** The relay under the web UI: what it spends on open pages while a cluster makes ten thousand flows a second. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { setMaxListeners } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { EdgesRequest } from '../../src/proto/edges.js';
import type { SampleFlowsRequest } from '../../src/proto/messages.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { RELAY_SERVER_NAME } from '../../src/relay/nodes/names.js';
import { readSample } from '../../src/rpc/sample/wire.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { compiled } from '../netns/shell.js';
import { freePort } from '../proof/ports.js';
import { writeTls } from '../relay/world.js';
import { atMost, progress, type Result } from './result.js';
import { cpuShare, residentMib } from './spent.js';
import type { ToNodes } from './ui-relay-agents.js';

const PROCESSES = 4;
const NODES = 20;
const RATE = 10_000;
const READERS = 20;
/** The first answers of all ledgers, and the start of the program, are not what is measured. */
const WARM_MS = 15_000;
/** A minute: the relay asks each ledger once in it for its history, besides what it passes on each second. */
const MEASURED_MS = 60_000;
const QUICK_MS = 20_000;
const IDLE_MS = 5000;

const FILTERS: readonly SampleFlowsRequest[] = [
  {},
  { whitelist: [{ verdict: ['DROPPED'] }] },
  { whitelist: [{ source_pod: ['shop/'] }, { destination_pod: ['shop/'] }] },
  { whitelist: [{ source_workload: [{ name: 'web-3', kind: 'Deployment' }] }] },
  { whitelist: [{ destination_ip: ['192.0.2.0/24'] }], blacklist: [{ destination_port: ['53'] }] },
];

export async function uiRelay({ quick }: { quick: boolean }): Promise<Result[]> {
  const dir = mkdtempSync(join(tmpdir(), 'egress-bench-ui-relay-'));
  const children: ChildProcess[] = [];
  const clients: AgentClient[] = [];
  try {
    const certs = await makeCertificates('egress-system', 2);
    const program = fileURLToPath(new URL('./ui-relay-agents.js', import.meta.url));
    const tlsDir = writeTls(join(dir, 'agent'), certs.agent);
    const ports: number[] = [];
    for (let p = 0; p < PROCESSES; p++) {
      const child = fork(program);
      children.push(child);
      const nodes = Array.from({ length: NODES / PROCESSES }, (_, n) => `node-${p}-${n}`);
      const message: ToNodes = { nodes, tlsDir, perSecond: RATE / NODES };
      child.send(message);
      ports.push(
        ...(await new Promise<number[]>((resolve) =>
          child.once('message', (m: { ports: number[] }) => resolve(m.ports)),
        )),
      );
    }
    const port = await freePort();
    const where = ports.map((p) => `127.0.0.1:${p}`).join();
    const args = ['--agents', where, '--tls-dir', writeTls(join(dir, 'relay'), certs.relay), '--log-level', 'warn'];
    const main = join(compiled, 'src/relay/main.js');
    const relay = spawn(process.execPath, [main, ...args, '--listen', `127.0.0.1:${port}`], { stdio: 'inherit' });
    children.push(relay);
    const remote = { address: `127.0.0.1:${port}`, name: 'relay', tls: certs.client, serverName: RELAY_SERVER_NAME };
    const client = () => {
      const made = new AgentClient(remote);
      clients.push(made);
      return made;
    };
    await answers(client());

    const stop = new AbortController();
    setMaxListeners(2 * READERS, stop.signal);
    const counts = { seen: 0, lost: 0, records: 0, messages: 0, bytes: 0, rows: 0 };
    const [samples, edges] = [client(), client()];
    const players = children.slice(0, PROCESSES);
    const [idle, bare] = await Promise.all([cpuShare(relay, IDLE_MS), sharesOf(players, IDLE_MS)]);
    const reading = Array.from({ length: READERS }, (_, n) => [
      readSamples(samples, { ...FILTERS[n % FILTERS.length], last: 500 }, n === 0, counts, stop.signal),
      readEdges(edges, n % 2 ? { namespaces: ['shop'] } : {}, counts, stop.signal),
    ]).flat();
    await sleep(WARM_MS);
    const ms = quick ? QUICK_MS : MEASURED_MS;
    for (const key of Object.keys(counts) as (keyof typeof counts)[]) counts[key] = 0;
    const [share, spent] = await Promise.all([cpuShare(relay, ms), sharesOf(players, ms)]);
    const memory = Math.round(residentMib(relay));
    const seconds = ms / 1000;
    const perSecond = (n: number) => Math.round(n / seconds);
    stop.abort();
    await Promise.all(reading);
    progress(`ui-relay: ${share.toFixed(1)} % of a core, idle ${idle.toFixed(1)} %`);
    const text = [
      `a relay's process, ${NODES} nodes over TLS with ${perSecond(counts.seen)} flows a second, lost ${counts.lost}`,
      `${READERS} readers of samples with ${FILTERS.length} filters: ${perSecond(counts.messages)} messages, ${perSecond(counts.records)} records, ${perSecond(counts.bytes / 1000)} kB a second`,
      `${READERS} live followers of edges: ${perSecond(counts.rows)} rows a second`,
      `without readers ${idle.toFixed(1)} %; ${memory} MiB; all nodes together ${spent.toFixed(0)} %, without readers ${bare.toFixed(0)} %`,
    ];
    return [atMost('relay under the web UI, CPU', share, '% of a core', text.join('; '), 20)];
  } finally {
    for (const client of clients) client.close();
    for (const child of children) child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  }
}

async function answers(client: AgentClient): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      const { nodes = [] } = await client.nodes();
      if (nodes.length === NODES && nodes.every((n) => n.state === 'NODE_CONNECTED')) return;
    } catch (e) {
      if (tries > 100) throw e;
    }
    if (tries > 200) throw new Error('the relay does not reach its agents');
    await sleep(200);
  }
}

type Counts = Record<'seen' | 'lost' | 'records' | 'messages' | 'bytes' | 'rows', number>;

/** @param isWhole whether its flows are those of the cluster */
async function readSamples(
  client: AgentClient,
  request: SampleFlowsRequest,
  isWhole: boolean,
  counts: Counts,
  signal: AbortSignal,
): Promise<void> {
  for await (const bytes of client.sampleBytes(request, signal)) {
    const { records, seen, lost } = readSample(bytes);
    if (isWhole) counts.seen += seen;
    counts.lost += lost;
    counts.records += records.length;
    counts.bytes += bytes.length;
    counts.messages++;
  }
}

async function readEdges(
  client: AgentClient,
  request: EdgesRequest,
  counts: Counts,
  signal: AbortSignal,
): Promise<void> {
  for await (const message of client.edges({ ...request, follow: true, live: true }, signal))
    for (const { id } of message.parts ?? [message]) counts.rows += id?.length ?? 0;
}

async function sharesOf(children: readonly ChildProcess[], ms: number): Promise<number> {
  const shares = await Promise.all(children.map((child) => cpuShare(child, ms)));
  return shares.reduce((sum, share) => sum + share, 0);
}
