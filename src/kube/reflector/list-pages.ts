/** Reads a list page by page. Only what the caller makes of each object stays in memory. */
import { type Keep, ofList } from '../client/keep.js';
import { type KubeClient, KubeError, type KubeObject } from '../client/client.js';

export interface Pages {
  client: KubeClient;
  path: string;
  query: Readonly<Record<string, string>>;
  pageSize: number;
  signal: AbortSignal;
  /** Members of each object to parse; undefined: all. */
  keep: Keep | undefined;
  /** Called for each object, with the apiVersion and kind that items of a list lack. */
  each: (object: KubeObject) => void;
}

/** Limit for a faulty server; Kubernetes is tested with up to 150,000 pods. */
const MAX_OBJECTS = 2_000_000;
const PAGE_MS = 60_000;

/**
 * Reads a list of the latest state (without resourceVersion). A list from the server's cache may be older than states
 * seen before, so that it leads to another 410; and the cache ignores `limit`, so it is one answer of hundreds of
 * megabytes for 50,000 pods.
 *
 * @returns the resource version to watch from: that of the first page. All pages have the same version; if they did
 * not, the changes since the first page would be delivered again and recognized
 * @throws KubeError; with 410 the token of the next page has expired, and the whole list is invalid
 */
export async function listPages(pages: Pages): Promise<string> {
  let version: string | undefined;
  let token: string | undefined;
  let count = 0;
  do {
    const query: Record<string, string> = { ...pages.query, limit: String(pages.pageSize) };
    if (token !== undefined) query['continue'] = token;
    const { client, path, signal, keep } = pages;
    const options = { query, signal, timeoutMs: PAGE_MS, ...(keep ? { keep: ofList(keep) } : {}) };
    const page = readPage(await client.request('GET', path, options), path);
    version ??= page.version;
    count += page.items.length;
    if (count > MAX_OBJECTS || (page.token !== undefined && page.token === token)) {
      throw malformed(path, 'it does not end');
    }
    for (const item of page.items) {
      if (typeof item !== 'object' || item === null) throw malformed(path, 'an item is not an object');
      pages.each({ ...(item as KubeObject), apiVersion: page.apiVersion, kind: page.kind });
    }
    token = page.token;
  } while (token !== undefined);
  return version;
}

function readPage(answer: unknown, path: string) {
  const list = answer as { apiVersion?: unknown; kind?: unknown; metadata?: Record<string, unknown>; items?: unknown };
  const { apiVersion, kind, metadata } = list ?? {};
  if (typeof apiVersion !== 'string' || typeof kind !== 'string' || !kind.endsWith('List')) {
    throw malformed(path, 'it is not a list');
  }
  const version = metadata?.['resourceVersion'];
  if (typeof version !== 'string' || version === '') throw malformed(path, 'it has no resourceVersion');
  // Go encodes an empty list as null if it was never allocated.
  const items = list.items ?? [];
  if (!Array.isArray(items)) throw malformed(path, 'items is not an array');
  const token = metadata?.['continue'];
  return {
    apiVersion,
    kind: kind.slice(0, -'List'.length),
    version,
    items: items as unknown[],
    token: typeof token === 'string' && token !== '' ? token : undefined,
  };
}

function malformed(path: string, why: string): KubeError {
  return new KubeError(0, 'Malformed', `list of ${path}: ${why}`);
}
