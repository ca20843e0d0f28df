/** Where a history is kept, as `--history` says it. */
import { isAbsolute } from 'node:path';
import { KEPT_DAYS } from '../edges/edge.js';
import { AgentError } from '../errors.js';
import type { HistoryStore, StoreOptions } from './base/store.js';
import type { ClickhousePlace } from './engines/clickhouse.js';

export type HistoryPlace = { readonly file: string } | { readonly clickhouse: ClickhousePlace };

/** Sizes that are kept if none is given, bytes. A volume of ClickHouse is its owner's to watch. */
const SIZES = { memory: 256 << 20, file: 4 * 2 ** 30, clickhouse: Number.MAX_SAFE_INTEGER };
const MEMORY = ':memory:';

/**
 * @param where `memory`, the path of a file, or `clickhouse://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE` (`clickhouses://`: over TLS)
 * @param password in place of one in the address
 * @throws AgentError USAGE. It never contains the password.
 */
export function placeOf(where: string, password?: string): HistoryPlace {
  if (where === 'memory') return { file: MEMORY };
  if (isAbsolute(where)) return { file: where };
  const hint = 'memory, off, the path of a file, or clickhouse://USER@HOST:PORT/DATABASE';
  const scheme = /^(clickhouses?):\/\//.exec(where)?.[1];
  if (scheme === undefined) throw new AgentError('USAGE', 'this is no place for a history', { hint });
  try {
    const secure = scheme === 'clickhouses';
    // `clickhouse:` is no scheme that URL splits in every part.
    const url = new URL(`${secure ? 'https' : 'http'}://${where.slice(scheme.length + 3)}`);
    const database = url.pathname.slice(1) || 'egress';
    if (!/^[A-Za-z_]\w{0,63}$/.test(database) || url.search !== '' || url.hash !== '') throw new Error();
    const port = url.port || (where.includes(`${url.hostname}:80/`) ? '80' : secure ? '8443' : '8123');
    return {
      clickhouse: {
        url: `${url.protocol}//${url.hostname}:${port}`,
        database,
        username: decodeURIComponent(url.username) || 'default',
        password: password ?? decodeURIComponent(url.password),
      },
    };
  } catch {
    throw new AgentError('USAGE', `${scheme}://: the address of the history is none`, { hint });
  }
}

/** The place for messages, without a password. */
export function placeText(place: HistoryPlace): string {
  if ('file' in place) return place.file === MEMORY ? 'memory' : place.file;
  const { url, database } = place.clickhouse;
  return `ClickHouse at ${new URL(url).host}/${database}`;
}

/** @throws AgentError USAGE if a later version wrote it, HISTORY if it cannot be opened now */
export async function openStore(place: HistoryPlace, options: StoreOptions = {}): Promise<HistoryStore> {
  const kind = 'clickhouse' in place ? 'clickhouse' : place.file === MEMORY ? 'memory' : 'file';
  const all = { days: KEPT_DAYS, flowsMs: 0, maxBytes: SIZES[kind], ...options };
  // Each engine is loaded only where it is used: the embedded one is a library of 70 MB.
  if ('file' in place) return (await import('./engines/duckdb.js')).DuckdbStore.open(place.file, all);
  return (await import('./engines/clickhouse.js')).ClickhouseStore.open(place.clickhouse, all);
}
