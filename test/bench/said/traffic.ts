/** Real clients under rules about what connections say, by turns with those of a pod that nobody filters. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compiled, run } from '../../netns/shell.js';
import type { Side } from '../../said/live/side.js';
import { atLeast, atMost, median, progress, type Result } from '../result.js';
import { PINNED } from '../versus/bed.js';
import { HOST, NAME, PATH, PORTS, type SaidBench } from './bed.js';
import { HELLO_BYTES, helloOf } from './hello.js';

const LEAST = { https: 0.95, bulk: 0.99, requests: 0.85, proxy: 3 } as const;
/** Milliseconds that a rule may add to the 99th percentile of first requests. */
const MOST_ADDED = 0.1;
const WRK_S = 1;
/** Downloads of 100 MB on one connection. */
const DOWNLOADS = 2;
const LATENCY_SLICE_MS = 20;

export interface Effort {
  /** Pairs of HTTPS, and of HTTP/1. */
  readonly rounds: number;
  readonly downloads: number;
  /** Of each kind of first request, seconds. */
  readonly latency: number;
}
export const FULL: Effort = { rounds: 10, downloads: 20, latency: 8 };

/** wrk for a second. @returns requests a second; throws if any failed */
async function wrk(side: Side, connections: number, url: string, ...more: string[]): Promise<number> {
  const args = ['-t1', `-c${connections}`, `-d${WRK_S}`, ...more, url];
  const { stdout, stderr } = await side.run([...PINNED, 'wrk', ...args]);
  const rate = Number(/^Requests\/sec:\s+([\d.]+)/m.exec(stdout)?.[1]);
  if (!(rate > 0) || /Non-2xx/.test(stdout)) throw new Error(`wrk ${url}: ${stdout}${stderr}`);
  return rate;
}

/** By turns, in the order AB BA AB …; what of each, pair by pair. */
async function pairs(rounds: number, a: () => Promise<number>, b: () => Promise<number>): Promise<[number, number][]> {
  await a();
  await b();
  const all: [number, number][] = [];
  for (let n = 0; n < rounds; n++) {
    if (n % 2 === 0) {
      const first = await a();
      all.push([first, await b()]);
    } else {
      const first = await b();
      all.push([await a(), first]);
    }
  }
  return all;
}

const ratioOf = (all: readonly [number, number][]) => median(all.map(([a, b]) => a / b));
const middle = (all: readonly [number, number][], k: 0 | 1) => median(all.map((pair) => pair[k]));

/** Connect, a handshake, a request, close: nothing is resumed. */
export async function https(bench: SaidBench, { rounds }: Effort): Promise<Result[]> {
  const one = (side: Side) => () => wrk(side, 1, `https://${NAME}/`, '-H', 'Connection: close');
  const all = await pairs(rounds, one(bench.filtered), one(bench.bare));
  const ratio = ratioOf(all);
  const text = `${Math.round(middle(all, 0))}/s against ${Math.round(middle(all, 1))}/s of nginx and wrk; ${all.length} pairs`;
  progress(`HTTPS: ${ratio.toFixed(3)} of no filter`);
  return [
    atLeast('HTTPS connect-request-close with a server-name rule, against no filter', ratio, 'x', text, LEAST.https),
  ];
}

/** Both through the hooks; of one the name was judged. */
export async function bulk(bench: SaidBench, { downloads }: Effort): Promise<Result[]> {
  const download = (port: number) => async () => {
    const url = `https://${NAME}:${port}/large`;
    const format = ['-w', '%{size_download} %{time_total} %{time_appconnect}\n'];
    const urls = Array.from({ length: DOWNLOADS }, () => ['-o', '/dev/null', url]).flat();
    const { stdout, stderr } = await bench.filtered.run([...PINNED, 'curl', '-sSk', '--http1.1', ...format, ...urls]);
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ').map(Number) as [number, number, number]);
    const [bytes, seconds] = lines.reduce(([n, s], [size, total, tls]) => [n + size, s + total - tls], [0, 0]);
    if (bytes !== DOWNLOADS * 100e6) throw new Error(`${url}: ${bytes} bytes; ${stderr}`);
    return bytes / seconds;
  };
  const all = await pairs(downloads, download(PORTS.https), download(PORTS.plain));
  const ratio = ratioOf(all);
  const gbits = (rate: number) => ((rate * 8) / 1e9).toFixed(1);
  const text = `${gbits(middle(all, 0))} against ${gbits(middle(all, 1))} Gbit/s; ${all.length} pairs of ${DOWNLOADS * 100} MB`;
  progress(`bulk TLS: ${ratio.toFixed(3)} of what needs no judging`);
  return [
    atLeast('bulk TLS through a flow that was judged, against one that needs no judging', ratio, 'x', text, LEAST.bulk),
  ];
}

/** Kept-alive connections, every request judged: against no filter, and against a proxy that judges the same. */
export async function requests(bench: SaidBench, { rounds }: Effort): Promise<Result[]> {
  const one = (side: Side) => () => wrk(side, 8, `http://${NAME}:${PORTS.http}${PATH}`);
  const bare = await pairs(rounds, one(bench.filtered), one(bench.bare));
  const proxied = await pairs(Math.ceil(rounds / 2), one(bench.filtered), one(bench.proxied));
  const [ratio, times] = [ratioOf(bare), ratioOf(proxied)];
  const rate = (all: readonly [number, number][], k: 0 | 1) => `${Math.round(middle(all, k))}/s`;
  progress(`HTTP/1: ${ratio.toFixed(3)} of no filter, ${times.toFixed(2)} of haproxy`);
  return [
    atLeast(
      ...(['HTTP/1 requests under path rules, against no filter', ratio, 'x'] as const),
      `${rate(bare, 0)} against ${rate(bare, 1)}, wrk with 8 connections; ${bare.length} pairs`,
      LEAST.requests,
    ),
    atLeast(
      ...(['HTTP/1 requests under path rules, against a transparent proxy', times, 'x'] as const),
      `${rate(proxied, 0)} against ${rate(proxied, 1)} of haproxy with one thread; ${proxied.length} pairs`,
      LEAST.proxy,
    ),
  ];
}

/** From connect() to the first byte of the answer. */
export async function first(bench: SaidBench, { latency }: Effort): Promise<Result[]> {
  const { filtered, bare } = bench;
  const kinds = [
    { what: 'a ClientHello of 1.8 KB', port: PORTS.hello, bytes: helloOf(NAME, HELLO_BYTES) },
    {
      what: 'a request of HTTP/1',
      port: PORTS.http,
      bytes: Buffer.from(`GET ${PATH} HTTP/1.1\r\nHost: ${NAME}\r\n\r\n`),
    },
  ];
  const results: Result[] = [];
  for (const { what, port, bytes } of kinds) {
    const file = join(filtered.world.dir, 'first');
    writeFileSync(file, bytes);
    const namespaces = [filtered, bare].map(({ pod }) => `/run/netns/${pod.host.netns}`);
    const args = ['ask', HOST, String(port), String(latency), ...namespaces, String(LATENCY_SLICE_MS), file];
    const { stdout } = await run('timeout', ['60', ...PINNED, join(compiled, 'bench-first'), ...args]);
    const [ours, none] = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ').map(Number)) as [number[], number[]];
    const [, p50 = Number.NaN, p99 = Number.NaN] = ours;
    const [count = 0, p50None = Number.NaN, p99None = Number.NaN] = none;
    const text = `p99 ${p99} µs against ${p99None} µs, p50 ${p50} against ${p50None}; ${count} of each, from connect() on`;
    progress(`first request, ${what}: ${text}`);
    results.push(atMost(`p99 added to the first request, ${what}`, (p99 - p99None) / 1000, 'ms', text, MOST_ADDED));
  }
  return results;
}
