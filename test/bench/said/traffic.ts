/** Clients under rules about what connections say, by turns with those of a pod that nobody filters (first.c). */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compiled, run } from '../../netns/shell.js';
import type { Side } from '../../said/live/side.js';
import { atLeast, atMost, median, progress, type Result } from '../result.js';
import { PINNED } from '../versus/bed.js';
import { HOST, NAME, PATH, PORTS, type SaidBench, sendThrough } from './bed.js';
import { HELLO_BYTES, helloOf } from './hello.js';

const LEAST = { https: 0.95, bulk: 0.99, requests: 0.85, proxy: 3 } as const;
/** Milliseconds that a rule may add to the 99th percentile of first requests. */
const MOST_ADDED = 0.1;
const SLICE_MS = 20;
/** Of streams, whose windows have to fill first. */
const STREAM_SLICE_MS = 60;
const CONNECTIONS = 8;
const FIRST = join(compiled, 'bench-first');
const REQUEST = `GET ${PATH} HTTP/1.1\r\nHost: ${NAME}\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n`;

export interface Effort {
  /** Of each measurement by turns, seconds. */
  readonly seconds: number;
  /** Of each kind of first request. */
  readonly latency: number;
}
export const FULL: Effort = { seconds: 12, latency: 8 };

type Pair = readonly [here: number, there: number];
const ratioOf = (all: readonly Pair[]) => median(all.map(([a, b]) => a / b));
/** The middle of each of both. */
const middles = (all: readonly Pair[], show = (rate: number) => `${Math.round(rate)}/s`) =>
  `${show(median(all.map(([a]) => a)))} against ${show(median(all.map(([, b]) => b)))}`;

/** Lines of numbers that the load generator prints. */
async function lines(
  command: (...args: readonly string[]) => Promise<{ stdout: string; stderr: string }>,
  args: readonly string[],
): Promise<number[][]> {
  const { stdout, stderr } = await command('timeout', '60', ...PINNED, FIRST, ...args);
  const numbers = stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number));
  if (!(Number(numbers[0]?.[0]) > 0)) throw new Error(`${args.join(' ')}: ${stdout}${stderr}`);
  return numbers;
}

const here = ([first, ...rest]: readonly string[]) => run(first as string, rest);

/** In the pods of two sides, by turns. */
async function turns(
  sides: readonly Side[],
  mode: string,
  port: number,
  seconds: number,
  ...more: readonly string[]
): Promise<number[][]> {
  const namespaces = sides.map(({ pod }) => `/run/netns/${pod.host.netns}`);
  const args = [mode, HOST, String(port), String(seconds), ...namespaces, String(SLICE_MS), ...more];
  return lines((...command) => here(command), args);
}

/** Connect, a handshake, a request, the end: nothing is resumed. */
export async function https(bench: SaidBench, { seconds }: Effort): Promise<Result[]> {
  const all = (await turns([bench.filtered, bench.bare], 'tls', PORTS.https, seconds, NAME)) as unknown as Pair[];
  const ratio = ratioOf(all);
  progress(`HTTPS: ${ratio.toFixed(3)} of no filter`);
  const name = 'HTTPS connect-request-close with a server-name rule, against no filter';
  return [atLeast(name, ratio, 'x', `${middles(all)} of nginx; ${all.length} pairs`, LEAST.https)];
}

/** Both through the hooks; of one the name was judged. */
export async function bulk(bench: SaidBench, { seconds }: Effort): Promise<Result[]> {
  const ports = [PORTS.https, PORTS.plain].map(String);
  const args = ['bulk', HOST, ...ports, String(seconds), String(STREAM_SLICE_MS), NAME];
  const all = (await lines((...command) => bench.filtered.run(command), args)) as unknown as Pair[];
  const ratio = ratioOf(all);
  progress(`bulk TLS: ${ratio.toFixed(3)} of what needs no judging`);
  const text = `${middles(all, (rate) => `${((rate * 8) / 1e9).toFixed(1)} Gbit/s`)}; ${all.length} pairs`;
  const name = 'bulk TLS through a flow that was judged, against one that needs no judging';
  return [atLeast(name, ratio, 'x', text, LEAST.bulk)];
}

/** Requests on connections that stay; under rules, every one is judged. */
async function exchanges(bench: SaidBench, other: Side, port: number, seconds: number): Promise<readonly Pair[]> {
  const file = join(bench.filtered.world.dir, 'request');
  writeFileSync(file, REQUEST);
  return (await turns([bench.filtered, other], 'kept', port, seconds, file, String(CONNECTIONS))) as unknown as Pair[];
}

export async function requests(bench: SaidBench, { seconds }: Effort): Promise<Result[]> {
  const all = await exchanges(bench, bench.bare, PORTS.web, seconds);
  const ratio = ratioOf(all);
  progress(`HTTP/1: ${ratio.toFixed(3)} of no filter`);
  const text = `${middles(all)} of nginx, ${CONNECTIONS} connections; ${all.length} pairs`;
  return [atLeast('HTTP/1 requests under path rules, against no filter', ratio, 'x', text, LEAST.requests)];
}

/** The same against proxies that ask the same of each request. The server does as little as it can: it is not what is compared. */
export async function proxied(bench: SaidBench, { seconds }: Effort): Promise<Result[]> {
  const results: Result[] = [];
  for (const proxy of ['haproxy', 'nginx'] as const) {
    await sendThrough(bench.proxied, proxy);
    const all = await exchanges(bench, bench.proxied, PORTS.http, seconds / 2);
    const ratio = ratioOf(all);
    progress(`HTTP/1: ${ratio.toFixed(2)} of ${proxy}`);
    const text = `${middles(all)} of ${proxy} with one thread, ${CONNECTIONS} connections; ${all.length} pairs`;
    const name = `HTTP/1 requests under path rules, against ${proxy} as a transparent proxy`;
    results.push(atLeast(name, ratio, 'x', text, LEAST.proxy));
  }
  return results;
}

/** From connect() to the first byte of the answer. */
export async function first(bench: SaidBench, { latency }: Effort): Promise<Result[]> {
  const kinds = [
    { what: 'a ClientHello of 1.8 KB', port: PORTS.hello, bytes: helloOf(NAME, HELLO_BYTES) },
    { what: 'a request of HTTP/1', port: PORTS.http, bytes: Buffer.from(REQUEST) },
  ];
  const results: Result[] = [];
  for (const { what, port, bytes } of kinds) {
    const file = join(bench.filtered.world.dir, 'first');
    writeFileSync(file, bytes);
    const [ours = [], none = []] = await turns([bench.filtered, bench.bare], 'ask', port, latency, file);
    const [, p50 = Number.NaN, p99 = Number.NaN] = ours;
    const [count = 0, p50None = Number.NaN, p99None = Number.NaN] = none;
    const text = `p99 ${p99} µs against ${p99None} µs, p50 ${p50} against ${p50None}; ${count} of each, from connect() on`;
    progress(`first request, ${what}: ${text}`);
    results.push(atMost(`p99 added to the first request, ${what}`, (p99 - p99None) / 1000, 'ms', text, MOST_ADDED));
  }
  return results;
}
