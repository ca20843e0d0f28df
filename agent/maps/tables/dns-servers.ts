/**
 * The map `dns_servers`: the resolvers whose answers are learned from. Each has bits in `service_filter` too, without
 * which packets would not look for it: they are set before the entry is written, and cleared after it is deleted.
 */
import * as L from '../../../src/image/layout.gen.js';
import * as encode from './encode.js';
import type { BpfMap } from '../../kernel/libbpf/map.js';
import { type DnsServer, ServiceFilter } from './service-filter.js';
import { StateWords } from './state-words.js';

const { EA_DNS_TRUSTED } = L.ENUMS.ea_dns_server_flags;

export class DnsServers {
  readonly #map: BpfMap;
  readonly #filter: ServiceFilter;
  readonly #state: StateWords;
  /** Those in the map, by `address port`. */
  readonly #servers: Map<string, DnsServer>;

  /** @param maps the same object that the map store writes through */
  constructor(maps: Record<string, BpfMap>) {
    this.#map = encode.map(maps, 'dns_servers');
    this.#filter = ServiceFilter.of(maps);
    this.#state = new StateWords(encode.map(maps, 'state'));
    this.#servers = new Map(this.#filter.servers().map((s) => [nameOf(s), s]));
  }

  /** Those in force. */
  get list(): readonly DnsServer[] {
    return [...this.#servers.values()];
  }

  /** Most that there is room for. */
  get capacity(): number {
    return this.#map.maxEntries;
  }

  /**
   * Makes the map equal to these. Flows are judged again then: those to a resolver are inspected.
   * @param servers at most `capacity`, canonical addresses
   * @returns whether anything changed
   */
  set(servers: readonly DnsServer[]): boolean {
    const wanted = new Map(servers.map((s) => [nameOf(s), s]));
    const added = [...wanted].filter(([name]) => !this.#servers.has(name)).map(([, s]) => s);
    const removed = [...this.#servers].filter(([name]) => !wanted.has(name)).map(([, s]) => s);
    if (added.length + removed.length === 0) return false;
    for (const server of removed) {
      this.#map.delete(keyOf(server));
      this.#servers.delete(nameOf(server));
    }
    this.#filter.removeServers(removed);
    this.#filter.addServers(added);
    const value = Buffer.alloc(4);
    value.writeUInt32LE(EA_DNS_TRUSTED);
    for (const server of added) {
      this.#map.update(keyOf(server), value);
      this.#servers.set(nameOf(server), server);
    }
    this.#state.bumpEpoch();
    return true;
  }
}

/** struct ea_service_key of a resolver. */
function keyOf({ ip, port }: DnsServer): Buffer {
  const key = Buffer.alloc(encode.SIZES.serviceKey);
  encode.writeServiceKey(key, 0, { ip, port, protocol: 0 });
  return key;
}

function nameOf({ ip, port }: DnsServer): string {
  return `${ip} ${port}`;
}
