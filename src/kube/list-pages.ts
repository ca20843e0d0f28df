/** Lists, page by page. Nothing of an answer is kept but what the caller makes of each object. */
import { type Keep, ofList } from './keep.js';
import { type KubeClient, KubeError, type KubeObject } from './client.js';

export interface Pages {
  client: KubeClient;
  path: string;
  query: Readonly<Record<string, string>>;
  pageSize: number;
  signal: AbortSignal;
  /** Of each object; undefined: all. */
  keep: Keep | undefined;
  /** Each object, with the apiVersion and kind that items of a list do not carry. */
  each: (object: KubeObject) => void;
}

/** What a server sends is bounded too; Kubernetes is tested to 150,000 pods. */
const MAX_OBJECTS = 2_000_000;
const PAGE_MS = 60_000;

/**
 * Always a list of the latest state (no resourceVersion): one out of a server's cache may be older than what was seen before, ends up in
 * the same 410 that led to it, and comes in one piece (the cache ignores `limit`): hundreds of megabytes for 50,000 pods.
 *
 * @returns the resource version to watch from: the first page's. All pages of a list have the same; if they did not, the changes
 *   since the first one would come once more, and be recognised
 * @throws KubeError; 410: the token of the next page has expired, nothing of the list is good
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
      if (typeof item !== 'object' || item === null) throw malformed(path, 'an item is no object');
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
    throw malformed(path, 'it is no list');
  }
  const version = metadata?.['resourceVersion'];
  if (typeof version !== 'string' || version === '') throw malformed(path, 'it has no resourceVersion');
  // An empty list is null where Go made it of nothing.
  const items = list.items ?? [];
  if (!Array.isArray(items)) throw malformed(path, 'items is no array');
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
