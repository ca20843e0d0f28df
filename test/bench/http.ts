/** What the head of an HTTP request costs to read, and to compare with what a set asks for, by BPF_PROG_TEST_RUN. */
import type { RequestStep } from '../../src/image/requests.js';
import type { Dfa } from '../../src/regex/dfa.js';
import { HttpKernel } from '../bpf/http/kernel.js';
import { leastOf } from './packet.js';
import { atMost, type Result } from './result.js';

const ROUNDS = 7;
/** Promised for a head of 200 bytes. */
const HEAD_MOST = 1500;
const MATCHED_MOST = 2500;

const lines = (...of: string[]) => `${of.join('\r\n')}\r\n\r\n`;
const AGENT = 'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0';
const HEADS = {
  'of curl, 86 bytes': lines(
    'GET /v1/items HTTP/1.1',
    'Host: api.example.com',
    'User-Agent: curl/7.88.1',
    'Accept: */*',
  ),
  'of 200 bytes': lines(
    'GET /api/v1/items?page=2&sort=name HTTP/1.1',
    'Host: api.example.com',
    'User-Agent: curl/7.88.1 (x86_64-pc-linux-gnu) libcurl',
    'Accept: application/json',
    'Authorization: Bearer abcdefghijklmnop',
    'X-A: b1',
  ),
  'of a browser, 1 KiB': lines(
    'GET /assets/app/main.css?v=20261130 HTTP/1.1',
    'Host: www.example.com',
    AGENT,
    'Accept: text/css,*/*;q=0.1',
    'Accept-Encoding: gzip, deflate',
    'Accept-Language: en-US,en;q=0.9',
    'Referer: http://www.example.com/start',
    `Cookie: session=${'0123456789abcdef'.repeat(42)}`,
  ),
  'of 8 KiB, a cookie': lines('GET / HTTP/1.1', 'Host: a', `Cookie: ${'0123456789abcdef'.repeat(508)}`),
  'of 8 KiB, 2,040 lines': lines('GET / HTTP/1.1', 'Host: a', ...new Array(2036).fill('a:')),
};

/** Any text of letters, digits and signs that a path may have: never dead, so every byte is walked over. */
function anyText(): Dfa {
  const states = 40;
  const classOf = Uint8Array.from({ length: 256 }, (_, byte) => byte % 20);
  const next = Uint16Array.from({ length: states * 20 }, (_, i) => (i < 20 ? 0 : 1 + ((i * 7) % (states - 1))));
  return { classes: 20, classOf, next, start: 1, accepts: new Uint16Array(states), sets: [[]] };
}

function steps(fields: readonly (readonly [RequestStep['field'], string?])[]): RequestStep[] {
  return fields.map(([field, name = '']) => ({ field, name, table: anyText(), settled: 0, ids: [5], absent: 6 }));
}

const PROGRAMS: Readonly<Record<string, readonly RequestStep[]>> = {
  'method and path': steps([['method'], ['path']]),
  'method, path, host, two headers': steps([
    ['method'],
    ['path'],
    ['host'],
    ['header', 'authorization'],
    ['header', 'x-a'],
  ]),
  '32 headers that are not there': steps(
    Array.from({ length: 32 }, (_, i) => ['header', String.fromCharCode(98 + (i % 24))] as const),
  ),
};

export async function http(): Promise<Result[]> {
  const kernel = new HttpKernel();
  try {
    return [...heads(kernel), ...programs(kernel), ...bodies(kernel)];
  } finally {
    kernel.close();
  }
}

/** The least of some rounds, less what a program that does nothing takes. */
function timeOf(kernel: HttpKernel, name: string, text: string, repeat: number): number {
  kernel.put(Buffer.from(text, 'latin1'));
  const [floor, time] = leastOf(
    ['run_nothing', name].map((of) => () => kernel.time(of, text.length, repeat)),
    ROUNDS,
  ) as [number, number];
  return time - floor;
}

function heads(kernel: HttpKernel): Result[] {
  return Object.entries(HEADS).map(([what, text]) => {
    const ns = timeOf(kernel, 'run_first', text, text.length > 4096 ? 5000 : 100_000);
    const most = text.length === 200 ? HEAD_MOST : text.length * 15;
    return atMost(`a head ${what}`, ns, 'ns', `${text.length} bytes, ${(ns / text.length).toFixed(2)} ns a byte`, most);
  });
}

function programs(kernel: HttpKernel): Result[] {
  const sets = Object.values(PROGRAMS).map((program, i) => [i + 1, program] as const);
  const programs = kernel.programs();
  for (const [id, asked] of sets) programs.put(id, asked);
  const head = HEADS['of 200 bytes'];
  const plain = timeOf(kernel, 'run_first', head, 100_000);
  const results = Object.keys(PROGRAMS).map((what, i) => {
    kernel.choose(i + 1);
    const ns = timeOf(kernel, 'run_match', head, 100_000);
    return atMost(`the same, and ${what}`, ns, 'ns', `${Math.round(ns - plain)} ns for the rules`, MATCHED_MOST);
  });
  const worst = HEADS['of 8 KiB, 2,040 lines'];
  kernel.choose(3);
  const ns = timeOf(kernel, 'run_match', worst, 2000);
  return [...results, atMost('32 headers in 2,040 lines', ns, 'ns', 'the worst that a pod can send', 1_000_000)];
}

/** A body in chunks, the last of which is never there. */
function bodies(kernel: HttpKernel): Result[] {
  const chunk = (size: number) => `${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`;
  return [1, 1000].map((size) => {
    const text = chunk(size).repeat(Math.floor(15_000 / chunk(size).length));
    const ns = timeOf(kernel, 'run_chunks', text, 2000);
    return atMost(`chunks of ${size} bytes`, ns / text.length, 'ns', `a byte; ${text.length} bytes`, 15);
  });
}
