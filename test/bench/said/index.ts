/** What it costs to be judged by what a connection says: server names in TLS, requests in HTTP/1. */
import type { Result } from '../result.js';
import { SaidBench } from './bed.js';
import { hello } from './hello.js';
import { bulk, FULL, first, https, proxied, requests } from './traffic.js';

export async function said(effort = FULL): Promise<Result[]> {
  const results = hello();
  const bench = await SaidBench.create();
  try {
    for (const part of [https, bulk, requests, proxied, first]) results.push(...(await part(bench, effort)));
    return results;
  } finally {
    await bench.close();
  }
}
