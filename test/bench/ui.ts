/**
 * npm run bench -- ui: the web UI with 1,000 workloads and 5,000 edges, and with 10,000 flows a second. A real browser
 * shows what a real `egressctl ui` serves; its agent has no kernel, and makes events.
 */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ASSETS } from '../../src/ui/http/assets.js';
import { UiBrowser } from '../ui/browser.js';
import { UiCommand } from '../ui/command.js';
import { atMost, median, progress, type Result } from './result.js';
import { cpuShare, residentMib } from './spent.js';
import { BenchAgent } from './ui-agent-process.js';
import { nextDrawn, openPage, settled } from './ui-page.js';

const EDGES = 5000;
const RATE = 10_000;
const VIEWS = 5;
const CHANGES = 20;
const PAGES = 20;
/** Nobody looks at a feed for so long: the next page has everything to be read anew. */
const FORGOTTEN_MS = 6000;
/** What a page keeps of flows is full after it. */
const WARM_MS = 30_000;
const MEASURED_MS = 60_000;
const QUICK_MS = 15_000;
const KB = 1000;

export async function ui({ quick }: { quick: boolean }): Promise<Result[]> {
  const dir = mkdtempSync(join(tmpdir(), 'egress-bench-ui-'));
  const agent = await BenchAgent.start(join(dir, 'agent.sock'), EDGES);
  const command = await UiCommand.start(agent.socket);
  const { browser } = await UiBrowser.start();
  const bench = { agent, command, browser, ms: quick ? QUICK_MS : MEASURED_MS };
  try {
    const results = [...(await firstLoad(bench)), await firstView(bench), ...(await change(bench))];
    await agent.rate(RATE);
    for (const screen of ['flows', 'graph'] as const) results.push(...(await flood(bench, screen)));
    return [...results, await manyPages(bench)];
  } finally {
    await browser.close();
    await command.stop();
    await agent.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

interface Bench {
  readonly agent: BenchAgent;
  readonly command: UiCommand;
  readonly browser: UiBrowser['browser'];
  readonly ms: number;
}

/** Bytes over the wire before the page can be used, and those of the bundle that it loads with the editor. */
async function firstLoad({ command, browser }: Bench): Promise<Result[]> {
  const { page, close } = await openPage(browser, command.url, await command.cookie(), false);
  const loaded = new Map<string, { path: string; bytes: number }>();
  await page.cdp.send('Network.enable');
  page.cdp.on('Network.responseReceived', ({ requestId, response, type }) => {
    if (['Document', 'Stylesheet', 'Script'].includes(type))
      loaded.set(requestId, { path: new URL(response.url).pathname, bytes: 0 });
  });
  page.cdp.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    const one = loaded.get(requestId);
    if (one) one.bytes = encodedDataLength;
  });
  await page.page.goto(`${command.url}/graph`, { waitUntil: 'load' });
  await sleep(1000);
  await close();
  const files = [...loaded.values()];
  const sum = files.reduce((all, { bytes }) => all + bytes, 0);
  // What is left but for the worker that lays graphs out.
  const known = new Set(files.map(({ path }) => basename(path)));
  const later = readdirSync(ASSETS).filter((f) => /\.(js|css)$/.test(f) && !known.has(f) && !f.startsWith('layout-'));
  const laterBytes = later.reduce((all, file) => all + statSync(join(ASSETS, `${file}.br`)).size, 0);
  const parts = files.map(({ path, bytes }) => `${path === '/graph' ? 'html' : path.slice(1)} ${bytes}`);
  return [
    atMost('web UI: first load', sum / KB, 'kB', `over the wire, with headers: ${parts.join(', ')}`, 80),
    atMost('web UI: the editor, when it is opened', laterBytes / KB, 'kB', `${later.length} bundles, brotli`, 250),
  ];
}

/** From the start of the navigation to the frame after which nothing changes any more. */
async function firstView({ command, browser }: Bench): Promise<Result> {
  const times: number[] = [];
  const arrivals: number[] = [];
  for (let n = 0; n < VIEWS; n++) {
    await sleep(FORGOTTEN_MS);
    const { page, close } = await openPage(browser, command.url, await command.cookie(), true);
    await page.page.goto(`${command.url}/graph?w=35d`);
    const { arrived, drawn } = await settled(page);
    times.push(drawn);
    arrivals.push(arrived);
    progress(`ui: first view ${Math.round(drawn)} ms, all edges there after ${Math.round(arrived)} ms`);
    await close();
  }
  const text = `graph of 1,000 workloads and ${EDGES} edges of 35 days, drawn; median of ${VIEWS}, ${spread(times)} ms; all edges had come after ${Math.round(median(arrivals))} ms`;
  return atMost('web UI: first view', median(times), 'ms', text, 1500);
}

/** A connection is denied that nobody has seen before. */
async function change({ agent, command, browser }: Bench): Promise<Result[]> {
  const { page, close } = await openPage(browser, command.url, await command.cookie(), true);
  await page.page.goto(`${command.url}/graph`);
  await settled(page);
  const origin = await page.ask<number>('performance.timeOrigin');
  const drawing: number[] = [];
  const whole: number[] = [];
  for (let n = 0; n < CHANGES; n++) {
    const { arrived, drawn, made } = await nextDrawn(page, '"port":9999', () => agent.denyOne());
    drawing.push(drawn - arrived);
    whole.push(origin + drawn - made.at);
    await sleep(300 + 50 * n);
  }
  await close();
  progress(`ui: a change is drawn in ${spread(drawing)} ms, from the ledger on in ${spread(whole)} ms`);
  const text = `arrival of a new denied edge in the page → the frame that shows it; worst of ${CHANGES}, median ${round(median(drawing))} ms; from the agent's ledger on ${spread(whole)} ms, median ${round(median(whole))}`;
  return [atMost('web UI: a change is drawn', Math.max(...drawing), 'ms', text, 100)];
}

async function flood({ command, browser, ms }: Bench, screen: 'flows' | 'graph'): Promise<Result[]> {
  const { page, close } = await openPage(browser, command.url, await command.cookie(), false);
  await page.page.goto(`${command.url}/${screen}`);
  await sleep(WARM_MS);
  const before = await page.held();
  await page.takeLongTasks();
  await sleep(ms);
  const tasks = (await page.takeLongTasks()).map(({ duration }) => duration);
  const after = await page.held();
  const faults = page.faults.length > 0 ? `; FAULTS: ${page.faults.join(' ')}` : '';
  await close();
  const longest = tasks.length === 0 ? 'none' : `the longest ${Math.round(Math.max(...tasks))} ms`;
  progress(`ui: ${screen}: ${tasks.length} long tasks, ${longest}; heap ${before.heap} → ${after.heap}`);
  const name = `web UI: ${screen} under ${RATE} flows a second`;
  const text = `${ms / 1000} s, after ${WARM_MS / 1000} s to fill`;
  const growth = (after.heap - before.heap) / (1 << 20);
  return [
    atMost(`${name}, tasks over 50 ms`, tasks.length, '', `${text}; ${longest}${faults}`, 0),
    atMost(
      `${name}, growth of the heap`,
      growth,
      'MiB',
      `${text}, garbage collected; ${round(after.heap / (1 << 20))} MiB then, DOM nodes ${before.nodes} → ${after.nodes}`,
      1,
    ),
  ];
}

/** The process of the UI alone; streams are read by plain clients. */
async function manyPages({ command, ms }: Bench): Promise<Result> {
  const stop = new AbortController();
  const counts = { bytes: 0 };
  const readers = Array.from({ length: PAGES }, (_, n) => readStream(command, n, counts, stop.signal));
  await sleep(10_000);
  counts.bytes = 0;
  const share = await cpuShare(command.child, ms);
  const perSecond = Math.round(counts.bytes / (ms / 1000) / KB);
  const memory = Math.round(residentMib(command.child));
  progress(`ui: ${PAGES} pages: ${round(share)} % of a core`);
  stop.abort();
  await Promise.allSettled(readers);
  const text = `the process of egressctl ui, ${RATE} flows a second; half of the pages show the graph, half flows, with three filters; ${perSecond} kB a second, ${memory} MiB`;
  return atMost(`web UI: ${PAGES} pages, CPU`, share, '% of a core', text, 50);
}

const CHIPS = [[], [{ key: 'verdict', value: 'DENIED' }], [{ key: 'namespace', value: 'shop-0' }]];

async function readStream(
  command: UiCommand,
  n: number,
  counts: { bytes: number },
  signal: AbortSignal,
): Promise<void> {
  const view = {
    ...{ window: 'live', namespaces: [], chips: CHIPS[n % CHIPS.length], edges: true },
    ...(n % 2 === 0 ? {} : { flows: { last: 500 } }),
  };
  const { status, body } = await command.post('stream', view, signal);
  if (status !== 200 || body === null) throw new Error(`a stream was refused: ${status}`);
  for await (const part of body) counts.bytes += (part as Uint8Array).length;
}

function spread(values: readonly number[]): string {
  return `${round(Math.min(...values))} to ${round(Math.max(...values))}`;
}

function round(n: number): number {
  return n >= 100 ? Math.round(n) : Number(n.toPrecision(3));
}
