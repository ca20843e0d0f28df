/**
 * Ids of endpoints, which are part of the keys of flows. They are hashes, so that a restarted agent finds the flows in
 * the kernel's table; and made with the node's secret, so that nobody can create a pod whose id collides with another's
 * and uses its flows. A file keeps them: ids made with a lost secret stay valid.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { type Ids, PLAIN_IDS } from '../../src/ids.js';

/** Name of the file in the run directory. */
export const ENDPOINTS_FILE = 'endpoints.json';

/** Ids that an endpoint may have in the maps: hashes with different salts. */
const CHOICES = 8;

export class EndpointIds {
  readonly #hashes: Ids;
  readonly #idsInMaps: ReadonlyMap<number, number>;
  readonly #path: string | undefined;
  /** `uid/ifindex` → id, and back. */
  readonly #ids = new Map<string, number>();
  readonly #keys = new Map<number, string>();
  readonly #reservedIds: ReadonlySet<number>;
  readonly #saved: ReadonlyMap<string, number>;
  #changed = false;

  /**
   * @param standing ids that an earlier agent wrote into the maps, by interface
   * @param path file of ids; undefined: none
   */
  constructor(ids: Ids = PLAIN_IDS, standing: ReadonlyMap<number, number> = new Map(), path?: string) {
    this.#hashes = ids;
    this.#idsInMaps = standing;
    this.#path = path;
    this.#reservedIds = new Set(standing.values());
    this.#saved = new Map(path === undefined ? [] : read(path));
  }

  /** Whether the ids of an earlier agent are known, whatever its secret was. */
  get remembered(): boolean {
    return this.#saved.size > 0;
  }

  /** The endpoint's id. If two have the same hash (1 in 100,000 at 250 endpoints), the later one takes another salt. */
  of(key: string, ifindex: number): number {
    const id = this.#ids.get(key);
    if (id !== undefined) return id;
    const idInMaps = this.#idsInMaps.get(ifindex);
    const saved = this.#saved.get(key);
    if (saved !== undefined && saved === idInMaps && !this.#keys.has(saved)) return this.#assign(key, saved);
    for (let salt = 0; salt < CHOICES; salt++) {
      const id = this.#hash(key, salt);
      if (id === idInMaps && !this.#keys.has(id)) return this.#assign(key, id);
    }
    for (let salt = 0; ; salt++) {
      const id = this.#hash(key, salt);
      if (id !== 0 && !this.#keys.has(id) && !this.#reservedIds.has(id)) return this.#assign(key, id);
    }
  }

  /** Forgets all ids but these, and saves the file. */
  keep(bound: readonly { readonly id: number }[]): void {
    const live = new Set(bound.map((b) => b.id));
    for (const [key, id] of this.#ids) {
      if (live.has(id)) continue;
      this.#ids.delete(key);
      this.#keys.delete(id);
      this.#changed = true;
    }
    if (!this.#changed || this.#path === undefined) return;
    writeFileSync(`${this.#path}.new`, JSON.stringify([...this.#ids]), { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
    this.#changed = false;
  }

  #hash(key: string, salt: number): number {
    return this.#hashes.of(`endpoint|${salt}|${key}`) % 0x1_0000_0000;
  }

  #assign(key: string, id: number): number {
    this.#ids.set(key, id);
    this.#keys.set(id, key);
    this.#changed = true;
    return id;
  }
}

/** Reads the file; a damaged one counts as missing. */
function read(path: string): [string, number][] {
  try {
    const list = JSON.parse(readFileSync(path, 'utf8')) as unknown;
    const pair = (entry: unknown) => Array.isArray(entry) && typeof entry[0] === 'string' && Number.isInteger(entry[1]);
    return Array.isArray(list) ? list.filter(pair) : [];
  } catch {
    return [];
  }
}
