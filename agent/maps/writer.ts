/** Batched writes of Image content: one system call for thousands of entries. */
import { fixedRows, portEntries, type Row } from '../../src/image/rows.js';
import type { DestinationWrite } from '../../src/image/plan/plan.js';
import type { ImageService, PolicySet } from '../../src/image/types.js';
import type { Tunnel } from '../../src/net/tunnels.js';
import type { Address } from './books/address-book.js';
import * as encode from './tables/encode.js';
import type { FlatTrie } from './tables/flat-trie.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import { HttpPrograms } from './tables/http-cells.js';
import { ServiceFilter } from './tables/service-filter.js';

/** Entries gathered before a batch is sent; bounds the buffers' memory. */
const CHUNK = 16384;

export interface ClassRowWrite {
  readonly set: PolicySet;
  readonly classId: number;
  readonly row: Row;
}

export class MapWriter {
  readonly #maps: Record<string, BpfMap>;
  readonly #flat: FlatTrie | undefined;
  /** The filter that packets read before they look up a Service. */
  readonly filter: ServiceFilter;
  /** What sets ask of HTTP requests. */
  readonly http: HttpPrograms;

  /** @param flat the trie of IPv4 destinations that packets read */
  constructor(maps: Record<string, BpfMap>, flat?: FlatTrie) {
    this.#maps = maps;
    this.#flat = flat;
    this.filter = ServiceFilter.of(maps);
    this.http = HttpPrograms.of(maps);
  }

  /** Writes rules, port rows, fixed rows and programs of new sets. Returns the number of entries, as all methods do. */
  writeSets(sets: readonly PolicySet[]): number {
    let n = this.#write(
      'rules',
      each(sets, (s) => s.rules.map((rule, bit) => ({ s, rule, bit }))),
      (e, k, ko, v, vo) => {
        encode.writeRuleKey(k, ko, e.s.id, e.bit);
        encode.writeRule(v, vo, e.rule);
      },
    );
    n += this.writeClassRows(each(sets, (set) => fixedRows(set).map(([classId, row]) => ({ set, classId, row }))));
    for (const large of [false, true]) {
      const sized = sets.filter((s) => s.large === large);
      n += this.#write(
        large ? 'port_rules_large' : 'port_rules',
        each(sized, (s) => portEntries(s).map((e) => ({ s, e }))),
        ({ s, e }, k, ko, v, vo) => {
          encode.writePortKey(k, ko, s.id, e);
          encode.writeRow(v, vo, e.row);
        },
      );
    }
    return n + this.http.write(sets);
  }

  writeClassRows(rows: readonly ClassRowWrite[]): number {
    let n = 0;
    for (const large of [false, true]) {
      n += this.#write(
        large ? 'class_rules_large' : 'class_rules',
        rows.filter((r) => r.set.large === large),
        (r, k, ko, v, vo) => {
          encode.writeClassKey(k, ko, r.set.id, r.classId);
          encode.writeRow(v, vo, r.row);
        },
      );
    }
    return n;
  }

  writeDestinations(four: readonly DestinationWrite<number>[], six: readonly DestinationWrite<string>[]): number {
    return this.writeDestinations4(four) + this.writeDestinations6(six);
  }

  /** Writes the map before the trie: after a crash, the next agent brings the trie to the map's content. */
  writeDestinations4(writes: readonly DestinationWrite<number>[]): number {
    const n = this.#write('destinations4', writes, (w, k, ko, v, vo) => {
      encode.writeDest4(k, ko, w.key);
      encode.writeId(v, vo, w.classId);
    });
    this.#flat?.put(writes);
    return n;
  }

  writeDestinations6(writes: readonly DestinationWrite<string>[]): number {
    return this.#write('destinations6', writes, (w, k, ko, v, vo) => {
      encode.writeDest6(k, ko, w.key);
      encode.writeId(v, vo, w.classId);
    });
  }

  /** Sets the filter's bits first: without that, packets would skip an existing entry. */
  writeServices(services: readonly ImageService[]): number {
    this.filter.add(services);
    return this.#write('services', services, encode.writeService);
  }

  writeAddresses(addresses: readonly (readonly [ip: string, address: Address])[]): number {
    return this.#write('addresses', addresses, ([ip, address], k, ko, v, vo) =>
      encode.writeAddress(ip, address, k, ko, v, vo),
    );
  }

  writeTunnels(tunnels: readonly Tunnel[]): number {
    return this.#write('tunnels', tunnels, encode.writeTunnel);
  }

  removeAddresses(ips: readonly string[]): number {
    return this.#remove('addresses', ips, (ip, k, ko) => encode.writeAddr(k, ko, ip));
  }

  removeTunnels(tunnels: readonly Tunnel[]): number {
    return this.#remove('tunnels', tunnels, (tunnel, k, ko) => encode.writeTunnelKey(k, ko, tunnel));
  }

  removeDestinations(four: readonly number[], six: readonly string[]): number {
    return this.removeDestinations4(four) + this.removeDestinations6(six);
  }

  removeDestinations4(keys: readonly number[]): number {
    const n = this.#remove('destinations4', keys, (key, k, ko) => encode.writeDest4(k, ko, key));
    this.#flat?.delete(keys);
    return n;
  }

  removeDestinations6(keys: readonly string[]): number {
    return this.#remove('destinations6', keys, (key, k, ko) => encode.writeDest6(k, ko, key));
  }

  removeServices(services: readonly ImageService[]): number {
    const n = this.#remove('services', services, (s, k, ko) => encode.writeServiceKey(k, ko, s));
    this.filter.remove(services);
    return n;
  }

  removeClassRows(set: PolicySet, classes: readonly number[]): number {
    return this.#remove(set.large ? 'class_rules_large' : 'class_rules', classes, (c, k, ko) =>
      encode.writeClassKey(k, ko, set.id, c),
    );
  }

  /** Removes all entries of a set to which no endpoint refers any more. */
  removeSet(set: PolicySet, classes: ReadonlySet<number>): number {
    let n = this.removeClassRows(set, [...classes, ...fixedRows(set).map(([classId]) => classId)]);
    n += this.#remove(set.large ? 'port_rules_large' : 'port_rules', portEntries(set), (e, k, ko) =>
      encode.writePortKey(k, ko, set.id, e),
    );
    n += this.#remove(
      'rules',
      set.rules.map((_, bit) => bit),
      (bit, k, ko) => encode.writeRuleKey(k, ko, set.id, bit),
    );
    return n + this.http.remove([set.id]);
  }

  #write<T>(
    name: string,
    items: readonly T[],
    put: (item: T, key: Buffer, keyAt: number, value: Buffer, valueAt: number) => void,
  ): number {
    if (items.length === 0) return 0;
    const map = encode.map(this.#maps, name);
    const size = Math.min(items.length, CHUNK);
    const keys = Buffer.alloc(size * map.keySize);
    const values = Buffer.alloc(size * map.valueSize);
    for (let from = 0; from < items.length; from += size) {
      const count = Math.min(size, items.length - from);
      if (from > 0) values.fill(0);
      for (let i = 0; i < count; i++) put(items[from + i] as T, keys, i * map.keySize, values, i * map.valueSize);
      map.updateBatch(keys, values, count);
    }
    return items.length;
  }

  #remove<T>(name: string, items: readonly T[], put: (item: T, key: Buffer, keyAt: number) => void): number {
    if (items.length === 0) return 0;
    const map = encode.map(this.#maps, name);
    const keys = Buffer.alloc(items.length * map.keySize);
    items.forEach((item, i) => {
      put(item, keys, i * map.keySize);
    });
    map.deleteBatch(keys, items.length);
    return items.length;
  }
}

function each<A, B>(items: readonly A[], of: (item: A) => readonly B[]): B[] {
  return items.flatMap((i) => [...of(i)]);
}
